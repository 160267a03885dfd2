"""Training of DeepPrior in one of two processes, started by test_hand_pose.py: python train_in_process.py FOLDER."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest.mock import patch

from densevision.tasks.hand_pose import deepprior
from densevision.tasks.training.setup import train


def train_without_dropout(out: Path, batch_size: int) -> None:
    """Every process drops units of its own; without dropout, two are equivalent to one with twice the batch size."""
    with patch.object(deepprior, "DROPOUT", 0.0):
        train(
            "hand_pose", out=out, steps=4, batch_size=batch_size, optimizer="sgd", lr=0.01, warmup_steps=0,
            eval_samples=2, eval_every=0, workers=0, threads=1, device="cpu", amp="off",
        )  # fmt: skip


if __name__ == "__main__":
    train_without_dropout(Path(sys.argv[1]) / os.environ["RANK"], 2)
