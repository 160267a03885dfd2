"""Optical flow: where every pixel of one picture is in the next.

Dosovitskiy, Fischer, Ilg, Häusser, Hazırbaş, Golkov, van der Smagt, Cremers, Brox: FlowNet: Learning Optical Flow with
Convolutional Networks. ICCV 2015, arXiv:1504.06852. The whole networks are `--network flownets` and `flownetc`; any
trunk is the other way, in one of two forms (`--form`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from ...backbones.backbone import Backbone
from ...catalogue import look_up
from ...datasets.augmentation import Augmentation
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Flow as FlowKind
from ...datasets.fields import Image, Kind
from ...datasets.geometry import Size
from ...datasets.photometry import colour_jitter, grain, photometric
from ...errors import UserError, unknown_name
from ..heads import HEADS, create_head
from ..inference import original_size
from ..task import Batch, Default, Metrics, Network, Output, Phase, Prediction, Query, Task, Terms, Watch
from ..training.options import Options
from .flow_field import FlowField
from .losses import LOSSES, find_loss
from .metrics import PROTOCOLS, FlowMetrics, find_protocol
from .network import FlowNetwork
from .recipes import RECIPES

SECOND_COLOUR = 0.2
"""How much of the photometric augmentation the second picture gets on top of the one that both get."""
LARGEST_NOISE = 0.04
"""Standard deviation of the noise at full strength, of values in [0, 1]: Dosovitskiy et al. 2015, section 4.2."""


@dataclass(frozen=True)
class Flow(Task):
    """Two pictures in, the motion from the first to the second out."""

    form: Literal["shared", "stacked"] = "shared"
    """How a trunk sees two pictures: shared (one trunk for both, whose maps are compared) or stacked (six channels);
    default: shared."""
    between: float = 0.0
    """Strength of the small motion that training adds between the two pictures, 0 to 1; default: 0."""

    name: ClassVar[str] = "flow"
    title: ClassVar[str] = "What moves between two pictures"
    paper: ClassVar[str] = "Dosovitskiy et al. 2015, arXiv:1504.06852"
    default: ClassVar[Default] = Default(data="chairs", backbone="resnet18", head="warping", recipe="chairs")
    own_heads: ClassVar[dict[str, str]] = {"warping": "tasks.flow.warping:Warping"}
    heads: ClassVar[tuple[str, ...]] = (*HEADS, *own_heads)
    networks: ClassVar[dict[str, str]] = {
        "flownetc": "tasks.flow.flownet:FlowNetC",
        "flownets": "tasks.flow.flownet:FlowNetS",
        "raft_large": "tasks.flow.raft:raft_large",
        "raft_small": "tasks.flow.raft:raft_small",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    watch: ClassVar[Watch] = Watch("epe", higher_is_better=False)
    views: ClassVar[tuple[str, ...]] = ("native", "fit")

    def __post_init__(self) -> None:
        if self.form not in ("shared", "stacked"):
            raise unknown_name("--form", self.form, ("shared", "stacked"))
        if not 0 <= self.between <= 1:
            raise UserError(f"--between is {self.between}; it must lie in 0 to 1.")

    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """Both pictures."""
        return {name: self.field(fields, name, Image) for name in ("first", "second")}

    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The motion."""
        return {"flow": self.field(fields, "flow", FlowKind)}

    def channels(self, fields: dict[str, Kind]) -> int:
        """Of one picture, or of both stacked."""
        channels = sum(self.field(fields, name, Image).channels for name in ("first", "second"))
        return channels if self.form == "stacked" else channels // 2

    def augmentation(self, usual: Augmentation, fields: dict[str, Kind], source: Size) -> Augmentation:
        """With the motion between the pictures."""
        return replace(usual, between=self.between)

    def prepare(self, sample: Sample, rng: np.random.Generator | None, colour: float) -> Sample:
        """The same photometry on both pictures, a little more on the second, and grain on each."""
        if rng is None or colour == 0:
            return sample
        first, second = photometric([sample["first"], sample["second"]], rng, colour_jitter(colour))
        (second,) = photometric([second], rng, colour_jitter(SECOND_COLOUR * colour))
        (first,), (second,) = (
            photometric([picture], rng, grain(LARGEST_NOISE * colour)) for picture in (first, second)
        )
        return {**sample, "first": first, "second": second}

    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """Two (B, 3, H, W) in [0, 1] to (B, 2, h, w) pixels."""
        from .networks import CorrelatedFlow, StackedFlow, WarpingFlow, compared_levels

        if network is not None:
            if self.form == "stacked":
                raise UserError(f"--form stacked is for trunks; the network '{network}' has its own way to see two.")
            return look_up("network", network, self.networks)()
        assert backbone is not None and head is not None
        if head in self.own_heads:
            if self.form == "stacked":
                raise UserError(
                    f"The head '{head}' compares two sets of maps, and --form stacked has one: add --head unet."
                )
            return WarpingFlow(backbone, look_up("head", head, self.own_heads)(backbone.levels))
        if self.form == "stacked":
            return StackedFlow(backbone, create_head(head, backbone.levels, 2))
        return CorrelatedFlow(backbone, create_head(head, compared_levels(backbone.levels), 2))

    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss on every resolution at which the network answers."""
        assert isinstance(model, FlowNetwork)
        terms = find_loss(loss)

        def compare(batch: Batch, made: dict[str, Any]) -> Terms:
            return terms(model.pyramid(batch["first"], batch["second"]), batch["flow"], batch["flow_mask"])

        return (Phase("flow", model, compare),)

    def metrics(self, protocol: str) -> Metrics:
        """epe and its family under a named protocol."""
        return FlowMetrics(find_protocol(protocol))

    def default_protocol(self, dataset: str, fields: dict[str, Kind]) -> str:
        """What people report on a set; every known pixel pooled where there is no custom."""
        return {"kitti-flow-2012": "kitti", "kitti-flow-2015": "kitti", "middlebury-flow": "pictures"}.get(
            dataset, "pixels"
        )

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """Nothing moves."""
        return lambda sample: FlowField(np.zeros_like(sample["flow"]), sample["first"])

    def mirrored(self, output: Tensor, fields: dict[str, Kind], width: int) -> Tensor:
        """In a mirror, what moves to the right moves to the left."""
        return output.flip(-1) * output.new_tensor([-1.0, 1.0])[:, None, None]

    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """Pixels."""
        return Output(("x", "y"), "pixels of the input, from the first picture to the second; x right, y down")

    def decode(self, output: Any, query: Query) -> Prediction:
        """Pixels of the original: a resize changes how long a motion is."""
        scale = np.array([query.matrix[0, 0], query.matrix[1, 1]], np.float32)
        return FlowField(original_size(output, query) / scale, query.inputs["first"])

    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """The stored motion."""
        return FlowField(sample["flow"], sample["first"])
