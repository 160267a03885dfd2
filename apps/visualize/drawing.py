"""How the maps of the methods become pictures for eyes, (H, W, 3) uint8 RGB, and how both are written.

Colours are cut at a percentile of the map's size, so that a few extreme pixels do not make the rest invisible. The raw
array is written uncut.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ...datasets.formats.npy import write_npy
from ...datasets.formats.picture import write_picture
from ...errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PERCENTILE = 99.0
"""Smilkov et al. 2017, section 3.2, cut there."""
GREY = 128
SMALLEST_SIDE = 224
"""Maps of smaller pictures are enlarged by whole factors, so that they can be seen."""
ENDINGS = (".png",)


def photograph(pixels: Tensor) -> np.ndarray:
    """(1, C, H, W) or (C, H, W) in [0, 1] as (H, W, 3) uint8: grey of one channel, else the first three."""
    shown = pixels.detach().cpu().reshape(pixels.shape[-3:]).movedim(0, -1).float().clamp(0, 1).numpy()
    if shown.shape[2] < 3:
        shown = np.broadcast_to(shown[..., :1], (*shown.shape[:2], 3))
    return np.round(shown[..., :3] * 255).astype(np.uint8)


def scale_of(values: np.ndarray) -> float:
    """The size that full colour stands for: a percentile of the absolute values, their largest where that is 0."""
    size = np.abs(values[np.isfinite(values)])
    if not size.size:
        return 1.0
    return float(np.percentile(size, PERCENTILE)) or float(size.max()) or 1.0


def brightness(heat: np.ndarray) -> np.ndarray:
    """(H, W) from 0 up, as the papers print it: black where it is 0, white where it is largest."""
    share = np.clip(heat / scale_of(heat), 0, 1)
    return np.repeat(np.round(share * 255).astype(np.uint8)[..., None], 3, axis=2)


def over(picture: np.ndarray, heat: np.ndarray, strength: float = 0.7) -> np.ndarray:
    """A heat map over a photograph: blue where it is 0, red where it is largest; the photograph shows through.

    Args:
        picture: (H, W, 3) uint8.
        heat: (H, W) from 0 up.
        strength: how much the hottest place covers, 0 to 1; colder ones cover half as much.
    """
    share = np.clip(np.nan_to_num(heat) / scale_of(heat), 0, 1)
    colours = cv2.applyColorMap(np.round(share * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    cover = strength * (0.5 + 0.5 * share[..., None])
    plain = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.round((1 - cover) * plain + cover * colours).astype(np.uint8)


def signed(values: np.ndarray) -> np.ndarray:
    """(H, W) of either sign: white at 0, red above, blue below."""
    share = np.clip(np.nan_to_num(values) / scale_of(values), -1, 1)[..., None]
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    colour = np.where(share > 0, red, blue)
    return np.round(255 + np.abs(share) * (colour - 255)).astype(np.uint8)


def signed_over(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """As `signed`, over a pale grey copy of a photograph, where a map is coarser than what it speaks of."""
    pale = 128 + cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32) / 2
    cover = np.clip(np.abs(np.nan_to_num(values)) / scale_of(values), 0, 1)[..., None]
    return np.round((1 - 0.8 * cover) * pale + 0.8 * cover * signed(values)).astype(np.uint8)


def in_colour(values: np.ndarray) -> np.ndarray:
    """(C, H, W) of either sign, a gradient or a reconstruction: 0 is mid-grey, each channel its own colour."""
    share = np.clip(np.nan_to_num(values) / scale_of(values), -1, 1).transpose(1, 2, 0)
    if share.shape[2] < 3:
        share = np.repeat(share[..., :1], 3, axis=2)
    return np.round(GREY + share[..., :3] * (255 - GREY)).astype(np.uint8)


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A small picture by a whole factor, so that its short side is at least `SMALLEST_SIDE`."""
    factor = -(-SMALLEST_SIDE // min(picture.shape[:2]))
    return picture if factor <= 1 else cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def checked_out(out: Path) -> Path:
    """The path of a picture to be written, before anything is computed.

    Raises:
        UserError: it names another format.
    """
    if out.suffix.lower() not in ENDINGS:
        raise UserError(f"--out is '{out}'; name a .png file.")
    return out


def write_both(out: Path, picture: np.ndarray, array: Any) -> list[Path]:
    """The picture, and the raw array under the same name with .npy; returns both paths."""
    raw = checked_out(out).with_suffix(".npy")
    write_picture(out, enlarged(picture))
    write_npy(raw, np.asarray(array))
    return [out, raw]
