"""Image-to-image translation: labels to facades, edges to photos, streets to labels.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks ("pix2pix"). CVPR 2017,
arXiv:1611.07004. The published generators are `--model unet256` and its siblings; any backbone takes any head, too.

Two networks are trained: a generator produces images, and a discriminator, which reads patches of the source beside
the image, learns to tell generated from real ones. Checkpoints contain the generator only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image, SegmentationMask
from ...errors import UserError, unknown_name
from ...registry import lookup
from ..heads import HEADS, create_head
from ..network import Batch, LossTerms, Network, Phase
from ..policies import EvaluationPolicy
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..tiling import resize_to_input
from ..training.options import Options
from .losses import ADVERSARIAL_LOSSES, concat_condition, reconstruction_loss
from .metrics import PROTOCOLS, find_protocol
from .networks import BackboneTranslator, head_levels
from .patchgan import PatchGAN
from .predictions import LabelMap, MeanImage, TranslatedImage
from .recipes import RECIPES

BASELINE_SAMPLES = 300
"""Number of training samples whose mean is the baseline."""


@dataclass(frozen=True)
class Translation(Task[Network]):
    """Translates an image or a label map into another."""

    source_field: str | None = None
    """Input field; if not stated, the dataset's first image or label map."""
    target_field: str | None = None
    """Predicted field; if not stated, the dataset's last image or label map."""
    adversarial: bool | None = None
    """Train with an adversarial loss; if not stated, yes for images and no for labels."""
    discriminator_layers: int = 3
    """Number of strided layers of the discriminator, 0 to 6, for patches of 1, 16, 34, 70, 142, 286 or 574 pixels."""
    lambda_l1: float = 100.0
    """Weight of the L1 loss beside the adversarial loss."""
    norm: Literal["batch", "frozen-batch", "instance"] = "batch"
    """Statistics of the normalization layers: batch (those of the current batch, with dropout on, in prediction too, as
    in the paper), frozen-batch (running means of the training in prediction) or instance (those of each image). Stored
    in the checkpoint."""

    name: ClassVar[str] = "translation"
    title: ClassVar[str] = "Image-to-image translation"
    paper: ClassVar[str] = "Isola et al. 2017 (pix2pix), arXiv:1611.07004"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-facades", backbone="resnet18", head="unet", recipe="synthetic-facades"
    )
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    models: ClassVar[dict[str, str]] = {
        "unet256": "tasks.translation.networks:unet256",
        "unet128": "tasks.translation.networks:unet128",
        "resnet9": "tasks.translation.networks:resnet9",
        "resnet6": "tasks.translation.networks:resnet6",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(ADVERSARIAL_LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("error", higher_is_better=False)

    def __post_init__(self) -> None:
        if not 0 <= self.discriminator_layers <= 6:
            raise UserError(f"--discriminator-layers is {self.discriminator_layers}; it must be between 0 and 6.")
        if self.lambda_l1 < 0:
            raise UserError(f"--lambda-l1 is {self.lambda_l1}; it must be at least 0.")

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return self._select_field(fields, self.source_field, 0)

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The target field.

        Raises:
            UserError: the dataset has no image or label map, or only the source field.
        """
        target = self._select_field(fields, self.target_field, -1)
        if target.keys() == self.inputs(fields).keys():
            raise UserError(
                f"The task {self.name} translates one field into another, and source and target are both "
                f"'{next(iter(target))}': set --source-field and --target-field, or use a dataset of pairs."
            )
        return target

    def _select_field(self, fields: dict[str, FieldType], name: str | None, default: int) -> dict[str, FieldType]:
        usable = [key for key, field_type in fields.items() if isinstance(field_type, (Image, SegmentationMask))]
        if not usable:
            raise UserError(f"The task {self.name} needs a dataset of images or label maps; this one has neither.")
        name = usable[default] if name is None else name
        if name not in usable:
            raise unknown_name("image or label map of the dataset (--source-field, --target-field)", name, usable)
        return {name: fields[name]}

    @property
    def evaluation(self) -> EvaluationPolicy:
        return TranslationEvaluation(self.protocols, self)

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """(B, C, H, W) in [0, 1] to (B, C', H, W): an image in [0, 1], or class logits."""
        (target,) = self.targets(fields).values()
        out_channels, labels = num_channels(target), isinstance(target, SegmentationMask)
        if model is not None:
            return lookup("model", model, self.models)(
                self.backbone_options(fields)["in_channels"], out_channels, self.norm, labels
            )
        assert backbone is not None and head is not None
        return BackboneTranslator(backbone, create_head(head, head_levels(backbone), out_channels), self.norm, labels)

    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """The discriminator's part of a step, then the generator's, which reuses the generated images."""
        (source,), ((target, target_type),) = self.inputs(fields), self.targets(fields).items()
        labels = isinstance(target_type, SegmentationMask)
        reconstruction = reconstruction_loss(target_type)

        def generate(batch: Batch, cache: dict[str, Any]) -> Tensor:
            if "generated" not in cache:
                cache["generated"] = model(batch[source])
            return cache["generated"]

        def reconstruct(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            return reconstruction(generate(batch, cache), batch[target])

        if self.adversarial and labels:
            raise UserError("--adversarial applies to images only; a translation into labels uses cross-entropy.")
        if labels or self.adversarial is False:
            return (Phase("generator", model, reconstruct),)

        discriminator = self.discriminator(fields)
        adversarial = lookup("loss of the task translation", loss, ADVERSARIAL_LOSSES)

        def discriminate(batch: Batch, image: Tensor) -> Tensor:
            return discriminator(concat_condition(batch[source], image)).float()

        def discriminator_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            fake = generate(batch, cache).detach()
            real_logits = discriminate(batch, batch[target])
            return {
                "D_real": adversarial(real_logits, True) / 2,
                "D_fake": adversarial(discriminate(batch, fake), False) / 2,
            }

        def generator_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            fake = generate(batch, cache)
            terms = {name: self.lambda_l1 * value for name, value in reconstruction(fake, batch[target]).items()}
            return {"G_GAN": adversarial(discriminate(batch, fake), True), **terms}

        return Phase("discriminator", discriminator, discriminator_loss), Phase("generator", model, generator_loss)

    def discriminator(self, fields: dict[str, FieldType]) -> nn.Module:
        """The PatchGAN: source and image in, one logit per patch out, above 0 for a real image."""
        (source,), (target,) = self.inputs(fields).values(), self.targets(fields).values()
        norm = "instance" if self.norm == "instance" else "batch"
        return PatchGAN(source.input_channels + num_channels(target), self.discriminator_layers, norm)

    def metrics(self, protocol: str) -> Metrics:
        """Similarity of images, the FCN-score, FID or segmentation metrics, under a named protocol."""
        return find_protocol(protocol)()

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The mean image, or the most frequent class of every pixel position."""
        ((target, target_type),) = self.targets(dataset.fields).items()
        return MeanImage(map(dataset.read, dataset.spread(BASELINE_SAMPLES)), target, target_type)

    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        (target,) = self.targets(fields).values()
        if isinstance(target, SegmentationMask):
            return OutputSpec(target.names, "logits; the class is the maximum", "class-map")
        count = num_channels(target)
        channels = {1: ("gray",), 3: ("red", "green", "blue")}.get(count, tuple(f"channel{n}" for n in range(count)))
        return OutputSpec(channels, "sRGB from 0 to 1")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        ((target, target_type),) = self.targets(context.fields).items()
        values = resize_to_input(output, context)
        if isinstance(target_type, SegmentationMask):
            return LabelMap(values.argmax(-1), target_type, target)
        return TranslatedImage.from_floats(values, target)

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        ((target, target_type),) = self.targets(fields).items()
        if isinstance(target_type, SegmentationMask):
            return LabelMap(sample[target], target_type, target)
        return TranslatedImage(sample[target], target)


@dataclass(frozen=True)
class TranslationEvaluation(EvaluationPolicy):
    """Protocols of images and of label maps.

    Attributes:
        task: the task, whose options decide what is predicted.
    """

    task: Translation

    def default_protocol(self, dataset: Dataset) -> str:
        """ "labels" for label maps; for images that of the dataset, which may need its labels."""
        (target,) = self.task.targets(dataset.fields).values()
        return "labels" if isinstance(target, SegmentationMask) else super().default_protocol(dataset)


def num_channels(field_type: FieldType) -> int:
    """Channels of a prediction: those of an image, or one per class of a label map."""
    return len(field_type.names) if isinstance(field_type, SegmentationMask) else field_type.input_channels
