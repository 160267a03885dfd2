"""Removal of rain: Rain100 (Yang et al.: Deep Joint Rain Detection and Removal from a Single Image, CVPR 2017,
arXiv:1609.07769) and RainDrop (Qian et al., CVPR 2018, arXiv:1711.10098)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..core.files import FilePattern
from ..examples import write_pair
from ..paired_folders import Pair, PairedImages


class Rain100(PairedImages):
    """Light (L) or heavy (H) rain, depending on the folder; both have the same layout.

    A split is a folder `train/` or `test/`, or a folder with this word in its name as distributed
    (`rain_data_test_Light`); a root with the pairs themselves is the test split. It contains `rain/rain-001.png` and
    `norain/norain-001.png`, or, in older releases, both in one folder. 100 test pairs each; 200 (L) and 1,800 (H)
    training pairs, of which 546 (H) show test scenes; newer releases have removed them.
    """

    title: ClassVar[str] = "Rain100"
    default_protocol: ClassVar[str] = "y-bt601"
    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"
    layout: ClassVar[Pair] = ("rain/rain-001.png", "norain/norain-001.png")

    def pairs(self) -> list[Pair]:
        for folder in self._folders():
            for rain, clean in ((f"{folder}rain", f"{folder}norain"), (folder or ".", folder or ".")):
                pairs = FilePattern(rain.rstrip("/"), "rain-").pairs(
                    self.root, FilePattern(clean.rstrip("/"), "norain-")
                )
                if pairs:
                    return pairs
        return []

    def _folders(self) -> list[str]:
        names = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        folders = [f"{name}/" for name in names if self.split in name.lower()]
        return folders or ([""] if self.split == "test" else [])

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            for number in (1, 2):
                folder = Path(root) / split
                clean = folder / "norain" / f"norain-{number:03}.png"
                write_pair(folder / "rain" / f"rain-{number:03}.png", clean, 10 * index + number)


class RainDrop(PairedImages):
    """861 training pairs; `test_a` (58), on which papers report, is the well aligned part of `test_b` (249)."""

    title: ClassVar[str] = "RainDrop"
    default_protocol: ClassVar[str] = "y-full"
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
