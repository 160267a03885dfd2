"""PNG files whose values are data: 16 bits (depth maps), or classes (label maps)."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np

from ...atomic_io import atomic_path
from ...limits import LimitExceeded
from ..core.files import read_bytes
from ..core.problems import DatasetError
from .image import UNREADABLE, decode, open_image, write_encoded
from .image_bytes import PNG_SIGNATURE, find_truncation

MODES = {"1": "1 bit per pixel", "I;16": "16 bits per pixel"}
"""Pillow mode of a PNG that is not a label map to its description; modes like RGB are described by their name."""


def read_png16(path: str | Path, channels: int = 1) -> np.ndarray:
    """Read the stored values of a 16-bit PNG.

    Returns:
        (H, W) uint16 of a gray one; (H, W, 3) uint16 of a color one, in OpenCV's order: blue, green, red.

    Raises:
        DatasetError: the file is missing, truncated, or not 16-bit gray or RGB. 8-bit files are refused, not converted:
            they are previews or copies that a tool has reduced, and their units are lost.
    """
    expected = f"a 16-bit {'gray' if channels == 1 else 'RGB'} PNG"
    data = _read_png(path, expected)
    # Without IMREAD_UNCHANGED, OpenCV reduces 16 bits to 8.
    stored = decode(data, path, cv2.IMREAD_UNCHANGED)
    found = 1 if stored.ndim == 2 else stored.shape[2]
    if stored.dtype != np.uint16 or found != channels:
        raise DatasetError(path, expected, f"{stored.dtype.itemsize * 8} bits, {found} channel(s)")
    return stored


def _read_png(path: str | Path, expected: str) -> bytes:
    data = read_bytes(path, expected)
    if not data.startswith(PNG_SIGNATURE):
        raise DatasetError(path, expected, "a file of another format")
    return data


def write_png16(path: str | Path, stored: np.ndarray) -> None:
    """Write (H, W) uint16, atomically."""
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError(f"A 16-bit gray PNG contains (H, W) uint16, not {stored.shape} {stored.dtype}.")
    write_encoded(path, stored)


def write_indexed_png(path: str | Path, indices: np.ndarray, colors: np.ndarray) -> None:
    """Write an image of at most 256 colors, atomically: a third of the work and of the bytes of RGB.

    Args:
        path: the file.
        indices: (H, W) uint8.
        colors: (256, 3) uint8 RGB, the color of every index.
    """
    from PIL import Image

    image = Image.fromarray(indices)
    image.putpalette(colors.tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG", compress_level=1)


def read_depth_png(path: str | Path, steps_per_meter: float, invalid: tuple[int, ...] = (0,)) -> np.ndarray:
    """Read depth from a 16-bit PNG.

    Args:
        path: the file.
        steps_per_meter: 1000 for millimeters, 256 for KITTI.
        invalid: stored values that mean "not measured".

    Returns:
        (H, W) float32 meters, nan where not measured.

    Raises:
        DatasetError: the file is missing, truncated, or not 16-bit gray.
    """
    stored = read_png16(path)
    meters = stored.astype(np.float32) / np.float32(steps_per_meter)
    for number in invalid:
        meters[stored == number] = np.nan
    return meters


def write_depth_png(path: str | Path, meters: np.ndarray, steps_per_meter: float, invalid: int = 0) -> None:
    """Write (H, W) meters as a 16-bit PNG; nan becomes `invalid`.

    Raises:
        ValueError: a depth does not fit into 16 bits.
    """
    steps = np.round(np.nan_to_num(meters.astype(np.float64)) * steps_per_meter)
    if steps.max() > 65535:
        raise ValueError(f"{meters.max():g} m does not fit into 16 bits at {steps_per_meter:g} steps per meter.")
    write_png16(path, np.where(np.isnan(meters), invalid, steps).astype(np.uint16))


def read_packed_depth(path: str | Path) -> np.ndarray:
    """Read depth from an 8-bit RGB PNG whose green is the upper byte of 16 bits and whose blue is the lower one.

    Returns:
        (H, W) uint16, the stored values.

    Raises:
        DatasetError: the file is missing, truncated, or not an 8-bit RGB PNG.
    """
    expected = "an 8-bit RGB PNG"
    # OpenCV returns blue, green, red.
    stored = decode(_read_png(path, expected), path, cv2.IMREAD_UNCHANGED)
    if stored.dtype != np.uint8 or stored.ndim != 3 or stored.shape[2] != 3:
        found = 1 if stored.ndim == 2 else stored.shape[2]
        raise DatasetError(path, expected, f"{stored.dtype.itemsize * 8} bits, {found} channel(s)")
    # A shift of uint8 would give 0.
    return stored[..., 1].astype(np.uint16) << 8 | stored[..., 0]


def write_packed_depth(path: str | Path, stored: np.ndarray) -> None:
    """Write (H, W) uint16 as `read_packed_depth` reads it, atomically."""
    image = np.zeros((*stored.shape, 3), np.uint8)
    image[..., 0], image[..., 1] = stored & 255, stored >> 8
    write_encoded(path, image)


def read_labels(path: str | Path, classes: int, ignore: int) -> np.ndarray:
    """Read a label map from a PNG with one channel or a palette.

    Args:
        path: the file.
        classes: number of classes.
        ignore: value of unlabeled pixels.

    Returns:
        (H, W) uint8, every value a class or `ignore`.

    Raises:
        DatasetError: the file is missing, truncated, not a PNG with one channel, or has a value that is not a class.
    """
    # Not OpenCV, which returns the colors of a palette; the classes are its indices.
    values = f"whose values are classes 0 to {classes - 1} or {ignore}"
    expected = f"a label map, a PNG with one channel {values}"
    data = _read_png(path, expected)
    if (truncation := find_truncation(data)) is not None:
        raise DatasetError(path, expected, truncation)
    try:
        with open_image(io.BytesIO(data)) as stored:
            mode, labels = stored.mode, np.array(stored)
    except LimitExceeded as error:
        raise DatasetError(path, expected, str(error)) from None
    except UNREADABLE:
        raise DatasetError(path, expected, f"{len(data)} bytes that do not decode as one") from None
    if mode not in ("L", "P"):
        raise DatasetError(path, expected, MODES.get(mode, f"an {mode} image"))
    valid = np.zeros(256, bool)
    valid[[*range(classes), ignore]] = True
    if not valid[labels].all():
        invalid = labels[~valid[labels]]
        raise DatasetError(path, expected, f"the value {invalid[0]} ({invalid.size} pixels without a valid class)")
    return labels
