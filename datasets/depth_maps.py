"""What the depth sets share: stored numbers to metres, and the demand that picture and depth agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .formats.png16 import read_png16, write_png16
from .problems import DamagedData


def read_depth_png(path: str | Path, steps_per_metre: float, invalid: tuple[int, ...] = (0,)) -> np.ndarray:
    """Depth from a 16-bit PNG.

    Args:
        path: the file.
        steps_per_metre: 1000 for millimetres, 256 for KITTI.
        invalid: stored numbers that mean "not measured".

    Returns:
        (H, W) float32 metres, nan where not measured.

    Raises:
        DamagedData: no file, a cut-off file, or one that is not 16-bit grey.
    """
    stored = read_png16(path)
    metres = stored.astype(np.float32) / np.float32(steps_per_metre)
    for number in invalid:
        metres[stored == number] = np.nan
    return metres


def write_depth_png(path: str | Path, metres: np.ndarray, steps_per_metre: float, invalid: int = 0) -> None:
    """Write (H, W) metres as a 16-bit PNG; nan becomes `invalid`."""
    steps = np.round(np.nan_to_num(metres.astype(np.float64)) * steps_per_metre)
    if steps.max() > 65535:
        raise ValueError(f"{metres.max():g} m does not fit into 16 bits at {steps_per_metre:g} steps per metre.")
    write_png16(path, np.where(np.isnan(metres), invalid, steps).astype(np.uint16))


def require_same_size(image: np.ndarray, depth: np.ndarray, path: str | Path) -> None:
    """Refuse a depth map that has not its picture's size.

    Args:
        image: (H, W, C).
        depth: (H, W).
        path: the depth's file, for the sentence.
    """
    if image.shape[:2] != depth.shape[:2]:
        expected, found = (f"{array.shape[1]}x{array.shape[0]}" for array in (image, depth))
        raise DamagedData(path, f"a depth map of its picture's size {expected}", found)


def slanted_floor(
    rng: np.random.Generator, size: tuple[int, int], near: float, far: float
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its depth for miniature sets: a floor that runs away from the camera, with a box on it.

    Args:
        rng: where the colours and the box come from.
        size: (height, width).
        near, far: depths in metres at the lower and upper edge.

    Returns:
        (H, W, 3) uint8 and (H, W) float32 metres without holes.
    """
    height, width = size
    share = np.linspace(0, 1, height)[:, None]
    # Inverse depth is linear over the picture of a plane.
    depth = np.broadcast_to(1 / (share / near + (1 - share) / far), size).astype(np.float32)
    image = np.broadcast_to((depth[..., None] / far * rng.uniform(80, 220, 3)), (*size, 3)).copy()
    top, left = (int(rng.uniform(0.2, 0.5) * extent) for extent in size)
    box = np.s_[top : top + height // 4 + 1, left : left + width // 4 + 1]
    depth[box] = near + (far - near) * np.float32(rng.uniform(0.1, 0.4))
    image[box] = rng.uniform(0, 255, 3)
    image += rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), depth
