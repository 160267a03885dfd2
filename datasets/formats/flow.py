"""Optical flow files; the suffix determines the format.

- FLO, the format of Middlebury: `PIEH`, int32 width and height, then float32 u, v row by row; little-endian.
- PNG of KITTI, 16-bit RGB: red is u, green is v, as pixels * 64 + 2^15; blue is 0 where unknown.
- PFM with three channels, and NPZ.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from ...atomic_io import atomic_path
from ..core.files import read_bytes
from ..core.problems import DatasetError
from .arrays import read_npz, read_pfm, write_npz, write_pfm
from .image import write_encoded
from .png import read_png16

FLOW_SUFFIXES = (".flo", ".npz", ".pfm", ".png")
NPZ_KEY = "flow"

MAGIC = struct.pack("<f", 202021.25)
"""The bytes `PIEH`; a file of the other byte order begins with another number."""

MAX_KNOWN, UNKNOWN = 1e9, 1e10
"""u or v beyond the first value means unknown; writers store the second one."""

MAX_SIZE = 99_999
"""Maximum width and height, from the reference reader (Baker et al., flowIO.cpp)."""

_HEADER = 12

STEPS_PER_PIXEL, ZERO = 64, 2**15
"""u and v are from -512 to 511.98 pixels, in steps of 1/64."""


def read_flow(path: str | Path) -> np.ndarray:
    """Read optical flow.

    Args:
        path: `.flo`; `.pfm` with three channels (the third is ignored); `.png` as in KITTI; or `.npz`, a format of this
            package: its array `flow` is (H, W, 2) float, as float16 half as large as a `.flo`.

    Returns:
        (H, W, 2) float32 pixels, x then y, nan where unknown.

    Raises:
        DatasetError: the file is missing, damaged, or of another shape.
        ValueError: unknown suffix.
    """
    match Path(path).suffix.lower():
        case ".flo":
            return read_flo(path)
        case ".png":
            return read_kitti_flow(path)
        case ".npz":
            stored, channels = read_npz(path, NPZ_KEY), 2
        case ".pfm":
            stored, channels = read_pfm(path), 3
        case suffix:
            raise ValueError(f"Flow files have one of the suffixes {', '.join(FLOW_SUFFIXES)}, not '{suffix}'.")
    if stored.ndim != 3 or stored.shape[2] != channels or stored.dtype.kind != "f":
        found = f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
        raise DatasetError(path, f"float flow of shape HxWx{channels}", found)
    with np.errstate(over="ignore"):
        flow = stored[..., :2].astype(np.float32)
    flow[np.isnan(flow).any(axis=-1)] = np.nan
    return flow


def write_flow(path: str | Path, flow: np.ndarray) -> None:
    """Write (H, W, 2) float32 pixels, nan where unknown, in the format of the suffix; see `read_flow`.

    `.npz` stores float16: up to 64 pixels, the error is at most 1/64.

    Raises:
        ValueError: unknown suffix.
    """
    match Path(path).suffix.lower():
        case ".flo":
            write_flo(path, flow)
        case ".png":
            write_kitti_flow(path, flow)
        case ".npz":
            write_npz(path, NPZ_KEY, flow.astype(np.float16))
        case ".pfm":
            write_pfm(path, np.dstack([flow, np.zeros(flow.shape[:2], np.float32)]))
        case suffix:
            raise ValueError(f"Flow files have one of the suffixes {', '.join(FLOW_SUFFIXES)}, not '{suffix}'.")


def read_flo(path: str | Path) -> np.ndarray:
    """Read a `.flo` file, see `read_flow`; a wrong length is refused, and so are impossible widths and heights."""
    data = read_bytes(path, "a .flo file")
    if len(data) < _HEADER or not data.startswith(MAGIC):
        raise DatasetError(path, "a .flo header ('PIEH', width, height)", repr(data[:_HEADER])[1:])
    width, height = struct.unpack_from("<2i", data, len(MAGIC))
    if not (1 <= width <= MAX_SIZE and 1 <= height <= MAX_SIZE):
        raise DatasetError(path, f"a width and a height from 1 to {MAX_SIZE}", f"{width}x{height}")
    needed = 8 * width * height
    if len(data) - _HEADER != needed:
        expected = f"{needed} bytes after the header of a {width}x{height} .flo"
        raise DatasetError(path, expected, f"{len(data) - _HEADER}")
    flow = np.frombuffer(data, "<f4", offset=_HEADER).reshape(height, width, 2).astype(np.float32)
    # Negated comparisons: a stored nan is unknown as well. Most files know every pixel, which two numbers show.
    if not (flow.max() <= MAX_KNOWN and flow.min() >= -MAX_KNOWN):
        u, v = flow[..., 0], flow[..., 1]
        _set_unknown(flow, ~((np.abs(u) <= MAX_KNOWN) & (np.abs(v) <= MAX_KNOWN)))
    return flow


def write_flo(path: str | Path, flow: np.ndarray) -> None:
    """Write (H, W, 2) float32 pixels atomically; where u or v is nan, both become `UNKNOWN`.

    Raises:
        ValueError: another shape or type, or flow beyond `MAX_KNOWN`, which would be read as unknown.
    """
    if flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"A .flo file contains (H, W, 2) float32, not {flow.shape} {flow.dtype}.")
    if (np.abs(flow) > MAX_KNOWN).any():
        raise ValueError(f"A .flo file contains flow up to {MAX_KNOWN:g} pixels; more would be read as unknown.")
    stored = np.where(np.isnan(flow).any(axis=-1, keepdims=True), UNKNOWN, flow).astype("<f4")
    with atomic_path(path) as temporary:
        temporary.write_bytes(MAGIC + struct.pack("<2i", flow.shape[1], flow.shape[0]) + stored.tobytes())


def read_kitti_flow(path: str | Path) -> np.ndarray:
    """Read flow from a 16-bit PNG of KITTI, see `read_flow`; 8 bits are refused, since the flow is lost in them."""
    # Blue, green, red: known, v, u.
    stored = read_png16(path, channels=3)
    steps = np.empty((*stored.shape[:2], 2), np.uint16)
    cv2.mixChannels([stored], [steps], [2, 0, 1, 1])
    flow = steps.astype(np.float32)
    # Exact: the numbers have 16 bits.
    flow *= np.float32(1 / STEPS_PER_PIXEL)
    flow -= np.float32(ZERO / STEPS_PER_PIXEL)
    _set_unknown(flow, stored[..., 0] == 0)
    return flow


def _set_unknown(flow: np.ndarray, unknown: np.ndarray) -> None:
    """Set u and v of the unknown pixels (H, W) to nan, as one number each: ten times as fast as an index."""
    np.putmask(flow.view(np.complex64)[..., 0], unknown, np.complex64(complex(np.nan, np.nan)))


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
