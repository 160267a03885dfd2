"""NYU hand poses (Tompson, Stein, LeCun, Perlin: Real-Time Continuous Pose Recovery of Human Hands, TOG 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.problems import DatasetError
from ..examples import fake_hand
from ..field_types import Skeleton
from ..formats.mat import read_mat, write_mat
from ..formats.png import read_packed_depth, write_packed_depth
from . import skeletons
from .cube import camera_matrix
from .hand_files import HandFiles

EVALUATED = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
"""The joints that papers evaluate, of the 36 in the file."""

CUBE_MM = 300.0
FIRST_SUBJECT_FRAMES, SECOND_SUBJECT = 2440, 0.83
"""Test frames of the first subject; the hand of the second one, and its cube, are smaller by this factor."""


class NYUHand(HandFiles):
    """Fourteen joints in depth images of 480x640, of the first of the three sensors.

    The root contains `train/` and `test/`, each with `joint_data.mat` (`joint_xyz`, sensor x frame x 36 joints x 3, y
    up) and `depth_1_0000001.png`, 8-bit RGB: green is the upper byte of the millimeters, blue the lower one.
    """

    title: ClassVar[str] = "NYU hand pose"
    terms: ClassVar[str] = "no explicit license, academic: treat as research-only"
    skeleton: ClassVar[Skeleton] = skeletons.NYU
    palm: ClassVar[int] = 13
    camera: ClassVar[np.ndarray] = camera_matrix(588.03, 587.07, 320, 240)

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        file = self.root / split / "joint_data.mat"
        stored = read_mat(file).get("joint_xyz")
        if stored is None or stored.ndim != 4 or stored.shape[2:] != (36, 3) or stored.dtype.kind != "f":
            found = "none" if stored is None else f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
            raise DatasetError(file, "floats 'joint_xyz' of MATLAB size 3xNx36x3", found)
        joints = stored[0][:, EVALUATED] * (1, -1, 1)
        if not np.isfinite(joints).all():
            raise DatasetError(file, "finite joints", "nan or inf")
        sides = np.full(len(joints), CUBE_MM)
        if split == "test":
            sides[FIRST_SUBJECT_FRAMES:] *= SECOND_SUBJECT
        self.set_hands([f"{split}/depth_1_{frame + 1:07}.png" for frame in range(len(joints))], joints, sides)

    def read_depth(self, path: Path) -> np.ndarray:
        return read_packed_depth(path)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for split in cls.splits:
            folder = Path(root) / split
            folder.mkdir(parents=True, exist_ok=True)
            stored = np.zeros((3, 2, 36, 3))
            for frame in range(2):
                hand = fake_hand(len(split) + frame, (480, 640), cls.camera)
                stored[0, frame, EVALUATED] = skeletons.nyu_joints(hand.joints) * (1, -1, 1)
                write_packed_depth(folder / f"depth_1_{frame + 1:07}.png", hand.depth.astype(np.uint16))
            write_mat(folder / "joint_data.mat", {"joint_xyz": stored})
