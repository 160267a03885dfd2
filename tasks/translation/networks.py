"""Translation networks: the published generators of pix2pix, and any backbone with any head.

All take an image with any number of channels in [0, 1] and return one of its size: an image in [0, 1], or logits if the
target is labels. How normalization and dropout behave in prediction is part of the network (`normalization.py`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ...backbones.backbone import Backbone, Level, features_on_meta, meta_input
from ..heads.head import Head, init_prediction
from ..heads.smp import SmpHead
from ..network import EncoderDecoder, Network
from ..tiling import pad_by_reflection
from .generators import ResNetGenerator, UNetGenerator
from .layers import STD, EvalDropout, NormMode, set_normalization

DROPOUT = 0.5
"""Probability of the dropout on a backbone's coarsest level, the only noise of a backbone with a head."""
MIN_CELLS = 2
"""Minimum height and width of a backbone's coarsest map: a single cell has no variance to normalize by."""
MAX_CELLS = 16
"""Maximum number of strides tried for the smallest image that a backbone takes; Inception-v4 needs 4, LeNet-5 9."""


class TranslationNetwork(Network):
    """Base class: an image in, another one of its size out.

    Attributes:
        input_policy: "whole": the statistics of a tile are not those of the image.
        stride: of the coarsest map.
        min_size: minimum height and width of an image; smaller ones are padded by reflection.
        norm: behavior of normalization and dropout, one of `normalization.NORM_MODES`.
        target_is_labels: whether the output is logits.
    """

    input_policy = "whole"
    min_size: int
    norm: NormMode
    target_is_labels: bool

    @property
    def inference_noise(self) -> str:
        if not any(isinstance(module, EvalDropout) and module.always_on for module in self.modules()):
            return ""
        return "its dropout stays on; train with --norm frozen-batch or instance to turn it off"

    @property
    def batchable(self) -> bool:
        """Statistics of the batch make an image's output depend on the others."""
        return self.norm != "batch" and super().batchable

    def logits(self, image: Tensor) -> Tensor:
        """The output before the final activation, (B, C of the target, H, W) float32, linear.

        The image is (B, C, H, W) in [0, 1], H and W multiples of `stride` and at least `min_size`.
        """
        raise NotImplementedError

    def forward(self, source: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], of any size, to (B, C of the target, H, W) float32.

        The result is an image in [0, 1], or logits if the target is labels.
        """
        height, width = source.shape[-2:]
        multiple = self.stride if min(height, width) >= self.min_size else self.min_size
        output = self.logits(pad_by_reflection(source, multiple))[..., :height, :width]
        return output if self.target_is_labels else (torch.tanh(output) + 1) / 2


class GeneratorTranslator(TranslationNetwork):
    """A published generator, with input and output in [0, 1].

    Args:
        generator: takes images in [-1, 1] and returns the output before its tanh.
        target_is_labels: whether its output channels are classes.
        norm: behavior of normalization and dropout, applied to the generator in place.

    Raises:
        UserError: no such mode.
    """

    def __init__(self, generator: UNetGenerator | ResNetGenerator, target_is_labels: bool, norm: NormMode) -> None:
        super().__init__()
        set_normalization(generator, norm)
        self.generator, self.target_is_labels, self.norm = generator, target_is_labels, norm
        self.stride, self.min_size = generator.stride, generator.min_size

    def logits(self, image: Tensor) -> Tensor:
        return self.generator(image * 2 - 1).float()


class BackboneTranslator(EncoderDecoder, TranslationNetwork):
    """A backbone and a head as a generator.

    If the backbone has no level of stride 1, the head reads the source itself as the finest level: edges of a label map
    become edges of the image, to the pixel. In the mode "batch" there is dropout on the backbone's coarsest level, as a
    source of noise like the paper's.

    Args:
        backbone: any backbone with the source's channels.
        head: built on `head_levels`, with the target's channels. Its last layer is initialized near 0: the initial
            output is gray.
        norm: behavior of normalization and dropout, applied to backbone and head in place.
        target_is_labels: whether the head's channels are classes.

    Raises:
        UserError: no such mode, or one that the backbone's normalizations do not support.
    """

    def __init__(self, backbone: Backbone, head: Head, norm: NormMode, target_is_labels: bool = False) -> None:
        super().__init__(backbone, head)
        self.input_policy = "whole"
        self.target_is_labels, self.norm = target_is_labels, norm
        self.dropout = EvalDropout(DROPOUT) if norm == "batch" else nn.Identity()
        self.min_size = min_input_size(backbone, self.stride)
        set_normalization(self, norm)
        if isinstance(head, SmpHead) and norm != "frozen-batch":
            # Both other modes leave a global average as it is, so the head supports a batch of one.
            head.normalizes_images = False  # pyright: ignore[reportAttributeAccessIssue] - this head's own
        init_prediction(head.predict, std=STD)

    def logits(self, image: Tensor) -> Tensor:
        """See `TranslationNetwork.logits`; applies the backbone's own preprocessing."""
        pixels = self.backbone.preprocessing(image)
        *finer, coarsest = self.backbone.features(pixels)
        if len(self.head.levels) > len(self.backbone.levels):
            finer = [pixels, *finer]
        return self.head([*finer, self.dropout(coarsest)], (image.shape[-2], image.shape[-1])).float()


def head_levels(backbone: Backbone) -> tuple[Level, ...]:
    """Levels for the head of a `BackboneTranslator`: the backbone's, preceded by the source if none has stride 1."""
    if backbone.levels[0].stride == 1:
        return backbone.levels
    return Level("source", 1, backbone.in_channels), *backbone.levels


def min_input_size(backbone: Backbone, stride: int) -> int:
    """The smallest multiple of a stride for which a backbone's coarsest map has `MIN_CELLS` in height and width.

    It is determined on the meta device. Backbones with unpadded convolutions (LeNet-5, AlexNet 2012, Inception-v4) need
    more than `MIN_CELLS` strides; for backbones that do not run on the meta device, `MIN_CELLS` strides are assumed.
    """
    for cells in range(MIN_CELLS, MAX_CELLS + 1):
        size = cells * stride
        try:
            maps, _ = features_on_meta(backbone, meta_input(backbone).new_empty(2, backbone.in_channels, size, size))
        except RuntimeError:
            continue
        if min(maps[-1].shape[-2:]) >= MIN_CELLS:
            return size
    return MIN_CELLS * stride


def create_generator(
    cls: type[UNetGenerator | ResNetGenerator],
    depth: int,
    in_channels: int,
    out_channels: int,
    norm: NormMode,
    target_is_labels: bool = False,
) -> GeneratorTranslator:
    """A published generator with a number of downsamplings or blocks, in its variant for the normalization."""
    generator = cls(in_channels, out_channels, depth, "instance" if norm == "instance" else "batch")
    return GeneratorTranslator(generator, target_is_labels, norm)


unet256 = partial(create_generator, UNetGenerator, 8)
unet128 = partial(create_generator, UNetGenerator, 7)
resnet9 = partial(create_generator, ResNetGenerator, 9)
resnet6 = partial(create_generator, ResNetGenerator, 6)
