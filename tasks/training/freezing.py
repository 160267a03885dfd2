"""Freezing of a backbone: its weights and BatchNorm statistics, or the statistics alone."""

from __future__ import annotations

from torch import nn

from ...backbones.backbone import levels_of_tensors
from ...errors import UserError
from ..network import Network
from .options import Options


def backbone_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of a model's backbone that its levels use, without the classifier; empty without a backbone."""
    backbone = module.backbone if isinstance(module, Network) else None
    if backbone is None:
        return []
    if not getattr(backbone, "num_classes", 0):
        return list(backbone.parameters())
    used = levels_of_tensors(backbone)
    return [parameter for name, parameter in backbone.named_parameters() if name in used]


def freeze_backbone(model: Network, options: Options) -> None:
    """Turn off the gradients of the backbone if `freeze_backbone` is set.

    Raises:
        UserError: the model has no backbone.
    """
    if options.freeze_backbone:
        if model.backbone is None:
            raise UserError("--freeze-backbone needs a model with a backbone; this model has none.")
        for parameter in backbone_parameters(model):
            parameter.requires_grad_(False)


def apply_freeze(model: Network, options: Options) -> None:
    """Freeze BatchNorm statistics for `freeze_backbone` and `freeze_bn`; call it after every `model.train()`."""
    backbone = model.backbone
    if backbone is None:
        return
    if options.freeze_backbone:
        backbone.eval()
    elif options.freeze_bn:
        for module in backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
