"""KITTI flow format, a 16-bit RGB PNG: red is u, green is v, as pixels * 64 + 2^15; blue is 0 where unknown."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.problems import DatasetError
from .image import PNG_SIGNATURE, decode, write_encoded
from .reading import read_bytes

STEPS_PER_PIXEL, ZERO = 64, 2**15
"""u and v are from -512 to 511.98 pixels, in steps of 1/64."""


def read_kitti_flow(path: str | Path) -> np.ndarray:
    """Read flow from a PNG of KITTI.

    Returns:
        (H, W, 2) float32 pixels, x then y; nan where blue is 0.

    Raises:
        DatasetError: the file is missing, truncated, or not 16-bit RGB. (The flow is lost if a tool has reduced a file
            to 8 bits.)
    """
    data = read_bytes(path, "a 16-bit RGB PNG")
    if not data.startswith(PNG_SIGNATURE):
        raise DatasetError(path, "a 16-bit RGB PNG", "a file of another format")
    stored = decode(data, path, cv2.IMREAD_UNCHANGED)
    if stored.dtype != np.uint16 or stored.shape[2:] != (3,):
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        raise DatasetError(path, "a 16-bit RGB PNG", f"{stored.dtype.itemsize * 8} bits, {channels} channel(s)")
    # The channel order of OpenCV is blue, green, red: known, v, u.
    flow = (stored[..., 2:0:-1].astype(np.float32) - ZERO) / STEPS_PER_PIXEL
    flow[stored[..., 0] == 0] = np.nan
    return flow


def write_kitti_flow(path: str | Path, flow: np.ndarray) -> None:
    """Write (H, W, 2) float32 pixels atomically.

    Flow is rounded to 1/64 pixel and clipped to 16 bits; where u or v is nan, all three channels are 0.
    """
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"KITTI flow has the shape (H, W, 2), not {flow.shape}.")
    known = ~np.isnan(flow).any(axis=-1, keepdims=True)
    steps = np.round(np.where(known, flow, 0).astype(np.float64) * STEPS_PER_PIXEL) + ZERO
    stored = np.where(known, steps.clip(0, 2**16 - 1), 0)
    write_encoded(path, np.concatenate([known, stored[..., ::-1]], axis=-1).astype(np.uint16))
