"""Whether the motion back undoes the motion forth: an occlusion map without truth.

Sundaram, Brox, Keutzer: Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow. ECCV 2010,
equation 5. A pixel that the second picture does not show has nothing to come back from, so that the two disagree.
"""

from __future__ import annotations

import numpy as np

RELATIVE, ABSOLUTE = 0.01, 0.5
"""Of the squared lengths of both motions, and square pixels: how far apart they may end."""


def consistency(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """How far from its start a pixel ends that goes forth and back: |f(x) + b(x + f(x))|.

    Args:
        forward: (H, W, 2) pixels, x then y, from the first picture to the second; nan where unknown.
        backward: (H, W, 2) pixels from the second to the first; nan where unknown. Read bilinearly.

    Returns:
        (H, W) float32 pixels; nan where x + f(x) lies outside the second picture, and where a motion is unknown.
    """
    ends = forward + _at_target(forward, backward)
    return np.hypot(ends[..., 0], ends[..., 1]).astype(np.float32)


def occluded(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Which pixels of the first picture the second one does not show, as far as two motions tell.

    A pixel is visible where |f + b|² <= 0.01 (|f|² + |b|²) + 0.5, with b at x + f(x).

    Args:
        forward, backward: as for `consistency`.

    Returns:
        (H, W) bool; True where the two disagree, where x + f(x) lies outside, and where a motion is unknown.
    """
    back = _at_target(forward, backward)
    apart, lengths = _square(forward + back), _square(forward) + _square(back)
    # nan compares false: what is not known to come back counts as occluded.
    return ~(apart <= RELATIVE * lengths + ABSOLUTE)


def _square(vectors: np.ndarray) -> np.ndarray:
    return (vectors.astype(np.float64) ** 2).sum(axis=-1)


def _at_target(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """(H, W, 2) float64: the backward motion where each pixel arrives; nan outside the picture."""
    height, width = forward.shape[:2]
    x = np.arange(width) + forward[..., 0].astype(np.float64)
    y = np.arange(height)[:, None] + forward[..., 1].astype(np.float64)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    found = np.zeros((height, width, 2))
    for row, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            share = (share_x * share_y)[..., None]
            neighbour = backward[np.minimum(row, height - 1), np.minimum(column, width - 1)]
            # A neighbour without a share may be unknown: 0 * nan is nan.
            found += np.where(share > 0, share * neighbour, 0)
    found[~inside] = np.nan
    return found
