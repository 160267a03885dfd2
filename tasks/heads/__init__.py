"""Heads: decoders that turn a trunk's levels into an answer for every pixel. Any task may use any of them.

>>> list_heads()[:3]
['deeplabv3plus', 'fpn', 'unet']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...catalogue import look_up

if TYPE_CHECKING:
    from ...backbones.backbone import Level
    from .head import Head

__all__ = ["HEADS", "create_head", "list_heads"]

# A head is one file and its line here. The class is called as Class(levels, channels).
HEADS: dict[str, str] = {
    "deeplabv3plus": "tasks.heads.smp:DeepLabV3Plus",
    "fpn": "tasks.heads.smp:FPN",
    "unet": "tasks.heads.unet:UNet",
    "unetplusplus": "tasks.heads.smp:UNetPlusPlus",
    "up-convolution": "tasks.heads.up_projection:UpConvolutionHead",
    "up-projection": "tasks.heads.up_projection:UpProjectionHead",
    "upernet": "tasks.heads.smp:UPerNet",
}


def list_heads() -> list[str]:
    """Every head by name, sorted."""
    return sorted(HEADS)


def create_head(name: str, levels: tuple[Level, ...], channels: int) -> Head:
    """A head by name.

    Args:
        name: one of `list_heads()`.
        levels: the trunk's `levels`, fine to coarse.
        channels: channels of the answer.

    Raises:
        UserError: an unknown name, or a head that these levels cannot feed.
    """
    return look_up("head", name, HEADS)(levels, channels)
