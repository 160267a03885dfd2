"""Heads: decoders from the levels of a backbone to a map at the size of the image, usable by any task.

>>> list_heads()[:3]
['deeplabv3plus', 'fpn', 'unet']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...registry import lookup

if TYPE_CHECKING:
    from ...backbones.backbone import Level
    from .head import Head

__all__ = ["HEADS", "create_head", "list_heads"]

# Add a head as one file and one line here. The class is called as Class(levels, channels).
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
    """Names of all heads, sorted."""
    return sorted(HEADS)


def create_head(name: str, levels: tuple[Level, ...], channels: int) -> Head:
    """Create a head by name.

    Args:
        name: one of `list_heads()`.
        levels: `levels` of the backbone, fine to coarse.
        channels: number of output channels.

    Raises:
        UserError: an unknown name, or a head that does not work with these levels.
    """
    return lookup("head", name, HEADS)(levels, channels)
