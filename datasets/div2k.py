"""DIV2K: photographs and their bicubic reductions (Agustsson, Timofte: NTIRE 2017 Challenge, CVPR workshops 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .formats.picture import read_picture
from .geometry import Size, resize_antialiased
from .paired import Pair, PairedPictures, Side, write_pair
from .problems import DamagedData


class DIV2K(PairedPictures):
    """800 training and 100 validation photographs of about 2040 pixels, each with its reduction by a factor.

    The reduction is enlarged bicubically to the photograph's size: restoration puts back what is lost, and the
    enlargement is the trivial answer.
    """

    terms: ClassVar[str] = "academic research purposes only"
    splits: ClassVar[tuple[str, ...]] = ("train", "valid")
    factor: ClassVar[int]

    def pairs(self) -> list[Pair]:
        reduced = Side(f"DIV2K_{self.split}_LR_bicubic/X{self.factor}", after=f"x{self.factor}.png")
        return reduced.pairs(self.root, Side(f"DIV2K_{self.split}_HR"))

    def degraded(self, file: Path, size: Size) -> np.ndarray:
        small = read_picture(file)
        if any(abs(whole - self.factor * part) >= self.factor for whole, part in zip(size, small.shape, strict=False)):
            expected = f"a reduction by {self.factor} of a picture of {size[1]}x{size[0]}"
            raise DamagedData(file, expected, f"{small.shape[1]}x{small.shape[0]}")
        return resize_antialiased(small, size, filter="bicubic")

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for split, first in zip(cls.splits, (1, 801), strict=True):
            for number in (first, first + 1):
                reduced = Path(root) / f"DIV2K_{split}_LR_bicubic" / f"X{cls.factor}" / f"{number:04}x{cls.factor}.png"
                write_pair(reduced, Path(root) / f"DIV2K_{split}_HR" / f"{number:04}.png", number, cls.factor)


class DIV2KX2(DIV2K):
    """Half the sides."""

    title: ClassVar[str] = "DIV2K, reduced by 2"
    factor: ClassVar[int] = 2
    layout: ClassVar[Pair] = ("DIV2K_train_LR_bicubic/X2/0001x2.png", "DIV2K_train_HR/0001.png")


class DIV2KX3(DIV2K):
    """A third of the sides."""

    title: ClassVar[str] = "DIV2K, reduced by 3"
    factor: ClassVar[int] = 3
    layout: ClassVar[Pair] = ("DIV2K_train_LR_bicubic/X3/0001x3.png", "DIV2K_train_HR/0001.png")


class DIV2KX4(DIV2K):
    """A quarter of the sides."""

    title: ClassVar[str] = "DIV2K, reduced by 4"
    factor: ClassVar[int] = 4
    layout: ClassVar[Pair] = ("DIV2K_train_LR_bicubic/X4/0001x4.png", "DIV2K_train_HR/0001.png")
