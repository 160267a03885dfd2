"""Loss of the caller's own: any callable or module as the loss of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.loss import _Loss

from ...datasets.field_types import FieldType
from ...errors import UserError
from ..network import Batch, LossTerms, Network, Phase
from ..task import Task
from ..tiling import eval_mode

OwnLoss: TypeAlias = Callable[..., Any]
"""A function or module of (output, batch): the raw output of the model, and the tensors of the batch by name with the
masks of valid values (`depth`, `depth_mask`). It returns a scalar, or several by name, whose sum is minimized.

A loss of `torch.nn` (`L1Loss`, `CrossEntropyLoss(weight=...)`) gets (output, target), at the valid pixels alone."""


def loss_name(loss: OwnLoss) -> str:
    """Name of a loss in config.yaml and in the log: that of the function, or of the class."""
    return getattr(loss, "__name__", type(loss).__name__)


def own_phases(task: Task, model: Network, fields: dict[str, FieldType], loss: OwnLoss) -> tuple[Phase, ...]:
    """One phase with a loss of the caller's own, instead of `Task.phases`."""
    inputs, targets = task.inputs(fields), task.targets(fields)
    of_torch, name = isinstance(loss, _Loss), loss_name(loss)
    if of_torch and len(targets) != 1:
        raise UserError(
            f"The loss {name} compares with one target, and the task {task.name} has {', '.join(targets)}: give a "
            "function of (output, batch)."
        )

    def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
        cache["batch"] = batch = task.augmentation.mix(batch, fields)
        output = model(*(batch[field] for field in inputs))
        if of_torch:
            (field,) = targets
            value = loss(*aligned(output.float(), batch[field], batch.get(f"{field}_mask")))
        else:
            value = loss(output, batch)
        return dict(value) if isinstance(value, Mapping) else {name: value}

    return (Phase(task.name, model, compute_loss),)


def aligned(output: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output and target of one shape: an output of another size is resized, a channel axis of length 1 is left out, and
    with a mask only valid pixels remain, (N,) or (N, C)."""
    if output.ndim >= 4 and output.shape[-2:] != target.shape[-2:]:
        output = functional.interpolate(output, target.shape[-2:], mode="bilinear", align_corners=False)
    if output.ndim == target.ndim + 1 and output.shape[1] == 1 and target.is_floating_point():
        output = output[:, 0]
    if mask is None:
        return output, target
    if output.ndim == mask.ndim + 1:
        return output.movedim(1, -1)[mask], target.movedim(1, -1)[mask]
    return output[mask], target[mask]


def require_loss(phases: tuple[Phase, ...], loss: OwnLoss, batch: Batch, model: Network) -> None:
    """Call a loss of the caller's own once, before the first step.

    Raises:
        UserError: it fails, or does not return finite scalars with a gradient.
    """
    name, call = loss_name(loss), "loss(output, batch)"
    if isinstance(loss, _Loss):
        call = "loss(output, target)"
    cache: dict[str, Any] = {}
    with torch.random.fork_rng([]), eval_mode(model):
        try:
            terms = phases[0].loss(batch, cache)
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in cache.get("batch", batch).items())
            raise UserError(
                f"The loss {name} fails on the first batch with {reason.rstrip('.')}; it is called as {call}, and the "
                f"batch has {shapes}."
            ) from error
    if not terms:
        raise UserError(f"The loss {name} returns no term; it must return a scalar tensor, or several by name.")
    for term, value in terms.items():
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = (
                f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            )
            raise UserError(f"The loss {name} returns {found} as '{term}'; it must be a scalar tensor: take its mean.")
        if not torch.isfinite(value):
            raise UserError(
                f"The loss {name} is {value.item()} on the first batch: unknown values are 0 there, under a mask "
                "(batch['NAME_mask']), and must not be divided by or logarithmized."
            )
    if not any(value.requires_grad for value in terms.values()):
        raise UserError(
            f"The loss {name} has no gradient: it must be computed from the output by torch, without .detach(), "
            ".item() or numpy."
        )


def require_callable(loss: Any) -> OwnLoss:
    """Check that a loss can be called."""
    if isinstance(loss, type):
        raise UserError(f"loss is the class {loss.__name__}; give an instance of it: {loss.__name__}(...).")
    if not callable(loss):
        raise UserError(
            f"loss is a {type(loss).__name__}; it must be the name of a loss, or a function of (output, batch)."
        )
    return loss


def loss_to_device(loss: OwnLoss, device: torch.device) -> None:
    """Move a module that is a loss; its parameters are not trained."""
    if isinstance(loss, nn.Module):
        loss.to(device).requires_grad_(False)
