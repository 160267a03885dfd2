"""Base class of the optical flow datasets: two images and the flow from the first to the second, in separate files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

from ..core.geometry import Size
from ..core.problems import DatasetError, Problem, read_parts
from ..core.randomness import Purpose, generator
from ..dataset import Dataset, Sample, validate_all
from ..field_types import Flow, Image, Mask
from ..formats.image import read_image
from ..restoration.paired import FilePattern
from .flow_files import read_flow


class Pair(NamedTuple):
    """Files of a sample, relative to the root, with forward slashes.

    Attributes:
        first, second: the images.
        flow: the flow from the first to the second image.
        visible: mask of the pixels of the first image that are visible in the second one; "" if the dataset has none.
    """

    first: str
    second: str
    flow: str
    visible: str = ""


class FlowPairs(Dataset):
    """Two images and the optical flow between them. Subclasses implement `pairs`.

    Fields: `first` and `second`; `flow` in pixels, nan where unknown; and, if the dataset has it, `visible`: True for
    pixels of the first image that are visible in the second one.

    Attributes:
        layout: example of the files of a pair, for the error message if there is no pair.
    """

    layout: ClassVar[Pair]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"first": Image(), "second": Image(frame=1), "flow": Flow()}
        self.problems: list[Problem] = []
        pairs = self.pairs()
        if not (pairs or self.problems):
            files = f"{self.layout.first}, {self.layout.second} and {self.layout.flow}"
            self.problems.append(Problem(str(self.root), f"pairs for '{split}' such as {files}", "none"))
        if pairs and pairs[0].visible:
            self.fields["visible"] = Mask()
        # Bytes, since str arrays of numpy take four bytes per character: 40 MB per worker for 40,302 pairs.
        self._files = np.array([[file.encode() for file in pair] for pair in pairs], np.bytes_)
        if self.problems:
            raise DatasetError.from_problems(self.problems, dataset=self)

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """List the files of every sample of the split.

        Pairs with a missing file are included, so that reading them reports the file; `problems` receives what else is
        wrong.
        """

    def pair(self, index: int) -> Pair:
        """Files of one sample."""
        return Pair(*(file.decode() for file in self._files[index]))

    def __len__(self) -> int:
        return len(self._files)

    def sample_name(self, index: int) -> str:
        # Not the first image: some datasets have the flow to its successor and the flow to its predecessor.
        return self.pair(index).flow

    def read(self, index: int) -> Sample:
        pair = self.pair(index)
        readers: dict[str, Callable[[Path], np.ndarray]] = {
            "first": read_image,
            "second": read_image,
            "flow": read_flow,
        }
        if pair.visible:
            readers["visible"] = self.visible
        values = read_parts(*(partial(reader, self.root / getattr(pair, name)) for name, reader in readers.items()))
        sample = dict(zip(readers, values, strict=True))
        for name, value in sample.items():
            require_same_size(sample["first"], value, self.root / getattr(pair, name))
        return sample

    def visible(self, file: Path) -> np.ndarray:
        """Read the mask `visible` of a pair, (H, W) bool; for datasets whose pairs have this file."""
        raise NotImplementedError(f"{type(self).__name__} lists {file} but does not implement `visible`.")

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        return validate_all(cls, root)


def require_same_size(first: np.ndarray, other: np.ndarray, path: str | Path) -> None:
    """Check that an array has the size of the first image of the pair.

    Args:
        first: (H, W, 3).
        other: (H, W) or (H, W, C).
        path: file of the other array, for the error message.

    Raises:
        DatasetError: the sizes differ.
    """
    if first.shape[:2] != other.shape[:2]:
        expected, found = (f"{array.shape[1]}x{array.shape[0]}" for array in (first, other))
        raise DatasetError(path, f"the size of the first image, {expected}", found)


def frame_numbers(root: Path, pattern: FilePattern) -> set[int]:
    """Numbers of the existing files of a sequence."""
    return {int(key) for key in pattern.keys(root) if key.isdecimal()}


def with_successor(numbers: Collection[int]) -> range:
    """Frame numbers of a sequence without the last one.

    Args:
        numbers: frames of which any file exists. Gaps count as frames, so that reading them reports the missing file.
    """
    return range(min(numbers), max(numbers)) if numbers else range(0)


class FakeSequence(NamedTuple):
    """Frames for example datasets: one texture, shifted by the same integer pixels from each frame to the next.

    Attributes:
        frames: (H, W, 3) uint8 each.
        flow: (H, W, 2) float32 pixels from each frame to the next; its negative is the backward flow.
        visible: (H, W) bool, False where a pixel leaves the image before the next frame.
    """

    frames: list[np.ndarray]
    flow: np.ndarray
    visible: np.ndarray


def fake_flow_sequence(number: int, frames: int = 2, size: Size = (48, 64)) -> FakeSequence:
    """Generate a `FakeSequence`, a different one for each number."""
    rng = generator(0, 0, number, Purpose.EXAMPLE)
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
    crops = [canvas[top : top + size[0], left : left + size[1]].copy() for top, left in corners]
    return FakeSequence(crops, flow, visible)
