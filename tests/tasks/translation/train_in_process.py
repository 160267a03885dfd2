"""Training in one of two processes, started by test_translation.py: python train_in_process.py FOLDER."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from tiny_training import TINY, weights_of

from densevision.tasks.training.setup import train
from densevision.tasks.translation import Translation


def main(folder: Path) -> None:
    # With statistics per image, two processes are equivalent to one with twice the batch size.
    out = folder / os.environ["RANK"]
    train(Translation(norm="instance", discriminator_layers=1), **{**TINY, "out": out})
    if os.environ["RANK"] == "0":
        torch.save(weights_of(out), folder / "two.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
