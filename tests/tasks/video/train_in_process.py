"""Trainings of video in one of two processes, started by test_video_task.py: python train_in_process.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from densevision.tasks.training.setup import train
from densevision.tasks.video import Video

RUNS: dict[str, tuple[Video, dict[str, Any]]] = {
    "frames": (Video(context=2, frames=2), {"data": "moving-photos", "backbone": "resnet20_cifar", "minutes": None}),
    "noise": (Video(context=0, frames=32), {"data": "boats-32", "recipe": "vgan-narrow"}),
}
"""The next frames, and the two players of VGAN, both with BatchNorm."""


def train_all(folder: Path) -> None:
    """Two steps of two micro-batches each, which the processes share."""
    for name, (task, options) in RUNS.items():
        train(
            task, out=folder / name, steps=2, batch_size=2, micro_batches=2, eval_samples=2, workers=0, threads=1,
            device="cpu", amp="off", **options,
        )  # fmt: skip


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
