"""Rain100L and Rain100H: rain drawn over photographs (Yang et al.: Deep Joint Rain Detection and Removal from a Single
Image, CVPR 2017, arXiv:1609.07769)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from .paired import Pair, PairedPictures, Side, write_pair


class Rain100(PairedPictures):
    """The light and the heavy set have one layout; which of them it is, the folder decides.

    A split is a folder `train/` or `test/`, or one whose name holds that word as the packs have it
    (`rain_data_test_Light`); a root that holds the pairs itself is the test split. Inside lie `rain/rain-001.png` and
    `norain/norain-001.png`, or, in older packs, both in one folder. 100 test pairs each, 200 (L) and 1,800 (H) for
    training; of the latter 546 show test scenes, which newer packs have removed.
    """

    title: ClassVar[str] = "Rain100"
    terms: ClassVar[str] = "no explicit licence, cite: treat as research-only"
    layout: ClassVar[Pair] = ("rain/rain-001.png", "norain/norain-001.png")

    def pairs(self) -> list[Pair]:
        for folder in self._folders():
            for rain, clean in ((f"{folder}rain", f"{folder}norain"), (folder or ".", folder or ".")):
                found = Side(rain.rstrip("/"), "rain-").pairs(self.root, Side(clean.rstrip("/"), "norain-"))
                if found:
                    return found
        return []

    def _folders(self) -> list[str]:
        inside = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        named = [f"{name}/" for name in inside if self.split in name.lower()]
        return named or ([""] if self.split == "test" else [])

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            for number in (1, 2):
                folder = Path(root) / split
                clean = folder / "norain" / f"norain-{number:03}.png"
                write_pair(folder / "rain" / f"rain-{number:03}.png", clean, 10 * place + number)
