"""What the sets of optical flow share: two pictures and the motion from the first to the second, each in its file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

from .dataset import Dataset, Sample, problems_of
from .fields import Flow, Image, Mask
from .flow_files import read_flow
from .formats.picture import read_picture
from .geometry import Size
from .paired import Side
from .problems import DamagedData, Problem
from .randomness import Purpose, generator


class Pair(NamedTuple):
    """The files of a sample, relative to the root, with forward slashes.

    Attributes:
        visible: the file that says which pixels of the first picture the second one shows too; "" where a set has none.
    """

    first: str
    second: str
    flow: str
    visible: str = ""


class FlowPairs(Dataset):
    """Two pictures and the motion between them. A loader says in `pairs` where they lie.

    Fields: `first` and `second`; `flow` in pixels, nan where unknown; and, of sets that know it, `visible`: True where
    what the first picture shows is in the second one too.

    Attributes:
        layout: the files of a pair as the layout has them, for the sentence where there is none.
    """

    layout: ClassVar[Pair]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"first": Image(), "second": Image(frame=1), "flow": Flow()}
        pairs = self.pairs()
        if not pairs:
            files = f"{self.layout.first}, {self.layout.second} and {self.layout.flow}"
            raise DamagedData(self.root, f"pairs for '{split}' such as {files}", "none")
        if pairs[0].visible:
            self.fields["visible"] = Mask()
        # numpy's text takes four bytes a letter: of 40,302 pairs, 40 MB for every worker.
        self._files = np.array([[file.encode() for file in pair] for pair in pairs], np.bytes_)

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """The files of every sample of the split.

        A pair that lacks a file belongs to them, so that reading it says which one is missing.
        """

    def pair(self, index: int) -> Pair:
        """The files of one sample."""
        return Pair(*(file.decode() for file in self._files[index]))

    def __len__(self) -> int:
        return len(self._files)

    def label(self, index: int) -> str:
        # Not the first picture: some sets ask for the motion to its successor and for that to its predecessor.
        return self.pair(index).flow

    def read(self, index: int) -> Sample:
        pair = self.pair(index)
        sample = {
            "first": read_picture(self.root / pair.first),
            "second": read_picture(self.root / pair.second),
            "flow": read_flow(self.root / pair.flow),
        }
        if pair.visible:
            sample["visible"] = self.visible(self.root / pair.visible)
        for name, value in sample.items():
            require_same_size(sample["first"], value, self.root / getattr(pair, name))
        return sample

    def visible(self, file: Path) -> np.ndarray:
        """(H, W) bool from a pair's file `visible`; of the sets whose pairs name one."""
        raise NotImplementedError(f"{type(self).__name__} names {file} and does not read it.")

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)


def require_same_size(first: np.ndarray, other: np.ndarray, path: str | Path) -> None:
    """Refuse what has not the size of the pair's first picture.

    Args:
        first: (H, W, 3).
        other: (H, W) or (H, W, C).
        path: the other's file, for the sentence.
    """
    if first.shape[:2] != other.shape[:2]:
        expected, found = (f"{array.shape[1]}x{array.shape[0]}" for array in (first, other))
        raise DamagedData(path, f"the first picture's size {expected}", found)


def frame_numbers(root: Path, side: Side) -> set[int]:
    """The numbers of a sequence's files that are there."""
    return {int(key) for key in side.keys(root) if key.isdecimal()}


def with_successor(numbers: Collection[int]) -> range:
    """The frames of a sequence that another one follows.

    Args:
        numbers: of the frames of which any file is there. One that is missing in between counts as a frame, so that
            reading it says which file there should be.
    """
    return range(min(numbers), max(numbers)) if numbers else range(0)


class Drift(NamedTuple):
    """Frames for miniature sets: one texture that shifts by the same whole pixels from each to the next.

    Attributes:
        frames: (H, W, 3) uint8 each.
        flow: (H, W, 2) float32 pixels from each to the next; its negative leads back.
        visible: (H, W) bool, False where a pixel leaves the picture on its way to the next.
    """

    frames: list[np.ndarray]
    flow: np.ndarray
    visible: np.ndarray


def drifting_frames(number: int, frames: int = 2, size: Size = (48, 64)) -> Drift:
    """A miniature's sequence, another one for each number."""
    rng = generator(0, 0, number, Purpose.MINIATURE)
    x, y = (int(rng.integers(1, 4) * rng.choice((-1, 1))) for _ in range(2))
    margin = 3 * frames
    canvas = rng.integers(0, 256, (size[0] + 2 * margin, size[1] + 2 * margin, 3)).astype(np.float32)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 2)
    canvas = np.clip(128 + 5 * (canvas - 128), 0, 255).astype(np.uint8)
    corners = [(margin - y * frame, margin - x * frame) for frame in range(frames)]
    flow = np.empty((*size, 2), np.float32)
    flow[:] = x, y
    rows, columns = np.mgrid[: size[0], : size[1]]
    visible = (rows + y >= 0) & (rows + y < size[0]) & (columns + x >= 0) & (columns + x < size[1])
    shown = [canvas[top : top + size[0], left : left + size[1]].copy() for top, left in corners]
    return Drift(shown, flow, visible)
