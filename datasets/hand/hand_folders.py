"""Folder of depth images and a table of joints: a layout for your own hands (`hand-folders`)."""

from __future__ import annotations

import math
from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import DatasetError, Problem
from ..core.splits import empty_split, in_split, is_test_sample, read_split_list
from ..examples import fake_hand
from ..field_types import Skeleton
from ..formats.png import read_png16, write_png16
from . import skeletons
from .cube import camera_matrix
from .hand_files import HandFiles

TABLE, CAMERA, CUBE = "joints.csv", "camera.txt", "cube.txt"
DEFAULT_CUBE_MM = 250.0
HEADER = "a header 'file,NAME x,NAME y,NAME z,...' with three columns per joint"
MIN_SIDE_MM, MAX_SIDE_MM = 1.0, 2000.0


class HandFolders(HandFiles):
    """Depth images in `depths/`, 16-bit PNG in millimeters (0: unknown), and their joints in `joints.csv`.

    The table has the columns `file` (relative to `depths/`) and `NAME x`, `NAME y`, `NAME z` for every joint:
    millimeters in the frame of the camera, x right, y down, z forward. `camera.txt` has fx, fy, cx and cy in pixels,
    and `cube.txt`, if it exists, the side of the cube in millimeters; 250 otherwise. The cube is centered at the joint
    named `palm`, or at the first one. `train.txt` and `test.txt` list files; without them, one in ten is for testing,
    by a hash of its name. All hands are right hands or all are left ones: a model takes them for one kind.
    """

    title: ClassVar[str] = "Folder of depth images and a table of joints"
    terms: ClassVar[str] = "license of your files"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.camera = camera_matrix(*_numbers(self.root / CAMERA, 4, "fx, fy, cx and cy in pixels, fx and fy above 0"))
        side = DEFAULT_CUBE_MM
        if (self.root / CUBE).is_file():
            (side,) = _numbers(self.root / CUBE, 1, "the side of the cube in millimeters, from 1 to 2000")
        file = self.root / TABLE
        header, *lines = read_lines(file, HEADER)
        self.skeleton = _skeleton(header, file)
        names = self.skeleton.names
        self.palm = names.index("palm") if "palm" in names else 0
        poses, problems = dict[str, np.ndarray](), list[Problem]()
        for number, line in enumerate(lines, 2):
            name, *values = (word.strip() for word in line.split(","))
            try:
                pose = np.array(values, np.float64).reshape(len(names), 3)
            except ValueError:
                pose = np.full((1, 3), np.nan)
            if not (np.isfinite(pose).all() and (pose[:, 2] > 0).all()):
                expected = f"a file and {3 * len(names)} numbers in millimeters, z above 0"
                problems.append(Problem(f"{file}, line {number}", expected, f"'{line[:60]}'"))
            elif name in poses:
                problems.append(Problem(f"{file}, line {number}", "every file once", f"'{name}' again"))
            else:
                poses[name] = pose
        files = self._files_of_split(list(poses), problems)
        joints = np.array([poses[name] for name in files]).reshape(-1, len(names), 3)
        self.set_hands([f"depths/{name}" for name in files], joints, np.full(len(files), side), problems)

    def _files_of_split(self, files: list[str], problems: list[Problem]) -> list[str]:
        """The files of this split, by its list or by the hash."""
        stated = read_split_list(self.root, self.split, "a file per line", self.skipped)
        if stated is None:
            chosen = list(compress(files, in_split(files, self.split))) if files else []
        else:
            list_file, lines = stated
            chosen = [name for name in lines if name in set(files)]
            expected = f"a line in {TABLE} for each file of {list_file.name}"
            problems += [Problem(str(list_file), expected, f"'{name}'") for name in lines if name not in set(files)]
        if not chosen and not problems:
            problems.append(empty_split(self.root, "hands", self.split, len(files)))
        return chosen

    def read_depth(self, path: Path) -> np.ndarray:
        return read_png16(path)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        root, counts = Path(root), dict.fromkeys(cls.splits, 0)
        names = skeletons.ICVL.names
        lines = [",".join(["file", *(f"{name} {axis}" for name in names for axis in "xyz")])]
        camera = camera_matrix(241.42, 241.42, 160, 120)
        (root / "depths").mkdir(parents=True, exist_ok=True)
        for number in range(200):
            name = f"hand-{number:03}.png"
            split = "test" if is_test_sample(name) else "train"
            if counts[split] == 2:
                continue
            counts[split] += 1
            hand = fake_hand(number, (240, 320), camera)
            write_png16(root / "depths" / name, hand.depth.astype(np.uint16))
            values = skeletons.icvl_joints(hand.joints).ravel()
            lines.append(",".join([name, *(f"{value:.3f}" for value in values)]))
        (root / TABLE).write_text("\n".join(lines) + "\n")
        (root / CAMERA).write_text("241.42 241.42 160 120\n")


def _skeleton(header: str, file: Path) -> Skeleton:
    """The joints that the header of a table names, with the edges of the known skeleton of these joints."""
    first, *columns = (word.strip() for word in header.lstrip("\ufeff").split(","))
    names = tuple(column.removesuffix(" x") for column in columns[::3])
    if first != "file" or not names or columns != [f"{name} {axis}" for name in names for axis in "xyz"]:
        raise DatasetError(file, HEADER, f"'{header[:60]}'")
    if len(set(names)) < len(names):
        raise DatasetError(file, "every joint once", f"{len(names)} joints with {len(set(names))} names")
    known = (skeletons.ICVL, skeletons.NYU, skeletons.MSRA)
    return next((one for one in known if one.names == names), Skeleton(names, (), (), skeletons.HAND))


def _numbers(file: Path, count: int, expected: str) -> list[float]:
    words = " ".join(read_lines(file, expected)).replace(",", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    finite = len(values) == count and all(map(math.isfinite, values))
    if not finite or min(values[:2]) <= 0 or (count == 1 and not MIN_SIDE_MM <= values[0] <= MAX_SIDE_MM):
        raise DatasetError(file, expected, f"'{' '.join(words)[:60]}'")
    return values
