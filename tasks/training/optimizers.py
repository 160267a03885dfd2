"""Phases of a training step: all losses as one module, parameter groups, schedules, and the moving average (EMA)."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..device import autocast
from ..network import Batch, LossTerms, Network, Phase
from .options import Options
from .rmsprop import FlooredRMSprop


class PhaseRunner(nn.Module):
    """All phases behind one `forward`, so that DDP sees every use of the network and exchanges its gradients once."""

    def __init__(self, phases: tuple[Phase, ...], dtype: torch.dtype | None, device: torch.device) -> None:
        super().__init__()
        self.phases, self.dtype, self.device = phases, dtype, device
        self.phase_modules = nn.ModuleList(phase.module for phase in phases)
        self.trainable = [[one for one in phase.module.parameters() if one.requires_grad] for phase in phases]

    def forward(self, phase: int, batch: Batch, cache: dict[str, Any]) -> LossTerms:
        """Loss terms of one phase; losses compute in fp32 by their own `.float()`."""
        with autocast(self.device, self.dtype):
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


def freeze_backbone(model: Network) -> None:
    """Turn off the gradients of the backbone, without its classifier."""
    for parameter in model.backbone_parameters():
        parameter.requires_grad_(False)


def train_mode(model: Network, options: Options) -> None:
    """Set a model to training mode, but for the BatchNorm statistics that `freeze_backbone` and `freeze_bn` freeze."""
    model.train()
    backbone = model.backbone
    if backbone is None:
        return
    if options.freeze_backbone:
        backbone.eval()
    elif options.freeze_bn:
        for module in backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


@contextmanager
def kept_statistics(layers: Sequence[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """BatchNorm layers in training mode leave their running statistics as they are inside this context."""
    following = [layer for layer in layers if layer.track_running_stats]
    for layer in following:
        layer.track_running_stats = not layer.training
    try:
        yield
    finally:
        for layer in following:
            layer.track_running_stats = True


def parameter_groups(module: nn.Module, options: Options, backbone_lr_factor: float) -> list[dict]:
    """Parameter groups: every trainable parameter in exactly one, by backbone or not and decayed or not.

    With `weight_decay_on` "weights", tensors of one axis (biases, scales of normalizations) do not decay: it would only
    counteract the normalization. `lr_scale` of a group is its learning rate relative to that of the run.
    """
    # Discriminators are no `Network`, and have no backbone.
    backbone = {id(parameter) for parameter in module.backbone_parameters()} if isinstance(module, Network) else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decayed = options.weight_decay_on == "all" or parameter.ndim > 1
            groups.setdefault((id(parameter) in backbone, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": options.weight_decay if decayed else 0.0,
            "lr_scale": backbone_lr_factor if in_backbone else 1.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]


def create_optimizer(module: nn.Module, options: Options, backbone_lr_factor: float) -> torch.optim.Optimizer:
    """The optimizer of one phase, fused on CPU and CUDA but for RMSProp.

    Raises:
        UserError: every parameter is frozen, and there are steps.
    """
    groups = parameter_groups(module, options, backbone_lr_factor)
    if not groups and options.steps != 0:
        raise UserError(
            "No parameter is left to train: leave out --freeze-backbone, or state --steps 0 for a head that is fitted, "
            "not trained."
        )
    groups = groups or [{"params": [], "weight_decay": 0.0, "lr_scale": 1.0}]
    device = next(module.parameters()).device.type
    fused = device in ("cpu", "cuda")
    if options.optimizer == "sgd-caffe":
        groups = [{**group, "lr_in_velocity": True} for group in groups]
    if options.optimizer in ("sgd", "sgd-caffe"):
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, fused=fused)
    if options.optimizer == "rmsprop":
        return FlooredRMSprop(groups, options.lr, options.momentum)
    adam = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return adam(groups, lr=options.lr, betas=(options.momentum, 0.999), fused=fused)


def learning_rate(
    schedule: str,
    step: int,
    steps: int,
    warmup_steps: int = 0,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
) -> float:
    """Learning rate of one step, from 0 on, as a factor in (0, 1] of the peak.

    The warm-up rises linearly over `warmup_steps` steps, from above 0 to below 1 (Goyal et al. 2017); the schedule
    starts at 1 and runs over the remaining steps: constant; multistep (times `gamma` at every milestone, ascending
    fractions of the remaining steps, as torch's MultiStepLR); poly (power 0.9, Chen et al. 2016); cosine (to zero,
    Loshchilov & Hutter 2017); linear (constant for half of the steps, then to zero, pix2pix).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    match schedule:
        case "constant":
            return 1.0
        case "multistep":
            return gamma ** sum(progress >= milestone for milestone in milestones)
        case "poly":
            return (1 - progress) ** 0.9
        case "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        case "linear":
            return min(1.0, 2 * (1 - progress))
    raise ValueError(f"There is no schedule named '{schedule}'.")


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the run, scaled by `lr_scale` in each group.

    Two forms of momentum differ when the learning rate changes. torch keeps b <- m b + g and steps by lr b: a new
    learning rate applies to old gradients at once. The classic form (Rumelhart et al. 1986; Krizhevsky et al. 2012,
    section 5) keeps v <- m v + lr g and steps by v: old gradients keep the learning rate of their step. Since v = lr b,
    the second equals the first with b scaled by old / new learning rate at every change.
    """
    for group in optimizer.param_groups:
        old, new = group["lr"], lr * group["lr_scale"]
        if group.get("lr_in_velocity") and old != new and new > 0:
            for parameter in group["params"]:
                velocity = optimizer.state[parameter].get("momentum_buffer")
                if velocity is not None:
                    velocity.mul_(old / new)
        group["lr"] = new


class MovingAverage:
    """EMA of weights: ema <- decay ema + (1 - decay) weights after every step; integer buffers are copied.

    Source: Polyak & Juditsky 1992. The decay grows as (1 + n) / (10 + n) up to its value, so that early weights fade.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Include the weights after a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Averaged weights in the model inside this context; afterwards it has its own again."""
        own: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state(self) -> dict:
        """Plain tensors and numbers for the training state."""
        return {"updates": self.updates, "average": self.average}

    def restore(self, state: dict | None) -> None:
        """Continue from a training state.

        Raises:
            ValueError: it has no moving average, or one of another model.
        """
        shapes = {name: value.shape for name, value in (state or {}).get("average", {}).items()}
        if state is None or shapes != {name: value.shape for name, value in self.average.items()}:
            raise ValueError("it has no moving average of the weights of this model")
        self.updates = state["updates"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)
