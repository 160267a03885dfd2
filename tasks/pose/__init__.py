"""Human pose: where the joints of a person are.

Belagiannis, Rupprecht, Carneiro, Navab: Robust Optimization for Deep Regression. ICCV 2015, arXiv:1505.06606. The whole
networks are `--network belagiannis` and its cascade; any trunk with either head is the other way: coordinates
(regression) or a map a joint (deconvolution; Xiao, Wu, Wei 2018, arXiv:1804.06208).

One sample is one person: sets whose pictures hold several give the part of the picture about each. A picture is fitted
into the network's size with its aspect kept, or stretched to it as the paper does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ...backbones.backbone import Backbone
from ...catalogue import look_up
from ...datasets.augmentation import Augmentation, sample_geometry
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Image, Keypoints, Kind
from ...datasets.geometry import Geometry, Rectangle, Size, Window, move_points
from ...datasets.people import window_about
from ...datasets.photometry import colour_jitter, photometric
from ...errors import UserError, unknown_name
from ..task import Batch, Default, Metrics, Network, Output, Phase, Prediction, Query, Task, Terms, Watch
from ..training.options import Options
from . import heatmaps
from .losses import LOSSES, find_loss
from .metrics import PROTOCOLS, find_protocol
from .people import MeanPose, Pose
from .recipes import RECIPES

BASELINE_SAMPLES = 300
"""Training samples whose mean is the trivial answer."""
PATCHES = 2
"""Most patches that hide parts of a picture in training."""
MAPS = 4
"""Axes of a network's output (B, J, h, w) where it holds heat maps; coordinates (B, J, 3) have one less."""


@dataclass(frozen=True)
class HumanPose(Task):
    """A picture of a person in, joints out."""

    stretch: bool = False
    """Stretch each picture to the network's size, as Belagiannis et al. do, instead of fitting it in; default: no."""
    sigma: float = 2.0
    """Standard deviation of the Gaussians that heat maps learn, in cells of 4 pixels; default: 2."""
    decoding: Literal["dark", "quarter", "argmax"] = "dark"
    """How a heat map's peak is read: dark (a Taylor step at the maximum), quarter (a quarter of a cell towards the
    larger neighbour) or argmax; default: dark."""
    start: Literal["gaussian", "he_fan_in"] = "gaussian"
    """How the paper's networks start: gaussian (theirs: N(0, 0.01²), biases 0.1) or he_fan_in, from the mean pose,
    which short trainings need; default: gaussian."""
    patches: float = 0.3
    """Probability of grey patches that hide parts of a training picture; default: 0.3."""

    name: ClassVar[str] = "pose"
    title: ClassVar[str] = "The joints of a person"
    paper: ClassVar[str] = "Belagiannis et al. 2015, arXiv:1505.06606"
    default: ClassVar[Default] = Default(data="figures", backbone="resnet18", head="deconvolution", recipe="figures")
    own_heads: ClassVar[dict[str, str]] = {
        "deconvolution": "tasks.pose.deconvolution:Deconvolution",
        "regression": "tasks.pose.regression:Regression",
    }
    heads: ClassVar[tuple[str, ...]] = tuple(own_heads)
    networks: ClassVar[dict[str, str]] = {
        "belagiannis": "tasks.pose.belagiannis:Belagiannis",
        "belagiannis_cascade": "tasks.pose.belagiannis:BelagiannisCascade",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    watch: ClassVar[Watch] = Watch("score", higher_is_better=True)
    views: ClassVar[tuple[str, ...]] = ("fit",)

    def __post_init__(self) -> None:
        if not 0 <= self.patches <= 1:
            raise UserError(f"--patches is {self.patches}; it must lie in 0 to 1.")
        if self.sigma <= 0:
            raise UserError(f"--sigma is {self.sigma}; it must be above 0.")
        if self.decoding not in heatmaps.DECODINGS:
            raise unknown_name("decoding of heat maps", self.decoding, heatmaps.DECODINGS)

    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The picture."""
        return {"image": self.field(fields, "image", Image)}

    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The joints."""
        return {"joints": self.field(fields, "joints", Keypoints)}

    def augmentation(self, usual: Augmentation, fields: dict[str, Kind], source: Size) -> Augmentation:
        """The whole person stays in view; a zoom goes both ways."""
        return replace(usual, framing="stretch" if self.stretch else "fit")

    def prepare(self, sample: Sample, rng: np.random.Generator | None, colour: float) -> Sample:
        """Photometry on the picture, and perhaps patches over it: a hidden joint is still somewhere."""
        if rng is None:
            return sample
        image = sample["image"]
        if colour > 0:
            (image,) = photometric([image], rng, colour_jitter(colour))
        if rng.uniform() < self.patches:
            image = patched(image, rng)
        return {**sample, "image": image}

    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """(B, 3, H, W) in [0, 1] to coordinates (B, J, 3) or heat maps (B, J, h, w); see `PoseNetwork.forward`."""
        from .networks import HeatmapNetwork, RegressionNetwork

        skeleton = self.field(fields, "joints", Keypoints).skeleton
        if network is not None:
            return look_up("network", network, self.networks)(skeleton, self.start)
        assert backbone is not None and head is not None
        made = look_up("head", head, self.own_heads)(backbone.levels, len(skeleton.names))
        if head == "regression":
            return RegressionNetwork(backbone, made)
        return HeatmapNetwork(backbone, made, self.sigma)

    def fit(self, model: Network, dataset: Dataset) -> None:
        """Networks that answer with coordinates start at the mean pose; with the paper's start, its networks do not.

        The mean is of whole pictures; where they are fitted in with borders, theirs is a little nearer to the middle.
        """
        from .networks import CoordinateNetwork

        if isinstance(model, CoordinateNetwork) and model.expected is not None:
            model.expected.copy_(torch.from_numpy(self.baseline(dataset).places))

    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss on what the network learns from, coordinates or maps."""
        from .networks import PoseNetwork

        assert isinstance(model, PoseNetwork)
        terms = find_loss(loss, model)

        def compare(batch: Batch, made: dict[str, Any]) -> Terms:
            return terms(batch["image"], batch["joints"])

        return (Phase("pose", model, compare),)

    def metrics(self, protocol: str) -> Metrics:
        """Shares of joints or limbs found, or COCO's average precision, under a named protocol."""
        return find_protocol(protocol)()

    def default_protocol(self, dataset: str, fields: dict[str, Kind]) -> str:
        """What people report on a set."""
        return {"mpii": "pckh", "coco-people": "coco", "pose-folders": "pck-box"}.get(dataset, self.protocols[0])

    def baseline(self, dataset: Dataset) -> MeanPose:
        """The mean pose, placed into every picture alike."""
        count = min(BASELINE_SAMPLES, len(dataset))
        stride = 1 if dataset.unbounded else max(1, len(dataset) // count)
        skeleton = self.field(dataset.fields, "joints", Keypoints).skeleton
        return MeanPose([dataset.read(number * stride) for number in range(count)], skeleton)

    def sought(self, pictures: Sample) -> tuple[Rectangle | None, str]:
        """The largest person that torchvision's detector finds, where its weights are at hand."""
        from .detector import find_person

        return find_person(pictures["image"])

    def window(self, box: Rectangle, size: Size) -> Window:
        """What the sets of people show of somebody in that box: a little more than it, within the picture."""
        within = super().window(box, size)
        if min(within[2:]) < 1:
            return within
        x, y, width, height = box
        return window_about(np.array([x, y, x + width - 1, y + height - 1]), size)

    def shown(self, view: str, source: Size, trained: Size, model: Network) -> tuple[Geometry, ...]:
        """The whole picture at the size of the training."""
        return (sample_geometry(None, source, trained, self.augmentation(Augmentation(), {}, source)),)

    def mirrored(self, output: Tensor, fields: dict[str, Kind], width: int) -> Tensor:
        """In a mirror, the left hand is the right one."""
        skeleton = self.field(fields, "joints", Keypoints).skeleton
        order = list(range(len(skeleton.names)))
        for left, right in skeleton.pairs:
            order[left], order[right] = right, left
        output = output[:, order]
        if output.ndim == MAPS:
            return heatmaps.mirrored(output, width)
        x, y, confidence = output.unbind(-1)
        return torch.stack([width - 1 - x, y, confidence], dim=-1)

    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """Places or maps of the joints."""
        from .networks import PoseNetwork

        assert isinstance(model, PoseNetwork)
        units = {
            "coordinates": "x and y in pixels of the input, centres at integers, and a confidence from 0 to 1",
            "heatmaps": f"about 1 at the joint and 0 elsewhere, in cells of {heatmaps.STRIDE}x{heatmaps.STRIDE} pixels",
        }
        return Output(self.field(fields, "joints", Keypoints).skeleton.names, units[model.answers])

    def decode(self, output: Any, query: Query) -> Prediction:
        """Joints in pixels of the original picture; a map without a peak has its joint somewhere, with confidence 0."""
        output = output.float()
        if output.ndim == MAPS:
            output = heatmaps.in_pixels(heatmaps.decode(output, self.decoding, self.sigma))
        joints = output[0].cpu().numpy().astype(np.float64)
        x, y = move_points(np.linalg.inv(query.matrix), joints[:, 0], joints[:, 1])
        left, top = query.corner or (0, 0)
        height, width = query.size
        placed = np.stack([x + left, y + top, joints[:, 2]], axis=1).astype(np.float32)
        skeleton = self.field(query.fields, "joints", Keypoints).skeleton
        box = None if query.corner is None else (left, top, width, height)
        return Pose(placed, skeleton, query.inputs["image"], box, query.note)

    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """The labelled joints."""
        return Pose.labelled(sample["joints"], self.field(fields, "joints", Keypoints).skeleton, sample["image"])


def patched(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 with one or two grey rectangles over it, of a tenth to a third of its sides."""
    picture = picture.copy()
    height, width = picture.shape[:2]
    for _ in range(int(rng.integers(1, PATCHES + 1))):
        h, w = (max(1, round(side * rng.uniform(0.1, 0.33))) for side in (height, width))
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        picture[top : top + h, left : left + w] = rng.integers(256)
    return picture
