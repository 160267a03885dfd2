"""A trunk that names pictures, with the preprocessing its weights ask for."""

from __future__ import annotations

from torch import Tensor

from ...backbones.backbone import Backbone
from ..task import Network


class Classifier(Network):
    """A trunk with its own classifier, fed with pictures in [0, 1].

    Raises:
        UserError: the trunk has no classifier, because it was cut short.
    """

    takes = "exact"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        backbone.require_classifier()
        self.backbone = backbone
        self.stride = backbone.levels[-1].stride

    def forward(self, image: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, ...]:
        """(B, C, H, W) in [0, 1] to (B, classes) logits; with `auxiliary` those of every classifier, the main first."""
        picture = self.backbone.preprocessing(image)
        return self.backbone.training_logits(picture) if auxiliary else self.backbone(picture)

    def score_map(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, classes, h, w) logits, one for every place the classifier fits."""
        return self.backbone.score_map(self.backbone.preprocessing(image))


class Probabilities(Network):
    """A classifier asked for probabilities instead of logits.

    Args:
        classifier: the network.
        dense: slide the classifier over the picture and average its logits over the places (Simonyan and Zisserman
            2014, section 3.2), instead of asking once.
    """

    takes = "exact"

    def __init__(self, classifier: Classifier, dense: bool) -> None:
        super().__init__()
        self.classifier, self.dense, self.stride = classifier, dense, classifier.stride

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, classes) probabilities."""
        logits = self.classifier.score_map(image).mean((2, 3)) if self.dense else self.classifier(image)
        return logits.float().softmax(1)
