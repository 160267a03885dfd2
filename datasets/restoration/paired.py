"""Base class of the restoration datasets: a degraded and a clean image, in two files matched by name."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ..core.files import files_by_name
from ..core.geometry import Size
from ..core.problems import DatasetError, Problem, read_parts
from ..core.randomness import Purpose, generator
from ..core.splits import empty_split, in_split, is_test_sample
from ..dataset import Dataset, Sample, validate_all
from ..field_types import Image
from ..formats.image import IMAGE_SUFFIXES, read_image, write_image
from ..rendering.shapes import draw_shape
from ..rendering.weather import degrade

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
        self.problems: list[Problem] = []
        self._pairs = self.pairs()
        if not (self._pairs or self.problems):
            expected = f"pairs for '{split}' such as {self.layout[0]} and {self.layout[1]}"
            self.problems.append(Problem(str(self.root), expected, "none"))
        if self.problems:
            raise DatasetError.from_problems(self.problems, dataset=self)

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """List the degraded and the clean file of every sample of the split; `problems` receives what is wrong."""

    def __len__(self) -> int:
        return len(self._pairs)

    def sample_name(self, index: int) -> str:
        return self._pairs[index][0]

    def read(self, index: int) -> Sample:
        degraded, clean = (self.root / name for name in self._pairs[index])
        degraded_image, image = read_parts(partial(read_image, degraded), partial(read_image, clean))
        return {"degraded": self.fit(degraded_image, degraded, (image.shape[0], image.shape[1])), "image": image}

    def fit(self, image: np.ndarray, file: Path, size: Size) -> np.ndarray:
        """Return the degraded image of a file at the (height, width) of the clean one.

        Raises:
            DatasetError: it has another size.
        """
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
        inputs, targets = (
            files_by_name(self.root, f"{folder}{name}", IMAGE_SUFFIXES, self.problems, self.skipped)
            for name in ("input", "target")
        )
        names = sorted(inputs.keys() | targets.keys())
        if names and not has_split_folders:
            all_names, names = names, list(compress(names, in_split(names, self.split)))
            if not names:
                self.problems.append(empty_split(self.root, "pairs", self.split, len(all_names)))
        return [
            (inputs.get(name, f"{folder}input/{name}"), targets.get(name, f"{folder}target/{name}")) for name in names
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
