"""Files of optical flow, whatever their format: the suffix says which."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .formats.flo import read_flo, write_flo
from .formats.kitti_flow import read_kitti_flow, write_kitti_flow
from .formats.npz import read_npz, write_npz
from .formats.pfm import read_pfm, write_pfm
from .problems import DamagedData

FLOW_SUFFIXES = (".flo", ".npz", ".pfm", ".png")
NPZ_KEY = "flow"


def read_flow(path: str | Path) -> np.ndarray:
    """The motion that a file holds.

    Args:
        path: a `.flo`; a `.pfm` of three channels, of which the third says nothing; a `.png` as KITTI's; or `.npz`, a
            form of our own: its array `flow` holds (H, W, 2) floats, as halves in half the bytes of a `.flo`.

    Returns:
        (H, W, 2) float32 pixels, x then y, nan where unknown.

    Raises:
        DamagedData: no file, a damaged one, or one of another shape.
        ValueError: the suffix is none of these.
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
            raise ValueError(f"Flow lies in {', '.join(FLOW_SUFFIXES)}, not in '{suffix}'.")
    if stored.ndim != 3 or stored.shape[2] != channels or stored.dtype.kind != "f":
        found = f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
        raise DamagedData(path, f"float flow of shape HxWx{channels}", found)
    flow = stored[..., :2].astype(np.float32)
    flow[np.isnan(flow).any(axis=-1)] = np.nan
    return flow


def write_flow(path: str | Path, flow: np.ndarray) -> None:
    """Write (H, W, 2) float32 pixels, nan where unknown, in the format of the suffix; see `read_flow`.

    An `.npz` gets halves: up to 64 pixels they are wrong by at most 1/64.

    Raises:
        ValueError: the suffix is none of these.
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
            raise ValueError(f"Flow lies in {', '.join(FLOW_SUFFIXES)}, not in '{suffix}'.")
