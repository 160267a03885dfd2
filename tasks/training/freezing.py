"""What of a trunk stays as it is: its weights and statistics, or its statistics alone."""

from __future__ import annotations

from torch import nn

from ...backbones.opened_weights import levels_of_tensors
from ...errors import UserError
from .options import Options


def trunk_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that a trunk's levels use: what weights of another task bring, and no classifier of its own."""
    trunk = getattr(module, "backbone", None)
    if trunk is None:
        return []
    if not getattr(trunk, "classes", 0):
        return list(trunk.parameters())
    serving = levels_of_tensors(trunk)
    return [parameter for name, parameter in trunk.named_parameters() if name in serving]


def freeze_trunk(model: nn.Module, options: Options) -> None:
    """--freeze: no gradient for the trunk's parameters."""
    if options.freeze:
        if getattr(model, "backbone", None) is None:
            raise UserError("--freeze keeps the trunk as it is, but this network has none.")
        for parameter in trunk_parameters(model):
            parameter.requires_grad_(False)


def settle_frozen(model: nn.Module, options: Options) -> None:
    """--freeze and --freeze-bn: statistics of the trunk's normalisations stay; called after every `model.train()`."""
    trunk = getattr(model, "backbone", None)
    if trunk is None:
        return
    if options.freeze:
        trunk.eval()
    elif options.freeze_bn:
        for module in trunk.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
