"""Colorization: the a and b channels of CIE Lab for every pixel of a gray image.

Zhang, Isola, Efros: Colorful Image Colorization. ECCV 2016, arXiv:1603.08511. The complete model is `--model zhang`;
any backbone with any head is the alternative. Colors are classified into 313 bins, because several colors may be
plausible and their mean is gray; rare colors have larger weights in training, because most pixels of photos are nearly
gray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image
from ...errors import UserError, unknown_name
from ...registry import lookup
from ..heads import HEADS
from ..network import Batch, LossTerms, Phase
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..tiling import resize_to_input
from ..training.options import Options
from .colorized_image import ColorizedImage, fade_to_gray
from .encoding import NEIGHBORS
from .lab import lab_of, lightness_of, rgb_to_lab
from .losses import LOSSES
from .metrics import PROTOCOLS, ColorizationMetrics
from .networks import STRIDE, ColorizationNetwork, ColorNetwork
from .recipes import RECIPES


@dataclass(frozen=True)
class Colorization(Task[ColorNetwork]):
    """The lightness of an image in, its colors out.

    The default input mode is "fit" (training size): colors follow from what objects are, which takes the complete
    image, and need no fine detail, since the lightness is that of the image itself. Color augmentation has no effect:
    it would change the target.
    """

    output: Literal["bins", "regression"] = "bins"
    """Network output per pixel: bins (probabilities of 313 color bins) or regression (a and b)."""
    neighbors: int = NEIGHBORS
    """Nearest bins in the soft target of a pixel: 5 in the paper, 10 in the released code."""
    fade: bool = True
    """Fade predictions to gray where the network is unsure, which leaves fewer blotches; --no-fade keeps the colors as
    Zhang et al. decode them."""

    name: ClassVar[str] = "colorization"
    title: ClassVar[str] = "Colorization"
    paper: ClassVar[str] = "Zhang et al. 2016, arXiv:1603.08511"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-shapes", backbone="resnet18", head="unet", recipe="synthetic-shapes", photo_recipe="photos"
    )
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    models: ClassVar[dict[str, str]] = {
        "siggraph17": "tasks.colorization.networks:SiggraphNetwork",
        "zhang": "tasks.colorization.networks:ZhangNetwork",
        "zhang_affine": "tasks.colorization.networks:zhang_affine",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES["bins"])
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("auc_rebalanced", higher_is_better=True)

    def __post_init__(self) -> None:
        if self.output not in LOSSES:
            raise unknown_name("output of the task colorization", self.output, LOSSES)
        if not 1 <= self.neighbors <= 32:
            raise UserError(f"--neighbors is {self.neighbors}; it must be in 1 to 32.")
        # The output decides which losses are available.
        object.__setattr__(self, "losses", tuple(LOSSES[self.output]))

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The image, of which networks use the lightness only."""
        image = self.require_field(fields, "image", Image)
        if image.channels != 3:
            raise UserError(
                f"Colorization is trained on images of 3 channels; those of the dataset have {image.channels}."
            )
        return {"image": image}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The same image: its colors are the target."""
        return self.inputs(fields)

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> ColorNetwork:
        """(B, 3, H, W) in [0, 1] to (B, 2 or 3, H, W): a, b and, with bins, confidence."""
        if model is not None:
            return lookup("model", model, self.models)(self.output)
        assert backbone is not None and head is not None
        return ColorizationNetwork(backbone, head, self.output)

    def phases(self, model: ColorNetwork, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss at every fourth pixel."""
        terms = lookup(f"loss for --output {self.output}", loss, LOSSES[self.output])

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            ab = rgb_to_lab(batch["image"][..., ::STRIDE, ::STRIDE].float())[:, 1:]
            return terms(model.logits(batch["image"]), ab, model.decoder, self.neighbors)

        return (Phase("colors", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return ColorizationMetrics()

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The gray image: a = b = 0."""

        def predict(sample: Sample) -> Prediction:
            lightness = lightness_of(sample["image"])
            return ColorizedImage(lightness, np.zeros((*lightness.shape, 2), np.float32))

        return predict

    def output_spec(self, model: ColorNetwork, fields: dict[str, FieldType]) -> OutputSpec:
        if self.output == "regression":
            return OutputSpec(("a", "b"), "CIE Lab under D65")
        return OutputSpec(("a", "b", "confidence"), "a and b of CIE Lab under D65; confidence from 0 to 1")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """a and b resized to the image, with the image's own lightness, and faded if there is a confidence."""
        lightness = lightness_of(context.inputs["image"])
        values = resize_to_input(output, context)
        ab, confidence = values[..., :2], values[..., 2] if values.shape[-1] == 3 else None
        if self.fade and confidence is not None:
            ab = fade_to_gray(ab, confidence)
        return ColorizedImage(lightness, ab, confidence)

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        lab = lab_of(sample["image"])
        return ColorizedImage(lab[..., 0], lab[..., 1:])
