"""Networks of the tasks: `Network` (any model), `EncoderDecoder` (backbone and head), `Classifier` (backbone with its
own classifier), `Phase` (of a training step)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ..backbones.backbone import Backbone, levels_of_tensors
from ..datasets.dataset import Dataset
from .heads.head import Head, combined_input_policy

Batch = dict[str, Tensor]
LossTerms = dict[str, Tensor]
"""Scalar loss terms by name; the training loop minimizes their sum and logs each of them."""


class Network(nn.Module):
    """A model that a task builds, with what training and inference need to know about it.

    Attributes:
        input_policy: "tiled": tiles of an image give the same output as the complete image (fully convolutional);
            "whole": they do not; "fixed": inputs must have exactly the size that `InferencePolicy.geometries` of the
            task gives them, and the output is not a map of the input.
        stride: stride of the coarsest level; inputs are padded to multiples of it, unless `input_policy` is "fixed".
        backbone: the classification backbone, whose weights may be frozen or initialized on their own; None without.
        head: what follows the backbone; None without.
        origin: a `model_spec.ModelOrigin`, with which the model predicts and becomes a checkpoint by itself; None for
            a network that neither `create_model` nor a checkpoint has made.
    """

    input_policy: Literal["tiled", "whole", "fixed"]
    stride: int
    backbone: Backbone | None
    head: nn.Module | None
    origin: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.backbone = None
        self.head = None

    def calibrate(self, dataset: Dataset) -> str | None:
        """Measure statistics of the training set before the first step, such as color frequencies; usually none.

        They are stored in buffers, so that checkpoints contain them. The same dataset must give the same values, and no
        parameter may change.

        Returns:
            What the log should say about them, in one line; None: nothing.
        """

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters that `--backbone-lr-factor` scales and `--freeze-backbone` freezes.

        Those of the backbone that its levels use, without its classifier; none without a backbone.
        """
        if self.backbone is None:
            return []
        if not getattr(self.backbone, "num_classes", 0):
            return list(self.backbone.parameters())
        used = levels_of_tensors(self.backbone)
        return [parameter for name, parameter in self.backbone.named_parameters() if name in used]

    @property
    def inference_noise(self) -> str:
        """Why outputs are random at inference, and how to avoid it; empty if they are not. Noise prevents an export."""
        return ""

    @property
    def batchable(self) -> bool:
        """Whether the output for an image is the same whatever the other images of its batch are."""
        return not self.inference_noise

    @property
    def published_module(self) -> nn.Module:
        """The submodule whose parameters files of published weights contain; usually the complete model."""
        return self


class EncoderDecoder(Network):
    """A backbone and a head that predict for every pixel of one image. Tasks derive from it and implement `forward`.

    Inputs are images in [0, 1]; the backbone's preprocessing is part of this network.

    Args:
        backbone: any backbone; its classifier, if any, is not used.
        head: a head on the backbone's levels. Tasks initialize its last layer, `head.predict`, for an average pixel.

    Attributes:
        input_policy: see `combined_input_policy`.
        stride: stride of the head; sizes that are multiples of it need no resampling by odd factors.
    """

    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.input_policy = combined_input_policy(backbone, head)
        self.stride = head.stride

    def logits(self, image: Tensor) -> Tensor:
        """Output of the head, without activation.

        Args:
            image: (B, C, H, W) in [0, 1], with C = `backbone.in_channels`.

        Returns:
            (B, head.channels, H, W) float32, of any range.
        """
        features = self.backbone.features(self.backbone.preprocessing(image))
        return self.head(features, (image.shape[-2], image.shape[-1])).float()


class Classifier(Network):
    """A backbone with its own classifier, for images in [0, 1].

    Raises:
        UserError: the backbone has no classifier.
    """

    input_policy = "fixed"
    backbone: Backbone

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        backbone.require_classifier()
        self.backbone = backbone
        self.stride = backbone.levels[-1].stride

    def forward(self, image: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, ...]:
        """(B, C, H, W) in [0, 1] to (B, num_classes) logits; with `auxiliary` those of every classifier, main first."""
        inputs = self.backbone.preprocessing(image)
        return self.backbone.forward_train(inputs) if auxiliary else self.backbone(inputs)

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, num_classes, h, w) logits at every position of the classifier."""
        return self.backbone.forward_dense(self.backbone.preprocessing(image))


@dataclass(frozen=True)
class Phase:
    """One optimizer's part of a training step. Most tasks have one phase, an adversarial task has two.

    Attributes:
        name: name in log messages.
        module: module whose parameters this phase updates; no other parameter receives a gradient.
        loss: function of (batch, cache) that returns named terms. `cache` is one dict per batch, in which a phase
            stores activations that later phases reuse with their graph.
    """

    name: str
    module: nn.Module
    loss: Callable[[Batch, dict[str, Any]], LossTerms]
