"""Training in one of two processes, started by test_video_task.py: python train_in_process.py FOLDER."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from densevision.tasks.training.setup import train
from densevision.tasks.training.state import load_state
from densevision.tasks.video import Video

OPTIONS: dict[str, Any] = {
    "data": "boats", "backbone": "resnet20_cifar", "freeze_bn": True, "image_size": (16, 16), "steps": 2, "lr": 1e-2,
    "optimizer": "sgd", "warmup_steps": 0, "eval_samples": 2, "eval_every": 0, "workers": 0, "threads": 1,
    "device": "cpu", "amp": "off", "minutes": None,
}  # fmt: skip


def run(out: Path, batch_size: int) -> None:
    """Train with frozen normalization, whose statistics are otherwise those of a process."""
    train(Video(context=1, frames=3), out=out, batch_size=batch_size, **OPTIONS)


def weights_of(out: Path) -> dict[str, Tensor]:
    """The weights after a run, which its first process writes."""
    return load_state(out / "last" / "state.pt")["model"]


if __name__ == "__main__":
    run(Path(sys.argv[1]) / os.environ["RANK"], 2)
