"""Losses of image-to-image translation: adversarial losses, L1 and cross-entropy.

Isola, Zhu, Zhou, Efros 2017, arXiv:1611.07004, section 3.1: min over G, max over D of the conditional adversarial loss,
plus 100 times the L1 loss. As in the authors' PyTorch code, the generator maximizes log D instead of minimizing
log(1 - D), and the discriminator's two terms are halved, which slows it down (section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ...datasets.field_types import FieldType, SegmentationMask
from ..network import LossTerms

AdversarialLoss = Callable[[Tensor, bool], Tensor]
"""(logits of patches, whether their target is "real") to a scalar."""


def bce(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of every patch: Goodfellow et al. 2014, in the non-saturating form."""
    return F.softplus(-logits if real else logits).mean()


def least_squares(logits: Tensor, real: bool) -> Tensor:
    """The squared distance to 1 or 0: Mao et al. 2017, arXiv:1611.04076."""
    return (logits - float(real)).square().mean()


ADVERSARIAL_LOSSES: dict[str, AdversarialLoss] = {"vanilla": bce, "least-squares": least_squares}


def reconstruction_loss(target: FieldType) -> Callable[[Tensor, Tensor], LossTerms]:
    """The loss between output and target: `G_L1` for images, `cross-entropy` for labels.

    It takes the network's output and the batch's target: images (B, C, H, W) in [0, 1], or logits (B, N, H, W) and
    labels (B, H, W). The L1 loss is that of the paper, for values in [-1, 1]: twice the difference in [0, 1]. Unlabeled
    pixels are left out; the others have equal weight within an image, and all images have equal weight.
    """
    if not isinstance(target, SegmentationMask):
        return lambda output, image: {"G_L1": 2 * (output.float() - image).abs().mean()}
    ignore = target.ignore

    def cross_entropy(logits: Tensor, labels: Tensor) -> LossTerms:
        sums = F.cross_entropy(logits.float(), labels, ignore_index=ignore, reduction="none").sum((1, 2))
        return {"cross-entropy": (sums / (labels != ignore).sum((1, 2)).clamp_min(1)).mean()}

    return cross_entropy


def concat_condition(source: Tensor, image: Tensor) -> Tensor:
    """The discriminator's input, (B, C + C', H, W) in [-1, 1], from a source and an image in [0, 1]."""
    return 2 * torch.cat((source, image), dim=1) - 1
