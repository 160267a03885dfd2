"""Restoration: the clean picture behind dirt, rain, grain, shake and whatever else came between.

Eigen, Krishnan, Fergus: Restoring an Image Taken through a Window Covered with Dirt or Rain. ICCV 2013. The whole
network is `--network eigen`; any trunk with any head is the other way.

A set either holds both pictures (`degraded` and `image`), or clean ones (`image`) that are made dirty here: in training
anew in every epoch, for scoring always alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ...backbones.backbone import Backbone
from ...catalogue import look_up
from ...datasets.augmentation import Augmentation
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Image, Kind
from ...datasets.geometry import Size
from ...datasets.worlds.weather import DEGRADATIONS, degrade
from ...errors import UserError, unknown_name
from ..heads import HEADS, create_head
from ..inference import original_size
from ..task import Batch, Default, Metrics, Network, Output, Phase, Prediction, Query, Task, Terms, Watch
from ..training.options import Options
from .examined import Examined
from .losses import LOSSES, find_loss, interior
from .metrics import PROTOCOLS, RestorationMetrics, find_protocol
from .recipes import RECIPES
from .restored import Restored

CHANNELS = 3


@dataclass(frozen=True)
class Restoration(Task):
    """A degraded picture in, a clean one out."""

    degrade: str = "dirt,rain"
    """What dirties clean pictures, by name with commas between: dirt, rain, drops, noise, blur, jpeg, holes,
    low-resolution; or all. Sets that hold degraded pictures do not need it; default: dirt,rain."""

    name: ClassVar[str] = "restoration"
    title: ClassVar[str] = "The clean picture behind dirt, rain, grain"
    paper: ClassVar[str] = "Eigen, Krishnan, Fergus 2013"
    default: ClassVar[Default] = Default(data="weather", backbone="resnet20_cifar", head="unet", recipe="weather")
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    networks: ClassVar[dict[str, str]] = {"eigen": "tasks.restoration.networks:Eigen"}
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    watch: ClassVar[Watch] = Watch("psnr", higher_is_better=True)
    views: ClassVar[tuple[str, ...]] = ("native", "fit")

    def __post_init__(self) -> None:
        names_of(self.degrade)

    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The degraded picture, which a clean set does not hold yet."""
        return {"degraded": self._rgb(fields, "degraded" if "degraded" in fields else "image")}

    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The clean one."""
        return {"image": self._rgb(fields, "image")}

    def _rgb(self, fields: dict[str, Kind], name: str) -> Image:
        found = self.field(fields, name, Image)
        if found.channels != CHANNELS:
            raise UserError(f"The task {self.name} takes pictures in colour; '{name}' has {found.channels} channel(s).")
        return found

    def augmentation(self, usual: Augmentation, fields: dict[str, Kind], source: Size) -> Augmentation:
        """A window of a degraded picture's own pixels, unless the caller says how large the picture shall be."""
        if "degraded" not in fields or usual.scale is not None or usual.area is not None:
            return usual
        return replace(usual, scale=(min(source), min(source)))

    def prepare(self, sample: Sample, rng: np.random.Generator | None, colour: float) -> Sample:
        """Dirt on a clean crop. Without a stream nothing is drawn, and the picture stays clean. No photometry."""
        if "degraded" in sample:
            return sample
        clean = sample["image"]
        return {"degraded": clean if rng is None else degrade(clean, rng, names_of(self.degrade)), **sample}

    def examined(self, dataset: Dataset) -> Dataset:
        """A clean set with its dirt; a set of pairs as it is."""
        return dataset if "degraded" in dataset.fields else Examined(dataset, names_of(self.degrade))

    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """(B, 3, H, W) in [0, 1] to the same."""
        from .networks import RestorationNetwork

        if network is not None:
            return look_up("network", network, self.networks)()
        assert backbone is not None and head is not None
        return RestorationNetwork(backbone, create_head(head, backbone.levels, CHANNELS))

    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss between the answer and the clean picture, where the network answers."""
        terms = find_loss(loss)

        def compare(batch: Batch, made: dict[str, Any]) -> Terms:
            restored = model(batch["degraded"])
            return terms(restored, interior(batch["image"], (restored.shape[-2], restored.shape[-1])))

        return (Phase("restoration", model, compare),)

    def metrics(self, protocol: str) -> Metrics:
        """psnr and ssim under a named protocol."""
        return RestorationMetrics(find_protocol(protocol))

    def default_protocol(self, dataset: str, fields: dict[str, Kind]) -> str:
        """What people report on a set; all three colours where there is no custom."""
        return {
            "rain100": "y-studio",
            "raindrop": "y-full",
            "div2k-x2": "y-studio-crop2",
            "div2k-x3": "y-studio-crop3",
            "div2k-x4": "y-studio-crop4",
        }.get(dataset, "rgb")

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The picture as it came."""
        return lambda sample: Restored(Image().draw(sample["degraded"]))

    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """A picture."""
        return Output(("red", "green", "blue"), "sRGB from 0 to 1, to be clipped to that")

    def decode(self, output: Any, query: Query) -> Prediction:
        """The network's picture at the size of the one that was asked about."""
        return Restored.of(original_size(output, query))

    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """The clean picture."""
        return Restored(Image().draw(sample["image"]))


def names_of(degradations: str) -> tuple[str, ...]:
    """What `--degrade` names, in the order of `DEGRADATIONS`.

    Raises:
        UserError: a name that is none of them, or no name.
    """
    named = [word.strip() for word in degradations.split(",") if word.strip()]
    if named == ["all"]:
        return tuple(DEGRADATIONS)
    for name in named:
        if name not in DEGRADATIONS:
            raise unknown_name("degradation (--degrade)", name, [*DEGRADATIONS, "all"])
    if not named:
        raise UserError(f"--degrade is empty; name some of {', '.join(DEGRADATIONS)}, or all.")
    return tuple(name for name in DEGRADATIONS if name in named)
