"""Networks that colour: any trunk with any head, and the dilated network as published.

All take pictures in [0, 1] and look at their lightness alone. They answer at a quarter of the picture's sides, where
313 logits cost a sixteenth; unit i stands for pixel 4 i, at which its target is taken, and is put back there.
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Backbone
from ...backbones.initialization import initialize
from ..dense import DenseNetwork
from ..heads import create_head
from ..heads.head import takes
from ..heads.smp import SmpHead
from ..task import Network
from .answers import ANSWERS, Classes, Regression
from .lab import grey, lightness

STRIDE = 4
"""Pixels between neighbouring units of the answer."""

MIDDLE = 50.0
"""The lightness that is subtracted in front of conv1, as in Caffe: the network eats L - 50. The later PyTorch release
divides by 100 as well; its weights are other weights."""

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


class ColourNetwork(DenseNetwork):
    """A trunk and a head that guess the colours of a grey photograph.

    The trunk sees the grey picture of the same lightness, repeated over its three channels, through its own
    preprocessing: trunks trained on photographs know grey ones. Its levels finer than stride 4 are not used.

    Args:
        backbone: any trunk of three channels.
        head: a name of `tasks.heads.HEADS`.
        answer: "classes" or "regression".
    """

    def __init__(self, backbone: Backbone, head: str, answer: str = "classes") -> None:
        made = ANSWERS[answer]()
        # A trunk without a level that coarse keeps them all.
        fine = sum(level.stride < STRIDE for level in backbone.levels) % len(backbone.levels)
        super().__init__(backbone, create_head(head, backbone.levels[fine:], made.channels))
        self.unused = fine
        self.answer = made
        self.answer.start(self.head.predict)
        # The library's decoders lay their pyramid over the size they are asked for, here a quarter of the picture's.
        self.takes = "whole" if isinstance(self.head, SmpHead) else takes(backbone, self.head)

    def raw(self, image: Tensor) -> Tensor:
        """What the loss sees: (B, 3, H, W) in [0, 1] to (B, channels of the answer, ⌈H / 4⌉, ⌈W / 4⌉) float32."""
        seen = grey(image.float()).expand(-1, 3, -1, -1)
        features = self.backbone.features(self.backbone.preprocessing(seen))
        return self.head(features[self.unused :], quarter(image)).float()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 2 or 3, H, W) float32: a, b and, from classes, sureness."""
        return to_pixels(self.answer(self.raw(image)), image)


class ZhangNetwork(Network):
    """The dilated network of Zhang, Isola, Efros 2016: Colorful Image Colorization.

    ECCV 2016, arXiv:1603.08511, figure 2. Trained at 176 x 176, logits at a quarter. 32,230,393 parameters with
    normalisations that learn nothing, as Caffe has them; 32,235,385 with scale and shift (`affine`), as the PyTorch
    release has them; 626 more where the mean over the bins is counted as a convolution, which is a buffer here.
    Normalisation comes after the ReLU, and conv8 has none. Input: L - 50 (see `MIDDLE`).

    Deviations: weights start by He's rule, and the last layer greyish and alike everywhere (`Classes.start`), where
    the authors use the k-means initialisation of Krähenbühl et al. 2016; answers are put back on the pixels that
    targets are taken at, not on the middle of each four.

    Args:
        affine: whether normalisations have scale and shift.
        answer: "classes" or "regression".
    """

    takes = "tiled"
    stride = 8

    def __init__(self, affine: bool = False, answer: str = "classes") -> None:
        super().__init__()
        self.answer: Classes | Regression = ANSWERS[answer]()
        self.blocks = nn.Sequential()
        channels = 1
        for name, widths, stride, dilation in ZHANG_TABLE:
            block = nn.Sequential()
            for place, width in enumerate(widths, 1):
                step = stride if place == len(widths) else 1
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
        self.predict = nn.Conv2d(CONV8[-1], self.answer.channels, 1)
        initialize(self, "he_fan_in")
        self.answer.start(self.predict)

    def raw(self, image: Tensor) -> Tensor:
        """What the loss sees: (B, 3, H, W) in [0, 1] to (B, channels of the answer, ⌈H / 4⌉, ⌈W / 4⌉) float32."""
        height, width = quarter(image)
        # Strides round up: of a picture that is no multiple of 8, conv8 makes a unit too many.
        return self.predict(self.blocks(lightness(image.float()) - MIDDLE))[..., :height, :width].float()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 2 or 3, H, W) float32: a, b and, from classes, sureness."""
        return to_pixels(self.answer(self.raw(image)), image)


def zhang(answer: str = "classes") -> ZhangNetwork:
    """The network as published, as `--network zhang` builds it."""
    return ZhangNetwork(answer=answer)


def zhang_affine(answer: str = "classes") -> ZhangNetwork:
    """The same whose normalisations have scale and shift."""
    return ZhangNetwork(affine=True, answer=answer)


def quarter(image: Tensor) -> tuple[int, int]:
    """The size of the answer for (B, C, H, W)."""
    return math.ceil(image.shape[-2] / STRIDE), math.ceil(image.shape[-1] / STRIDE)


def to_pixels(maps: Tensor, image: Tensor) -> Tensor:
    """(B, C, ⌈H / 4⌉, ⌈W / 4⌉) bilinearly to the size of (B, 3, H, W), unit i on pixel 4 i.

    An ordinary resize would put it on pixel 4 i + 1.5, and every colour beside its object.
    """
    height, width = maps.shape[-2:]
    continued = functional.pad(maps, (0, 1, 0, 1), mode="replicate")
    size = (STRIDE * height + 1, STRIDE * width + 1)
    placed = functional.interpolate(continued, size=size, mode="bilinear", align_corners=True)
    return placed[..., : image.shape[-2], : image.shape[-1]]
