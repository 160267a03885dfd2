"""Benchmarks of data: loading against the training step, to find the bottleneck of training, and rendering of rooms."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ..datasets.core.geometry import Size
from ..datasets.core.randomness import Purpose, generator
from ..datasets.rendering.rooms import render_room
from ..tasks.device import dtype_name
from ..tasks.distributed import available_cores
from ..tasks.network import Batch
from ..tasks.training.data import InfiniteBatchSampler, data_loader
from ..tasks.training.options import Options
from ..tasks.training.setup import build_trainer
from ..tasks.training.trainer import Trainer
from .measure import (
    Clock,
    Figure,
    Report,
    Setting,
    Stopwatch,
    alternate,
    device_name,
    fixed_threads,
    repeat,
    synchronize,
)

TASK = "depth"
SIZE: Size = (96, 128)
BATCH, CUDA_BATCH = 16, 64
STEPS, ROUNDS = 8, 5
BOTTLENECK_SHARE = 0.1
"""Fraction of the training time spent waiting for batches above which the loader counts as the bottleneck."""
ROOM_SIZES: tuple[tuple[Size, float | None], ...] = (((128, 160), 60.0), ((96, 128), None))
"""(height, width), and the required images per second."""
ROOM_ROUNDS = 5
ROOMS = 100


def measure(
    setting: Setting,
    *,
    image_size: Size = SIZE,
    batch_size: int | None = None,
    workers: int | None = None,
    steps: int = STEPS,
    rounds: int = ROUNDS,
) -> Report:
    """Measure the loader alone, the step alone, and both together as in training.

    Batches are of 16, on a GPU of 64, and workers as many as in training, where they and the model share the threads.
    """
    batch_size = batch_size or (CUDA_BATCH if setting.device.type == "cuda" else BATCH)
    rounds = setting.rounds or rounds
    with fixed_threads(setting.threads), tempfile.TemporaryDirectory() as folder:
        trainer = create_trainer(setting, image_size, batch_size, workers, Path(folder) / "run")
        workers, threads = trainer.options.workers or 0, torch.get_num_threads()
        same_batch = itertools.repeat(next(stream(trainer, batch_size, 0, 1)))

        def step() -> None:
            for _ in range(steps):
                train_step(trainer, same_batch)

        time_step = Stopwatch(setting.device).as_round(step)
        pairs = alternate(lambda: time_loader(trainer, batch_size, workers, steps), time_step, rounds, warm_up=1)
        trainings = [time_training(trainer, batch_size, workers, steps) for _ in range(rounds + 1)][1:]
        trainer.log.close()
    shapes = f"{batch_size}x3x{image_size[0]}x{image_size[1]}, {steps} batches a round"
    images = batch_size * steps
    ours, theirs = f"{trainer.options.data}, {workers} worker(s)", describe_model(trainer)
    figures = (
        Figure.from_pairs("loader alone / step alone", shapes, ours, theirs, pairs, images, required=1.0),
        Figure.from_rate("both at once", shapes, "training", [seconds for seconds, _ in trainings], images),
    )
    waiting = statistics.median(waited / seconds for seconds, waited in trainings)
    facts = {"workers": workers, "cores": available_cores(), "share_of_time_waiting_for_batches": waiting}
    bottleneck = "loader" if waiting > BOTTLENECK_SHARE else "step"
    remark = f"The {bottleneck} is the bottleneck: in training, the step waits for batches {waiting:.0%} of the time."
    if setting.device.type == "cpu":
        remark += f" Workers and step share {available_cores()} core(s)."
    title = f"The loader of `densevision train {TASK}` against the training step"
    device = device_name(setting.device)
    return Report("loader", title, device, threads, figures, facts, (remark,))


def create_trainer(setting: Setting, size: Size, batch: int, workers: int | None, folder: Path) -> Trainer:
    """A trainer with the task's default recipe at its first step, with the numbers of threads and workers resolved."""
    options = Options(
        image_size=size,
        batch_size=batch,
        workers=workers,
        device=str(setting.device),
        compile=setting.compile,
        out=folder,
    )
    return build_trainer(TASK, options, None, None, {})


def describe_model(trainer: Trainer) -> str:
    """Short description of the model."""
    levels = f" to level {trainer.options.backbone_levels}" if trainer.options.backbone_levels else ""
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    precision = dtype_name(trainer.dtype)
    model = f"{trainer.options.backbone}{levels} + {trainer.options.head}"
    return f"step of {model} ({parameters:.1f} M parameters, {precision})"


def stream(trainer: Trainer, batch: int, workers: int, count: int) -> Iterator[Batch]:
    """The first batches of the training set."""
    return data_loader(
        trainer.training_set,
        InfiniteBatchSampler(trainer.train_samples, batch, range(count), seed=0),
        workers,
        trainer.device.type == "cuda",
    )


def train_step(trainer: Trainer, source: Iterator[Batch]) -> None:
    """One training step, as in the training loop."""
    trainer.optimizer_step(0, source, trainer.options.lr)
    if trainer.ema is not None:
        trainer.ema.update(trainer.model)


def time_loader(trainer: Trainer, batch: int, workers: int, count: int, clock: Clock = time.perf_counter) -> float:
    """Seconds for `count` batches, after the first batch of every worker; nothing else runs."""
    ahead = max(1, workers)
    source = stream(trainer, batch, workers, ahead + count)
    for _ in range(ahead):
        next(source)
    start = clock()
    for _ in range(count):
        next(source)
    return clock() - start


def time_training(
    trainer: Trainer, batch: int, workers: int, count: int, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Seconds for `count` training steps while the loader runs, and the seconds spent waiting for batches."""
    ahead = max(1, workers)
    source, waited = stream(trainer, batch, workers, ahead + count), 0.0
    for _ in range(ahead):
        train_step(trainer, source)
    synchronize(trainer.device)
    start = clock()
    for _ in range(count):
        before = clock()
        batch_ = next(source)
        waited += clock() - before
        train_step(trainer, iter([batch_]))
    synchronize(trainer.device)
    return clock() - start, waited


def measure_rendering(
    setting: Setting,
    *,
    sizes: tuple[tuple[Size, float | None], ...] = ROOM_SIZES,
    num_images: int = ROOMS,
    rounds: int = ROOM_ROUNDS,
) -> Report:
    """Measure the rendering of synthetic rooms on one core, which must be faster than the training step.

    Rates are images per second of CPU time, which excludes other processes; every round renders new rooms. `sizes` are
    (height, width) with the required rate.
    """
    cpu = torch.device("cpu")
    watch, figures, facts = Stopwatch(cpu, time.process_time), [], {}
    with fixed_threads(1):
        for (height, width), required in sizes:
            numbers = itertools.count()

            def draw(height: int = height, width: int = width, numbers: itertools.count = numbers) -> None:
                for _ in range(num_images):
                    render_room(generator(0, 0, next(numbers), Purpose.TRAINING_SYNTHESIS), height, width)

            wall, busy = time.perf_counter(), time.process_time()
            seconds = repeat(watch.as_round(draw), setting.rounds or rounds)
            used = (time.process_time() - busy) / (time.perf_counter() - wall)
            facts[f"cores_used_{height}x{width}"] = used
            shapes = f"{height}x{width} (height x width), {num_images} rooms a round"
            figures.append(Figure.from_rate("render_room", shapes, "one core", seconds, num_images, required))
    busiest = max(facts.values())
    remarks = (f"Rates are per second of CPU time; at most {busiest:.2f} cores were used, and 1 is allowed.",)
    title = "Rooms rendered on one core"
    return Report("synthetic-rooms", title, device_name(cpu), 1, tuple(figures), facts, remarks)
