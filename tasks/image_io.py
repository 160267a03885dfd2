"""Image input: any source and mode as upright (H, W, 3) uint8 sRGB."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.core.problems import DatasetError
from ..datasets.field_types import SegmentationMask
from ..datasets.formats.image import array_to_rgb, image_to_rgb, open_image, read_image
from ..datasets.formats.labels import read_labels
from ..errors import UserError

LUMINANCE = (0.299, 0.587, 0.114)
MULTI_FRAME_FORMATS = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
"""Formats whose files may contain several frames, by Pillow's names. MPO of cameras is left out: its further frames are
a preview or a gain map for HDR screens."""


def load_image(source: Any) -> np.ndarray:
    """Load gray, RGBA, 16-bit, CMYK, palette and rotated images as RGB.

    Args:
        source: a path; an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16, bool or floats in
            [0, 1]; a PIL image; or a tensor (C, H, W) or (1, C, H, W) of uint8 or floats in [0, 1].

    Returns:
        (H, W, 3) uint8 sRGB, as `read_image` gives it to training; of files of several frames the first (see
        `count_frames`).

    Raises:
        UserError: not an image, unreadable, or of another shape or type.
    """
    if isinstance(source, (str, Path)):
        return _from_file(Path(source))
    if hasattr(source, "getbands"):
        return image_to_rgb(source)
    if hasattr(source, "detach"):
        tensor = source.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        if array.ndim != 3 or array.shape[0] not in (1, 3, 4):
            raise UserError(
                f"A tensor of shape {tuple(source.shape)} is not an image: give (C, H, W) with C 1, 3 or 4."
            )
        return load_image(np.moveaxis(array, 0, -1))
    if not isinstance(source, np.ndarray):
        raise UserError(f"A {type(source).__name__} is not an image: give a path, an array, a PIL image or a tensor.")
    return array_to_rgb(source)


def load_image_as(source: Any, channels: int) -> np.ndarray:
    """Load any image with the channels of a network: 3 gives (H, W, 3) RGB, 1 gives (H, W, 1) luminance (Rec. 601).

    Returns:
        uint8 array.

    Raises:
        UserError: not an image, or another number of channels, which an image file cannot supply.
    """
    image = load_image(source)
    if channels == 3:
        return image
    if channels == 1:
        return np.round(image @ LUMINANCE).astype(np.uint8)[..., None]
    raise UserError(f"The network takes images of {channels} channels: give it samples of its dataset instead.")


def count_frames(source: Any) -> int:
    """Number of frames or pages of an image file or a PIL image; 1 for everything else."""
    frames = 1
    # Only the first frame is used: damage in later ones must not matter.
    with suppress(Exception):
        if isinstance(source, (str, Path)):
            with open_image(source) as image:
                return count_frames(image)
        if getattr(source, "format", None) in MULTI_FRAME_FORMATS:
            frames = int(getattr(source, "n_frames", 1))
    return frames


def count_pixels(source: Any) -> int:
    """Number of pixels of an image file (from its header) or an array (H, W, ...); 0 if the header is unreadable."""
    if not isinstance(source, (str, Path)):
        return int(np.prod(np.shape(source)[:2]))
    with suppress(Exception), open_image(source) as image:
        return image.width * image.height
    return 0


def load_labels(source: Any, field_type: SegmentationMask) -> np.ndarray:
    """Load a label map.

    Args:
        source: path of a one-channel or palette PNG whose values are classes; or an integer array (H, W) or
            (H, W, 1); or a PIL image of the same.
        field_type: the classes.

    Returns:
        (H, W) int64.

    Raises:
        UserError: not a label map, a color image, or a value that is not a class.
    """
    if isinstance(source, (str, Path)):
        return read_labels(source, len(field_type.names), field_type.ignore).astype(np.int64)
    values = np.asarray(source)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    mismatch = field_type.check(values)
    if mismatch is not None:
        raise UserError(f"The label map must contain {mismatch[0]}, not {mismatch[1]}.")
    return values.astype(np.int64)


def _from_file(path: Path) -> np.ndarray:
    if not os.path.isfile(path):
        raise UserError(f"There is no image file '{path}'.")
    try:
        return read_image(path)
    except DatasetError as error:
        raise UserError(f"{path} cannot be read as an image: {error.problem.found}.") from error
