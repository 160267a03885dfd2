"""What of a trunk stays as it is: its weights and statistics, or its statistics alone."""

from __future__ import annotations

from torch import nn

from ...errors import UserError
from .options import Options


def freeze_trunk(model: nn.Module, options: Options) -> None:
    """--freeze: no gradient for the trunk's parameters."""
    trunk = getattr(model, "backbone", None)
    if options.freeze:
        if trunk is None:
            raise UserError("--freeze keeps the trunk as it is, but this network has none.")
        trunk.requires_grad_(False)


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
