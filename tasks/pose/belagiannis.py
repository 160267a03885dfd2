"""The networks of Belagiannis et al. 2015: coordinate regression, and a cascade that refines three body parts.

Belagiannis, Rupprecht, Carneiro, Navab: Robust Optimization for Deep Regression. ICCV 2015, arXiv:1505.06606, figure 3,
with the numbers of the released code. Input 120 x 80; 9,799,228 parameters for 14 joints. The output is x and y of
every joint in fractions of the image. The cascade has one more network for each of C = 3 parts, which reads a crop
of a larger image around the coarse joints and corrects them; 38,549,992 parameters for 14 joints.

Deviations: 128 is subtracted from every color, as in the authors' evaluation; their training subtracts its mean
image. Their fractions count pixels from 1, (x + 1) / W, which a resize would change; ours are (x + 1/2) / W. Images
of another size are resized inside. The authors' biases learn at twice the learning rate and without weight decay, which
is up to the optimizer. Their initialization is N(0, 0.01²) with biases of 0.1, from which short trainings make little
progress; other schemes of `init` preserve the scale of the signals and start at the mean pose of the training set, to
which the output of the last layer is then added.

The cascade's code was not released, and its parts and sizes are ours: the joints of the legs, those of the arms, and
the rest; a crop extends 0.15 of the image's width and height beyond its coarse joints and is resampled to 100 x 100, a
size for which the released code has a kernel. An image of 240 x 160 or more gives it more detail than the first stage
has. A correction depends on the position of the coarse joints in the crop, which the pixels do not contain: it is an
input of the last layer. There is no gradient from a correction into the first stage; both are trained at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Preprocessing
from ...backbones.initialization import gaussian, initialize
from ...backbones.layers import LRN, LocalResponseNorm
from ...datasets.field_types import Skeleton
from .heads import PREDICTION_STD, linear_float32
from .networks import CoordinateNetwork


class ConvSpec(NamedTuple):
    """A convolution and the layers after it. Kernel 0: the size of the remaining map, i.e. a fully connected layer."""

    channels: int
    kernel: int
    padding: int = 0
    then: tuple[str, ...] = ()


# Figure 3, without the last layer (two numbers per joint).
CONVOLUTIONS = (
    ConvSpec(32, 5, then=("relu", "pool", "lrn")),
    ConvSpec(32, 3, then=("relu", "pool", "lrn")),
    ConvSpec(64, 3, 1, then=("relu",)),
    ConvSpec(64, 3, then=("relu", "pool", "lrn", "dropout")),
    ConvSpec(1024, 0, then=("relu", "lrn")),
    ConvSpec(2048, 1, then=("relu", "dropout")),
    ConvSpec(1024, 1, then=("relu",)),
)
POOL, POOL_STRIDE = 3, 2
DROPOUT = 0.5
BIAS = 0.1
INPUT_SIZE = (120, 80)
"""Height and width of the network's input."""
PREPROCESSING = Preprocessing(mean=(128.0, 128.0, 128.0), std=(1.0, 1.0, 1.0), range=(0.0, 255.0))
INPUT_STD = 64.0
"""About the standard deviation of the input; schemes that assume 1 get first weights divided by it."""
AUTHORS_INIT = "gaussian"
"""The authors' initialization: N(0, 0.01²), biases of `BIAS`, and no mean pose."""

PARTS = {"legs": ("hip", "knee", "ankle"), "arms": ("shoulder", "elbow", "wrist")}
"""Endings of the names of a part's joints."""
REST = "rest"
CROP_SIZE = (100, 100)
CROP_MARGIN = 0.15


class ConvNet(nn.Module):
    """The paper's ConvNet: an image in, numbers out.

    Args:
        outputs: number of outputs.
        size: (height, width) of the image.
        extra_inputs: number of additional inputs of the last layer.
        init: `AUTHORS_INIT`, or another scheme of `initialization.RULES`, with which the initial outputs are about 0.

    Raises:
        UserError: no such scheme.
    """

    def __init__(self, outputs: int, size: tuple[int, int], extra_inputs: int = 0, init: str = AUTHORS_INIT) -> None:
        super().__init__()
        self.size = size
        height, width = size
        channels = 3
        self.layers = nn.Sequential()
        for number, spec in enumerate(CONVOLUTIONS, 1):
            kernel = (spec.kernel, spec.kernel) if spec.kernel else (height, width)
            self.layers.add_module(f"conv{number}", nn.Conv2d(channels, spec.channels, kernel, padding=spec.padding))
            height, width = height - kernel[0] + 1 + 2 * spec.padding, width - kernel[1] + 1 + 2 * spec.padding
            for name in spec.then:
                self.layers.add_module(f"{name}{number}", _create_layer(name))
            if "pool" in spec.then:
                height, width = (height - POOL) // POOL_STRIDE + 1, (width - POOL) // POOL_STRIDE + 1
            channels = spec.channels
        self.predict = nn.Linear(channels + extra_inputs, outputs)
        initialize(self, init)
        if init == AUTHORS_INIT:
            for layer in self.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                    nn.init.constant_(layer.bias, BIAS)
        else:
            with torch.no_grad():
                self.layers.get_parameter("conv1.weight").div_(INPUT_STD)
            gaussian(self.predict.weight, std=PREDICTION_STD)
            nn.init.zeros_(self.predict.bias)

    def forward(self, image: Tensor, extra: Tensor | None = None) -> Tensor:
        """Map a preprocessed image (B, 3, *size) and extra inputs (B, extra_inputs) to (B, outputs) float32."""
        features = self.layers(image).flatten(1).float()
        return linear_float32(self.predict, features if extra is None else torch.cat((features, extra), dim=1))


class Belagiannis(CoordinateNetwork):
    """The network of Belagiannis, Rupprecht, Carneiro, Navab 2015 (arXiv:1505.06606).

    Args:
        skeleton: the joints to predict.
        init: see `ConvNet`.

    Raises:
        UserError: no such initialization scheme.
    """

    stride = 8

    def __init__(self, skeleton: Skeleton, init: str = AUTHORS_INIT) -> None:
        joints = len(skeleton.names)
        super().__init__(None if init == AUTHORS_INIT else joints)
        self.coarse = ConvNet(2 * joints, INPUT_SIZE, init=init)

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """One stage, (B, J, 2) fractions; see `CoordinateNetwork.coordinates`."""
        return [self._coarse_joints(PREPROCESSING(image))]

    def _coarse_joints(self, image: Tensor) -> Tensor:
        if tuple(image.shape[-2:]) != self.coarse.size:
            image = functional.interpolate(image, self.coarse.size, mode="bilinear", antialias=True)
        return self.add_mean_pose(self.coarse(image).unflatten(1, (-1, 2)))


class BelagiannisCascade(Belagiannis):
    """`Belagiannis` and a second stage with one network per body part; see the module's docstring.

    Args:
        skeleton: the joints to predict. A part without joints is left out; a skeleton whose names are not those of a
            body has one part.
        init: see `ConvNet`.

    Raises:
        UserError: no such initialization scheme.

    Attributes:
        parts: indices of the joints by part.
    """

    def __init__(self, skeleton: Skeleton, init: str = AUTHORS_INIT) -> None:
        super().__init__(skeleton, init)
        self.parts = body_parts(skeleton)
        self.refine = nn.ModuleDict()
        for part, joints in self.parts.items():
            network = ConvNet(2 * len(joints), CROP_SIZE, extra_inputs=2 * len(joints), init=init)
            # Initial corrections are 0.
            nn.init.zeros_(network.predict.weight)
            nn.init.zeros_(network.predict.bias)
            self.refine[part] = network

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """Two stages, (B, J, 2) fractions each; see `CoordinateNetwork.coordinates`."""
        pixels = PREPROCESSING(image)
        coarse = self._coarse_joints(pixels)
        fine: dict[int, Tensor] = {}
        for part, joints in self.parts.items():
            coarse_part = coarse[:, joints].detach()
            center, extent = crop_around(coarse_part)
            relative = (coarse_part - center) / extent
            correction = self.refine[part](sample_crop(pixels, center, extent, CROP_SIZE), relative.flatten(1))
            refined = coarse_part + extent * correction.unflatten(1, (-1, 2))
            fine.update(zip(joints, refined.unbind(1), strict=True))
        return [coarse, torch.stack([fine[joint] for joint in sorted(fine)], dim=1)]


def body_parts(skeleton: Skeleton) -> dict[str, list[int]]:
    """Indices of a skeleton's joints by part of the body. Every joint is in one part; empty parts are left out."""
    parts: dict[str, list[int]] = {part: [] for part in (*PARTS, REST)}
    for index, name in enumerate(skeleton.names):
        part = next((part for part, endings in PARTS.items() if name.lower().endswith(endings)), REST)
        parts[part].append(index)
    return {part: joints for part, joints in parts.items() if joints}


def crop_around(joints: Tensor) -> tuple[Tensor, Tensor]:
    """The crop around some joints: their bounding box within the image, enlarged by `CROP_MARGIN` in each direction.

    Args:
        joints: (B, J, 2) fractions of the image's width and height.

    Returns:
        The center, and half of the width and height, (B, 1, 2) fractions each.
    """
    inside = joints.clamp(0, 1)
    low, high = inside.amin(1, keepdim=True), inside.amax(1, keepdim=True)
    return (low + high) / 2, (high - low) / 2 + CROP_MARGIN


def sample_crop(image: Tensor, center: Tensor, extent: Tensor, size: tuple[int, int]) -> Tensor:
    """A crop of every image, (B, C, *size), sampled bilinearly, 0 outside the image.

    Args:
        image: (B, C, H, W).
        center, extent: see `crop_around`.
        size: (height, width) of the result.
    """
    # grid_sample with align_corners=False counts the image's edges, here 0 and 1, as -1 and 1.
    matrix = torch.cat((torch.diag_embed(2 * extent[:, 0]), 2 * center.transpose(1, 2) - 1), dim=2)
    grid = functional.affine_grid(matrix, [len(image), image.shape[1], *size], align_corners=False)
    return functional.grid_sample(image, grid, align_corners=False)


def _create_layer(name: str) -> nn.Module:
    match name:
        case "relu":
            return nn.ReLU()
        case "pool":
            return nn.MaxPool2d(POOL, POOL_STRIDE)
        case "lrn":
            # MatConvNet's [5 1 0.0001/5 0.75]: 1e-4 divided by the five channels.
            return LocalResponseNorm(LRN(alpha=1e-4 / 5, k=1.0))
        case _:
            return nn.Dropout(DROPOUT)
