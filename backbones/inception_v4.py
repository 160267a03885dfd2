"""Inception-v4, and the notation in which this family's tables are written.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261, figures 3 to 9. Input 299 x 299; 42,679,816 parameters.

It follows the authors' published code, which timm's network keeps: batch normalization (eps 0.001) in place of biases
behind every convolution, and average pools that do not count the padding. Initial weights are that code's (He, fan in,
there cut off at two standard deviations). What the figures mark V is not padded, so that borders lose units.
timm's weights load: its names are the published ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from .backbone import Level, Preprocessing
from .googlenet import ConvUnit
from .initialization import initialize
from .layers import PooledBackbone


@dataclass(frozen=True)
class Residual:
    """Branches that a linear 1x1 convolution brings to the input's channels, added to it times `scale`."""

    scale: float
    branches: tuple[Plan, ...]
    relu: bool = True


# How a figure is written. "1x7 64 /2 V" is a convolution of kernel 1 x 7 (height x width) and 64 channels, of stride 2,
# without padding; "max" and "avg" are 3x3 pools; commas and lists put one after another, tuples side by side.
Plan: TypeAlias = "str | Sequence[Plan] | Residual"

INCEPTION_A: Plan = ("1x1 96", "1x1 64, 3x3 96", "1x1 64, 3x3 96, 3x3 96", "avg, 1x1 96")
INCEPTION_B: Plan = (
    "1x1 384",
    "1x1 192, 1x7 224, 7x1 256",
    "1x1 192, 7x1 192, 1x7 224, 7x1 224, 1x7 256",
    "avg, 1x1 128",
)
INCEPTION_C: Plan = (
    "1x1 256",
    ["1x1 384", ("1x3 256", "3x1 256")],
    ["1x1 384, 3x1 448, 1x3 512", ("1x3 256", "3x1 256")],
    "avg, 1x1 256",
)
INCEPTION_V4_TABLE: dict[str, Plan] = {
    "conv2d_1a": "3x3 32 /2 V",
    "conv2d_2a": "3x3 32 V",
    "conv2d_2b": "3x3 64",
    "mixed_3a": ("max /2 V", "3x3 96 /2 V"),
    "mixed_4a": ("1x1 64, 3x3 96 V", "1x1 64, 1x7 64, 7x1 64, 3x3 96 V"),
    "mixed_5a": ("3x3 192 /2 V", "max /2 V"),
    "inception_a": [INCEPTION_A] * 4,
    "reduction_a": ("3x3 384 /2 V", "1x1 192, 3x3 224, 3x3 256 /2 V", "max /2 V"),
    "inception_b": [INCEPTION_B] * 7,
    "reduction_b": ("1x1 192, 3x3 192 /2 V", "1x1 256, 1x7 256, 7x1 320, 3x3 320 /2 V", "max /2 V"),
    "inception_c": [INCEPTION_C] * 3,
}
STEP = re.compile(r"(?:(?P<height>\d)x(?P<width>\d) (?P<channels>\d+)|(?P<pool>max|avg))(?P<half> /2)?(?P<valid> V)?")
DROPOUT = 0.2


class Branches(nn.Module):
    """Parallel branches whose outputs are concatenated."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.names = [f"branch{position}" for position in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, sum of the branches' channels, h', w')."""
        return torch.cat([self.get_submodule(name)(x) for name in self.names], 1)


class ResidualBranches(Branches):
    """Residual branches: their output is scaled and added to the input."""

    def __init__(self, branches: list[nn.Module], made: int, channels: int, scale: float, relu: bool) -> None:
        super().__init__(branches)
        self.conv2d = nn.Conv2d(made, channels, 1)
        self.scale = scale
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) of the same."""
        return self.relu(x + self.scale * self.conv2d(super().forward(x)))


def build(plan: Plan, channels: int) -> tuple[nn.Module, int]:
    """The module of a plan that reads this number of channels, and the number of channels that it makes."""
    if isinstance(plan, (tuple, Residual)):
        made = [build(branch, channels) for branch in (plan.branches if isinstance(plan, Residual) else plan)]
        branches, total = [branch for branch, _ in made], sum(width for _, width in made)
        if isinstance(plan, Residual):
            return ResidualBranches(branches, total, channels, plan.scale, plan.relu), channels
        return Branches(branches), total
    steps = plan.split(", ") if isinstance(plan, str) else plan
    if isinstance(plan, str) and len(steps) == 1:
        return _step(plan, channels)
    chain = nn.Sequential()
    for step in steps:
        module, channels = build(step, channels)
        chain.append(module)
    return chain, channels


def _step(text: str, channels: int) -> tuple[nn.Module, int]:
    found = STEP.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is no step of a plan")
    stride = 2 if found["half"] else 1
    if found["pool"]:
        padding = 0 if found["valid"] else 1
        if found["pool"] == "max":
            return nn.MaxPool2d(3, stride, padding), channels
        return nn.AvgPool2d(3, stride, padding, count_include_pad=False), channels
    kernel = int(found["height"]), int(found["width"])
    padding = (0, 0) if found["valid"] else (kernel[0] // 2, kernel[1] // 2)
    out_channels = int(found["channels"])
    return ConvUnit(channels, out_channels, kernel, stride, padding), out_channels


class InceptionBackbone(PooledBackbone):
    """A network that is its table: rows one after another, some of which end a level, then pool and linear layer."""

    table: ClassVar[Mapping[str, Plan]]
    every_level: ClassVar[tuple[Level, ...]]
    usual_preprocessing: ClassVar[Preprocessing]

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        levels: int | None = None,
        init: str = "he_fan_in",
    ) -> None:
        super().__init__()
        self._set_metadata(name, self.every_level, num_classes=num_classes, in_channels=in_channels, built=levels)
        self.preprocessing = self.usual_preprocessing.for_channels(in_channels)
        rows = list(self.table)
        self.rows = rows[: rows.index(self.levels[-1].name) + 1]
        channels = in_channels
        for row in self.rows:
            module, channels = build(self.table[row], channels)
            self.add_module(row, module)
        if self.num_classes:
            self.dropout = nn.Dropout(DROPOUT)
            self.fc = nn.Linear(channels, num_classes)
        initialize(self, init)

    def features(self, image: Tensor) -> list[Tensor]:
        """The built levels of (B, in_channels, H, W); see `Backbone.features`. H and W are at least 75 for all."""
        names = {level.name for level in self.levels}
        x, maps = image, []
        for row in self.rows:
            x = self.get_submodule(row)(x)
            if row in names:
                maps.append(x)
        return maps

    def classify(self, coarsest: Tensor) -> Tensor:
        return self.fc(self.dropout(coarsest.mean((2, 3))))


def _timm_names() -> dict[str, str]:
    """timm counts the modules of all rows, and numbers the steps of an Inception-C's forked branches."""
    forks = {"branch1.0.": "branch1_0.", "branch1.1.branch0.": "branch1_1a.", "branch1.1.branch1.": "branch1_1b."}
    forks |= {f"branch2.0.{step}.": f"branch2_{step}." for step in range(3)}
    forks |= {"branch2.1.branch0.": "branch2_3a.", "branch2.1.branch1.": "branch2_3b."}
    single = {"mixed_3a.branch1.": "features.3.conv.", "mixed_5a.branch0.": "features.5.conv."}
    names = {"fc.": "last_linear.", **single}
    position = 0
    for row, plan in INCEPTION_V4_TABLE.items():
        for part in [f"{row}.{index}." for index in range(len(plan))] if isinstance(plan, list) else [f"{row}."]:
            if row == "inception_c":
                names |= {part + ours: f"features.{position}.{theirs}" for ours, theirs in forks.items()}
            names[part] = f"features.{position}."
            position += 1
    return names


class InceptionV4(InceptionBackbone):
    """The network of Szegedy et al. 2016 (arXiv:1602.07261), figure 9.

    Levels, each before the next downsampling: conv2d_2b (stride 2) and mixed_4a (4) in the stem, inception_a (8),
    inception_b (16), inception_c (32). Arguments as `InceptionBackbone`; images have mean and std 0.5.
    """

    table = INCEPTION_V4_TABLE
    every_level = (
        Level("conv2d_2b", 2, 64),
        Level("mixed_4a", 4, 192),
        Level("inception_a", 8, 384),
        Level("inception_b", 16, 1024),
        Level("inception_c", 32, 1536),
    )
    usual_preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3, resize=342, crop=299, interpolation="bicubic")
    state_dict_aliases: Mapping[str, str] = _timm_names()
