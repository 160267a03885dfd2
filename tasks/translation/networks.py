"""Networks that turn one picture into another: the whole generators of pix2pix, and any trunk with any head.

All take a picture of any number of channels in [0, 1] and answer at its size: with a picture in [0, 1], or with logits
where the goal is labels. The rule by which normalisations and dropout answer at test is theirs (`normalization.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...backbones.backbone import Backbone, Level, empty_pictures, features_on_meta
from ...backbones.initialization import gaussian
from ..dense import DenseNetwork
from ..heads.head import Head
from ..heads.smp import SmpHead
from ..inference import pad_by_reflection
from ..task import Network
from .layers import STD, Norm
from .normalization import Noise, Rule, settle_normalization
from .resnet_generator import ResNetGenerator
from .unet import UNetGenerator

NOISE = 0.5
"""Probability of the dropout on a trunk's coarsest level, which is all the noise that a trunk with a head has."""
LEAST_UNITS = 2
"""Sides of a trunk's coarsest map: a single unit has no spread that a normalisation could measure."""
MOST_UNITS = 16
"""How many strides a picture is tried at to find the least that a trunk takes; Inception-v4 needs 4, LeNet-5 9."""
DARKEST = 1e-3
"""How near to 0 and 1 a first answer may begin: tanh never gets there, and far out it no longer learns."""


class TranslationNetwork(Network):
    """A picture in, another one of its size out.

    Attributes:
        takes: "whole": the statistics of a tile are not those of the picture.
        stride: of its coarsest map.
        smallest: the least sides of a picture that it can read; smaller ones are continued by their mirror image.
        rule: how normalisations and dropout answer, one of `normalization.RULES`.
        goal_is_labels: whether it answers with logits.
    """

    takes = "whole"
    smallest: int
    rule: Rule
    goal_is_labels: bool

    def raw(self, image: Tensor) -> Tensor:
        """The answer in front of its last function.

        Args:
            image: (B, C, H, W) in [0, 1], H and W multiples of `stride` and at least `smallest`.

        Returns:
            (B, C of the goal, H, W) float32, linear.
        """
        raise NotImplementedError

    def forward(self, source: Tensor) -> Tensor:
        """The picture, translated.

        Args:
            source: (B, C, H, W) in [0, 1], of any size.

        Returns:
            (B, C of the goal, H, W) float32: a picture in [0, 1], or logits where the goal is labels.
        """
        height, width = source.shape[-2:]
        multiple = self.stride if min(height, width) >= self.smallest else self.smallest
        answer = self.raw(pad_by_reflection(source, multiple))[..., :height, :width]
        return answer if self.goal_is_labels else (torch.tanh(answer) + 1) / 2


class WholeTranslator(TranslationNetwork):
    """A generator as published, asked in [0, 1].

    Args:
        generator: takes pictures in [-1, 1] and answers in front of a tanh.
        goal_is_labels: whether its channels are classes.
        rule: settled on the generator.

    Raises:
        UserError: no such rule.
    """

    def __init__(self, generator: UNetGenerator | ResNetGenerator, goal_is_labels: bool, rule: Rule) -> None:
        super().__init__()
        settle_normalization(generator, rule)
        self.generator, self.goal_is_labels, self.rule = generator, goal_is_labels, rule
        self.stride, self.smallest = generator.stride, generator.smallest

    def raw(self, image: Tensor) -> Tensor:
        """As `TranslationNetwork.raw`."""
        return self.generator(image * 2 - 1).float()


class TrunkTranslator(DenseNetwork, TranslationNetwork):
    """A trunk and a head as a generator.

    The head sees the source itself as the finest level where the trunk has none of stride 1: an edge of a label map is
    an edge of the picture, to the pixel.

    Under the rule "batch-stats" a dropout lies on the trunk's coarsest level, so that there is noise as in the paper.

    Args:
        backbone: any trunk of the source's channels.
        head: on `levels_seen`, of the goal's channels. Its last layer starts near 0: the first answer is grey.
        rule: settled on trunk and head, both of which it changes.
        goal_is_labels: whether the head's channels are classes.

    Raises:
        UserError: no such rule, or one that the trunk's normalisations do not know.
    """

    def __init__(self, backbone: Backbone, head: Head, rule: Rule, goal_is_labels: bool = False) -> None:
        super().__init__(backbone, head)
        self.takes = "whole"
        self.goal_is_labels, self.rule = goal_is_labels, rule
        self.noise = Noise(NOISE) if rule == "batch-stats" else nn.Identity()
        self.smallest = smallest_side(backbone, self.stride)
        settle_normalization(self, rule)
        if isinstance(head, SmpHead) and rule != "frozen":
            # Both other rules leave a mean over the picture as it is, so that a batch of one has all that it takes.
            head.normalises_pictures = False  # pyright: ignore[reportAttributeAccessIssue] - this head's own
        assert head.predict.bias is not None
        gaussian(head.predict.weight, std=STD)
        nn.init.zeros_(head.predict.bias)

    def start_at(self, mean: Tensor) -> None:
        """Let the first answer be about the same everywhere.

        Args:
            mean: (C of the goal,) a colour in [0, 1]; where the goal is labels, how often every class occurs.
        """
        mean = mean.clamp(DARKEST, 1 - DARKEST)
        assert self.head.predict.bias is not None
        with torch.no_grad():
            self.head.predict.bias.copy_(mean.log() if self.goal_is_labels else torch.atanh(2 * mean - 1))

    def raw(self, image: Tensor) -> Tensor:
        """As `TranslationNetwork.raw`, through the trunk's own preprocessing."""
        shown = self.backbone.preprocessing(image)
        *finer, coarsest = self.backbone.features(shown)
        if len(self.head.levels) > len(self.backbone.levels):
            finer = [shown, *finer]
        return self.head([*finer, self.noise(coarsest)], (image.shape[-2], image.shape[-1])).float()


def levels_seen(trunk: Backbone) -> tuple[Level, ...]:
    """What a head of a `TrunkTranslator` is built on: the trunk's levels, after the source where none is as fine."""
    if trunk.levels[0].stride == 1:
        return trunk.levels
    return Level("source", 1, trunk.in_channels), *trunk.levels


def smallest_side(trunk: Backbone, stride: int) -> int:
    """The least multiple of a stride at which a trunk's coarsest map has `LEAST_UNITS` a side.

    Found without numbers. Trunks that pad less than they reach (LeNet-5, AlexNet 2012, Inception-v4) need more strides
    than that; those that do not run without numbers are taken at their word.
    """
    for units in range(LEAST_UNITS, MOST_UNITS + 1):
        side = units * stride
        try:
            maps, _ = features_on_meta(trunk, empty_pictures(trunk).new_empty(2, trunk.in_channels, side, side))
        except RuntimeError:
            continue
        if min(maps[-1].shape[-2:]) >= LEAST_UNITS:
            return side
    return LEAST_UNITS * stride


def unet256(channels: int, answers: int, rule: Rule, goal_is_labels: bool = False) -> WholeTranslator:
    """The U-Net of eight halvings, for pictures of 256 pixels and more."""
    return WholeTranslator(UNetGenerator(channels, answers, 8, _norm(rule)), goal_is_labels, rule)


def unet128(channels: int, answers: int, rule: Rule, goal_is_labels: bool = False) -> WholeTranslator:
    """The U-Net of seven halvings, for pictures of 128 pixels and more."""
    return WholeTranslator(UNetGenerator(channels, answers, 7, _norm(rule)), goal_is_labels, rule)


def resnet9(channels: int, answers: int, rule: Rule, goal_is_labels: bool = False) -> WholeTranslator:
    """The ResNet generator of nine units."""
    return WholeTranslator(ResNetGenerator(channels, answers, 9, _norm(rule)), goal_is_labels, rule)


def resnet6(channels: int, answers: int, rule: Rule, goal_is_labels: bool = False) -> WholeTranslator:
    """The ResNet generator of six units."""
    return WholeTranslator(ResNetGenerator(channels, answers, 6, _norm(rule)), goal_is_labels, rule)


def _norm(rule: Rule) -> Norm:
    """Whole networks have a form of their own for statistics of single pictures."""
    return "instance" if rule == "instance" else "batch"
