"""What every network of this task gives, and any trunk with one of its heads.

A network takes a picture of one person at the size of its training and answers for that person's joints in one of two
sorts, which is also what it learns from: coordinates, or a heat map a joint, which the task reads.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...backbones.backbone import Backbone
from ..inference import pad_by_reflection
from ..task import Network
from .deconvolution import Deconvolution
from .heatmaps import SIGMA, STRIDE
from .regression import Regression

Answers = Literal["coordinates", "heatmaps"]

MIDDLE = 0.5
"""Where joints are expected as long as nothing is known of them, in fractions of the picture."""


class PoseNetwork(Network):
    """A picture of one person in, its joints out.

    Attributes:
        takes: "exact": a person is looked at whole, at the size of the training.
        stride: of its coarsest level.
        answers: with what; a loss is for one of the two.
    """

    takes = "exact"
    answers: ClassVar[Answers]

    def forward(self, image: Tensor) -> Tensor:
        """The joints, in the form of `answers`.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            float32. Of "coordinates" (B, J, 3): x and y in pixels of `image`, pixel centres at integers, and a
            confidence in [0, 1]. Of "heatmaps" (B, J, ⌈H / 4⌉, ⌈W / 4⌉): about 1 at the joint and 0 elsewhere, linear.
        """
        raise NotImplementedError


class CoordinateNetwork(PoseNetwork):
    """A network that answers with coordinates, in one stage or in several. Its confidence is 1: it knows no doubt.

    Args:
        joints: how many, of a network whose first stage says how far they are from where they are expected; None: it
            says where they are.

    Attributes:
        expected: (J, 2) where joints are expected before the picture is seen, in fractions as of `coordinates`: in the
            middle, until the task measures the mean pose of the training set; a buffer, which no training moves. None
            where nothing is expected.
        compared: batches that Tukey's loss has compared, which begins gently; a buffer, so that a continued run and
            one that starts from these weights know how far it is.
    """

    answers = "coordinates"
    expected: Tensor | None
    compared: Tensor

    def __init__(self, joints: int | None = None) -> None:
        super().__init__()
        self.register_buffer("expected", None if joints is None else torch.full((joints, 2), MIDDLE))
        self.register_buffer("compared", torch.zeros((), dtype=torch.int64))

    def placed(self, seen: Tensor) -> Tensor:
        """The joints of the first stage, (B, J, 2), from what its last layer says of them."""
        return seen if self.expected is None else self.expected + seen

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """The joints after every stage, for a loss on each.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            (B, J, 2) float32 each, coarse to fine: x and y in fractions of the picture's width and height, edges at 0
            and 1; linear, so that they may lie outside.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """The last stage, (B, J, 3) in pixels; see `PoseNetwork.forward`."""
        fractions = self.coordinates(image)[-1]
        places = from_fractions(fractions, (image.shape[-2], image.shape[-1]))
        return torch.cat((places, torch.ones_like(places[..., :1])), dim=-1)


class RegressionNetwork(CoordinateNetwork):
    """A trunk and a head that answers with coordinates.

    Args:
        backbone: any trunk.
        head: on its levels.
    """

    def __init__(self, backbone: Backbone, head: Regression) -> None:
        super().__init__(head.joints)
        self.backbone, self.head = backbone, head
        self.stride = backbone.levels[-1].stride

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """One stage, (B, J, 2) fractions; see `CoordinateNetwork.coordinates`."""
        return [self.placed(self.head(self.backbone.features(self.backbone.preprocessing(image))))]


class HeatmapNetwork(PoseNetwork):
    """A trunk and a head that answers with a map a joint, whose peak is the joint and whose height the confidence.

    Args:
        backbone: any trunk.
        head: on its levels.
        sigma: standard deviation of the Gaussians that it learns, in cells of the maps.
    """

    answers = "heatmaps"

    def __init__(self, backbone: Backbone, head: Deconvolution, sigma: float = SIGMA) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.sigma = sigma
        self.stride = head.stride

    def forward(self, image: Tensor) -> Tensor:
        """The maps, (B, J, ⌈H / 4⌉, ⌈W / 4⌉); see `PoseNetwork.forward`."""
        height, width = image.shape[-2:]
        # Cells then lie where the convention says whatever the size is; else an odd picture's would be stretched.
        whole = pad_by_reflection(image, self.stride)
        features = self.backbone.features(self.backbone.preprocessing(whole))
        maps = self.head(features, (whole.shape[-2], whole.shape[-1]))
        return maps[..., : math.ceil(height / STRIDE), : math.ceil(width / STRIDE)].float()


def to_fractions(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Places (..., 2) in pixels, centres at integers, as fractions of a picture's width and height: (x + 1/2) / W."""
    height, width = size
    return (pixels + 0.5) / pixels.new_tensor([width, height])


def from_fractions(fractions: Tensor, size: tuple[int, int]) -> Tensor:
    """Places (..., 2) in fractions of a picture's width and height as pixels, centres at integers."""
    height, width = size
    return fractions * fractions.new_tensor([width, height]) - 0.5
