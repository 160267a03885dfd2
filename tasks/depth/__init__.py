"""Depth from one picture: metres along the camera's axis, for every pixel.

Laina, Rupprecht, Belagiannis, Tombari, Navab: Deeper Depth Prediction with Fully Convolutional Residual Networks.
3DV 2016, arXiv:1606.00373. The whole network is `--network fcrn`; any trunk with any head is the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...backbones.backbone import Backbone
from ...catalogue import look_up
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Depth as DepthKind
from ...datasets.fields import Image, Kind
from ...datasets.geometry import plain_resize, warp_picture
from ...datasets.photometry import colour_jitter, photometric
from ...errors import UserError
from ..heads import HEADS, create_head
from ..inference import original_size
from ..task import Batch, Default, Metrics, Network, Output, Phase, Prediction, Query, Task, Terms, Watch
from ..training.options import Options
from .depth_map import DepthMap
from .losses import LOSSES, at_size, find_loss
from .metrics import PROTOCOLS, DepthMetrics, find_protocol
from .recipes import RECIPES

BASELINE_SAMPLES = 300
"""Training samples whose mean is the trivial answer."""


@dataclass(frozen=True)
class Depth(Task):
    """One picture in, metres out."""

    name: ClassVar[str] = "depth"
    title: ClassVar[str] = "Depth from one picture"
    paper: ClassVar[str] = "Laina et al. 2016, arXiv:1606.00373"
    default: ClassVar[Default] = Default(data="rooms", backbone="resnet18", head="unet", recipe="rooms")
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    networks: ClassVar[dict[str, str]] = {
        "fcrn": "tasks.depth.networks:fcrn",
        "fcrn_plain": "tasks.depth.networks:fcrn_plain",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    watch: ClassVar[Watch] = Watch("abs_rel", higher_is_better=False)

    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The picture."""
        return {"image": self.field(fields, "image", Image)}

    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """Its depth."""
        return {"depth": self.field(fields, "depth", DepthKind)}

    def prepare(self, sample: Sample, rng: np.random.Generator | None, colour: float) -> Sample:
        """Photometry on the picture alone: no exposure changes a distance."""
        if rng is None or colour == 0:
            return sample
        (image,) = photometric([sample["image"]], rng, colour_jitter(colour))
        return {**sample, "image": image}

    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """(B, 3, H, W) in [0, 1] to (B, 1, h, w) metres."""
        from .networks import DepthNetwork

        if network is not None:
            return look_up("network", network, self.networks)()
        assert backbone is not None and head is not None
        return DepthNetwork(backbone, create_head(head, backbone.levels, 1))

    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss between the answer and the truth at the answer's resolution."""
        terms = find_loss(loss)

        def compare(batch: Batch, made: dict[str, Any]) -> Terms:
            metres = model(batch["image"])[:, 0]
            truth, mask = at_size(batch["depth"], batch["depth_mask"], (metres.shape[-2], metres.shape[-1]))
            return terms(metres, truth, mask)

        return (Phase("depth", model, compare),)

    def metrics(self, protocol: str) -> Metrics:
        """abs_rel and its family under a named protocol."""
        return DepthMetrics(find_protocol(protocol))

    def default_protocol(self, dataset: str, fields: dict[str, Kind]) -> str:
        """What people report on a set; every known pixel pooled where there is no custom."""
        return {
            "nyu-depth": "nyu-laina",
            "nyu-raw": "nyu-eigen-bts",
            "kitti-depth": "kitti-garg-80",
            "make3d": "make3d-c1",
        }.get(dataset, "all-pixels")

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The mean depth of every pixel over training samples, resized to the picture at hand."""
        count = min(BASELINE_SAMPLES, len(dataset))
        # Evenly over the set, so that a sorted one is covered; a world's stream just begins.
        stride = 1 if dataset.unbounded else max(1, len(dataset) // count)
        maps = [dataset.read(number * stride)["depth"] for number in range(count)]
        size = (maps[0].shape[0], maps[0].shape[1])
        total, known = np.zeros(size), np.zeros(size)
        for depth in maps:
            if depth.shape != size:
                depth = DepthKind().move(depth, plain_resize((depth.shape[0], depth.shape[1]), size))
            finite = np.isfinite(depth)
            total += np.where(finite, depth, 0)
            known += finite
        if not known.any():
            raise UserError("No training sample holds a known depth: there is nothing to learn from.")
        mean = np.where(known > 0, total / np.maximum(known, 1), total.sum() / known.sum()).astype(np.float32)

        def answer(sample: Sample) -> Prediction:
            height, width = sample["depth"].shape
            return DepthMap(warp_picture(mean, plain_resize(size, (height, width)).matrix(), (height, width)))

        return answer

    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """Metres."""
        return Output(("depth",), "metres along the camera's axis")

    def decode(self, output: Any, query: Query) -> Prediction:
        """Metres at the picture's size. A resize changes no metres."""
        return DepthMap(original_size(output, query)[..., 0])

    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """The stored depth."""
        return DepthMap(sample["depth"])
