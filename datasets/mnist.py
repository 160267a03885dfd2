"""MNIST: handwritten digits (LeCun, Bottou, Bengio, Haffner, Proc. IEEE 1998)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .fields import Category, Image
from .formats.idx import read_idx, write_idx
from .labelled_pictures import LabelledPictures
from .problems import DamagedData
from .randomness import Purpose, generator

FOLDERS = ("MNIST/raw", "raw", ".")
"""Where the files may lie under the root: as torchvision keeps them, or plainly."""

PREFIXES = {"train": "train", "test": "t10k"}
SIZE = (28, 28)


class MNIST(LabelledPictures):
    """60,000 digits to train and 10,000 to test, 28x28 grey, white on black; kept in memory.

    The root holds the four official files, `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, packed (`.gz`) or not, or
    has them in `MNIST/raw`. The digits are centred by mass in the picture, which is why a digit of your own has to be.
    """

    title: ClassVar[str] = "MNIST"
    terms: ClassVar[str] = "commonly given as CC BY-SA 3.0; cite"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(1), "category": Category(tuple("0123456789"))}
        pictures, labels = (
            _find(self.root, f"{PREFIXES[split]}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
        )
        self._images, self._categories = read_idx(pictures), read_idx(labels)
        self._name = pictures.relative_to(self.root).as_posix()
        if self._images.shape[1:] != SIZE or self._images.dtype != np.uint8:
            raise DamagedData(pictures, "pictures of 28x28 uint8", _shape(self._images))
        if self._categories.shape != self._images.shape[:1]:
            raise DamagedData(labels, f"a label for each of {len(self._images)} pictures", _shape(self._categories))
        if self._categories.size and not 0 <= self._categories.min() <= self._categories.max() <= 9:
            raise DamagedData(labels, "labels from 0 to 9", f"{self._categories.max()}")

    def label(self, index: int) -> str:
        return f"{self._name}/{index:05}"

    def picture(self, index: int) -> np.ndarray:
        return self._images[index, :, :, None].copy()

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for split, prefix in PREFIXES.items():
            labels = np.arange(20, dtype=np.uint8) % 10
            rngs = [generator(0, len(split), number, Purpose.MINIATURE) for number in range(len(labels))]
            images = [_digit(int(label), rng) for label, rng in zip(labels, rngs, strict=True)]
            folder = Path(root) / FOLDERS[0]
            write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", np.stack(images))
            write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)


def _find(root: Path, name: str) -> Path:
    candidates = [root / folder / f"{name}{suffix}" for folder in FOLDERS for suffix in ("", ".gz")]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise DamagedData(root / f"{name}.gz", "this file of MNIST, packed or not, here or in MNIST/raw", "none")
    return found


def _shape(array: np.ndarray) -> str:
    return f"{'x'.join(map(str, array.shape))} {array.dtype}"


def _digit(label: int, rng: np.random.Generator) -> np.ndarray:
    """A digit as a plotter would write it, a little displaced."""
    canvas = np.zeros(SIZE, np.uint8)
    left, bottom = (int(number) for number in rng.integers((5, 21), (10, 25)))
    cv2.putText(canvas, str(label), (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2, cv2.LINE_AA)
    return canvas
