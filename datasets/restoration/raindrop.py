"""RainDrop: photos through glass with and without raindrops (Qian et al., CVPR 2018, arXiv:1711.10098)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from .paired import FilePattern, Pair, PairedImages, write_pair


class RainDrop(PairedImages):
    """861 training pairs; `test_a` (58), on which papers report, is the well aligned part of `test_b` (249)."""

    title: ClassVar[str] = "RainDrop"
    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "test_b", "test_a")
    layout: ClassVar[Pair] = ("train/data/0_rain.png", "train/gt/0_clean.png")

    def pairs(self) -> list[Pair]:
        clean = FilePattern(f"{self.split}/gt", after="_clean.png")
        return FilePattern(f"{self.split}/data", after="_rain.png").pairs(self.root, clean)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            for number in (0, 1):
                folder = Path(root) / split
                clean = folder / "gt" / f"{number}_clean.png"
                write_pair(folder / "data" / f"{number}_rain.png", clean, 10 * index + number)
