"""What the sets of restoration share: a degraded picture and the clean one, in two files matched by name."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .dataset import Dataset, Sample, problems_of
from .fields import Image
from .folders import PICTURE_SUFFIXES, held_back
from .formats.picture import read_picture, write_picture
from .geometry import Size
from .problems import DamagedData, Problem
from .randomness import Purpose, generator
from .worlds.shapes import draw_shape
from .worlds.weather import degrade

Pair = tuple[str, str]
"""The degraded and the clean file, relative to the root, with forward slashes."""


@dataclass(frozen=True)
class Side:
    """Where one picture of every pair lies: FOLDER/BEFORE key AFTER, the key being what the two names share."""

    folder: str
    before: str = ""
    after: str = ".png"

    def keys(self, root: Path) -> set[str]:
        """The keys of the files that are there."""
        names = [file.name for file in (root / self.folder).glob(f"{self.before}*{self.after}")]
        return {name[len(self.before) : len(name) - len(self.after)] for name in names if name[0] != "."}

    def file(self, key: str) -> str:
        """A key's file, relative to the root, with forward slashes."""
        return f"{self.folder}/{self.before}{key}{self.after}".removeprefix("./")

    def pairs(self, root: Path, clean: Side) -> list[Pair]:
        """This side as the degraded one, matched with a clean one by key, the keys in the order of counting.

        A key on one side alone stays in the list, so that reading it says which file is missing.
        """
        keys = self.keys(root) | clean.keys(root)
        return [(self.file(key), clean.file(key)) for key in sorted(keys, key=lambda key: (len(key), key))]


class PairedPictures(Dataset):
    """A degraded and a clean picture per sample. A loader says in `pairs` where they lie.

    Attributes:
        layout: two files of a pair as the layout has them, for the sentence where there is none.
    """

    layout: ClassVar[Pair]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"degraded": Image(), "image": Image()}
        self._pairs = self.pairs()
        if not self._pairs:
            raise DamagedData(self.root, f"pairs for '{split}' such as {self.layout[0]} and {self.layout[1]}", "none")

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """The degraded and the clean file of every sample of the split."""

    def __len__(self) -> int:
        return len(self._pairs)

    def label(self, index: int) -> str:
        return self._pairs[index][0]

    def read(self, index: int) -> Sample:
        degraded, clean = (self.root / name for name in self._pairs[index])
        image = read_picture(clean)
        return {"degraded": self.degraded(degraded, (image.shape[0], image.shape[1])), "image": image}

    def degraded(self, file: Path, size: Size) -> np.ndarray:
        """The degraded picture, at the size of the clean one.

        Raises:
            DamagedData: it has another size.
        """
        picture = read_picture(file)
        if picture.shape[:2] != size:
            expected, found = f"{size[1]}x{size[0]}", f"{picture.shape[1]}x{picture.shape[0]}"
            raise DamagedData(file, f"a picture of the clean one's size {expected}", found)
        return picture

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)


class PairedFolders(PairedPictures):
    """Degraded pictures in `input/` and clean ones in `target/`, paired by the file's name without its suffix.

    The root holds the two folders, or `train/` and `test/` that each hold them; names may lie in subfolders. Without
    `train/` and `test/` one name in ten is held back for testing, chosen by a hash of the name.
    """

    title: ClassVar[str] = "Folders of degraded and clean pictures"
    terms: ClassVar[str] = "whatever holds for your files"

    layout: ClassVar[Pair] = ("input/a.png", "target/a.png")

    def pairs(self) -> list[Pair]:
        divided = any((self.root / name).is_dir() for name in self.splits)
        folder = f"{self.split}/" if divided else ""
        inputs, targets = (_by_name(self.root, f"{folder}{side}") for side in ("input", "target"))
        names = sorted(inputs.keys() | targets.keys())
        return [
            (inputs.get(name, f"{folder}input/{name}"), targets.get(name, f"{folder}target/{name}"))
            for name in names
            if divided or held_back(name) == (self.split == "test")
        ]

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        root, taken = Path(root), {split: 0 for split in cls.splits}
        for number in range(200):
            name = f"picture-{number:03}"
            split = "test" if held_back(name) else "train"
            if taken[split] < 2:
                taken[split] += 1
                write_pair(root / "input" / f"{name}.jpg", root / "target" / f"{name}.png", number)


def _by_name(root: Path, folder: str) -> dict[str, str]:
    """From each picture's name, without suffix and relative to the folder, to its file relative to the root."""
    files = sorted(file for file in (root / folder).rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    return {
        file.relative_to(root / folder).with_suffix("").as_posix(): file.relative_to(root).as_posix()
        for file in files
        if not file.name.startswith(".")
    }


def drawn_pair(number: int, size: Size = (48, 64)) -> tuple[np.ndarray, np.ndarray]:
    """A degraded and a clean picture for miniature sets."""
    rng = generator(0, 0, number, Purpose.MINIATURE)
    clean = draw_shape(rng, *size).image
    return degrade(clean, rng, ["rain"]), clean


def write_pair(degraded: Path, clean: Path, number: int, factor: int = 1) -> None:
    """Write a drawn pair, the degraded picture smaller by a factor."""
    dirty, tidy = drawn_pair(number)
    if factor > 1:
        dirty = cv2.resize(tidy, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    for path, picture in ((degraded, dirty), (clean, tidy)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, picture)
