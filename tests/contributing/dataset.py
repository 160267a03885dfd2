"""Toy scenes: images of one color whose depth is their brightness."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.field_types import Depth, Image
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.formats.png import read_depth_png, write_depth_png


class ToyScenes(Dataset):
    """SPLIT/NUMBER.png and SPLIT/NUMBER_depth.png in millimeters."""

    title: ClassVar[str] = "Toy scenes"
    terms: ClassVar[str] = "none"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth()}
        self.stems = [file.name.removesuffix("_depth.png") for file in sorted((self.root / split).glob("*_depth.png"))]

    def __len__(self) -> int:
        return len(self.stems)

    def sample_name(self, index: int) -> str:
        return f"{self.split}/{self.stems[index]}.png"

    def read(self, index: int) -> Sample:
        image = self.root / self.sample_name(index)
        depth = image.with_name(f"{image.stem}_depth.png")
        return {"image": read_image(image), "depth": read_depth_png(depth, 1000)}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        rng = np.random.default_rng(0)
        for split in cls.splits:
            for number in range(4):
                image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                (Path(root) / split).mkdir(parents=True, exist_ok=True)
                write_image(Path(root) / split / f"{number}.png", image)
                depth = 1 + image.mean(-1) / 255
                write_depth_png(Path(root) / split / f"{number}_depth.png", depth, 1000)
