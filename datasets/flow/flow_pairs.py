"""Base class of the optical flow datasets: two images and the flow from the first to the second, in separate files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from ..core.files import FilePattern
from ..core.problems import Problem, read_parts, require_same_size
from ..dataset import FileDataset, Sample
from ..field_types import Flow, Image, Mask
from ..formats.flow import read_flow
from ..formats.image import read_image

MAX_GAP = 10_000
"""Missing frames of a sequence: one file with a number of ten digits must not stand for billions of pairs."""


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


class FlowPairs(FileDataset):
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
        self.set_files(pairs, self.problems)

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """List the files of every sample of the split.

        Pairs with a missing file are included, so that reading them reports the file; `problems` receives what else is
        wrong.
        """

    def pair(self, index: int) -> Pair:
        """Files of one sample."""
        return Pair(*self.files(index))

    def sample_name(self, index: int) -> str:
        # Not the first image: some datasets have the flow to its successor and the flow to its predecessor.
        return self.pair(index).flow

    def read(self, index: int) -> Sample:
        files = {name: self.root / file for name, file in zip(self.fields, self.files(index), strict=False)}
        readers = (read_image, read_image, read_flow, self.visible)
        values = read_parts(*map(partial, readers, files.values()))
        sample = dict(zip(files, values, strict=True))
        for name, file in files.items():
            require_same_size(sample["first"], sample[name], file, "the first image")
        return sample

    def visible(self, file: Path) -> np.ndarray:
        """Read the mask `visible` of a pair, (H, W) bool; for datasets whose pairs have this file."""
        raise NotImplementedError(f"{type(self).__name__} lists {file} but does not implement `visible`.")


def frame_numbers(root: Path, pattern: FilePattern) -> set[int]:
    """Numbers of the existing files of a sequence."""
    return {int(key) for key in pattern.keys(root) if key.isdecimal()}


def with_successor(numbers: Collection[int]) -> range:
    """Frame numbers of a sequence without the last one.

    Args:
        numbers: frames of which any file exists. Gaps count as frames, so that reading them reports the missing file;
            beyond a gap of `MAX_GAP`, they do not belong to the sequence.
    """
    known = sorted(numbers)
    last = next((first for first, second in pairwise(known) if second - first > MAX_GAP), known[-1] if known else 0)
    return range(known[0], last) if known else range(0)
