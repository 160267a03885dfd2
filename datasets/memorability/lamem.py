"""LaMem: 58,741 images with memorability scores (Khosla, Raju, Torralba, Oliva: Understanding and Predicting Image
Memorability at a Large Scale, ICCV 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..core.problems import Problem
from ..examples import fake_jpeg
from ..stored_images import Files
from .score_folders import ScoredImages, read_ratings


class LaMem(ScoredImages):
    """One of the five official splits into 45,000 training, 3,741 validation and 10,000 test images.

    The root contains `images/00000001.jpg` and `splits/{train,val,test}_{1..5}.txt`, lines `00000001.jpg 0.833333`:
    one space and no header. The number of the split is part of the name of the dataset (`lamem-1` to `lamem-5`), so
    that checkpoints and tables state it; papers report the mean over the five. Scores are in [0, 1] with false alarms
    subtracted; many are equal.

    Attributes:
        number: number of the official split, 1 to 5.
    """

    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    number: ClassVar[int]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        ratings = read_ratings(self.root / "splits" / f"{split}_{self.number}.txt", problems)
        files = Files(self.root, [f"images/{name}" for name, _ in ratings])
        self.set_scores(files, [score for _, score in ratings], problems)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        images, lists = Path(root) / "images", Path(root) / "splits"
        images.mkdir(parents=True, exist_ok=True)
        lists.mkdir(exist_ok=True)
        names = [f"{number:08}.jpg" for number in range(1, 8)]
        for number, name in enumerate(names):
            (images / name).write_bytes(fake_jpeg(number))
        for number in range(1, 6):
            # Every split is another permutation of the same images; the first two scores are equal.
            shifted = names[number:] + names[:number]
            for split, part in (("train", shifted[:3]), ("val", shifted[3:5]), ("test", shifted[5:])):
                lines = [f"{name} {max(1, names.index(name)) / 7:.6f}\n" for name in part]
                (lists / f"{split}_{number}.txt").write_text("".join(lines))


class LaMem1(LaMem):
    """Split 1."""

    title: ClassVar[str] = "LaMem, split 1"
    number: ClassVar[int] = 1


class LaMem2(LaMem):
    """Split 2."""

    title: ClassVar[str] = "LaMem, split 2"
    number: ClassVar[int] = 2


class LaMem3(LaMem):
    """Split 3."""

    title: ClassVar[str] = "LaMem, split 3"
    number: ClassVar[int] = 3


class LaMem4(LaMem):
    """Split 4."""

    title: ClassVar[str] = "LaMem, split 4"
    number: ClassVar[int] = 4


class LaMem5(LaMem):
    """Split 5."""

    title: ClassVar[str] = "LaMem, split 5"
    number: ClassVar[int] = 5
