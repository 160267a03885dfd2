"""DeepPrior and its relatives: the networks of Oberweger, Wohlhart, Lepetit 2015 and of DeepPrior++, 2017."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.initialization import initialize
from ...backbones.preact_resnet import PreActBlock
from ...datasets.core.geometry import Size
from ...datasets.hand.cube import CUT_SIZE
from .networks import HandNetwork

HIDDEN, DROPOUT = 1024, 0.3
SCALES = ((1, (4, 2, 1)), (2, (2, 2, 1)), (4, (2, 1, 1)))
"""Crops of `MultiScale`: the divisor of the height and width, and the poolings after its convolutions."""
STAGES, BLOCKS = (64, 128, 256, 256), 5
"""Widths of the stages of DeepPrior++, and blocks in each."""
PATCHES = ((64, 4), (32, 2), (16, 1))
"""Sides in pixels of the patches around a joint, and their poolings."""
REFINEMENT_HIDDEN, MAX_OFFSET = 64, 0.25
"""Hidden units per joint, and the limit of an offset in units of half the cube's side."""


class DeepPrior(HandNetwork):
    """DeepPrior of Oberweger, Wohlhart, Lepetit 2015 (arXiv:1502.06807): `PoseRegNet` of the released code.

    2,075,006 trained parameters with the prior of 30 components, 2,076,308 / 2,076,494 / 2,076,959 with the prior of
    14 / 16 / 21 joints counted in; without it 2,087,306 / 2,093,456 / 2,108,831. Initialization as released:
    convolutions N(0, 2 / fan-in), fully connected layers N(0, 0.01²), the last one Glorot, biases 0.

    Deviation: inputs of other sizes are resized to 128 x 128, without interpolation.
    """

    stride = 1

    def __init__(self, joints: int, prior: int) -> None:
        super().__init__(joints, prior)
        self.layers = nn.Sequential(*_convolutions((4, 2, 1)), nn.Flatten(), *_fully_connected(968, self.outputs))
        _initialize(self.layers)

    def regress(self, depth: Tensor) -> Tensor:
        return self.layers(_network_input(depth))


class MultiScale(HandNetwork):
    """The multi-scale network of Oberweger et al. 2015, `ScaleNet` of the released code: three centered crops.

    Each crop, of 128, 64 and 32 pixels, has its own convolutions. 3,567,651 trained parameters for 3 outputs: the
    released code trains it on the palm alone, to correct the center of mass before DeepPrior; here it predicts poses.
    """

    stride = 1

    def __init__(self, joints: int, prior: int) -> None:
        super().__init__(joints, prior)
        self.crops = nn.ModuleList(nn.Sequential(*_convolutions(pools), nn.Flatten()) for _, pools in SCALES)
        self.layers = nn.Sequential(*_fully_connected(968 + 968 + 512, self.outputs))
        _initialize(self.crops)
        _initialize(self.layers)

    def regress(self, depth: Tensor) -> Tensor:
        depth = _network_input(depth)
        centered = (_center(depth, (CUT_SIZE[0] // divisor, CUT_SIZE[1] // divisor)) for divisor, _ in SCALES)
        return self.layers(torch.cat([crop(part) for crop, part in zip(self.crops, centered, strict=True)], 1))


class DeepPriorPlusPlus(HandNetwork):
    """DeepPrior++ of Oberweger, Lepetit 2017 (arXiv:1708.08325): a pre-activation ResNet before the prior.

    A convolution of 5x5 and 32 channels, pooling by 2, four stages of five bottlenecks that halve the image, two hidden
    layers of 1,024 and the prior. It was trained with `--max-rotation 180 --shift 5 --scale 0.02`.
    """

    stride = 1

    def __init__(self, joints: int, prior: int) -> None:
        super().__init__(joints, prior)
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 5, padding=2), nn.MaxPool2d(2))
        blocks, channels = [], 32
        for width in STAGES:
            for number in range(BLOCKS):
                stride = 2 if number == 0 else 1
                shortcut = nn.Identity() if number else nn.Conv2d(channels, width, 1, stride, bias=False)
                narrow = [(width // 4, 1, stride), (width // 4, 3, 1), (width, 1, 1)]
                blocks.append(PreActBlock(channels, narrow, shortcut, activated=False))
                channels = width
        self.blocks = nn.Sequential(*blocks, nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten())
        self.layers = nn.Sequential(*_fully_connected(channels * 4 * 4, self.outputs))
        for module in (self.stem, self.blocks, self.layers):
            _initialize(module)

    def regress(self, depth: Tensor) -> Tensor:
        return self.layers(self.blocks(self.stem(_network_input(depth))))


class RefinedDeepPrior(DeepPrior):
    """DeepPrior with the refinement of every joint that the paper describes and the released code lacks; a reading.

    Each joint has a network of its own, which sees three patches around the predicted joint, 64, 32 and 16 pixels wide
    and pooled by 4, 2 and 1 ("overlapping regions"), with depths relative to that of the joint, and predicts by how
    much the joint is off. What the paper leaves open is decided here: one iteration, 8 convolutions of 5x5 per patch,
    64 hidden units, offsets of at most an eighth of the cube's side.
    """

    def __init__(self, joints: int, prior: int) -> None:
        super().__init__(joints, prior)
        self.patches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(joints, 8 * joints, 5, groups=joints), nn.MaxPool2d(pool), nn.ReLU())
            for _, pool in PATCHES
        )
        features = sum(8 * ((side - 4) // pool) ** 2 for side, pool in PATCHES)
        self.hidden = nn.Conv1d(joints * features, REFINEMENT_HIDDEN * joints, 1, groups=joints)
        self.offset = nn.Conv1d(REFINEMENT_HIDDEN * joints, 3 * joints, 1, groups=joints)
        for module in (self.patches, self.hidden, self.offset):
            _initialize(module)
        # It starts as the network without refinement.
        nn.init.zeros_(self.offset.weight)

    def refine(self, depth: Tensor, joints: Tensor) -> Tensor:
        """Joints (B, 3 J) moved to where the depth around them, (B, 1, H, W), says; their gradient ends here."""
        joints = joints.detach().float()
        depth = _network_input(depth).float()
        x, y, z = joints.view(len(joints), self.joints, 3).clamp(-1, 1).unbind(-1)
        features = []
        for (side, _), layers in zip(PATCHES, self.patches, strict=True):
            steps = (torch.arange(side, device=depth.device) - (side - 1) / 2) * (2 / CUT_SIZE[0])
            grid = torch.stack(
                torch.broadcast_tensors(x[..., None, None] + steps, y[..., None, None] + steps[:, None]), -1
            )
            grid = grid.flatten(1, 2)
            # Outside the cut, the patch repeats its edge, which is empty.
            patch = functional.grid_sample(depth, grid, "nearest", "border", align_corners=False)
            patch = patch.view(len(joints), self.joints, side, side)
            relative = torch.where(patch < 1, patch - z[..., None, None], 1)
            features.append(layers(relative).view(len(joints), self.joints, -1))
        hidden = self.hidden(torch.cat(features, 2).flatten(1)[..., None]).relu()
        return joints + MAX_OFFSET * self.offset(hidden).flatten(1).tanh()

    def forward(self, depth: Tensor) -> Tensor:
        return self.refine(depth, super().forward(depth))


def _convolutions(pools: tuple[int, int, int]) -> list[nn.Module]:
    """Three valid convolutions with 8 channels; a pooling by 1 is left out."""
    layers: list[nn.Module] = []
    for channels, kernel, pool in zip((1, 8, 8), (5, 5, 3), pools, strict=True):
        layers += [nn.Conv2d(channels, 8, kernel), *([nn.MaxPool2d(pool)] if pool > 1 else []), nn.ReLU()]
    return layers


def _fully_connected(features: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, outputs),
    ]  # fmt: skip


def _initialize(module: nn.Module) -> None:
    """Initialization as released: convolutions by fan-in, layers before a ReLU by a Gaussian, the last one Glorot's."""
    initialize(module, "he_fan_in")
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            initialize(layer, "gaussian" if layer.out_features == HIDDEN else "glorot_uniform")


def _network_input(depth: Tensor) -> Tensor:
    """Depth in the cube at 128 x 128 from -1 at its front to 1 at its back, as the released networks take it."""
    if depth.shape[-2:] != CUT_SIZE:
        depth = functional.interpolate(depth, CUT_SIZE, mode="nearest-exact")
    return 2 * depth - 1


def _center(maps: Tensor, size: Size) -> Tensor:
    """The middle of maps (B, C, H, W)."""
    top, left = (maps.shape[-2] - size[0]) // 2, (maps.shape[-1] - size[1]) // 2
    return maps[..., top : top + size[0], left : left + size[1]]
