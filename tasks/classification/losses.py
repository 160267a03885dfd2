"""Classification losses: named terms of the logits, main classifier first, and the class labels (B,)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import UserError
from ..network import LossTerms

AUXILIARY_WEIGHT = 0.3
"""Weight of each auxiliary classifier: Szegedy et al. 2014 (arXiv:1409.4842), section 5."""

SMOOTHING = 0.1
"""Label smoothing: Szegedy et al. 2015 (arXiv:1512.00567), section 7."""

REJECT_DISTANCE = 17.0
"""j, the distance of the reject class in LeNet-5's loss. The paper gives no value; this is the distance of the point
midway between the two most similar of its characters, which differ in 17 of 84 units."""


def cross_entropy(logits: Sequence[Tensor], category: Tensor, smoothing: float = 0.0) -> LossTerms:
    """Cross-entropy of the label; auxiliary classifiers have a weight of 0.3 each.

    Args:
        logits: (B, num_classes) each, those of the main classifier first.
        category: (B,) integers, or (B, num_classes) shares of mixed images.
        smoothing: fraction of the target distribution that is uniform over all classes.
    """
    main, *others = (functional.cross_entropy(each, category, label_smoothing=smoothing) for each in logits)
    terms = {"cross_entropy": main}
    if others:
        terms["auxiliary"] = AUXILIARY_WEIGHT * sum(others[1:], others[0])
    return terms


def map_criterion(logits: Sequence[Tensor], category: Tensor, j: float = REJECT_DISTANCE) -> LossTerms:
    """LeCun et al. 1998, equation 9: y_t + log(e^-j + Σ e^-y_i), where y are the distances of the output units.

    It is the cross-entropy with one more class, the reject class, whose distance is always j: the loss cannot be
    lowered by increasing all distances, nor, with fixed codes, by collapsing.

    Args:
        logits: (B, num_classes), the negative distances; no auxiliary classifiers.
        category: (B,) integers.
        j: distance of the reject class, above 0.

    Raises:
        UserError: there are auxiliary classifiers, which the paper does not have.
    """
    if len(logits) > 1:
        raise UserError(
            "The loss 'map' supports one classifier, and this backbone has auxiliary ones: use 'cross-entropy'."
        )
    (scores,) = logits
    with_reject_class = torch.cat([scores, scores.new_full((len(scores), 1), -j)], dim=1)
    return {"map": functional.cross_entropy(with_reject_class, category)}


LOSSES: dict[str, Callable[[Sequence[Tensor], Tensor], LossTerms]] = {
    "cross-entropy": cross_entropy,
    "label-smoothing": partial(cross_entropy, smoothing=SMOOTHING),
    "map": map_criterion,
}
