"""MSRA15 hand gestures (Sun, Wei, Liang, Tang, Sun: Cascaded Hand Pose Regression, CVPR 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import DatasetError, Problem
from ..examples import fake_hand
from ..field_types import Skeleton
from ..formats.depth_bin import read_depth_bin, write_depth_bin
from . import skeletons
from .cube import camera_matrix
from .hand_files import HandFiles

CUBES_MM = (200.0, 200, 200, 180, 180, 180, 170, 160, 150)
"""Sides of the cubes of the nine subjects."""

FAULTY = {
    "P2/TIP": {*range(172, 175)},
    "P2/MP": {*range(173, 176), *range(345, 355), 356, 359, 360},
    "P3/T": {120, 489},
    "P8/4": {168},
}
"""Frames whose labels are known to be wrong."""

EXPECTED = "the number of frames, then 63 numbers a line"


class MSRAHand(HandFiles):
    """21 joints in depth images of 240x320, tested on one subject and trained on the eight others.

    The root contains `P0/` to `P8/`, a folder per subject, with a folder per gesture (`1` to `9`, `I`, `IP`, ...): its
    `joint.txt` has the number of frames and 63 numbers per frame, x, y (up) and negative z in millimeters; the depth of
    frame 0 is in `000000_depth.bin`. The subject is part of the name of the dataset (`msra-hand-0` to `msra-hand-8`);
    papers report the mean over the nine. Frames with wrong labels are left out.

    Attributes:
        subject: number of the test subject.
    """

    terms: ClassVar[str] = "no explicit license, academic: treat as research-only"
    skeleton: ClassVar[Skeleton] = skeletons.MSRA
    palm: ClassVar[int] = 5
    camera: ClassVar[np.ndarray] = camera_matrix(241.42, 241.42, 160, 120)
    subject: ClassVar[int]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        names, joints, sides, problems = [], [np.empty((0, 21, 3))], [], list[Problem]()
        for subject in range(9) if split == "train" else (self.subject,):
            if split == "train" and subject == self.subject:
                continue
            lists = sorted((self.root / f"P{subject}").glob("*/joint.txt"))
            if not lists:
                problems.append(Problem(str(self.root / f"P{subject}"), "folders with joint.txt", "none"))
            for file in lists:
                try:
                    poses = _read_joints(file)
                except DatasetError as error:
                    problems.append(error.problem)
                    continue
                gesture = f"P{subject}/{file.parent.name}"
                frames = [frame for frame in range(len(poses)) if frame not in FAULTY.get(gesture, ())]
                names += [f"{gesture}/{frame:06}_depth.bin" for frame in frames]
                joints.append(poses[frames])
                sides += [CUBES_MM[subject]] * len(frames)
        self.set_hands(names, np.concatenate(joints), np.array(sides), problems)

    def read_depth(self, path: Path) -> np.ndarray:
        return read_depth_bin(path)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for subject in range(9):
            folder = Path(root) / f"P{subject}" / "1"
            folder.mkdir(parents=True, exist_ok=True)
            hand = fake_hand(subject, (240, 320), cls.camera)
            write_depth_bin(folder / "000000_depth.bin", hand.depth)
            values = (skeletons.msra_joints(hand.joints) * (1, -1, -1)).ravel()
            (folder / "joint.txt").write_text("1\n" + " ".join(f"{value:.4f}" for value in values) + "\n")


def _read_joints(file: Path) -> np.ndarray:
    """Joints (N, 21, 3) in the frame of the camera, y down and z forward."""
    first, *lines = read_lines(file, EXPECTED)
    try:
        values = np.array([line.split() for line in lines], np.float64).reshape(-1, 21, 3)
    except ValueError:
        raise DatasetError(file, EXPECTED, "other lines") from None
    if first != str(len(values)) or not np.isfinite(values).all():
        raise DatasetError(file, EXPECTED, f"'{first[:20]}' and {len(values)} lines")
    return values * (1, -1, -1)


class MSRA0(MSRAHand):
    """Subject 0."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 0"
    subject: ClassVar[int] = 0


class MSRA1(MSRAHand):
    """Subject 1."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 1"
    subject: ClassVar[int] = 1


class MSRA2(MSRAHand):
    """Subject 2."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 2"
    subject: ClassVar[int] = 2


class MSRA3(MSRAHand):
    """Subject 3."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 3"
    subject: ClassVar[int] = 3


class MSRA4(MSRAHand):
    """Subject 4."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 4"
    subject: ClassVar[int] = 4


class MSRA5(MSRAHand):
    """Subject 5."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 5"
    subject: ClassVar[int] = 5


class MSRA6(MSRAHand):
    """Subject 6."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 6"
    subject: ClassVar[int] = 6


class MSRA7(MSRAHand):
    """Subject 7."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 7"
    subject: ClassVar[int] = 7


class MSRA8(MSRAHand):
    """Subject 8."""

    title: ClassVar[str] = "MSRA15 hand gestures, subject 8"
    subject: ClassVar[int] = 8
