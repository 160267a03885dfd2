"""Classifiers with a softmax, for averaging over test crops."""

from __future__ import annotations

from torch import Tensor

from ..network import Classifier, Network


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
