"""Base class of the restoration datasets: a degraded and a clean image, in two files matched by name."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .dataset import Dataset, Sample, validate_all
from .field_types import Image
from .folders import IMAGE_SUFFIXES, is_test_sample
from .formats.image import read_image, write_image
from .geometry import Size
from .problems import DatasetError, Problem
from .randomness import Purpose, generator
from .rendering.shapes import draw_shape
from .rendering.weather import degrade

Pair = tuple[str, str]
"""(degraded file, clean file), relative to the root, with forward slashes."""


@dataclass(frozen=True)
class FilePattern:
    """Pattern `folder/before KEY after` of one file of every pair; the files of a pair share the key."""

    folder: str
    before: str = ""
    after: str = ".png"

    def keys(self, root: Path) -> set[str]:
        """Keys of the existing files."""
        names = [file.name for file in (root / self.folder).glob(f"{self.before}*{self.after}")]
        return {name[len(self.before) : len(name) - len(self.after)] for name in names if name[0] != "."}

    def file(self, key: str) -> str:
        """File of a key, relative to the root, with forward slashes."""
        return f"{self.folder}/{self.before}{key}{self.after}".removeprefix("./")

    def pairs(self, root: Path, clean: FilePattern) -> list[Pair]:
        """Match the files of this pattern (degraded) with those of `clean` by key, sorted by length, then by name.

        A key of one pattern only remains in the list, so that reading it reports the missing file.
        """
        keys = self.keys(root) | clean.keys(root)
        return [(self.file(key), clean.file(key)) for key in sorted(keys, key=lambda key: (len(key), key))]


class PairedImages(Dataset):
    """A degraded and a clean image per sample. Subclasses implement `pairs`.

    Attributes:
        layout: example of the files of a pair, for the error message if there is no pair.
    """

    layout: ClassVar[Pair]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"degraded": Image(), "image": Image()}
        self._pairs = self.pairs()
        if not self._pairs:
            raise DatasetError(self.root, f"pairs for '{split}' such as {self.layout[0]} and {self.layout[1]}", "none")

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """List the degraded and the clean file of every sample of the split."""

    def __len__(self) -> int:
        return len(self._pairs)

    def sample_name(self, index: int) -> str:
        return self._pairs[index][0]

    def read(self, index: int) -> Sample:
        degraded, clean = (self.root / name for name in self._pairs[index])
        image = read_image(clean)
        return {"degraded": self.degraded(degraded, (image.shape[0], image.shape[1])), "image": image}

    def degraded(self, file: Path, size: Size) -> np.ndarray:
        """Read the degraded image, at the (height, width) of the clean one.

        Raises:
            DatasetError: it has another size.
        """
        image = read_image(file)
        if image.shape[:2] != size:
            expected, found = f"{size[1]}x{size[0]}", f"{image.shape[1]}x{image.shape[0]}"
            raise DatasetError(file, f"an image of the size of the clean one, {expected}", found)
        return image

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        return validate_all(cls, root)


class PairedFolders(PairedImages):
    """Degraded images in `input/` and clean ones in `target/`, paired by file name without suffix.

    The root contains the two folders, or `train/` and `test/` with these two; files may be in subfolders. Without
    `train/` and `test/`, one name in ten is for testing, chosen by a hash of the name.
    """

    title: ClassVar[str] = "Folders of degraded and clean images"
    terms: ClassVar[str] = "license of your files"

    layout: ClassVar[Pair] = ("input/a.png", "target/a.png")

    def pairs(self) -> list[Pair]:
        has_split_folders = any((self.root / name).is_dir() for name in self.splits)
        folder = f"{self.split}/" if has_split_folders else ""
        inputs, targets = (_by_name(self.root, f"{folder}{name}") for name in ("input", "target"))
        names = sorted(inputs.keys() | targets.keys())
        return [
            (inputs.get(name, f"{folder}input/{name}"), targets.get(name, f"{folder}target/{name}"))
            for name in names
            if has_split_folders or is_test_sample(name) == (self.split == "test")
        ]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        root, count = Path(root), {split: 0 for split in cls.splits}
        for number in range(200):
            name = f"image-{number:03}"
            split = "test" if is_test_sample(name) else "train"
            if count[split] < 2:
                count[split] += 1
                write_pair(root / "input" / f"{name}.jpg", root / "target" / f"{name}.png", number)


def _by_name(root: Path, folder: str) -> dict[str, str]:
    """Name of an image, relative to the folder and without suffix, to its file relative to the root."""
    files = sorted(file for file in (root / folder).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return {
        file.relative_to(root / folder).with_suffix("").as_posix(): file.relative_to(root).as_posix()
        for file in files
        if not file.name.startswith(".")
    }


def fake_pair(number: int, size: Size = (48, 64)) -> tuple[np.ndarray, np.ndarray]:
    """Generate a degraded and a clean image for example datasets, each (H, W, 3) uint8."""
    rng = generator(0, 0, number, Purpose.EXAMPLE)
    clean = draw_shape(rng, *size).image
    return degrade(clean, rng, ["rain"]), clean


def write_pair(degraded: Path, clean: Path, number: int, factor: int = 1) -> None:
    """Write a generated pair, with the degraded image smaller by a factor."""
    degraded_image, clean_image = fake_pair(number)
    if factor > 1:
        degraded_image = cv2.resize(clean_image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    for path, image in ((degraded, degraded_image), (clean, clean_image)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
