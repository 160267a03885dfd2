"""KITTI's flow, a 16-bit RGB PNG: red is u, green is v, as pixels * 64 + 2^15; blue is 0 where they are unknown."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ...writing import written_aside
from ..problems import DamagedData
from .picture import PNG_SIGNATURE, decode
from .reading import read_bytes

STEPS_PER_PIXEL, ZERO = 64, 2**15
"""So u and v lie from -512 to 511.98 pixels, in steps of 1/64."""


def read_kitti_flow(path: str | Path) -> np.ndarray:
    """The stored flow.

    Returns:
        (H, W, 2) float32 pixels, x then y; nan where blue is 0.

    Raises:
        DamagedData: no file, no whole PNG, or one that is not 16-bit RGB. Of a file that some tool has cut to 8 bits
            the motions are lost.
    """
    data = read_bytes(path, "a 16-bit RGB PNG")
    if not data.startswith(PNG_SIGNATURE):
        raise DamagedData(path, "a 16-bit RGB PNG", "a file of another format")
    stored = decode(data, path, cv2.IMREAD_UNCHANGED)
    if stored.dtype != np.uint16 or stored.shape[2:] != (3,):
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        raise DamagedData(path, "a 16-bit RGB PNG", f"{stored.dtype.itemsize * 8} bits, {channels} channel(s)")
    # OpenCV's order is blue, green, red: known, v, u.
    flow = (stored[..., 2:0:-1].astype(np.float32) - ZERO) / STEPS_PER_PIXEL
    flow[stored[..., 0] == 0] = np.nan
    return flow


def write_kitti_flow(path: str | Path, flow: np.ndarray) -> None:
    """Write (H, W, 2) float32 pixels, aside then renamed.

    Motions are rounded to 1/64 pixel and clipped to what 16 bits hold; where u or v is nan, all three channels are 0.
    """
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"KITTI's flow has the shape (H, W, 2), not {flow.shape}.")
    known = ~np.isnan(flow).any(axis=-1, keepdims=True)
    steps = np.round(np.where(known, flow, 0).astype(np.float64) * STEPS_PER_PIXEL) + ZERO
    stored = np.where(known, steps.clip(0, 2**16 - 1), 0)
    with written_aside(path) as aside:
        cv2.imwrite(str(aside), np.concatenate([known, stored[..., ::-1]], axis=-1).astype(np.uint16))
