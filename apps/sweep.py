"""`densevision sweep TASK`: trainings with other options each; their table and plot, and the command of the best."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..atomic_io import atomic_path, write_json, write_text
from ..errors import UserError, printable
from ..tasks import task_class
from .ray_cluster import connect, is_installed

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(f"({NUMBER}):({NUMBER})")
OWN_OPTIONS = ("--out", "--resume", "--config", "--dry-run", "--find-lr")
"""Options of `train` that a sweep states itself, or whose runs have no score."""


@dataclass(frozen=True)
class Dimension:
    """An option whose values are tried.

    Attributes:
        flag: the option, `--lr`.
        values: the alternatives; of a range, its ends.
        is_range: whether the numbers between the ends are tried, too.
    """

    flag: str
    values: tuple[str, ...]
    is_range: bool

    @property
    def is_integer(self) -> bool:
        return all(value.lstrip("+-").isdigit() for value in self.values)

    @property
    def is_log(self) -> bool:
        """Whether a range is one of magnitudes: positive, over a factor of ten or more."""
        low, high = map(float, self.values) if self.is_range else (0.0, 0.0)
        return self.is_range and low > 0 and high / low >= 10

    def value(self, share: float) -> str:
        """The value at a place in [0, 1)."""
        if not self.is_range:
            return self.values[int(share * len(self.values))]
        low, high = map(float, self.values)
        if self.is_integer:
            high += 1
        number = low * (high / low) ** share if self.is_log else low + (high - low) * share
        return str(int(number)) if self.is_integer else f"{number:.3g}"


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        number: from 0.
        values: of the options that are tried, by flag.
        words: all options of `densevision train TASK`.
        folder: its run folder.
    """

    number: int
    values: dict[str, str]
    words: list[str]
    folder: Path

    def result(self) -> dict[str, Any] | None:
        """Its result.json; None before its end."""
        try:
            return json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def sweep(
    task: str,
    /,
    *options: Annotated[str, Parameter(allow_leading_hyphen=True)],
    trials: int = 20,
    out: Path = Path("sweep"),
    seed: int = 0,
    engine: Literal["auto", "ray", "serial"] = "auto",
    parallel: int = 1,
) -> None:
    """Train a task with several values of some options, and compare the scores of the runs.

    An option of `densevision train` with a range (--lr 1e-4:1e-2) or with alternatives (--backbone resnet18,vgg16) is
    tried; the others are those of every run. The values cover the ranges evenly (a Halton sequence), ranges of a
    factor of ten or more by magnitude. Started again, the sweep goes on where it was.

    Written to the output folder: a run folder and a log per trial, sweep.json, table.md and sweep.png.

    Args:
        task: Task to train.
        options: Options of `densevision train TASK`.
        trials: Number of runs.
        out: Output folder.
        seed: Seed of the values; that of the runs is their own option.
        engine: Engine: ray (Ray Tune, several runs at once, on all machines of a Ray cluster; extra: ray), serial (one
            after the other), or auto (ray if it is installed).
        parallel: With Ray, runs at the same time on a machine without GPUs, which share its cores; with GPUs, each run
            has one.
    """
    for option, value in (("trials", trials), ("parallel", parallel)):
        if value < 1:
            raise UserError(f"--{option} is {value}; it must be at least 1.")
    monitor = task_class(task).monitor
    planned = plan(list(options), trials, out.absolute(), seed)
    if engine == "ray" or (engine == "auto" and is_installed()):
        run_on_ray(task, planned, parallel)
    else:
        for trial in planned:
            run_trial(task, trial)
    rows = [(trial, result) for trial in planned if (result := trial.result()) is not None]
    rows = [(trial, result) for trial, result in rows if result["monitor"]["value"] is not None]
    if not rows:
        raise UserError(f"None of the {trials} runs has a result; their messages are in {out}/NUMBER.log.")
    rows.sort(key=lambda row: row[1]["monitor"]["value"], reverse=monitor.higher_is_better)
    table = "\n".join(table_of(rows))
    best = rows[0][0]
    command = f"densevision train {task} {shlex.join(best.words)}"
    write_json(out / "sweep.json", [summary(*row) for row in rows], indent=1)
    write_text(out / "table.md", f"{table}\n\nBest: `{command}`\n")
    plot(rows, out / "sweep.png")
    print(printable_lines(table))
    if len(rows) < trials:
        print(f"{trials - len(rows)} run(s) have no result; see {out}/NUMBER.log.", file=sys.stderr)
    print(f"Best: {printable(command)} (run folder: {printable(str(best.folder))})")


def plan(words: Sequence[str], count: int, out: Path, seed: int) -> list[Trial]:
    """The trials for the options of a sweep.

    Raises:
        UserError: no option has a range or alternatives, or one belongs to single runs.
    """
    from scipy.stats import qmc

    dimensions, fixed = split_options(words)
    if not dimensions:
        raise UserError("There is nothing to try: give a range (--lr 1e-4:1e-2) or alternatives (--head unet,fpn).")
    shares = qmc.Halton(len(dimensions), scramble=True, rng=seed).random(count)
    for column, dimension in enumerate(dimensions):
        if not dimension.is_range:
            # Alternatives are tried equally often.
            shares[:, column] = (shares[:, column].argsort().argsort() + 0.5) / count
    trials: list[Trial] = []
    for number, row in enumerate(shares.tolist()):
        values = {dimension.flag: dimension.value(share) for dimension, share in zip(dimensions, row, strict=True)}
        chosen = [word for pair in values.items() for word in pair]
        trials.append(Trial(number, values, [*fixed, *chosen], out / f"{number:03}"))
    return trials


def split_options(words: Sequence[str]) -> tuple[list[Dimension], list[str]]:
    """The options that are tried, and the words of the others."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            groups.append([flag, value] if equals else [flag])
        elif groups:
            groups[-1].append(word)
        else:
            raise UserError(f"'{word}' is no option: give those of densevision train after the task.")
    dimensions, fixed = [], []
    for flag, *values in groups:
        if flag in OWN_OPTIONS:
            raise UserError(f"A sweep cannot pass {flag} on to its runs: leave it out.")
        found = RANGE.fullmatch(values[0]) if len(values) == 1 else None
        if found is not None:
            if float(found[1]) >= float(found[2]):
                raise UserError(f"{flag} is {values[0]}; give the lower end of a range first.")
            dimensions.append(Dimension(flag, (found[1], found[2]), True))
        elif len(values) == 1 and "," in values[0]:
            dimensions.append(Dimension(flag, tuple(filter(None, values[0].split(","))), False))
        else:
            fixed += [flag, *values]
    return dimensions, fixed


def run_trial(task: str, trial: Trial, folder: str | None = None, processes: int = 1) -> None:
    """Train in a process of its own, or go on with what its run folder has; its output is in FOLDER.log.

    Args:
        task: the task.
        trial: the trial.
        folder: working directory; None: this one's.
        processes: that share the cores of the machine.

    Raises:
        UserError: the training refuses its options.
    """
    if trial.result() is not None:
        return
    trial.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", str(__package__).partition(".")[0], "train", task, *trial.words]
    command += ["--resume", "auto"]
    print(f"run {trial.number}: {printable(shlex.join(trial.words))}", file=sys.stderr, flush=True)
    # The cores are divided as among the processes of torchrun.
    environment = {**os.environ, "LOCAL_WORLD_SIZE": str(processes)} if processes > 1 else None
    with (trial.folder.parent / f"{trial.folder.name}.log").open("a", encoding="utf-8") as log:
        words = [*command, "--out", str(trial.folder)]
        finished = subprocess.run(words, stdout=log, stderr=log, cwd=folder, env=environment, check=False)
    if finished.returncode == 2:
        # The options are at fault, and will be in other runs.
        message = Path(log.name).read_text(encoding="utf-8").strip().rpartition("\n")[2]
        raise UserError(message.removeprefix("densevision: "))


def run_on_ray(task: str, trials: Iterable[Trial], parallel: int) -> None:
    """Run the trials by Ray Tune, several at a time."""
    ray = connect()
    from ray import tune  # pyright: ignore[reportMissingImports]

    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    cores = max(1, int((os.cpu_count() or 1) / parallel))
    here = os.getcwd()

    def trainable(config: dict[str, Any]) -> dict[str, Any]:
        trial: Trial = config["trial"]
        with suppress(UserError):
            run_trial(task, trial, here, 1 if has_gpus else parallel)
        result = trial.result()
        return {"score": math.nan if result is None else result["monitor"]["value"]}

    resources: dict[str, float] = {"cpu": 1, "gpu": 1} if has_gpus else {"cpu": cores}
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={"trial": tune.grid_search([trial for trial in trials if trial.result() is None])},
        run_config=tune.RunConfig(verbose=0),
    )
    tuner.fit()


def summary(trial: Trial, result: dict[str, Any]) -> dict[str, Any]:
    """A row of sweep.json."""
    return {
        "run": trial.number,
        "options": trial.values,
        "metric": result["monitor"]["name"],
        "value": result["monitor"]["value"],
        "baseline": result["monitor"]["baseline"],
        "seconds": result["seconds"],
        "folder": str(trial.folder),
    }


def table_of(rows: Sequence[tuple[Trial, dict[str, Any]]]) -> Iterator[str]:
    """Lines of a Markdown table, best run first."""
    flags, monitor = list(rows[0][0].values), rows[0][1]["monitor"]
    yield f"| run | {' | '.join(flags)} | {monitor['name']} | baseline | seconds |"
    yield "| " + " | ".join(["---"] * (len(flags) + 4)) + " |"
    for trial, result in rows:
        baseline = result["monitor"]["baseline"]
        cells = [trial.number, *trial.values.values(), f"{result['monitor']['value']:.4f}"]
        cells += ["undefined" if baseline is None else f"{baseline:.4f}", f"{result['seconds']:.0f}"]
        yield f"| {' | '.join(map(str, cells))} |"


def printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))


def plot(rows: Sequence[tuple[Trial, dict[str, Any]]], path: Path) -> None:
    """Draw the score over every option that was tried; the first option with alternatives gives the colors."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    monitor, flags = rows[0][1]["monitor"], list(rows[0][0].values)
    scores = [result["monitor"]["value"] for _, result in rows]

    def numbers(flag: str) -> list[float] | None:
        try:
            return [float(trial.values[flag]) for trial, _ in rows]
        except ValueError:
            return None

    by_words = next((flag for flag in flags if numbers(flag) is None), None)
    groups = sorted({trial.values[by_words] for trial, _ in rows}) if by_words else [""]
    figure = Figure(figsize=(4.2 * len(flags), 3.4), layout="constrained")
    for place, flag in enumerate(flags):
        axes = figure.add_subplot(1, len(flags), place + 1)
        values = numbers(flag)
        for number, group in enumerate(groups):
            chosen = [row for row, (trial, _) in enumerate(rows) if not by_words or trial.values[by_words] == group]
            x: list[Any] = [rows[row][0].values[flag] if values is None else values[row] for row in chosen]
            axes.scatter(x, [scores[row] for row in chosen], color=f"C{number}", label=group)
        if values is not None and min(values) > 0 and max(values) / min(values) >= 10:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if monitor["baseline"] is not None:
            axes.axhline(monitor["baseline"], color="gray", linestyle="--", linewidth=1, label="baseline")
        if values is None:
            axes.margins(x=0.3)
        axes.set_xlabel(flag.removeprefix("--"))
        axes.set_ylabel(monitor["name"] if place == 0 else "")
        axes.grid(alpha=0.3)
        if place == 0:
            axes.legend(fontsize=8)
    with atomic_path(path) as aside:
        figure.savefig(aside, dpi=120)
