"""Classifiers: a backbone with the preprocessing of its weights."""

from __future__ import annotations

from torch import Tensor

from ...backbones.backbone import Backbone
from ..network import Network


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


class Probabilities(Network):
    """A classifier with a softmax.

    Args:
        classifier: the network.
        dense: apply the classifier convolutionally and average its logits over all positions (Simonyan and Zisserman
            2014, section 3.2).
    """

    input_policy = "fixed"

    def __init__(self, classifier: Classifier, dense: bool) -> None:
        super().__init__()
        self.classifier, self.dense, self.stride = classifier, dense, classifier.stride

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, num_classes) probabilities."""
        logits = self.classifier.forward_dense(image).mean((2, 3)) if self.dense else self.classifier(image)
        return logits.float().softmax(1)
