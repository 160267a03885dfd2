"""Leeds Sports Pose and its extension (Johnson, Everingham: BMVC 2010, CVPR 2011), also with an observer's sides.

The sets differ in the order of their axes and in what the flag means, and neither is stated in the files: `LSP` stores
(x, y, occluded) by joint by picture, `LSPExtended` joint by (x, y, visible) by picture. A file of the other order is
refused. Coordinates are taken as they stand, counted from 0: the lowest labelled one of the extended set that we have
seen is -0.1, which pixels counted from 1 would hardly give. Nobody states it, and it is 1 px of a person of 150.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from . import skeletons
from .fields import Box, Image, Keypoints
from .folders import held_back
from .formats.mat import read_mat, write_mat
from .formats.picture import write_picture
from .formats.reading import read_lines
from .formats.tar import list_members
from .labelled_pictures import Encoded, Files, TarMembers
from .people import People, box_of, drawn_people
from .problems import DamagedData, Problem

JOINTS = len(skeletons.LSP.names)


class LSP(People):
    """2,000 pictures of sports, the person about 150 px tall: the first 1,000 to train, the last 1,000 to test.

    The root holds `images/im0001.jpg` to `im2000.jpg` (or `images.tar` of that folder) and `joints.mat`, whose `joints`
    is 3 x 14 x 2000: x, y, and 1 where a joint is occluded. Of a file of another length the first half trains.
    `train.txt` and `test.txt` in the root, one `im0001` a line, overrule that.

    Each picture is cut around the labelled joints, at test time too, as Belagiannis et al. 2015 do: scores are of
    persons whose place and size are known. Sides are the person's own. A picture without a labelled joint is no sample.
    """

    title: ClassVar[str] = "Leeds Sports Pose"
    terms: ClassVar[str] = "Flickr pictures, no explicit licence, cite: treat as research-only"
    joints_files: ClassVar[tuple[str, ...]] = ("joints.mat",)
    digits: ClassVar[int] = 4
    axes: ClassVar[tuple[int, int]] = (3, JOINTS)

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(), "joints": Keypoints(skeletons.LSP), "box": Box()}
        problems: list[Problem] = []
        joints = self._read_joints()
        names = [f"images/im{number:0{self.digits}}.jpg" for number in range(1, len(joints) + 1)]
        rows = self._rows(names, problems)
        rows = rows[(joints[rows, :, 2] > 0).any(axis=1)]
        self._pictures, there = _stored(self.root, [names[row] for row in rows], problems)
        rows = rows[there]
        if not (len(rows) or problems):
            problems.append(Problem(str(self.root), f"labelled pictures for '{split}'", "none"))
        self._picture_of = np.arange(len(rows))
        self._values = {"joints": joints[rows], "box": box_of(joints[rows])}
        if problems:
            raise DamagedData.of(problems, opened=self)

    def _read_joints(self) -> np.ndarray:
        """(N, 14, 3) float32: x, y, and 0 unlabelled, 1 occluded, 2 visible."""
        places = [self.root / name for name in self.joints_files]
        file = next((place for place in places if place.is_file()), places[0])
        stored = read_mat(file).get("joints")
        if stored is None or stored.ndim != 3 or stored.shape[:2] != self.axes or stored.dtype.kind not in "fiu":
            found = "none" if stored is None else f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
            raise DamagedData(file, f"numbers 'joints' of {self.axes[0]} x {self.axes[1]} x pictures", found)
        joints = self.arranged(stored).astype(np.float32)
        if not np.isin(joints[..., 2], (0, 1)).all():
            raise DamagedData(file, "0 or 1 as every joint's flag", f"{joints[..., 2].max():g}")
        joints[..., 2] = np.where(np.isfinite(joints[..., :2]).all(axis=-1), self.flags(joints[..., 2]), 0)
        return joints

    def arranged(self, stored: np.ndarray) -> np.ndarray:
        """The file's array as pictures x joints x (x, y, flag)."""
        return stored.transpose(2, 1, 0)

    def flags(self, stored: np.ndarray) -> np.ndarray:
        """The file's flags as 0 unlabelled, 1 occluded, 2 visible."""
        return 2 - stored

    def official(self, names: list[str]) -> list[bool]:
        """Which pictures are the split's where no list says so."""
        half = len(names) // 2
        return [(number < half) == (self.split == "train") for number in range(len(names))]

    def _rows(self, names: list[str], problems: list[Problem]) -> np.ndarray:
        """Which pictures are the split's, ascending."""
        if not any((self.root / f"{split}.txt").is_file() for split in self.splits):
            return np.flatnonzero(self.official(names))
        listed = self.root / f"{self.split}.txt"
        known = {Path(name).stem: row for row, name in enumerate(names)}
        rows = set()
        for line in read_lines(listed, "a picture's name per line"):
            if (row := known.get(line.removesuffix(".jpg"))) is None:
                problems.append(Problem(str(listed), f"names from {min(known)} to {max(known)}", f"'{line}'"))
            else:
                rows.add(row)
        return np.array(sorted(rows), np.int64)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        # Of 24 the hash of the names holds three back.
        joints = np.ones((24, JOINTS, 3))
        for number in range(24):
            picture, joints[number, :, :2] = drawn_people(number, skeletons.LSP.names)
            joints[number, number % JOINTS, 2] = 0
            write_picture(Path(root) / f"images/im{number + 1:0{cls.digits}}.jpg", picture)
        write_mat(Path(root) / cls.joints_files[0], {"joints": cls.as_stored(joints)})

    @classmethod
    def as_stored(cls, joints: np.ndarray) -> np.ndarray:
        """(N, 14, 3) with 1 where visible, in the file's order and with its flags."""
        stored = joints.transpose(2, 1, 0).copy()
        stored[2] = 1 - stored[2]
        return stored


class LSPObserver(LSP):
    """The same pictures, but sides as an observer sees them: the left arm is the one on the left of the picture.

    Belagiannis et al. 2015 train and test on these. The root is that of `LSP`, and holds `jointsOC.mat` besides, or
    `lsp_observer_centric/jointsOC.mat` as it is handed out.
    """

    title: ClassVar[str] = "Leeds Sports Pose (observer-centric)"
    joints_files: ClassVar[tuple[str, ...]] = ("jointsOC.mat", "lsp_observer_centric/jointsOC.mat")


class LSPExtended(LSP):
    """10,000 pictures of parkour, gymnastics and athletics, labelled by many hands and partly wrongly.

    The root holds `images/im00001.jpg` to `im10000.jpg` (or `images.tar` of that folder) and `joints.mat`, whose
    `joints` is 14 x 3 x 10000: x, y, and 1 where a joint is visible; the others are not labelled.

    Officially all of it is for training. Here `train.txt` and `test.txt` in the root say what is what, one `im00001` a
    line; without them one picture in ten is held back, by a hash of its name. Pictures are cut as in `LSP`.
    """

    title: ClassVar[str] = "Leeds Sports Pose Extended"
    digits: ClassVar[int] = 5
    axes: ClassVar[tuple[int, int]] = (JOINTS, 3)

    def arranged(self, stored: np.ndarray) -> np.ndarray:
        return stored.transpose(2, 0, 1)

    def flags(self, stored: np.ndarray) -> np.ndarray:
        return 2 * stored

    def official(self, names: list[str]) -> list[bool]:
        return [held_back(Path(name).stem) == (self.split == "test") for name in names]

    @classmethod
    def as_stored(cls, joints: np.ndarray) -> np.ndarray:
        # What is not labelled lies anywhere, also outside of the picture.
        return np.where(joints[..., 2:] > 0, joints, (-9, -9, 0)).transpose(1, 2, 0)


def _stored(root: Path, names: list[str], problems: list[Problem]) -> tuple[Encoded, np.ndarray]:
    """The pictures in their folder or in `images.tar`, and which of the names have one."""
    tar = root / "images.tar"
    if (root / "images").is_dir() or not tar.is_file():
        return Files(root, names), np.ones(len(names), bool)
    members = {member.name.removeprefix("./"): member for member in list_members(tar)}
    problems += [Problem(str(tar / name), "a picture", "none") for name in names if name not in members]
    there = np.array([name in members for name in names], bool)
    return TarMembers(root, [(tar.name, members[name]) for name in names if name in members]), there
