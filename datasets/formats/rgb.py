"""The conversion of images of any mode to upright 8-bit sRGB.

What a file states about its pixels is applied: orientation (EXIF), color profile (ICC), transparency and bit depth.
"""

from __future__ import annotations

import io
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import UserError
from ..core.geometry import row_strips

ORIENTATIONS = {
    2: (False, False, True), 3: (False, True, True), 4: (False, True, False), 5: (True, False, False),
    6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
"""EXIF orientation to the arguments of `orient`; others are upright."""

SRGB_TOLERANCE = 2
"""Largest difference in gray levels at which a profile counts as sRGB, of which there are many editions."""
MAX_PROFILE = 2**22
"""Bytes of an ICC profile that is applied. Those of presses have 0.5 to 3 MB."""
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_EXIF_ORIENTATION, _TIFF_BITS, _TIFF_MAXIMUM = 0x0112, 258, 281


def image_to_rgb(image: Any) -> np.ndarray:
    """Convert a Pillow image of any mode as `read_image` does: (H, W, 3) uint8 sRGB.

    Raises:
        UserError: float pixels beyond [0, 1].
    """
    image.load()
    profile = srgb_transform(image.info.get("icc_profile"))
    steps = _steps(image) if image.mode.startswith("I") else 0
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows in row_strips(rgb):
        complete = rows.stop - rows.start == image.height
        strip = image if complete else image.crop((0, rows.start, image.width, rows.stop))
        rgb[rows] = _strip_to_rgb(strip, profile, steps)
    return np.ascontiguousarray(orient(rgb, *orientation(image)))


def _strip_to_rgb(image: Any, profile: tuple[str, Any] | None, steps: int) -> np.ndarray:
    """Rows of an image, as it is stored, as (H, W, 3) uint8 sRGB."""
    from PIL import Image, ImageCms

    pixels: Any = image
    alpha = None
    if image.mode == "F":
        pixels = Image.fromarray(array_to_rgb(np.asarray(image))[..., 0])
    elif steps:
        # Pillow would clip to 8 bits instead of scaling.
        pixels = Image.fromarray((np.asarray(image, np.int64).clip(0, steps - 1) * 256 // steps).astype(np.uint8))
    elif image.has_transparency_data:
        pixels = image.convert("RGBA")
        alpha = np.asarray(pixels)[..., 3:]
    space = "CMYK" if image.mode == "CMYK" else "L" if image.mode[0] in "1IF" or image.mode in ("L", "LA") else "RGB"
    # A profile of other channels than the image's says nothing about it; gray may have one for RGB.
    if profile is not None and (profile[0] == space or (profile[0], space) == ("RGB", "L")):
        pixels = ImageCms.applyTransform(pixels.convert(profile[0]), profile[1])
    rgb = np.asarray(pixels if pixels.mode == "RGB" else pixels.convert("RGB"))
    return rgb if alpha is None else array_to_rgb(np.concatenate([rgb, alpha], axis=-1))


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Convert (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool or floats in [0, 1] to (H, W, 3) uint8.

    Transparency is blended with white; of 16 bits the upper 8 are kept.

    Raises:
        UserError: another shape, type or range.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise UserError(f"An array of shape {array.shape} is not an image: give (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype.newbyteorder("=") == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError(
                "The values of a float image must be in [0, 1], without nan; divide by 255 if they are in [0, 255]."
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UserError(f"An image of {array.dtype} is ambiguous: give uint8, uint16 or floats in [0, 1].")
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.float32) / 255
        array = np.round(array[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def orient(pixels: np.ndarray, transposed: bool, flip_rows: bool, flip_columns: bool) -> np.ndarray:
    """Exchange rows and columns of (H, W, C), then reverse their order; a view."""
    pixels = pixels.swapaxes(0, 1) if transposed else pixels
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def orientation(image: Any) -> tuple[bool, bool, bool]:
    """The arguments of `orient` from the EXIF metadata of a Pillow image."""
    # Damaged metadata do not make an image unreadable.
    with suppress(Exception):
        return ORIENTATIONS[image.getexif()[_EXIF_ORIENTATION]]
    return False, False, False


def _steps(image: Any) -> int:
    """Number of levels of an image of more than 8 bits: a TIFF may state 10, 12 or 14 bits, stored in 16."""
    tags = getattr(image, "tag_v2", {})
    depths = {1 << bits for bits in (10, 12, 14)}
    stated = 1 << int(np.max(tags.get(_TIFF_BITS, 16))), 1 + int(np.max(tags.get(_TIFF_MAXIMUM, 0)))
    return next((steps for steps in stated if steps in depths), 1 << 16)


@lru_cache(64)
def srgb_transform(profile: bytes | None) -> tuple[str, Any] | None:
    """Pillow mode and ImageCms transform from an ICC profile to sRGB; None without one, or if it is sRGB itself."""
    from PIL import Image, ImageCms

    if not profile or len(profile) > MAX_PROFILE:
        return None
    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_MODES[source.profile.xcolor_space]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError):
        # As in browsers, a damaged profile, or one of a color space that images do not have, is ignored.
        return None
    if mode == "RGB":
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        shift = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform)).astype(int) - colors
        if np.abs(shift).max() <= SRGB_TOLERANCE:
            return None
    return mode, transform
