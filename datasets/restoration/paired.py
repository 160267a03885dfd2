"""Base class of the official restoration datasets: a degraded and a clean image, in two files matched by name."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.geometry import Size
from ..core.problems import Problem, read_parts, require_same_size
from ..dataset import FileDataset, Sample
from ..field_types import Image
from ..formats.image import read_image

Pair = tuple[str, str]
"""(degraded file, clean file), relative to the root, with forward slashes."""


class PairedImages(FileDataset):
    """A degraded and a clean image per sample. Subclasses implement `pairs`.

    Attributes:
        layout: example of the files of a pair, for the error message if there is no pair.
    """

    layout: ClassVar[Pair]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"degraded": Image(), "image": Image()}
        self.problems: list[Problem] = []
        pairs = self.pairs()
        if not (pairs or self.problems):
            expected = f"pairs for '{split}' such as {self.layout[0]} and {self.layout[1]}"
            self.problems.append(Problem(str(self.root), expected, "none"))
        self.set_files(pairs, self.problems)

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """List the degraded and the clean file of every sample of the split; `problems` receives what is wrong."""

    def read(self, index: int) -> Sample:
        degraded, clean = (self.root / name for name in self.files(index))
        degraded_image, image = read_parts(partial(read_image, degraded), partial(read_image, clean))
        degraded_image = self.fit(degraded_image, degraded, (image.shape[0], image.shape[1]))
        require_same_size(image, degraded_image, degraded, "the clean image")
        return {"degraded": degraded_image, "image": image}

    def fit(self, image: np.ndarray, file: Path, size: Size) -> np.ndarray:
        """Return the degraded image of a file at the (height, width) of the clean one; as it is by default.

        Raises:
            DatasetError: it has a size that does not fit.
        """
        return image
