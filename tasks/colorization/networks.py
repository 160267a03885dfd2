"""Colorization networks: any backbone with any head, and the dilated network of Zhang et al. 2016.

All take images in [0, 1] and use their lightness only. Their logits have a quarter of the image's height and width,
where 313 channels cost a sixteenth; unit i predicts pixel 4 i, whose color is its target.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Backbone
from ...backbones.initialization import initialize
from ...datasets.dataset import Dataset
from ...errors import UserError
from ..heads import create_head
from ..heads.head import combined_input_policy
from ..heads.smp import SmpHead
from ..network import EncoderDecoder, Network
from .decoders import DECODERS, BinClassification, Regression
from .lab import AB_RANGE, gray, lightness

STRIDE = 4
"""Pixels between neighboring units of the logits."""

MIDDLE = 50.0
"""Lightness subtracted before conv1, as in Caffe: the input is L - 50. The later PyTorch release also divides by 100;
its weights differ."""

# Section 3 and figure 2: per block its convolutions, the stride of the last one, the dilation of all.
ZHANG_TABLE: tuple[tuple[str, tuple[int, ...], int, int], ...] = (
    ("conv1", (64, 64), 2, 1),
    ("conv2", (128, 128), 2, 1),
    ("conv3", (256, 256, 256), 2, 1),
    ("conv4", (512, 512, 512), 1, 1),
    ("conv5", (512, 512, 512), 1, 2),
    ("conv6", (512, 512, 512), 1, 2),
    ("conv7", (512, 512, 512), 1, 1),
)
CONV8 = (256, 256, 256)


class ColorNetwork(Network):
    """Base class: an image in, the colors of its lightness out.

    Attributes:
        decoder: from logits to colors.
    """

    decoder: BinClassification | Regression

    def calibrate(self, dataset: Dataset) -> None:
        """Measure the color distribution of the training set, for class rebalancing."""
        self.decoder.calibrate(dataset)

    def logits(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the decoder's input (B, channels, ⌈H / 4⌉, ⌈W / 4⌉), float32."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 2 or 3, H, W) float32: a, b and, with bins, confidence."""
        return to_pixels(self.decoder(self.logits(image)), image)


class ColorizationNetwork(EncoderDecoder, ColorNetwork):
    """A backbone and a head that predict colors.

    The input of the backbone is the gray image of the same lightness, repeated over three channels, with the
    backbone's own preprocessing. Levels finer than stride 4 are not used.

    Args:
        backbone: any backbone of three channels.
        head: a name of `tasks.heads.HEADS`.
        output: "bins" or "regression".
    """

    def __init__(self, backbone: Backbone, head: str, output: str = "bins") -> None:
        decoder = DECODERS[output]()
        # A backbone without such a coarse level keeps all levels.
        fine = sum(level.stride < STRIDE for level in backbone.levels) % len(backbone.levels)
        super().__init__(backbone, create_head(head, backbone.levels[fine:], decoder.channels))
        self.unused_levels = fine
        self.decoder = decoder
        self.decoder.init_last_layer(self.head.predict)
        # The decoders of smp build their pyramid for the requested size, here a quarter of the image's.
        self.input_policy = "whole" if isinstance(self.head, SmpHead) else combined_input_policy(backbone, self.head)

    def logits(self, image: Tensor) -> Tensor:
        inputs = gray(image.float()).expand(-1, 3, -1, -1)
        features = self.backbone.features(self.backbone.preprocessing(inputs))
        return self.head(features[self.unused_levels :], quarter(image)).float()


class ZhangNetwork(ColorNetwork):
    """The dilated network of Zhang, Isola, Efros 2016: Colorful Image Colorization.

    ECCV 2016, arXiv:1603.08511, figure 2. Trained at 176 x 176, logits at a quarter. 32,230,393 parameters with
    normalization layers without scale and shift, as in Caffe; 32,235,385 with them (`affine`), as in the PyTorch
    release; 626 more where the mean over the bins is counted as a convolution, which is a buffer here.
    Normalization comes after the ReLU, and conv8 has none. Input: L - 50 (see `MIDDLE`).

    Deviations: He initialization, with a grayish last layer (`BinClassification.init_last_layer`), where the authors
    use the k-means initialization of Krähenbühl et al. 2016; predictions are aligned with the pixels of their targets,
    not with the center of four pixels.

    Args:
        output: "bins" or "regression".
        affine: whether normalization layers have scale and shift.
    """

    input_policy = "tiled"
    stride = 8

    def __init__(self, output: str = "bins", affine: bool = False) -> None:
        super().__init__()
        self.decoder = DECODERS[output]()
        self.blocks = nn.Sequential()
        channels = 1
        for name, widths, stride, dilation in ZHANG_TABLE:
            block = nn.Sequential()
            for number, width in enumerate(widths, 1):
                step = stride if number == len(widths) else 1
                block.append(nn.Conv2d(channels, width, 3, step, padding=dilation, dilation=dilation))
                block.append(nn.ReLU())
                channels = width
            block.append(nn.BatchNorm2d(channels, affine=affine))
            self.blocks.add_module(name, block)
        conv8 = nn.Sequential(nn.ConvTranspose2d(channels, CONV8[0], 4, 2, padding=1), nn.ReLU())
        for before, width in itertools.pairwise(CONV8):
            conv8.append(nn.Conv2d(before, width, 3, padding=1))
            conv8.append(nn.ReLU())
        self.blocks.add_module("conv8", conv8)
        self.predict = nn.Conv2d(CONV8[-1], self.decoder.channels, 1)
        initialize(self, "he_fan_in")
        self.decoder.init_last_layer(self.predict)

    def logits(self, image: Tensor) -> Tensor:
        height, width = quarter(image)
        # Strides round up: for sizes that are not multiples of 8, conv8 gives one unit too many.
        return self.predict(self.blocks(lightness(image.float()) - MIDDLE))[..., :height, :width].float()


zhang_affine = partial(ZhangNetwork, affine=True)
"""The network with scale and shift in its normalization layers (`--model zhang_affine`)."""


class SiggraphNetwork(ColorNetwork):
    """The network of Zhang, Zhu, Isola, Geng, Lin, Yu, Efros 2017: Real-Time User-Guided Image Colorization.

    SIGGRAPH 2017, arXiv:1705.02999, figure 3, as its authors released it for PyTorch: regression of a and b at full
    resolution from the lightness and colors of some pixels, which may be none. 34,051,074 parameters without the
    classifier of 529 bins, which training alone uses. Layers and parameters are named as in the release; normalizations
    stand after the ReLUs. Input: (L - 50) / 100, a and b / 110 where known and 0 elsewhere, 1 where known.

    Args:
        output: "regression".

    Raises:
        UserError: another output.
    """

    input_policy = "tiled"
    stride = 8

    def __init__(self, output: str = "regression") -> None:
        super().__init__()
        if output != "regression":
            raise UserError("The model 'siggraph17' predicts a and b themselves: add --output regression.")
        self.decoder = Regression()
        channels = 4
        for number, (_, widths, _, dilation) in enumerate(ZHANG_TABLE, 1):
            self.add_module(f"model{number}", _block(channels, widths, dilation))
            channels = widths[-1]
        for number, before, width, skip, skip_channels in SIGGRAPH_UPS:
            self.add_module(f"model{number}up", nn.Sequential(nn.ConvTranspose2d(before, width, 4, 2, padding=1)))
            self.add_module(f"model{skip}short{number}", nn.Sequential(nn.Conv2d(skip_channels, width, 3, padding=1)))
        self.model8 = nn.Sequential(nn.ReLU(), *_block(256, (256, 256), 1))
        self.model9 = nn.Sequential(nn.ReLU(), *_block(128, (128,), 1))
        self.model10 = nn.Sequential(nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.LeakyReLU(0.2))
        last = nn.Conv2d(128, 2, 1)
        self.model_out = nn.Sequential(last, nn.Tanh())
        initialize(self, "he_fan_in")
        self.decoder.init_last_layer(last)

    def colors(self, lightness: Tensor, hints: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """Colors of every pixel.

        Args:
            lightness: (B, 1, H, W), L of CIE Lab.
            hints: (B, 2, H, W), a and b where they are known, 0 elsewhere; None: nowhere.
            known: (B, 1, H, W), 1 where they are known, 0 elsewhere.

        Returns:
            (B, 2, H, W) float32, a and b.
        """
        blank = torch.zeros_like(lightness)
        hints = torch.cat([blank, blank], 1) if hints is None else hints / AB_RANGE
        x = torch.cat([(lightness - MIDDLE) / 100, hints, blank if known is None else known], 1)
        maps: dict[int, Tensor] = {}
        for number in range(1, 8):
            # Between the first four blocks, every second pixel is taken.
            maps[number] = x = self.get_submodule(f"model{number}")(x if number not in (2, 3, 4) else x[..., ::2, ::2])
        for number, _, _, skip, _ in SIGGRAPH_UPS:
            beside = self.get_submodule(f"model{skip}short{number}")(maps[skip])
            up = self.get_submodule(f"model{number}up")(x)[..., : beside.shape[-2], : beside.shape[-1]]
            x = self.get_submodule(f"model{number}")(up + beside)
        return self.model_out(x).float() * AB_RANGE

    def logits(self, image: Tensor) -> Tensor:
        """Every fourth pixel of the colors, in units of 110."""
        return self.colors(lightness(image.float()))[..., ::STRIDE, ::STRIDE] / AB_RANGE

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 2, H, W) float32: a and b."""
        return self.colors(lightness(image.float()))


# Deconvolution, channels before and after it, and the block and its channels that are added.
SIGGRAPH_UPS = ((8, 512, 256, 3, 256), (9, 256, 128, 2, 128), (10, 128, 128, 1, 64))


def _block(channels: int, widths: tuple[int, ...], dilation: int) -> nn.Sequential:
    """Convolutions of stride 1 with ReLUs, and a normalization."""
    block = nn.Sequential()
    for before, width in itertools.pairwise((channels, *widths)):
        block.extend([nn.Conv2d(before, width, 3, padding=dilation, dilation=dilation), nn.ReLU()])
    return block.append(nn.BatchNorm2d(widths[-1]))


def quarter(image: Tensor) -> tuple[int, int]:
    """Height and width of the logits for (B, C, H, W)."""
    return math.ceil(image.shape[-2] / STRIDE), math.ceil(image.shape[-1] / STRIDE)


def to_pixels(maps: Tensor, image: Tensor) -> Tensor:
    """(B, C, ⌈H / 4⌉, ⌈W / 4⌉) bilinearly to the size of (B, 3, H, W), unit i on pixel 4 i.

    An ordinary resize would place it at pixel 4 i + 1.5 and shift all colors.
    """
    height, width = maps.shape[-2:]
    padded = functional.pad(maps, (0, 1, 0, 1), mode="replicate")
    size = (STRIDE * height + 1, STRIDE * width + 1)
    aligned = functional.interpolate(padded, size=size, mode="bilinear", align_corners=True)
    return aligned[..., : image.shape[-2], : image.shape[-1]]
