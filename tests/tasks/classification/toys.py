"""The smallest data and trunks that classification can be tried on."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from densevision.backbones.backbone import Backbone, Level
from densevision.datasets.dataset import Sample, World
from densevision.datasets.fields import Category, Image, Kind

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220)}
NAMES = tuple(COLOURS)


def fields(*names: str, channels: int = 3) -> dict[str, Kind]:
    return {"image": Image(channels), "category": Category(names or NAMES)}


class Colours(World):
    """Pictures of one colour under noise."""

    title: ClassVar[str] = "Three colours"
    default_size: ClassVar[tuple[int, int]] = (16, 16)
    test_samples: ClassVar[int] = 30

    def __init__(self, root=None, split="train", size=None, seed=0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = fields()

    def draw(self, rng: np.random.Generator, size) -> Sample:
        category = int(rng.integers(len(NAMES)))
        noisy = rng.normal(COLOURS[NAMES[category]], 30, (*size, 3))
        return {"image": noisy.clip(0, 255).astype(np.uint8), "category": np.array(category)}


class Linear(Backbone):
    """A linear classifier of a place's colours, averaged over the picture; with auxiliary ones where asked for."""

    def __init__(self, classes: int = 3, auxiliary: int = 0, in_channels: int = 3) -> None:
        super().__init__()
        self.describe("linear", [Level("pixels", 1, in_channels)], classes=classes, in_channels=in_channels, built=None)
        self.fc = nn.Conv2d(in_channels, classes, 1)
        self.auxiliary = auxiliary

    def features(self, image: Tensor) -> list[Tensor]:
        return [image]

    def forward(self, image: Tensor) -> Tensor:
        return self.score_map(image).mean((2, 3))

    def score_map(self, image: Tensor) -> Tensor:
        return self.fc(image)

    def training_logits(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self(image),) * (1 + self.auxiliary)
