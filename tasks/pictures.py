"""A picture of any source and mode as what the networks of this package take: (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.fields import Labels
from ..datasets.formats.labels import read_labels
from ..errors import UserError

LUMINANCE = (0.299, 0.587, 0.114)
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif", ".apng")
MOVING = ("GIF", "PNG", "WEBP", "TIFF")
"""Formats whose files may hold several frames, by Pillow's names. A camera's MPO is left out: what lies behind its
picture is a preview or a map for bright screens."""


def any_picture(source: Any) -> np.ndarray:
    """Grey, RGBA, 16-bit, CMYK, palette and turned pictures as RGB.

    Args:
        source: a path; an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16, bool or floats in
            [0, 1]; a PIL image; or a tensor (C, H, W) or (1, C, H, W) of uint8 or floats in [0, 1].

    Returns:
        (H, W, 3) uint8. Transparency is laid over white; 16 bits are cut to 8; EXIF's orientation is applied. Of a file
        of several frames it is the first (`frames_in` counts them).

    Raises:
        UserError: not a picture, unreadable, or of a shape that is none of these.
    """
    if isinstance(source, (str, Path)):
        return _from_file(Path(source))
    if hasattr(source, "getbands"):
        return _from_pil(source)
    if hasattr(source, "detach"):
        tensor = source.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        if array.ndim != 3 or array.shape[0] not in (1, 3, 4):
            raise UserError(f"A tensor of shape {tuple(source.shape)} is no picture: give (C, H, W) with C 1, 3 or 4.")
        return any_picture(np.moveaxis(array, 0, -1))
    if not isinstance(source, np.ndarray):
        raise UserError(f"A {type(source).__name__} is no picture: give a path, an array, a PIL image or a tensor.")
    return _from_array(source)


def picture_of(source: Any, channels: int) -> np.ndarray:
    """Any picture in the channels a network was trained on: (H, W, 3) RGB or (H, W, 1) luminance (Rec. 601), uint8.

    Raises:
        UserError: no picture, or a network of other channels, which no photograph can feed.
    """
    picture = any_picture(source)
    if channels == 3:
        return picture
    if channels == 1:
        return np.round(picture @ LUMINANCE).astype(np.uint8)[..., None]
    raise UserError(f"The network takes pictures of {channels} channels: give it samples of its data set instead.")


def frames_in(source: Any) -> int:
    """How many frames or pages a picture's file or a PIL image holds; 1 for everything else."""
    from PIL import Image

    frames = 1
    # What lies behind the first frame may be damaged in any way; that is none of our business.
    with suppress(Exception):
        if isinstance(source, (str, Path)):
            with Image.open(source) as image:
                return frames_in(image)
        if getattr(source, "format", None) in MOVING:
            frames = int(getattr(source, "n_frames", 1))
    return frames


def pixels_in(source: Any) -> int:
    """How many pixels a path or an array (H, W, ...) has, of a file by its header alone; 0 where that does not tell."""
    from PIL import Image

    if not isinstance(source, (str, Path)):
        return int(np.prod(np.shape(source)[:2]))
    with suppress(Exception), Image.open(source) as image:
        return image.width * image.height
    return 0


def labels_of(source: Any, kind: Labels) -> np.ndarray:
    """A label map as a network takes it.

    Args:
        source: a path of a PNG of one channel or of a palette, whose values are classes; or an array of
            integers (H, W) or (H, W, 1), or a PIL image of the same.
        kind: which classes there are.

    Returns:
        (H, W) int64.

    Raises:
        UserError: no label map, a picture in colour, or a value that is no class.
    """
    if isinstance(source, (str, Path)):
        return read_labels(source, len(kind.names), kind.ignore).astype(np.int64)
    values = np.asarray(source)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    wrong = kind.check(values)
    if wrong is not None:
        raise UserError(f"The label map should hold {wrong[0]}; found: {wrong[1]}.")
    return values.astype(np.int64)


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise UserError(f"An array of shape {array.shape} is no picture: give (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError("A picture of floats must lie in [0, 1], without nan; divide by 255 if it is in [0, 255].")
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UserError(f"A picture of {array.dtype} is ambiguous: give uint8, uint16 or floats in [0, 1].")
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.float32) / 255
        array = np.round(array[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _from_file(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise UserError(f"There is no picture '{path}'.")
    try:
        with Image.open(path) as image:
            return _from_pil(image)
    except MemoryError:
        raise UserError(f"{path} cannot be read as a picture: it needs more memory than there is.") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a picture: {str(error).rstrip('.')}.") from error


def _from_pil(image: Any) -> np.ndarray:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return _from_array(np.asarray(image))
    if image.mode.startswith("I"):
        # 16-bit grey opens as I;16 or I, whose conversion to RGB would clip instead of scale.
        return _from_array(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _from_array(np.asarray(image.convert("RGBA")))
    return _from_array(np.asarray(image.convert("RGB")))
