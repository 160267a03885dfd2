"""What every network of this task gives, and any trunk with one of its heads.

A network takes a picture of one person at the size of its training and answers with that person's joints. What it
learns from is its own answer, of one of two sorts: coordinates, or a heat map a joint.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...backbones.backbone import Backbone
from ...errors import unknown_name
from ..inference import pad_by_reflection
from ..task import Network
from .deconvolution import Deconvolution
from .heatmaps import DECODINGS, SIGMA, STRIDE, Decoding, decode, from_cells
from .regression import Regression

Answers = Literal["coordinates", "heatmaps"]


class PoseNetwork(Network):
    """A picture of one person in, its joints out.

    Attributes:
        takes: "exact": a person is looked at whole, at the size of the training.
        stride: of its coarsest level.
        answers: what it learns from; a loss is for one of the two.
    """

    takes = "exact"
    answers: ClassVar[Answers]

    def forward(self, image: Tensor) -> Tensor:
        """The joints.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            (B, J, 3) float32: x and y in pixels of `image`, pixel centres at integers, and a confidence in [0, 1].
        """
        raise NotImplementedError


class CoordinateNetwork(PoseNetwork):
    """A network that answers with coordinates, in one stage or in several. Its confidence is 1: it knows no doubt.

    Attributes:
        compared: batches that Tukey's loss has compared, which begins gently; a buffer, so that a continued run and
            one that starts from these weights know how far it is.
    """

    answers = "coordinates"
    compared: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("compared", torch.zeros((), dtype=torch.int64))

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
        super().__init__()
        self.backbone, self.head = backbone, head
        self.stride = backbone.levels[-1].stride

    def coordinates(self, image: Tensor) -> list[Tensor]:
        """One stage, (B, J, 2) fractions; see `CoordinateNetwork.coordinates`."""
        return [self.head(self.backbone.features(self.backbone.preprocessing(image)))]


class HeatmapNetwork(PoseNetwork):
    """A trunk and a head that answers with a map a joint, whose peak is the joint and whose height the confidence.

    Args:
        backbone: any trunk.
        head: on its levels.
        sigma: standard deviation of the Gaussians that it learns, in cells of the maps.
        decoding: how a map is read, one of `DECODINGS`.

    Raises:
        UserError: no such decoding.
    """

    answers = "heatmaps"

    def __init__(
        self, backbone: Backbone, head: Deconvolution, sigma: float = SIGMA, decoding: Decoding = "dark"
    ) -> None:
        super().__init__()
        if decoding not in DECODINGS:
            raise unknown_name("decoding of heat maps", decoding, DECODINGS)
        self.backbone, self.head = backbone, head
        self.sigma = sigma
        self.decoding: Decoding = decoding
        self.stride = head.stride

    def heatmaps(self, image: Tensor) -> Tensor:
        """A map a joint.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            (B, J, ⌈H / 4⌉, ⌈W / 4⌉) float32; about 1 at the joint and 0 elsewhere, linear.
        """
        height, width = image.shape[-2:]
        # Cells then lie where the convention says whatever the size is; else an odd picture's would be stretched.
        whole = pad_by_reflection(image, self.stride)
        features = self.backbone.features(self.backbone.preprocessing(whole))
        maps = self.head(features, (whole.shape[-2], whole.shape[-1]))
        return maps[..., : math.ceil(height / STRIDE), : math.ceil(width / STRIDE)]

    def forward(self, image: Tensor) -> Tensor:
        """The peaks, (B, J, 3) in pixels; see `PoseNetwork.forward`. A map without one gives 0, 0, 0."""
        maps = self.heatmaps(image).float()
        # bf16 would blur the maps with three digits before their peaks are read. The meta device knows no autocast.
        with torch.autocast("cpu" if image.is_meta else image.device.type, enabled=False):
            found = decode(maps, self.decoding, self.sigma)
        seen = found[..., 2:] > 0
        return torch.cat((torch.where(seen, from_cells(found[..., :2]), 0.0), found[..., 2:]), dim=-1)


def to_fractions(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Places (..., 2) in pixels, centres at integers, as fractions of a picture's width and height: (x + 1/2) / W."""
    height, width = size
    return (pixels + 0.5) / pixels.new_tensor([width, height])


def from_fractions(fractions: Tensor, size: tuple[int, int]) -> Tensor:
    """Places (..., 2) in fractions of a picture's width and height as pixels, centres at integers."""
    height, width = size
    return fractions * fractions.new_tensor([width, height]) - 0.5
