"""DIV2K, super-resolution: photos and their bicubic reductions (Agustsson, Timofte: NTIRE 2017 Challenge, CVPR
workshops 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import FilePattern
from ..core.geometry import Size, resize_antialiased
from ..core.problems import DatasetError
from ..examples import write_pair
from ..paired_folders import Pair, PairedImages


class DIV2K(PairedImages):
    """800 training and 100 validation photos of about 2040 pixels, each with its reduction by a factor.

    The reduction is enlarged bicubically to the size of the photo: it is the degraded input of the restoration task,
    and its baseline.
    """

    terms: ClassVar[str] = "academic research purposes only"
    splits: ClassVar[tuple[str, ...]] = ("train", "valid")
    factor: ClassVar[int]

    def pairs(self) -> list[Pair]:
        reduced = FilePattern(f"DIV2K_{self.split}_LR_bicubic/X{self.factor}", after=f"x{self.factor}.png")
        return reduced.pairs(self.root, FilePattern(f"DIV2K_{self.split}_HR"))

    def fit(self, image: np.ndarray, file: Path, size: Size) -> np.ndarray:
        if any(abs(full - self.factor * part) >= self.factor for full, part in zip(size, image.shape, strict=False)):
            expected = f"a reduction by {self.factor} of an image of {size[1]}x{size[0]}"
            raise DatasetError(file, expected, f"{image.shape[1]}x{image.shape[0]}")
        return resize_antialiased(image, size, filter="bicubic")

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for split, first in zip(cls.splits, (1, 801), strict=True):
            for number in (first, first + 1):
                reduced = Path(root) / f"DIV2K_{split}_LR_bicubic" / f"X{cls.factor}" / f"{number:04}x{cls.factor}.png"
                write_pair(reduced, Path(root) / f"DIV2K_{split}_HR" / f"{number:04}.png", number, cls.factor)


class DIV2KX2(DIV2K):
    """Reduced to 1/2 of width and height."""

    title: ClassVar[str] = "DIV2K, reduced by 2"
    default_protocol: ClassVar[str] = "y-bt601-crop2"
    factor: ClassVar[int] = 2
    layout: ClassVar[Pair] = ("DIV2K_train_LR_bicubic/X2/0001x2.png", "DIV2K_train_HR/0001.png")


class DIV2KX3(DIV2K):
    """Reduced to 1/3 of width and height."""

    title: ClassVar[str] = "DIV2K, reduced by 3"
    default_protocol: ClassVar[str] = "y-bt601-crop3"
    factor: ClassVar[int] = 3
    layout: ClassVar[Pair] = ("DIV2K_train_LR_bicubic/X3/0001x3.png", "DIV2K_train_HR/0001.png")


class DIV2KX4(DIV2K):
    """Reduced to 1/4 of width and height."""

    title: ClassVar[str] = "DIV2K, reduced by 4"
    default_protocol: ClassVar[str] = "y-bt601-crop4"
    factor: ClassVar[int] = 4
    layout: ClassVar[Pair] = ("DIV2K_train_LR_bicubic/X4/0001x4.png", "DIV2K_train_HR/0001.png")
