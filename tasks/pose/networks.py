"""Pose networks: a common base class, and any backbone with a regression or a deconvolution head.

A network takes an image of one person at the training size and predicts that person's joints either as coordinates
or as one heat map per joint, which the task decodes. The loss is computed on the same representation.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset
from ..network import Network
from ..tiling import pad_by_reflection
from .heads import Deconvolution, Regression
from .heatmaps import SIGMA, STRIDE
from .pose_prediction import MeanPose

OutputType = Literal["coordinates", "heatmaps"]

CENTER = 0.5
"""Initial value of the mean pose, in fractions of the image."""


class PoseNetwork(Network):
    """Base class: an image of one person in, joints out.

    Attributes:
        input_policy: "fixed": the person is predicted in one piece, at the training size.
        stride: of the coarsest level.
        output_type: "coordinates" or "heatmaps"; a loss is made for one of the two.
    """

    input_policy = "fixed"
    output_type: ClassVar[OutputType]

    def forward(self, image: Tensor) -> Tensor:
        """Predict the joints as `output_type`.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            float32. "coordinates": (B, J, 3), x and y in pixels of `image`, pixel centers at integers, and a confidence
            in [0, 1]. "heatmaps": (B, J, ⌈H / 4⌉, ⌈W / 4⌉), about 1 at the joint and 0 elsewhere, linear.
        """
        raise NotImplementedError


class CoordinateNetwork(PoseNetwork):
    """A network that predicts coordinates, in one stage or several. Their confidence is always 1.

    Args:
        joints: number of joints, if the first stage predicts offsets from the mean pose; None if it predicts absolute
            coordinates.

    Attributes:
        expected: buffer (J, 2), the mean pose in fractions as in `coordinates`: the image center until
            `calibrate` sets it from the training set. None for absolute coordinates.
        compared: buffer, number of batches for which Tukey's loss was computed. The loss has a warm-up, which a
            resumed run and one that starts from these weights must not repeat.
    """

    output_type = "coordinates"
    expected: Tensor | None
    compared: Tensor

    def __init__(self, joints: int | None = None) -> None:
        super().__init__()
        self.register_buffer("expected", None if joints is None else torch.full((joints, 2), CENTER))
        self.register_buffer("compared", torch.zeros((), dtype=torch.int64))

    def calibrate(self, dataset: Dataset) -> None:
        """Set the mean pose from which the network starts; with absolute coordinates there is none.

        The mean is that of the images without borders; fitted images with borders have theirs a little nearer to the
        center.
        """
        if self.expected is not None:
            self.expected.copy_(torch.from_numpy(MeanPose.of(dataset).mean))

    def add_mean_pose(self, prediction: Tensor) -> Tensor:
        """The absolute coordinates of the first stage, (B, J, 2), from the output of its last layer."""
        return prediction if self.expected is None else self.expected + prediction

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """The coordinates after every stage, for a loss on each.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            (B, J, 2) float32 each, coarse to fine: x and y in fractions of the image's width and height, edges at 0
            and 1; unbounded, so that joints may be outside the image.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """The last stage, (B, J, 3) in pixels; see `PoseNetwork.forward`."""
        fractions = self.coordinates(image)[-1]
        pixels = fractions_to_pixels(fractions, (image.shape[-2], image.shape[-1]))
        return torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)


class RegressionNetwork(CoordinateNetwork):
    """A backbone and a head that predicts coordinates.

    Args:
        backbone: any backbone.
        head: built on its levels.
    """

    backbone: Backbone
    head: Regression

    def __init__(self, backbone: Backbone, head: Regression) -> None:
        super().__init__(head.joints)
        self.backbone, self.head = backbone, head
        self.stride = backbone.levels[-1].stride

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """One stage, (B, J, 2) fractions; see `CoordinateNetwork.coordinates`."""
        return [self.add_mean_pose(self.head(self.backbone.features(self.backbone.preprocessing(image))))]


class HeatmapNetwork(PoseNetwork):
    """A backbone and a head that predicts one heat map per joint: the peak's position and height (confidence).

    Args:
        backbone: any backbone.
        head: built on its levels.
        sigma: standard deviation of the target Gaussians, in cells of the maps.
    """

    output_type = "heatmaps"
    backbone: Backbone
    head: Deconvolution

    def __init__(self, backbone: Backbone, head: Deconvolution, sigma: float = SIGMA) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.sigma = sigma
        self.stride = head.stride

    def forward(self, image: Tensor) -> Tensor:
        """The maps, (B, J, ⌈H / 4⌉, ⌈W / 4⌉); see `PoseNetwork.forward`."""
        height, width = image.shape[-2:]
        # Padding keeps the convention for cells at every size; without it maps of odd sizes would be stretched.
        padded = pad_by_reflection(image, self.stride)
        features = self.backbone.features(self.backbone.preprocessing(padded))
        maps = self.head(features, (padded.shape[-2], padded.shape[-1]))
        return maps[..., : math.ceil(height / STRIDE), : math.ceil(width / STRIDE)].float()


def pixels_to_fractions(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Points (..., 2) in pixels, centers at integers, as fractions of an image's width and height: (x + 1/2) / W."""
    height, width = size
    return (pixels + 0.5) / pixels.new_tensor([width, height])


def fractions_to_pixels(fractions: Tensor, size: tuple[int, int]) -> Tensor:
    """Points (..., 2) in fractions of an image's width and height as pixels, centers at integers."""
    height, width = size
    return fractions * fractions.new_tensor([width, height]) - 0.5
