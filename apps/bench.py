"""`densevision bench`: ratios against peers, on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..benchmarks.measure import Figure, Report


def bench(
    name: str | None = None,
    /,
    *,
    out: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    compile: bool = False,
    rounds: int | None = None,
) -> None:
    """Measure ratios against peers on this machine: A B A B in one process, the median of the pairwise ratios.

    Args:
        name: training-step, picture-pipeline, rooms, loader, colorization-encoding, correlation, occlusion
            or predict; default: all of them, which takes some minutes.
        out: JSON file to write; default: print only.
        device: cpu, cuda, mps or auto; default: auto.
        threads: of PyTorch and OpenCV where a benchmark is not about one thread; default: one per core.
        compile: put our networks through torch.compile first; default: no.
        rounds: pairs of a comparison and repetitions of a rate; default: each benchmark's own.
    """
    from ..benchmarks import find_benchmark, list_benchmarks
    from ..errors import UserError
    from ..version import VERSION
    from ..writing import write_text

    chosen = {one: find_benchmark(one) for one in ([name] if name else list_benchmarks())}
    for option, value in (("threads", threads), ("rounds", rounds)):
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; it must be at least 1.")

    from ..benchmarks.measure import Setting, cores, machine, measured
    from ..tasks.device import choose_device

    setting = Setting(choose_device(device), threads or cores(), compile, rounds)
    where = machine()
    print(
        f"{where['processor']}, {where['cores']} core(s), load {where['load']}, torch {where['torch']}, "
        f"torchvision {where['torchvision']}, densevision {VERSION}",
        flush=True,
    )
    reports = []
    for one, measure in chosen.items():
        if sys.stderr.isatty():
            print(f"Measuring {one} ...", file=sys.stderr, flush=True)
        reports.append(measured(measure, setting))
        show(reports[-1])
    if out is not None:
        stored = {
            "densevision": VERSION,
            "machine": where,
            "reports": [dataclasses.asdict(report) for report in reports],
        }
        write_text(out, json.dumps(stored, indent=2) + "\n")
        print(f"Wrote {out}.")


def show(report: Report) -> None:
    """A report as a table on a terminal, as plain lines elsewhere."""
    heading = f"{report.name}: {report.title}. {report.device}, {report.threads} thread(s)."
    if sys.stdout.isatty():
        show_table(report, heading)
    else:
        print("\n".join([heading, *map(plain_line, report.figures), *report.remarks]), flush=True)


def plain_line(figure: Figure) -> str:
    """One figure, readable without a table."""
    against = "" if figure.theirs_rate is None else f", {figure.theirs} {rate(figure.theirs_rate)}"
    wanted = f", {figure.verdict}" if figure.verdict else ""
    return (
        f"  {figure.what} [{figure.shapes}]: {value(figure)} of {figure.rounds}{wanted} "
        f"({figure.ours} {rate(figure.ours_rate)}{against})"
    )


def show_table(report: Report, heading: str) -> None:
    """The same with columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "shapes", "ours", "theirs", "median (least - most)", "wanted", title=heading)
    for figure in report.figures:
        theirs = "" if figure.theirs_rate is None else f"{figure.theirs}: {rate(figure.theirs_rate)}"
        ours = f"{figure.ours}: {rate(figure.ours_rate)}"
        table.add_row(figure.what, figure.shapes, ours, theirs, f"{value(figure)} of {figure.rounds}", figure.verdict)
    console = Console()
    console.print(table)
    for remark in report.remarks:
        console.print(remark, highlight=False, markup=False)


def value(figure: Figure) -> str:
    """The median with its spread: "1.20 x (1.05 - 1.36)"."""
    digits = 2 if figure.unit == "x" else 1
    low, middle, high = (f"{number:.{digits}f}" for number in (figure.lowest, figure.value, figure.highest))
    return f"{middle} {figure.unit} ({low} - {high})"


def rate(number: float) -> str:
    """A rate with its unit."""
    return f"{number:.1f} pictures/s"
