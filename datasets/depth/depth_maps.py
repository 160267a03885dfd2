"""Depth maps in 16-bit PNG files, and other functions that the depth datasets share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.problems import DatasetError
from ..formats.png16 import read_png16, write_png16


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


def require_same_size(image: np.ndarray, depth: np.ndarray, path: str | Path) -> None:
    """Check that a depth map has the size of its image.

    Args:
        image: (H, W, C).
        depth: (H, W).
        path: file of the depth map, for the error message.

    Raises:
        DatasetError: the sizes differ.
    """
    if image.shape[:2] != depth.shape[:2]:
        expected, found = (f"{array.shape[1]}x{array.shape[0]}" for array in (image, depth))
        raise DatasetError(path, f"a depth map of the size of its image, {expected}", found)


def fake_depth_sample(
    rng: np.random.Generator, size: tuple[int, int], near: float, far: float
) -> tuple[np.ndarray, np.ndarray]:
    """Generate an image and its depth for example datasets: a receding floor with a box on it.

    Args:
        rng: source of the colors and the box.
        size: (height, width).
        near, far: depths in meters at the lower and upper edge.

    Returns:
        (H, W, 3) uint8 and (H, W) float32 meters, known everywhere.
    """
    height, width = size
    share = np.linspace(0, 1, height)[:, None]
    # Inverse depth is linear over the image of a plane.
    depth = np.broadcast_to(1 / (share / near + (1 - share) / far), size).astype(np.float32)
    image = np.broadcast_to((depth[..., None] / far * rng.uniform(80, 220, 3)), (*size, 3)).copy()
    top, left = (int(rng.uniform(0.2, 0.5) * extent) for extent in size)
    box = np.s_[top : top + height // 4 + 1, left : left + width // 4 + 1]
    depth[box] = near + (far - near) * np.float32(rng.uniform(0.1, 0.4))
    image[box] = rng.uniform(0, 255, 3)
    image += rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), depth
