"""Optical flow files; the suffix determines the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.problems import DatasetError
from ..formats.flo import read_flo, write_flo
from ..formats.kitti_flow import read_kitti_flow, write_kitti_flow
from ..formats.npz import read_npz, write_npz
from ..formats.pfm import read_pfm, write_pfm

FLOW_SUFFIXES = (".flo", ".npz", ".pfm", ".png")
NPZ_KEY = "flow"


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
