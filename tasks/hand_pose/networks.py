"""Hand networks: the joints of a hand from its depth in a cube, and the prior on poses.

Their raw output are joints in units of half the cube's side, relative to its center. The networks of the papers are in
`deepprior.py`, heads for any backbone in `heads.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.dataset import Dataset
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
        joints: number of joints.
        outputs: numbers that the trained layers predict.
    """

    input_policy = "fixed"

    def __init__(self, joints: int, prior: int) -> None:
        super().__init__()
        self.joints, self.outputs = joints, prior or 3 * joints
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

    def pose(self, outputs: Tensor) -> Tensor:
        """Joints (B, 3 J) of what `regress` returns."""
        return outputs.float() if self.prior is None else self.prior(outputs)

    def forward(self, depth: Tensor) -> Tensor:
        """(B, 1, H, W) depth in the cube, see `CubeDepth`, to joints as x, y, z of one after the other, (B, 3 J)."""
        return self.pose(self.regress(depth))
