"""What a classifier is trained to lower: named terms of the logits, main classifier first, and the classes (B,)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import UserError
from ..task import Terms

AUXILIARY_WEIGHT = 0.3
"""Of each auxiliary classifier: Szegedy et al. 2014 (arXiv:1409.4842), section 5."""

SMOOTHING = 0.1
"""Of the one-hot truth: Szegedy et al. 2015 (arXiv:1512.00567), section 7."""

RUBBISH = 17.0
"""j, the distance beyond which LeNet-5's units need not be pushed. The paper gives no value; ours is that of the point
midway between the two most similar of its characters, which differ in 17 of 84 places."""


def cross_entropy(logits: Sequence[Tensor], category: Tensor, smoothing: float = 0.0) -> Terms:
    """The negative logarithm of the true class's probability; auxiliary classifiers count 0.3 each.

    Args:
        logits: (B, classes) each, the main classifier's first.
        category: (B,) integers.
        smoothing: share of the truth that is spread evenly over all classes.
    """
    main, *others = (functional.cross_entropy(each, category, label_smoothing=smoothing) for each in logits)
    terms = {"cross_entropy": main}
    if others:
        terms["auxiliary"] = AUXILIARY_WEIGHT * sum(others[1:], others[0])
    return terms


def map_criterion(logits: Sequence[Tensor], category: Tensor, j: float = RUBBISH) -> Terms:
    """LeCun et al. 1998, equation 9: y_t + log(e^-j + Σ e^-y_i), where y are the distances of the output units.

    It is the cross-entropy with one more class, rubbish, whose distance is always j: the network cannot lower its loss
    by pushing every distance away, nor, with fixed codes, by collapsing.

    Args:
        logits: (B, classes), minus the distances; no auxiliary ones.
        category: (B,) integers.
        j: above 0.

    Raises:
        UserError: there are auxiliary classifiers, of which the paper knows nothing.
    """
    if len(logits) > 1:
        raise UserError("The loss 'map' is for one classifier, and this trunk trains with more: take 'cross-entropy'.")
    (scores,) = logits
    with_rubbish = torch.cat([scores, scores.new_full((len(scores), 1), -j)], dim=1)
    return {"map": functional.cross_entropy(with_rubbish, category)}


LOSSES: dict[str, Callable[[Sequence[Tensor], Tensor], Terms]] = {
    "cross-entropy": cross_entropy,
    "smoothed": partial(cross_entropy, smoothing=SMOOTHING),
    "map": map_criterion,
}
