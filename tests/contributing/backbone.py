"""ToyNet: two convolutions. No paper; 1,488 parameters without a classifier."""

from __future__ import annotations

from torch import Tensor, nn

from densevision.backbones.backbone import Backbone, Level
from densevision.backbones.initialization import initialize

TOY_LEVELS = (Level("fine", 2, 8), Level("coarse", 4, 16))


class ToyNet(Backbone):
    """Two convolutions of stride 2.

    Levels: fine (stride 2) and coarse (4).
    """

    def __init__(self, name: str, *, num_classes: int = 10, in_channels: int = 3, levels: int | None = None) -> None:
        super().__init__()
        self._set_metadata(name, TOY_LEVELS, num_classes=num_classes, in_channels=in_channels, built=levels)
        channels = in_channels
        for level in self.levels:
            self.add_module(level.name, nn.Conv2d(channels, level.channels, 3, stride=2, padding=1))
            channels = level.channels
        if self.num_classes:
            self.classifier = nn.Linear(channels, self.num_classes)
        initialize(self, "he_fan_in")

    def features(self, image: Tensor) -> list[Tensor]:
        """The built levels; see `Backbone.features`."""
        maps: list[Tensor] = []
        for level in self.levels:
            image = self.get_submodule(level.name)(image).relu()
            maps.append(image)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """(B, num_classes) logits."""
        self.require_classifier()
        return self.classifier(self.features(image)[-1].mean((-1, -2)))
