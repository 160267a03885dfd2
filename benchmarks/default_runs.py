"""Benchmark of the default runs: training steps of every task's default recipe, alone and beside the data loading.

On few cores, training and the renderer of a synthetic dataset compete. In one run per task: the network alone on one
thread and on all threads, both while a worker loads samples, and all threads with every sample used several times, as a
run decides that has a time budget. Steps have a learning rate of 0 and always the same batch; the worker loads one
batch per step.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch

from ..datasets.core.geometry import Size
from ..datasets.dataset import SyntheticDataset
from ..tasks import list_tasks
from ..tasks.device import dtype_name
from ..tasks.network import Batch
from ..tasks.training.budget import SAMPLE_USES
from ..tasks.training.data import InfiniteBatchSampler, data_loader
from ..tasks.training.options import Options
from ..tasks.training.setup import build_trainer
from ..tasks.training.trainer import Trainer
from .measure import Figure, Report, Setting, Stopwatch, device_name, fixed_threads, repeat

ROUNDS = 3
ROUND_SECONDS = 0.5
"""Minimum duration of a round in seconds; shorter steps are repeated within it."""


def measure(
    setting: Setting,
    *,
    tasks: Sequence[str] | None = None,
    image_size: Size | None = None,
    batch_size: int | None = None,
    round_seconds: float = ROUND_SECONDS,
    rounds: int = ROUNDS,
) -> Report:
    """Measure images/s of all tasks, or of some, at their own image and batch sizes if none are stated."""
    figures, facts = [], {}
    sizes: dict[str, Any] = {"image_size": image_size, "batch_size": batch_size}
    options = Options(**sizes, device=str(setting.device), compile=setting.compile, dry_run=True)
    for task in tasks or list_tasks():
        with fixed_threads(setting.threads):
            trainer = build_trainer(task, options, None, None, {})
            try:
                figures += figures_of(task, trainer, setting, round_seconds, setting.rounds or rounds)
            finally:
                trainer.close()
        facts[task] = {"options": trainer.options.command_line(), "precision": dtype_name(trainer.dtype)}
    title = "Training steps of the default recipes (forward, loss, backward, update)"
    device = device_name(setting.device)
    return Report("default-runs", title, device, setting.threads, tuple(figures), facts)


def figures_of(task: str, trainer: Trainer, setting: Setting, round_seconds: float, rounds: int) -> list[Figure]:
    """Rates of one task: alone, beside the loading, and with samples used several times where a run may do so."""
    options, dataset = trainer.options, trainer.training_set.dataset
    assert options.image_size is not None
    height, width = options.image_size
    shapes = f"{options.batch_size} x {height}x{width}, {dtype_name(trainer.dtype)}"
    with closing(_loading(trainer, options.batch_size, workers=0)) as batches:
        batch = next(batches)
    workers = max(1, options.workers or 0)
    counts = sorted({1, setting.threads}) if setting.device.type == "cpu" else [setting.threads]
    variants = [(threads, uses, workers) for uses in (0, 1) for threads in counts]
    if isinstance(dataset, SyntheticDataset) and dataset.cpu_heavy and workers == 1:
        # As `training.budget.use_all_cores` has it.
        variants.append((counts[-1], SAMPLE_USES, counts[-1]))
    watch, figures = Stopwatch(setting.device), []
    for threads, uses, loaders in variants:
        torch.set_num_threads(threads)
        # As many new samples as training would need for a step.
        part = -(-options.batch_size // max(1, uses))
        loading = _loading(trainer, part, loaders) if uses else _endless()
        with closing(loading):

            def step(loading: Iterator[object] = loading) -> None:
                trainer.optimizer_step(0, (batch for _ in loading), lr=0.0)
                if trainer.ema is not None:
                    trainer.ema.update(trainer.model)

            # The first step allocates memory, and finds the batches that the workers loaded before it.
            for _ in range(loaders if uses else 1):
                step()
            calls = max(1, math.ceil(round_seconds / watch(step)))
            seconds = repeat(watch.as_round(step, calls), rounds, warm_up=0)
        beside = f", {loaders} worker(s)" if uses else ", network alone"
        again = f", samples used {uses} times" if uses > 1 else ""
        ours = f"{threads} thread(s){beside}{again}"
        figures.append(Figure.from_rate(f"{task}, {ours}", shapes, ours, seconds, trainer.images_per_step))
    return figures


def _loading(trainer: Trainer, batch_size: int, workers: int) -> Generator[Batch]:
    """Endless batches of the training set; each worker has one in advance, so that steps and loading keep pace."""
    sampler = InfiniteBatchSampler(trainer.train_samples, batch_size, range(2**20), seed=0)
    return data_loader(trainer.training_set, sampler, workers, trainer.device.type == "cuda", prefetched=1)


def _endless() -> Generator[None]:
    while True:
        yield None
