"""Losses of hand pose: named terms of what the trained layers predict."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..network import LossTerms
from .deepprior import RefinedDeepPrior
from .networks import HandNetwork

Loss = Callable[[HandNetwork, Tensor, Tensor], LossTerms]
"""Function of the network, the depth (B, 1, H, W) and the joints (B, J, 3) in [-1, 1], see `normalize_joints`."""


def l2(model: HandNetwork, depth: Tensor, joints: Tensor) -> LossTerms:
    """Squared error as in the released code: summed over the coefficients of the prior, or over x, y and z of a joint
    and averaged over the joints; averaged over the batch. Refined joints have a term of their own."""
    outputs = model.regress(depth).float()
    if model.prior is None:
        terms = {"l2": _per_joint(outputs, joints)}
    else:
        terms = {"l2": (outputs - model.prior.encode(joints.flatten(1))).square().sum(-1).mean()}
    if isinstance(model, RefinedDeepPrior):
        terms["refined"] = _per_joint(model.refine(depth, model.pose(outputs)), joints)
    return terms


def _per_joint(outputs: Tensor, joints: Tensor) -> Tensor:
    return (outputs.view_as(joints) - joints).square().sum(-1).mean()


LOSSES: dict[str, Loss] = {"l2": l2}
