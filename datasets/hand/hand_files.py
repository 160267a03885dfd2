"""Hands in files: the base of the stored datasets, which cut the cube around the palm."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.problems import DatasetError, Problem
from ..dataset import FileDataset, Sample
from ..field_types import Camera, Skeleton
from .cube import CUT_SIZE, FARTHEST_MM, NEAREST_MM, HandFrame
from .hand_fields import Cube, CubeDepth, Joints


class HandFiles(FileDataset):
    """One depth image per hand, cut by `cut_cube`. Subclasses call `set_hands`.

    The cube is centered at the labeled palm: the hand is given. Joints are turned to the frame of the camera: x right,
    y down, z forward.

    Attributes:
        skeleton: of the joints.
        palm: index of the joint at which the cube is centered.
        camera: (3, 3) intrinsic matrix.
    """

    default_protocol: ClassVar[str] = "palm-given"
    skeleton: Skeleton
    palm: int
    camera: np.ndarray

    _joints: np.ndarray
    _sides: np.ndarray

    def set_hands(
        self, files: Sequence[str], joints: np.ndarray, sides: np.ndarray, problems: Sequence[Problem] = ()
    ) -> None:
        """Set the depth images, their joints (N, J, 3) in millimeters and the sides of their cubes (N,).

        Raises:
            DatasetError: there are problems; see `FileDataset.set_files`.
        """
        self.fields = {"depth": CubeDepth(), "camera": Camera(), "cube": Cube(), "joints": Joints(self.skeleton)}
        self._joints, self._sides = joints.astype(np.float32), sides
        self.set_files([(file,) for file in files], problems)

    @abstractmethod
    def read_depth(self, path: Path) -> np.ndarray:
        """Read a depth image, (H, W) millimeters, 0 where unknown."""

    def read_frame(self, index: int) -> HandFrame:
        """Read the complete depth image of a sample, with its labels."""
        file, joints = self.root / self.sample_name(index), self._joints[index]
        depth = self.read_depth(file)
        if not ((depth >= NEAREST_MM) & (depth <= FARTHEST_MM)).any():
            known = depth[depth > 0]
            found = f"{known.min():g} to {known.max():g}" if known.size else "only unknown ones"
            raise DatasetError(file, f"a depth from {NEAREST_MM} to {FARTHEST_MM} mm", found)
        return HandFrame(depth, self.camera, joints.copy(), joints[self.palm], float(self._sides[index]))

    def read(self, index: int) -> Sample:
        frame = self.read_frame(index)
        return frame.cut(frame.palm, CUT_SIZE)
