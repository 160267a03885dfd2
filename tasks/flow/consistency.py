"""Forward-backward consistency check of optical flow: occlusion masks without ground truth.

Sundaram, Brox, Keutzer: Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow. ECCV 2010,
equation 5. A pixel that is hidden in the second image has no counterpart there, so its forward and backward flow
disagree.
"""

from __future__ import annotations

import numpy as np

RELATIVE, ABSOLUTE = 0.01, 0.5
"""Tolerated squared error: share of the squared lengths of both flow vectors, plus squared pixels."""


def forward_backward_consistency(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Forward-backward error of every pixel, |f(x) + b(x + f(x))|.

    Args:
        forward: (H, W, 2) pixels, x then y, flow from the first image to the second; nan where unknown.
        backward: (H, W, 2) pixels, flow from the second image to the first; nan where unknown. Sampled bilinearly.

    Returns:
        (H, W) float32 pixels; nan where x + f(x) is outside the second image or a flow is unknown.
    """
    error = forward + _backward_at_target(forward, backward)
    return np.hypot(error[..., 0], error[..., 1]).astype(np.float32)


def occlusion_mask(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Mask of the pixels of the first image that are hidden in the second.

    A pixel is visible where |f + b|² <= 0.01 (|f|² + |b|²) + 0.5, with b at x + f(x).

    Args:
        forward, backward: as for `forward_backward_consistency`.

    Returns:
        (H, W) bool; True where the two disagree, where x + f(x) is outside, and where a flow is unknown.
    """
    back = _backward_at_target(forward, backward)
    error, lengths = _squared_length(forward + back), _squared_length(forward) + _squared_length(back)
    # Comparisons with nan are False: unknown pixels count as occluded.
    return ~(error <= RELATIVE * lengths + ABSOLUTE)


def _squared_length(vectors: np.ndarray) -> np.ndarray:
    return (vectors.astype(np.float64) ** 2).sum(axis=-1)


def _backward_at_target(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Backward flow sampled at x + f(x), (H, W, 2) float64; nan outside the image."""
    height, width = forward.shape[:2]
    x = np.arange(width) + forward[..., 0].astype(np.float64)
    y = np.arange(height)[:, None] + forward[..., 1].astype(np.float64)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    sampled = np.zeros((height, width, 2))
    for row, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            weight = (weight_x * weight_y)[..., None]
            neighbor = backward[np.minimum(row, height - 1), np.minimum(column, width - 1)]
            # A neighbor of weight 0 may be unknown, and 0 * nan is nan.
            sampled += np.where(weight > 0, weight * neighbor, 0)
    sampled[~inside] = np.nan
    return sampled
