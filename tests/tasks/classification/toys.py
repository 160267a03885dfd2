"""The smallest data and backbones that classification can be tried on."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from densevision.backbones.backbone import Backbone, Level
from densevision.datasets.dataset import Sample, SyntheticDataset
from densevision.datasets.field_types import ClassLabel, FieldType, Image

COLORS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220)}
NAMES = tuple(COLORS)


def fields(*names: str, channels: int = 3) -> dict[str, FieldType]:
    return {"image": Image(channels), "category": ClassLabel(names or NAMES)}


class Colors(SyntheticDataset):
    """Images of one color under noise."""

    title: ClassVar[str] = "Three colors"
    default_size: ClassVar[tuple[int, int]] = (16, 16)
    test_samples: ClassVar[int] = 30

    def __init__(self, root=None, split="train", size=None, seed=0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = fields()

    def generate(self, rng: np.random.Generator, size) -> Sample:
        category = int(rng.integers(len(NAMES)))
        noisy = rng.normal(COLORS[NAMES[category]], 30, (*size, 3))
        return {"image": noisy.clip(0, 255).astype(np.uint8), "category": np.array(category)}


class Linear(Backbone):
    """A linear classifier of a place's colors, averaged over the image; with auxiliary ones where requested."""

    def __init__(self, classes: int = 3, auxiliary: int = 0, in_channels: int = 3) -> None:
        super().__init__()
        self._set_metadata(
            "linear", [Level("pixels", 1, in_channels)], num_classes=classes, in_channels=in_channels, built=None
        )
        self.fc = nn.Conv2d(in_channels, classes, 1)
        self.auxiliary = auxiliary

    def features(self, image: Tensor) -> list[Tensor]:
        return [image]

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_dense(image).mean((2, 3))

    def forward_dense(self, image: Tensor) -> Tensor:
        return self.fc(image)

    def forward_train(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self(image),) * (1 + self.auxiliary)
