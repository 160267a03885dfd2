"""The network of Belagiannis et al. 2015, and the cascade that looks again, closer, at three parts of the body.

Belagiannis, Rupprecht, Carneiro, Navab: Robust Optimization for Deep Regression. ICCV 2015, arXiv:1505.06606, figure 3,
with the numbers of the released code. Input 120 x 80; 9,799,228 parameters for 14 joints. It answers with x and y of
every joint in fractions of the picture. The cascade has one more network for each of C = 3 parts, which sees that part
of a larger picture around the coarse joints and corrects them; 38,549,992 parameters for 14 joints.

Deviations: 128 is subtracted from every colour, as in the authors' evaluation; their training subtracts its mean
picture. Their fractions count pixels from 1, (x + 1) / W, which a resize would move; ours are (x + 1/2) / W. Pictures
of another size are resized inside. The authors' biases learn at twice the rate and without decay, which is the
optimizer's to say. They start from N(0, 0.01²) with biases of 0.1, from which short trainings hardly leave; another
rule of `init` keeps the sizes of the signals and starts at the mean pose of the training set, to which the last layer's
answer is then added.

The cascade's code was not released, and its parts and sizes are ours: the joints of the legs, those of the arms, and
the rest; a region reaches 0.15 of the picture's sides beyond its coarse joints and is seen at
100 x 100, a size for which the released code has a kernel. A picture of 240 x 160 or more gives it more to see than the
first stage saw. A correction depends on where in its region a coarse joint lies, which a picture of the region does
not tell: the last layer is told. No gradient goes from a correction into the first stage; both learn at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Preprocessing
from ...backbones.initialization import gaussian, initialize
from ...backbones.layers import LocalResponseNorm
from ...datasets.fields import Skeleton
from .networks import CoordinateNetwork
from .regression import PREDICTION_STD, in_full


class Row(NamedTuple):
    """A convolution and what follows it. Kernel 0: all that is left, which makes it fully connected."""

    channels: int
    kernel: int
    padding: int = 0
    then: tuple[str, ...] = ()


# Figure 3; the last layer, of two numbers a joint, comes behind.
TABLE = (
    Row(32, 5, then=("relu", "pool", "lrn")),
    Row(32, 3, then=("relu", "pool", "lrn")),
    Row(64, 3, 1, then=("relu",)),
    Row(64, 3, then=("relu", "pool", "lrn", "dropout")),
    Row(1024, 0, then=("relu", "lrn")),
    Row(2048, 1, then=("relu", "dropout")),
    Row(1024, 1, then=("relu",)),
)
POOL, POOL_STRIDE = 3, 2
DROPOUT = 0.5
BIAS = 0.1
SIZE = (120, 80)
"""Height and width of what the network sees."""
PREPROCESSING = Preprocessing(mean=(128.0, 128.0, 128.0), std=(1.0, 1.0, 1.0), range=(0.0, 255.0))
SPREAD = 64.0
"""About the standard deviation of what goes in, by which rules that expect 1 start with smaller first weights."""
AUTHORS = "gaussian"
"""The authors' start: N(0, 0.01²) and biases of `BIAS`, and nothing is expected."""

PARTS = {"legs": ("hip", "knee", "ankle"), "arms": ("shoulder", "elbow", "wrist")}
"""What the names of a part's joints end in."""
REST = "rest"
REGION = (100, 100)
REACH = 0.15


class ConvNet(nn.Module):
    """The paper's table: a picture in, numbers out.

    Args:
        outputs: how many numbers.
        size: (height, width) of the picture.
        told: how many numbers the last layer is told beside what was seen.
        init: `AUTHORS`, or another rule of `initialization.RULES`, with which it begins by answering about 0.

    Raises:
        UserError: no such rule.
    """

    def __init__(self, outputs: int, size: tuple[int, int], told: int = 0, init: str = AUTHORS) -> None:
        super().__init__()
        self.size = size
        height, width = size
        channels = 3
        self.layers = nn.Sequential()
        for number, row in enumerate(TABLE, 1):
            kernel = (row.kernel, row.kernel) if row.kernel else (height, width)
            self.layers.add_module(f"conv{number}", nn.Conv2d(channels, row.channels, kernel, padding=row.padding))
            height, width = height - kernel[0] + 1 + 2 * row.padding, width - kernel[1] + 1 + 2 * row.padding
            for name in row.then:
                self.layers.add_module(f"{name}{number}", _layer(name))
            if "pool" in row.then:
                height, width = (height - POOL) // POOL_STRIDE + 1, (width - POOL) // POOL_STRIDE + 1
            channels = row.channels
        self.predict = nn.Linear(channels + told, outputs)
        initialize(self, init)
        if init == AUTHORS:
            for layer in self.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                    nn.init.constant_(layer.bias, BIAS)
        else:
            with torch.no_grad():
                self.layers.get_parameter("conv1.weight").div_(SPREAD)
            gaussian(self.predict.weight, std=PREDICTION_STD)
            nn.init.zeros_(self.predict.bias)

    def forward(self, picture: Tensor, told: Tensor | None = None) -> Tensor:
        """(B, outputs) float32 of (B, 3, *size), preprocessed, and (B, told)."""
        seen = self.layers(picture).flatten(1).float()
        return in_full(self.predict, seen if told is None else torch.cat((seen, told), dim=1))


class Belagiannis(CoordinateNetwork):
    """The network of Belagiannis, Rupprecht, Carneiro, Navab 2015 (arXiv:1505.06606).

    Args:
        skeleton: whose joints it answers with.
        init: see `ConvNet`.

    Raises:
        UserError: no such rule.
    """

    stride = 8

    def __init__(self, skeleton: Skeleton, init: str = AUTHORS) -> None:
        joints = len(skeleton.names)
        super().__init__(None if init == AUTHORS else joints)
        self.coarse = ConvNet(2 * joints, SIZE, init=init)

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """One stage, (B, J, 2) fractions; see `CoordinateNetwork.coordinates`."""
        return [self._coarse_joints(PREPROCESSING(image))]

    def _coarse_joints(self, picture: Tensor) -> Tensor:
        if tuple(picture.shape[-2:]) != self.coarse.size:
            picture = functional.interpolate(picture, self.coarse.size, mode="bilinear", antialias=True)
        return self.placed(self.coarse(picture).unflatten(1, (-1, 2)))


class BelagiannisCascade(Belagiannis):
    """The same, and a second stage of one network a part of the body; see the file's head.

    Args:
        skeleton: whose joints it answers with. A part none of whose joints it has is left out; a skeleton with other
            names than a body's has one part.
        init: see `ConvNet`.

    Raises:
        UserError: no such rule.

    Attributes:
        parts: the joints' positions by part.
    """

    def __init__(self, skeleton: Skeleton, init: str = AUTHORS) -> None:
        super().__init__(skeleton, init)
        self.parts = parts_of(skeleton)
        self.refine = nn.ModuleDict()
        for part, joints in self.parts.items():
            network = ConvNet(2 * len(joints), REGION, told=2 * len(joints), init=init)
            # Nothing is corrected before something is learned.
            nn.init.zeros_(network.predict.weight)
            nn.init.zeros_(network.predict.bias)
            self.refine[part] = network

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """Two stages, (B, J, 2) fractions each; see `CoordinateNetwork.coordinates`."""
        picture = PREPROCESSING(image)
        coarse = self._coarse_joints(picture)
        fine: dict[int, Tensor] = {}
        for part, joints in self.parts.items():
            known = coarse[:, joints].detach()
            centre, reach = region_around(known)
            places = (known - centre) / reach
            correction = self.refine[part](look_closer(picture, centre, reach, REGION), places.flatten(1))
            refined = known + reach * correction.unflatten(1, (-1, 2))
            fine.update(zip(joints, refined.unbind(1), strict=True))
        return [coarse, torch.stack([fine[joint] for joint in sorted(fine)], dim=1)]


def parts_of(skeleton: Skeleton) -> dict[str, list[int]]:
    """The positions of a skeleton's joints by part of the body; every joint in one, no part empty."""
    parts: dict[str, list[int]] = {part: [] for part in (*PARTS, REST)}
    for position, name in enumerate(skeleton.names):
        part = next((part for part, endings in PARTS.items() if name.lower().endswith(endings)), REST)
        parts[part].append(position)
    return {part: joints for part, joints in parts.items() if joints}


def region_around(joints: Tensor) -> tuple[Tensor, Tensor]:
    """The region about some joints: their box within the picture, and `REACH` more to every side.

    Args:
        joints: (B, J, 2) fractions of the picture's sides.

    Returns:
        The centre and half of the width and height, (B, 1, 2) fractions each.
    """
    inside = joints.clamp(0, 1)
    low, high = inside.amin(1, keepdim=True), inside.amax(1, keepdim=True)
    return (low + high) / 2, (high - low) / 2 + REACH


def look_closer(picture: Tensor, centre: Tensor, reach: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, *size): a region of every picture, bilinear, 0 outside of the picture.

    Args:
        picture: (B, C, H, W).
        centre, reach: of `region_around`.
        size: (height, width) of what is seen.
    """
    # grid_sample without aligned corners counts the picture's edges, our 0 and 1, as -1 and 1.
    matrix = torch.cat((torch.diag_embed(2 * reach[:, 0]), 2 * centre.transpose(1, 2) - 1), dim=2)
    grid = functional.affine_grid(matrix, [len(picture), picture.shape[1], *size], align_corners=False)
    return functional.grid_sample(picture, grid, align_corners=False)


def _layer(name: str) -> nn.Module:
    match name:
        case "relu":
            return nn.ReLU()
        case "pool":
            return nn.MaxPool2d(POOL, POOL_STRIDE)
        case "lrn":
            # MatConvNet's [5 1 0.0001/5 0.75]: 1e-4 divided by the five channels.
            return LocalResponseNorm(5, 1e-4 / 5, 0.75, 1.0)
        case _:
            return nn.Dropout(DROPOUT)
