"""`densevision bench`: benchmarks against reference implementations, on this machine."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..benchmarks.measure import Figure, Report


def bench(
    *names: str,
    out: Path | None = None,
    markdown: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    compile: bool = False,
    rounds: int | None = None,
) -> None:
    """Measure the speedup over reference implementations on this machine.

    Both run alternately (A B A B) in one process; the result is the median of the pairwise ratios. What compares with a
    library that is not installed is left out, with the command that installs it.

    Args:
        names: Benchmarks to run: training-step, training-loop, default-runs, image-pipeline, flow-data,
            synthetic-rooms, loader, colorization-encoding, correlation, attribution, occlusion, onnxruntime, int8 or
            predict; all of them, which takes some minutes, if not stated.
        out: JSON file to write the reports to; they are only printed if not stated.
        markdown: Page to write the reports to as tables (docs/speed.md is one); without it, none is written.
        device: Device: cpu, cuda, mps or auto.
        threads: Number of threads of PyTorch and OpenCV, except in the single-threaded benchmarks; one per core if not
            stated.
        compile: Compile densevision's models with torch.compile.
        rounds: Number of measured pairs, or of repetitions of a throughput; each benchmark's own if not stated.
    """
    from ..atomic_io import write_json, write_text
    from ..benchmarks import BENCHMARKS, list_benchmarks
    from ..errors import UserError
    from ..registry import lookup
    from ..version import VERSION

    benchmarks = {one: lookup("benchmark", one, BENCHMARKS) for one in (names or list_benchmarks())}
    for option, value in (("threads", threads), ("rounds", rounds)):
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; it must be at least 1.")

    from ..benchmarks.measure import MissingPeer, Setting, machine, run_benchmark
    from ..tasks.device import choose_device
    from ..tasks.distributed import available_cores

    setting = Setting(choose_device(device), threads or available_cores(), compile, rounds)
    info = machine()
    print(describe_machine(info), flush=True)
    reports, missing = [], []
    for one, measure in benchmarks.items():
        if sys.stderr.isatty():
            print(f"Measuring {one} ...", file=sys.stderr, flush=True)
        try:
            reports.append(run_benchmark(measure, setting))
        except MissingPeer as error:
            missing.append(f"{one}: {error}")
            print(missing[-1], flush=True)
            continue
        show(reports[-1])
    if out is not None:
        data = {
            "densevision": VERSION,
            "machine": info,
            "reports": [dataclasses.asdict(report) for report in reports],
        }
        write_json(out, data, indent=2)
        print(f"Wrote {out}.")
    if markdown is not None:
        words = [*names, *(["--rounds", str(rounds)] if rounds else []), "--threads", str(setting.threads)]
        command = " ".join(["densevision bench", *words, "--markdown", str(markdown)])
        write_text(markdown, page(reports, missing, describe_machine(info), command))
        print(f"Wrote {markdown}.")


def describe_machine(info: dict[str, Any]) -> str:
    """CPU, its instruction set and versions in one line."""
    from ..version import VERSION

    limit = f" limited to {info['isa_limit']}" if info["isa_limit"] else ""
    return (
        f"{info['processor']} ({info['isa']}{limit}), {info['cores']} core(s), load {info['load']}, "
        f"torch {info['torch']}, torchvision {info['torchvision']}, densevision {VERSION}"
    )


PAGE = """# Speed

Ratios are the speed of densevision over that of another implementation of the same work, both measured alternately
(A B A B) in one process: the median of the pairs, with the lowest and the highest. Above 1, densevision is faster.
Machines are noisy and differ: ratios are results, rates are only an indication.

```bash
{command}
```

{machine}
"""


def page(reports: list[Report], missing: list[str], machine: str, command: str) -> str:
    """The reports as a Markdown page, with the command that wrote it."""
    parts = [PAGE.format(command=command, machine=machine)]
    for report in reports:
        lines = [f"## {report.name}\n", f"{report.title}. {report.device}, {report.threads} thread(s).\n"]
        lines += ["| measured | shapes | ours | theirs | median (lowest - highest) | required |", "|" + " --- |" * 6]
        for figure in report.figures:
            theirs = "" if figure.theirs_rate is None else f"{figure.theirs}: {rate(figure.theirs_rate)}"
            ours = f"{figure.ours}: {rate(figure.ours_rate)}"
            cells = (figure.what, figure.shapes, ours, theirs, f"**{value(figure)}**, n = {figure.rounds}")
            lines.append(f"| {' | '.join((*cells, figure.verdict))} |")
        if report.remarks:
            lines += ["", *(f"- {remark}" for remark in report.remarks)]
        parts.append("\n".join(lines) + "\n")
    if missing:
        parts.append("## Not measured\n\n" + "\n".join(f"- {line}" for line in missing) + "\n")
    return "\n".join(parts)


def show(report: Report) -> None:
    """Print a report, as a table on a terminal and as plain lines elsewhere."""
    heading = f"{report.name}: {report.title}. {report.device}, {report.threads} thread(s)."
    if sys.stdout.isatty():
        show_table(report, heading)
    else:
        print("\n".join([heading, *map(plain_line, report.figures), *report.remarks]), flush=True)


def plain_line(figure: Figure) -> str:
    """One figure as a line of text."""
    theirs = "" if figure.theirs_rate is None else f", {figure.theirs} {rate(figure.theirs_rate)}"
    verdict = f", {figure.verdict}" if figure.verdict else ""
    return (
        f"  {figure.what} [{figure.shapes}]: {value(figure)} of {figure.rounds}{verdict} "
        f"({figure.ours} {rate(figure.ours_rate)}{theirs})"
    )


def show_table(report: Report, heading: str) -> None:
    """Print a report as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "shapes", "ours", "theirs", "median (min - max)", "requirement", title=heading)
    for figure in report.figures:
        theirs = "" if figure.theirs_rate is None else f"{figure.theirs}: {rate(figure.theirs_rate)}"
        ours = f"{figure.ours}: {rate(figure.ours_rate)}"
        table.add_row(figure.what, figure.shapes, ours, theirs, f"{value(figure)} of {figure.rounds}", figure.verdict)
    console = Console()
    console.print(table)
    for remark in report.remarks:
        console.print(remark, highlight=False, markup=False)


def value(figure: Figure) -> str:
    """Median, minimum and maximum with the unit: "1.20 x (1.05 - 1.36)"."""
    digits = 2 if figure.unit == "x" else 1
    low, middle, high = (f"{number:.{digits}f}" for number in (figure.lowest, figure.value, figure.highest))
    return f"{middle} {figure.unit} ({low} - {high})"


def rate(number: float) -> str:
    """Throughput with its unit."""
    return f"{number:.1f} images/s"
