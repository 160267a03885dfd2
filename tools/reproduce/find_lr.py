"""Learning rates that `--find-lr` suggests, against a grid of trainings from scratch: three tasks, two optimizers.

python tools/reproduce/find_lr.py

Prints a Markdown table: the final training loss with the suggested learning rate and with each of the grid. The loss is
the mean of the last quarter of the steps, on generated samples that were not trained on before. About seven minutes of
CPU time, on one thread.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from densevision import train
from densevision.tasks.training.interruption import NonFiniteLoss
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import build_trainer

STEPS = 100
GRID = tuple(4.0**exponent for exponent in range(-5, 1))
OPTIMIZERS = ("sgd", "adamw")
TASKS: dict[str, dict[str, Any]] = {
    "classification": {"image_size": (32, 32), "batch_size": 8, "color_jitter": 0.0},
    "colorization": {"image_size": (32, 32), "batch_size": 8},
    "depth": {"image_size": (32, 48), "batch_size": 8},
}
OPTIONS: dict[str, Any] = {
    "steps": STEPS, "warmup_steps": STEPS // 10, "ema_decay": 0.0, "device": "cpu", "amp": "off", "threads": 1,
    "workers": 0,
}  # fmt: skip


def suggested_lr(task: str, options: dict[str, Any]) -> float:
    """The learning rate that `--find-lr` suggests."""
    with tempfile.TemporaryDirectory() as folder:
        return train(task, out=Path(folder) / "run", find_lr=True, **options)["suggested"]


def final_loss(task: str, options: dict[str, Any], lr: float) -> float:
    """Mean loss of the last quarter of a training; inf if it diverges."""
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(task, Options(), None, None, {**options, "lr": lr, "out": Path(folder) / "run"})
        batches = trainer.data_loader()
        try:
            while not trainer.finished:
                losses.append(float(sum(trainer.train_step(batches).values())))
        except NonFiniteLoss:
            return math.inf
        finally:
            trainer.close()
    return fmean(losses[-STEPS // 4 :])


def main() -> None:
    """Print the table, a row per setting."""
    columns = ("task, optimizer", "suggested", "loss", "best of the grid", "loss", *(f"{lr:.2g}" for lr in GRID))
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    for task, task_options in TASKS.items():
        for optimizer in OPTIMIZERS:
            options = {**OPTIONS, **task_options, "optimizer": optimizer}
            lr = suggested_lr(task, options)
            loss = final_loss(task, options, lr)
            losses = [final_loss(task, options, one) for one in GRID]
            best = min(losses)
            row = (f"{task}, {optimizer}", f"{lr:.1e}", f"**{loss:.3f}**", f"{GRID[losses.index(best)]:.2g}")
            print(f"| {' | '.join((*row, f'**{best:.3f}**', *(f'{one:.3f}' for one in losses)))} |", flush=True)


if __name__ == "__main__":
    main()
