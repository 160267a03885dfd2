"""The loader against the network it feeds: which of the two is the wall of `densevision train depth`?"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ..datasets.geometry import Size
from ..tasks.task import Batch
from ..tasks.training.assembly import Run, assemble
from ..tasks.training.options import Options
from ..tasks.training.stepper import optimizer_step
from ..tasks.training.stream import Order, batches
from .measure import Clock, Figure, Report, Setting, Stopwatch, alternate, cores, device_name, fixed_threads, settle

TASK = "depth"
SIZE: Size = (96, 128)
BATCH, CUDA_BATCH = 16, 64
STEPS, ROUNDS = 8, 5
WAITING = 0.1
"""Share of the time that a training waits for its batches from which on the loader is called the wall."""


def measure(
    setting: Setting,
    *,
    size: Size = SIZE,
    batch: int | None = None,
    workers: int | None = None,
    steps: int = STEPS,
    rounds: int = ROUNDS,
) -> Report:
    """The loader alone, the step alone, and both together as they train.

    Args:
        setting: device, threads, compile.
        size: (height, width) of the pictures.
        batch: pictures per step; default: 16, on a GPU 64.
        workers: processes of the loader; default: as many as a training starts, which shares out the setting's threads.
        steps: per round.
        rounds: pairs, where the setting says nothing.
    """
    batch = batch or (CUDA_BATCH if setting.device.type == "cuda" else BATCH)
    rounds = setting.rounds or rounds
    with fixed_threads(setting.threads), tempfile.TemporaryDirectory() as folder:
        run = open_run(setting, size, batch, workers, Path(folder) / "run")
        workers, threads = run.options.workers or 0, torch.get_num_threads()
        again = itertools.repeat(next(stream(run, batch, 0, 1)))

        def step() -> None:
            for _ in range(steps):
                take_step(run, again)

        measured_step = Stopwatch(setting.device).rounds_of(step)
        pairs = alternate(lambda: time_loader(run, batch, workers, steps), measured_step, rounds, warm_up=1)
        together = [time_training(run, batch, workers, steps) for _ in range(rounds + 1)][1:]
        run.log.close()
    shapes = f"{batch}x3x{size[0]}x{size[1]}, {steps} batches a round"
    amount = batch * steps
    figures = (
        Figure.of_pairs(
            "loader alone / step alone", shapes, f"{run.options.data}, {workers} worker(s)", network_of(run), pairs,
            amount, least=1.0,
        ),
        Figure.of_rate("both at once", shapes, "training", [wall for wall, _ in together], amount),
    )  # fmt: skip
    waiting = statistics.median(waited / wall for wall, waited in together)
    facts = {"workers": workers, "cores": cores(), "share_of_time_waiting_for_batches": waiting}
    wall = "The loader is the wall" if waiting > WAITING else "The step is the wall"
    remark = f"{wall}: with both at once, the step waits for batches {waiting:.0%} of the time."
    if setting.device.type == "cpu":
        remark += f" Workers and step share {cores()} core(s)."
    title = f"The loader of `densevision train {TASK}` against the step that it feeds"
    device = device_name(setting.device)
    return Report("loader", title, device, threads, figures, facts, (remark,))


def open_run(setting: Setting, size: Size, batch: int, workers: int | None, folder: Path) -> Run:
    """A training by the task's default recipe, at its first step; it settles threads and workers."""
    options = Options(
        size=size, batch=batch, workers=workers, device=str(setting.device), compile=setting.compile, out=folder
    )
    return assemble(TASK, options, None, None, {})


def network_of(run: Run) -> str:
    """The trained network in a few words."""
    levels = f" to level {run.options.levels}" if run.options.levels else ""
    parameters = sum(parameter.numel() for parameter in run.model.parameters()) / 1e6
    precision = "bf16" if run.bf16 else "fp32"
    return f"step of {run.options.backbone}{levels} + {run.options.head} ({parameters:.1f} M parameters, {precision})"


def stream(run: Run, batch: int, workers: int, count: int) -> Iterator[Batch]:
    """Batches of the run from the beginning of its data."""
    return batches(run.view, Order(run.train_samples, batch, range(count), seed=0), workers, run.device.type == "cuda")


def take_step(run: Run, source: Iterator[Batch]) -> None:
    """One step as the training loop takes it."""
    optimizer_step(run, 0, source, run.options.lr)
    if run.ema is not None:
        run.ema.update(run.model)


def time_loader(run: Run, batch: int, workers: int, count: int, clock: Clock = time.perf_counter) -> float:
    """Seconds for so many batches once every worker has handed over its first; nobody else works meanwhile."""
    ahead = max(1, workers)
    source = stream(run, batch, workers, ahead + count)
    for _ in range(ahead):
        next(source)
    start = clock()
    for _ in range(count):
        next(source)
    return clock() - start


def time_training(
    run: Run, batch: int, workers: int, count: int, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Seconds for so many steps on batches that arrive meanwhile, and how many of them went into waiting."""
    ahead = max(1, workers)
    source, waited = stream(run, batch, workers, ahead + count), 0.0
    for _ in range(ahead):
        take_step(run, source)
    settle(run.device)
    start = clock()
    for _ in range(count):
        before = clock()
        got = next(source)
        waited += clock() - before
        take_step(run, iter([got]))
    settle(run.device)
    return clock() - start, waited
