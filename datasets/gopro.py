"""GoPro: photographs blurred by motion (Nah, Kim, Lee: Deep Multi-scale Convolutional Neural Network for Dynamic Scene
Deblurring, CVPR 2017, arXiv:1612.02177)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from .paired import Pair, PairedPictures, Side, write_pair


class GoPro(PairedPictures):
    """2,103 training and 1,111 test pairs of 720x1280. A blurred picture is the mean of 7 to 13 frames as stored."""

    title: ClassVar[str] = "GoPro"
    terms: ClassVar[str] = "CC BY 4.0"
    blurred: ClassVar[str] = "blur"
    layout: ClassVar[Pair] = ("train/GOPR0372_07_00/blur/000047.png", "train/GOPR0372_07_00/sharp/000047.png")

    def pairs(self) -> list[Pair]:
        scenes = sorted(folder.parent.name for folder in (self.root / self.split).glob("*/sharp"))
        found: list[Pair] = []
        for scene in scenes:
            folder = f"{self.split}/{scene}"
            found += Side(f"{folder}/{self.blurred}").pairs(self.root, Side(f"{folder}/sharp"))
        return found

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        for place, split in enumerate(cls.splits):
            for number in (1, 2):
                scene = Path(root) / split / f"GOPR000{place}_00_00"
                name = f"00000{number}.png"
                write_pair(scene / cls.blurred / name, scene / "sharp" / name, 10 * place + number)


class GoProGamma(GoPro):
    """The same frames, averaged after a gamma of 2.2 was taken off: nearer to what a sensor adds up."""

    title: ClassVar[str] = "GoPro, gamma 2.2"
    blurred: ClassVar[str] = "blur_gamma"
    layout: ClassVar[Pair] = ("train/GOPR0372_07_00/blur_gamma/000047.png", "train/GOPR0372_07_00/sharp/000047.png")
