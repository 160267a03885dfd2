"""Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): the activations inside the blocks of a backbone are
computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from .backbone import Backbone

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def checkpoint_gradients(backbone: Backbone) -> None:
    """Recompute the blocks of a backbone in the backward pass; outputs, gradients and statistics stay the same.

    A block is a module with parts that is in no other block: a residual unit, an Inception module, a stage of a
    transformer; of VGG, the layers of a level.

    Raises:
        UserError: it has none (LeNet-5, AlexNet).
    """
    if backbone.recomputing is not None:
        backbone.recomputing = True
        return
    found = list(blocks(backbone))
    if not found:
        raise UserError(f"{backbone.name} has no blocks whose activations could be computed again.")
    for block in found:
        block.forward = partial(recomputed, block, block.forward)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules with parts inside a network, which may itself be inside wrappers (timm)."""
    while isinstance(inner := getattr(module, "model", None), nn.Module):
        module = inner
    for child in module.children():
        if isinstance(child, CONTAINERS):
            yield from blocks(child)
        elif any(True for _ in child.children()):
            yield child


def recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """The output of a block, of which only the inputs are kept for the backward pass."""
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    kept = (Kept.apply(one) if isinstance(one, Tensor) else one for one in inputs)
    return checkpoint(forward, *kept, use_reentrant=False, context_fn=partial(_contexts, block), **named)


class Kept(torch.autograd.Function):
    """The identity, which saves its input: hooks on saved tensors see what a checkpoint keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _without_statistics(block)


@contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    """BatchNorm layers leave their running statistics as they are, since these have seen the batch before."""
    layers = [layer for layer in block.modules() if isinstance(layer, _BatchNorm) and layer.training]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
