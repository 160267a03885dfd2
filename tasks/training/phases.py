"""The phases of a task in training: one module for all of their losses, and what their errors mean."""

from __future__ import annotations

import traceback
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..network import Batch, LossTerms, Network, Phase
from .options import Options


class NonFiniteLoss(UserError):
    """A loss term became nan or infinite."""


class PhaseRunner(nn.Module):
    """All phases behind one `forward`, so that DDP sees every use of the network and averages its gradients once."""

    def __init__(self, phases: tuple[Phase, ...], bf16: bool, device: str) -> None:
        super().__init__()
        self.phases, self.bf16, self.device = phases, bf16, device
        self.phase_modules = nn.ModuleList(phase.module for phase in phases)
        self.trainable = [[one for one in phase.module.parameters() if one.requires_grad] for phase in phases]

    def forward(self, phase: int, batch: Batch, cache: dict[str, Any]) -> LossTerms:
        """Loss terms of one phase; losses compute in fp32 by their own `.float()`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return self.phases[phase].loss(batch, cache)

    def set_requires_grad(self, phase: int) -> None:
        """Turn on gradients for this phase and later ones, and off for earlier ones.

        Later phases need them: activations that this phase stores in the cache keep their graph.
        """
        if len(self.phases) > 1:
            for number, parameters in enumerate(self.trainable):
                for parameter in parameters:
                    parameter.requires_grad_(number >= phase)

    def activation_bytes(self, batch: Batch) -> int:
        """Bytes of all tensors that the forward passes of the phases keep for the backward pass, without parameters."""
        owned = {tensor.untyped_storage().data_ptr() for tensor in (*self.parameters(), *self.buffers())}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in owned:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        # The terms hold the graph: no storage is freed, and its address used again, before all are counted.
        terms, cache = [], {}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            for phase in range(len(self.phases)):
                self.set_requires_grad(phase)
                terms.append(self(phase, batch, cache))
        return sum(kept.values())

    def fitting_batch_size(self, batch: Batch) -> int:
        """The largest of half, a quarter, ... of a batch with which all phases succeed; 0 if one image does not fit."""
        count = len(next(iter(batch.values()))) // 2
        while count:
            try:
                part = {name: tensor[:count] for name, tensor in batch.items()}
                cache: dict[str, Any] = {}
                for phase in range(len(self.phases)):
                    self.set_requires_grad(phase)
                    torch.stack(list(self(phase, part, cache).values())).sum().backward()
                return count
            except (RuntimeError, ValueError) as error:
                # ValueError: BatchNorm with one value per channel.
                traceback.clear_frames(error.__traceback__)
                count //= 2
            finally:
                self.zero_grad(set_to_none=True)
        return 0


def explain_error(error: Exception, runner: PhaseRunner, batch: Batch, options: Options) -> UserError | None:
    """The user error behind a failed step: memory that ran out, or a normalization of one value; None for others.

    Args:
        error: what the forward or backward pass raised.
        runner: all phases, without DDP: the other processes do not take part.
        batch: the batch with which the step failed.
        options: options of the run.
    """
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        # The stack frames of the failed step keep its activations alive as long as the error exists.
        traceback.clear_frames(error.__traceback__)
        runner.zero_grad(set_to_none=True)
        if runner.device == "cuda":
            torch.cuda.empty_cache()
        fits = runner.fitting_batch_size(batch)
        hint = (
            f"--batch-size {fits} fits (with --grad-accum-steps to keep the effective batch size)"
            if fits
            else "even one image does not fit"
        )
        return UserError(
            f"Memory ran out with --batch-size {options.batch_size}: {hint}; a smaller --image-size helps too."
        )
    message = str(error)
    if isinstance(error, ValueError) and "Expected more than 1" in message:
        # BatchNorm with one value, or InstanceNorm with one pixel, per channel; the message ends in the tensor's size.
        height, width = options.image_size
        more = "a larger --image-size" if "spatial" in message else "--batch-size 2 or more, or a larger --image-size"
        return UserError(
            f"A normalization gets one value per channel (a tensor of {message.rpartition('size ')[2]}) with "
            f"--batch-size {options.batch_size} and --image-size {height} {width}, and cannot compute a variance: "
            f"use {more}."
        )
    return None


def check_finite(terms: dict[str, Tensor], step: int) -> None:
    """Refuse loss terms that are nan or infinite.

    Raises:
        NonFiniteLoss: naming the term and the step.
    """
    for name, value in terms.items():
        if not torch.isfinite(value):
            raise NonFiniteLoss(
                f"The loss term '{name}' became {float(value)} at step {step + 1}: lower --lr, set --clip-grad-norm 1 "
                "or --amp off."
            )


def auxiliary_modules(phases: tuple[Phase, ...], model: Network) -> list[nn.Module]:
    """Modules that phases train and that are not part of the model: discriminators."""
    modules = set(model.modules())
    return [phase.module for phase in phases if phase.module not in modules]


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def compile_network(model: Network) -> None:
    """Compile the backbone's `features` and the head, which losses may call without `forward`; else the model."""
    backbone: Any = model.backbone
    if backbone is None:
        model.compile()
        return
    backbone.features = torch.compile(backbone.features)
    if model.head is not None:
        model.head.compile()
