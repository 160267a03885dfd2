"""What test_translation.py has done in each of two processes: python two_players.py FOLDER."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from players import TINY, weights_of

from densevision.tasks.training.loop import train
from densevision.tasks.translation import Translation


def main(folder: Path) -> None:
    # Every picture has its own statistics: two processes then see what one of twice the batch sees.
    out = folder / os.environ["RANK"]
    train(Translation(norm="instance", patches=1), **{**TINY, "out": out})
    if os.environ["RANK"] == "0":
        torch.save(weights_of(out), folder / "two.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
