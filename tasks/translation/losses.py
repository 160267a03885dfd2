"""What the two players of a translation learn from.

Isola, Zhu, Zhou, Efros 2017, arXiv:1611.07004, section 3.1: min over G, max over D of the conditional adversarial loss,
plus 100 times the mean difference. As in the authors' PyTorch code, the generator maximises log D instead of minimising
log(1 - D), and the discriminator's two halves count one half each, which slows it down (section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ...datasets.fields import Kind, Labels
from ...errors import unknown_name
from ..task import Terms

Opinion = Callable[[Tensor, bool], Tensor]
"""(logits of patches, whether they are to be called true) to a scalar."""


def vanilla(logits: Tensor, true: bool) -> Tensor:
    """Binary cross-entropy of every patch: Goodfellow et al. 2014, in the form that does not saturate."""
    return F.softplus(-logits if true else logits).mean()


def least_squares(logits: Tensor, true: bool) -> Tensor:
    """The squared distance to 1 or 0: Mao et al. 2017, arXiv:1611.04076."""
    return (logits - float(true)).square().mean()


ADVERSARIAL: dict[str, Opinion] = {"vanilla": vanilla, "least-squares": least_squares}


def opinions(name: str) -> Opinion:
    """How an opinion about patches becomes a loss, by name.

    Raises:
        UserError: no such loss.
    """
    if name not in ADVERSARIAL:
        raise unknown_name("loss of the task translation", name, ADVERSARIAL)
    return ADVERSARIAL[name]


def closeness(goal: Kind) -> Callable[[Tensor, Tensor], Terms]:
    """How far an answer is from the truth: of pictures l1, of labels cross-entropy.

    The answer of a network and the batch's truth: pictures (B, C, H, W) in [0, 1], or logits (B, N, H, W) and labels
    (B, H, W). l1 is that of the paper, of values in [-1, 1]: twice the difference in [0, 1]. Labels that say nothing
    are left out; the others count alike, and each picture as much as the next.
    """
    if not isinstance(goal, Labels):
        return lambda made, true: {"l1": 2 * (made.float() - true).abs().mean()}
    ignore = goal.ignore

    def cross_entropy(logits: Tensor, labels: Tensor) -> Terms:
        each = F.cross_entropy(logits.float(), labels, ignore_index=ignore, reduction="none").sum((1, 2))
        return {"cross-entropy": (each / (labels != ignore).sum((1, 2)).clamp_min(1)).mean()}

    return cross_entropy


def beside(source: Tensor, picture: Tensor) -> Tensor:
    """(B, C + C', H, W) in [-1, 1]: what the discriminator looks at, both in [0, 1]."""
    return 2 * torch.cat((source, picture), dim=1) - 1
