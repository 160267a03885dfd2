"""Losses of hand pose: named terms of what the trained layers predict."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..network import LossTerms
from .networks import HandNetwork

Loss = Callable[[HandNetwork, Tensor, Tensor], LossTerms]
"""Function of the network, its outputs (B, outputs) and the joints (B, J, 3) in [-1, 1], see `normalize_joints`."""


def l2(model: HandNetwork, outputs: Tensor, joints: Tensor) -> LossTerms:
    """Squared error as in the released code: summed over the coefficients of the prior, or over x, y and z of a joint
    and averaged over the joints; averaged over the batch."""
    if model.prior is None:
        return {"l2": (outputs.view_as(joints) - joints).square().sum(-1).mean()}
    return {"l2": (outputs - model.prior.encode(joints.flatten(1))).square().sum(-1).mean()}


LOSSES: dict[str, Loss] = {"l2": l2}
