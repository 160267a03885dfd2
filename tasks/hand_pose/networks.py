"""Networks that predict the joints of a hand from its depth in a cube: DeepPrior, and any backbone.

Their raw output are joints in units of half the cube's side, relative to its center.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Backbone, Level
from ...backbones.initialization import initialize
from ...datasets.dataset import Dataset
from ...datasets.hand.cube import CUT_SIZE
from ..network import Network

CALIBRATION_SAMPLES = 300
"""Maximum number of training samples whose poses the prior is fitted to."""


def normalize_joints(joints: Tensor, camera: Tensor, cube: Tensor) -> Tensor:
    """Joints as networks predict them, (B, J, 3) in [-1, 1]: those outside the cube are moved to its faces.

    A rotation of the image, which its camera contains, rotates the hand about the optical axis.

    Args:
        joints: (B, J, 3) millimeters in the frame of the camera.
        camera: (B, 3, 3), upper triangular or that of a rotated image.
        cube: (B, 4), see `Cube`.
    """
    x, y, z = ((joints - cube[:, None, :3]) / (cube[:, None, 3:] / 2)).unbind(-1)
    # The linear part of the matrix is triangular times a rotation; its second row is the focal length times (s, c).
    sine, cosine = (camera[:, 1, :2] / camera[:, 1, :2].norm(dim=1, keepdim=True)).T[..., None]
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], -1).clamp(-1, 1)


class PosePrior(nn.Module):
    """Principal components of the training poses: a pose is the mean plus a weighted sum of them.

    The released code appends it as a last linear layer that is not trained; here it is made of buffers.

    Args:
        components: number of components.
        values: numbers of a pose, three per joint.
    """

    components: Tensor
    mean: Tensor

    def __init__(self, components: int, values: int) -> None:
        super().__init__()
        self.register_buffer("components", torch.eye(components, values))
        self.register_buffer("mean", torch.zeros(values))

    def fit(self, poses: np.ndarray) -> float:
        """Fit to poses (N, values); return the share of their variance that the components explain."""
        mean = poses.mean(0)
        variances, axes = np.linalg.eigh(np.cov(poses - mean, rowvar=False, bias=True))
        axes = axes[:, ::-1][:, : len(self.components)].T
        # An axis has no sign of its own.
        axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
        self.components.copy_(torch.from_numpy(axes.copy()))
        self.mean.copy_(torch.from_numpy(mean))
        total = variances.sum()
        return float(variances[::-1][: len(axes)].sum() / total) if total > 0 else 1.0

    def encode(self, poses: Tensor) -> Tensor:
        """Coefficients (B, components) of poses (B, values)."""
        return ((poses - self.mean)[:, None] * self.components).sum(-1)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Poses (B, values), float32, of coefficients (B, components)."""
        # Not as a matrix product, which mixed precision would round.
        return self.mean + (coefficients.float()[..., None] * self.components).sum(1)


class HandNetwork(Network):
    """A network with or without a prior on poses.

    Args:
        joints: number of joints.
        prior: number of principal components between the network and the joints; 0: the network predicts joints.

    Attributes:
        outputs: numbers that the trained layers predict.
    """

    input_policy = "fixed"

    def __init__(self, joints: int, prior: int) -> None:
        super().__init__()
        self.outputs = prior or 3 * joints
        self.prior = PosePrior(prior, 3 * joints) if prior else None

    def calibrate(self, dataset: Dataset) -> str | None:
        if self.prior is None:
            return None
        poses = []
        for index in dataset.spread(CALIBRATION_SAMPLES):
            sample = dataset.read(index)
            values = (torch.from_numpy(np.float32(sample[name]))[None] for name in ("joints", "camera", "cube"))
            poses.append(normalize_joints(*values).flatten().numpy())
        explained = self.prior.fit(np.array(poses, np.float64))
        return f"Prior of {len(poses)} poses: {self.outputs} principal components explain {explained:.4f} of them"

    def regress(self, depth: Tensor) -> Tensor:
        """(B, 1, H, W) depth in the cube to (B, outputs): coefficients of the prior, or joints."""
        raise NotImplementedError

    def forward(self, depth: Tensor) -> Tensor:
        """(B, 1, H, W) depth in the cube, see `CubeDepth`, to joints as x, y, z of one after the other, (B, 3 J)."""
        outputs = self.regress(depth).float()
        return outputs if self.prior is None else self.prior(outputs)


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
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 5), nn.MaxPool2d(4), nn.ReLU(),
            nn.Conv2d(8, 8, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(968, 1024), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(1024, self.outputs),
        )  # fmt: skip
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                initialize(layer, "he_fan_in")
            elif isinstance(layer, nn.Linear):
                initialize(layer, "gaussian")
        initialize(self.layers[-1], "glorot_uniform")

    def regress(self, depth: Tensor) -> Tensor:
        if depth.shape[-2:] != CUT_SIZE:
            depth = functional.interpolate(depth, CUT_SIZE, mode="nearest-exact")
        # The released network takes -1 at the front of the cube and 1 at its back.
        return self.layers(2 * depth - 1)


class Regression(nn.Module):
    """A linear layer on the mean of the deepest level.

    Args:
        levels: of the backbone.
        outputs: numbers to predict.
    """

    def __init__(self, levels: Sequence[Level], outputs: int) -> None:
        super().__init__()
        self.predict = nn.Linear(levels[-1].channels, outputs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, h, w) of all levels to (B, outputs)."""
        return self.predict(features[-1].mean((2, 3)))


class BackboneHand(HandNetwork):
    """Any backbone of one input channel and a head.

    Args:
        backbone: its classifier, if any, is not used.
        head: class of a head with the levels of the backbone and the number of outputs as arguments.
        joints, prior: as in `HandNetwork`.
    """

    backbone: Backbone
    head: Regression

    def __init__(self, backbone: Backbone, head: type[Regression], joints: int, prior: int) -> None:
        super().__init__(joints, prior)
        self.backbone, self.head = backbone, head(backbone.levels, self.outputs)
        self.stride = backbone.levels[-1].stride

    def regress(self, depth: Tensor) -> Tensor:
        return self.head(self.backbone.features(self.backbone.preprocessing(depth)))
