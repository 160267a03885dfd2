"""Localization of a hand in a depth image: the palm is the widest part of the nearest region."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from ...errors import UserError
from ..core.geometry import Size
from ..dataset import Dataset, Sample
from .cube import CUT_SIZE, FARTHEST_MM, NEAREST_MM, HandFrame, cut_cube, unproject

REACH_MM = 200.0
"""Extent in depth, from the nearest point on, in which a hand is looked for."""
HOLE_PX = 5
"""Holes and cracks of the sensor up to this size are no borders of the hand."""
PALM_SHARE = 0.9
"""Share of the largest distance to the border that pixels of the palm have."""


def find_palm(depth: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Find the palm of a hand, (3,) millimeters on its surface.

    The hand is in the largest connected region near the nearest point. Of it, the palm is what is farthest from the
    border, in millimeters: fingers and the arm are narrower.

    Args:
        depth: (H, W) millimeters, 0 where unknown.
        camera: (3, 3) intrinsic matrix.

    Raises:
        UserError: no depth is in the range of hands.
    """
    known = (depth >= NEAREST_MM) & (depth <= FARTHEST_MM)
    if not known.any():
        measured = depth[depth > 0]
        found = f"depths from {measured.min():.4g} to {measured.max():.4g} mm" if measured.size else "no known depth"
        raise UserError(
            f"The depth image has no hand: expected depths from {NEAREST_MM} to {FARTHEST_MM} mm (16-bit values in "
            f"millimeters, 0 where unknown), found {found}."
        )
    near = known & (depth <= np.percentile(depth[known], 0.5) + REACH_MM)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8))
    region = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    # Padded, since the border of the image is one of the hand.
    padded = np.pad(region.astype(np.uint8), HOLE_PX)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((HOLE_PX, HOLE_PX), np.uint8))
    distance = cv2.distanceTransform(closed, cv2.DIST_L2, 5)[HOLE_PX:-HOLE_PX, HOLE_PX:-HOLE_PX]
    width = np.where(region, distance * depth / camera[0, 0], 0)
    rows, columns = np.nonzero(width >= PALM_SHARE * width.max())
    return unproject(np.array([columns.mean(), rows.mean()]), depth[rows, columns].mean(dtype=np.float64), camera)


def find_hand(depth: np.ndarray, camera: np.ndarray, side: float, size: Size = CUT_SIZE) -> Sample:
    """Cut the cube around the palm that `find_palm` finds; arguments as of `cut_cube`.

    Returns:
        What `cut_cube` returns, and the complete image, of which another cube can be cut: "frame", (H, W) float32
        meters, nan where unknown, and "frame_camera".
    """
    frame = np.where(depth > 0, depth / 1000, np.nan).astype(np.float32)
    return {**cut_cube(depth, camera, find_palm(depth, camera), side, size), "frame": frame, "frame_camera": camera}


@runtime_checkable
class HasFrames(Protocol):
    """A dataset of hands whose complete depth images can be read."""

    def read_frame(self, index: int) -> HandFrame:
        """Read the complete depth image of a sample, with its labels."""
        ...


class FoundHands(Dataset):
    """A dataset of hands whose cubes are those of `find_hand`, not around the labeled palm.

    Raises:
        UserError: the dataset has no complete depth images.
    """

    def __init__(self, dataset: Dataset, size: Size = CUT_SIZE) -> None:
        if not isinstance(dataset, HasFrames):
            raise UserError(
                f"{dataset.title} has no complete depth images in which a hand could be found: evaluate it under the "
                "protocol palm-given."
            )
        super().__init__(dataset.root, dataset.split)
        self.title = dataset.title  # type: ignore[misc]
        self.fields, self.size = dataset.fields, size
        self.dataset, self._frames = dataset, dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Sample:
        frame = self._frames.read_frame(index)
        return {**find_hand(frame.depth, frame.camera, frame.side, self.size), "joints": frame.joints}

    def sample_name(self, index: int) -> str:
        return self.dataset.sample_name(index)
