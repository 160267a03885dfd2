"""GoPro: motion deblurring (Nah, Kim, Lee: Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring,
CVPR 2017, arXiv:1612.02177)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..core.files import FilePattern
from ..examples import write_pair
from ..paired_folders import Pair, PairedImages


class GoPro(PairedImages):
    """2,103 training and 1,111 test pairs of 720x1280. A blurred image is the mean of 7 to 13 stored frames."""

    title: ClassVar[str] = "GoPro"
    terms: ClassVar[str] = "CC BY 4.0"
    blurred: ClassVar[str] = "blur"
    layout: ClassVar[Pair] = ("train/GOPR0372_07_00/blur/000047.png", "train/GOPR0372_07_00/sharp/000047.png")

    def pairs(self) -> list[Pair]:
        scenes = sorted(folder.parent.name for folder in (self.root / self.split).glob("[!.]*/sharp"))
        pairs: list[Pair] = []
        for scene in scenes:
            folder = f"{self.split}/{scene}"
            pairs += FilePattern(f"{folder}/{self.blurred}").pairs(self.root, FilePattern(f"{folder}/sharp"))
        return pairs

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for index, split in enumerate(cls.splits):
            for number in (1, 2):
                scene = Path(root) / split / f"GOPR000{index}_00_00"
                name = f"00000{number}.png"
                write_pair(scene / cls.blurred / name, scene / "sharp" / name, 10 * index + number)


class GoProGamma(GoPro):
    """The same frames, averaged after removal of a gamma of 2.2, which is closer to the integration of a sensor."""

    title: ClassVar[str] = "GoPro, gamma 2.2"
    blurred: ClassVar[str] = "blur_gamma"
    layout: ClassVar[Pair] = ("train/GOPR0372_07_00/blur_gamma/000047.png", "train/GOPR0372_07_00/sharp/000047.png")
