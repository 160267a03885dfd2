"""Leeds Sports Pose and its extension (Johnson, Everingham: BMVC 2010, CVPR 2011), also observer-centric.

The datasets differ in the order of the axes and in the meaning of the flag, and the files do not state it: `LSP` stores
(x, y, occluded) x joint x image, `LSPExtended` joint x (x, y, visible) x image. A file with the other order is refused.
Coordinates are used as stored, counted from 0: the smallest labeled one seen in the extended dataset is -0.1, which is
unlikely if pixels were counted from 1. No source states it; the difference is 1 px for a person of 150 px.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_lines
from ..core.problems import DatasetError, Problem
from ..core.splits import is_test_sample
from ..examples import fake_people
from ..field_types import Box, Image, Keypoints
from ..formats.image import write_image
from ..formats.mat import read_mat, write_mat
from ..formats.tar import list_members
from ..stored_images import EncodedSource, Files, TarMembers
from . import skeletons
from .people import People, bounding_boxes

JOINTS = len(skeletons.LSP.names)


class LSP(People):
    """2,000 images of sports, the person about 150 px tall: the first 1,000 for training, the last 1,000 for testing.

    The root contains `images/im0001.jpg` to `im2000.jpg` (or `images.tar` of that folder) and `joints.mat`, whose
    `joints` is 3 x 14 x 2000: x, y, and 1 for occluded joints. In a file of another length, the first half is for
    training. `train.txt` and `test.txt` in the root, with one `im0001` per line, override that.

    Images are cropped around the labeled joints, at test time too, as in Belagiannis et al. 2015: scores are for people
    with known position and size. Left and right are the person's own. Images without labeled joints are omitted.
    """

    title: ClassVar[str] = "Leeds Sports Pose"
    terms: ClassVar[str] = "Flickr images, no explicit license, cite: treat as research-only"
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
        self._images, exists = _image_source(self.root, [names[row] for row in rows], problems)
        rows = rows[exists]
        if not (len(rows) or problems):
            problems.append(Problem(str(self.root), f"labeled images for '{split}'", "none"))
        self._image_of = np.arange(len(rows))
        self._values = {"joints": joints[rows], "box": bounding_boxes(joints[rows])}
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def _read_joints(self) -> np.ndarray:
        """Joints of all images, (N, 14, 3) float32: x, y, and 0 unlabeled, 1 occluded, 2 visible."""
        candidates = [self.root / name for name in self.joints_files]
        file = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
        stored = read_mat(file).get("joints")
        if stored is None or stored.ndim != 3 or stored.shape[:2] != self.axes or stored.dtype.kind not in "fiu":
            found = "none" if stored is None else f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
            raise DatasetError(file, f"numbers 'joints' of {self.axes[0]} x {self.axes[1]} x images", found)
        joints = self.arranged(stored).astype(np.float32)
        if not np.isin(joints[..., 2], (0, 1)).all():
            raise DatasetError(file, "0 or 1 as the flag of every joint", f"{joints[..., 2].max():g}")
        joints[..., 2] = np.where(np.isfinite(joints[..., :2]).all(axis=-1), self.flags(joints[..., 2]), 0)
        return joints

    def arranged(self, stored: np.ndarray) -> np.ndarray:
        """Transpose the array of the file to images x joints x (x, y, flag)."""
        return stored.transpose(2, 1, 0)

    def flags(self, stored: np.ndarray) -> np.ndarray:
        """Convert the flags of the file to 0 unlabeled, 1 occluded, 2 visible."""
        return 2 - stored

    def official(self, names: list[str]) -> list[bool]:
        """For each image, whether it belongs to the split if there are no lists."""
        half = len(names) // 2
        return [(number < half) == (self.split == "train") for number in range(len(names))]

    def _rows(self, names: list[str], problems: list[Problem]) -> np.ndarray:
        """Indices of the images of the split, ascending."""
        if not any((self.root / f"{split}.txt").is_file() for split in self.splits):
            return np.flatnonzero(self.official(names))
        list_file = self.root / f"{self.split}.txt"
        row_of = {Path(name).stem: row for row, name in enumerate(names)}
        rows = set()
        for line in read_lines(list_file, "the name of an image per line"):
            if (row := row_of.get(line.removesuffix(".jpg"))) is None:
                problems.append(Problem(str(list_file), f"names from {min(row_of)} to {max(row_of)}", f"'{line}'"))
            else:
                rows.add(row)
        return np.array(sorted(rows), np.int64)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        # With 24 images, the hash of the names puts three into the test split.
        joints = np.ones((24, JOINTS, 3))
        for number in range(24):
            image, joints[number, :, :2] = fake_people(number, skeletons.LSP.names)
            joints[number, number % JOINTS, 2] = 0
            write_image(Path(root) / f"images/im{number + 1:0{cls.digits}}.jpg", image)
        write_mat(Path(root) / cls.joints_files[0], {"joints": cls.as_stored(joints)})

    @classmethod
    def as_stored(cls, joints: np.ndarray) -> np.ndarray:
        """Convert joints (N, 14, 3), with flag 1 if visible, to the axes and flags of the file."""
        stored = joints.transpose(2, 1, 0).copy()
        stored[2] = 1 - stored[2]
        return stored


class LSPObserver(LSP):
    """The same images with observer-centric labels: the left arm is the one on the left of the image.

    Belagiannis et al. 2015 train and test on these. The root is that of `LSP`, with `jointsOC.mat` or
    `lsp_observer_centric/jointsOC.mat` (as distributed) in addition.
    """

    title: ClassVar[str] = "Leeds Sports Pose (observer-centric)"
    joints_files: ClassVar[tuple[str, ...]] = ("jointsOC.mat", "lsp_observer_centric/jointsOC.mat")


class LSPExtended(LSP):
    """10,000 images of parkour, gymnastics and athletics, crowd-labeled with some errors.

    The root contains `images/im00001.jpg` to `im10000.jpg` (or `images.tar` of that folder) and `joints.mat`, whose
    `joints` is 14 x 3 x 10000: x, y, and 1 for visible joints; the others are unlabeled.

    Officially, all images are for training. Here, `train.txt` and `test.txt` in the root define the splits, with one
    `im00001` per line; without them, one image in ten is for testing, by a hash of its name. Images are cropped as in
    `LSP`.
    """

    title: ClassVar[str] = "Leeds Sports Pose Extended"
    digits: ClassVar[int] = 5
    axes: ClassVar[tuple[int, int]] = (JOINTS, 3)

    def arranged(self, stored: np.ndarray) -> np.ndarray:
        return stored.transpose(2, 0, 1)

    def flags(self, stored: np.ndarray) -> np.ndarray:
        return 2 * stored

    def official(self, names: list[str]) -> list[bool]:
        return [is_test_sample(Path(name).stem) == (self.split == "test") for name in names]

    @classmethod
    def as_stored(cls, joints: np.ndarray) -> np.ndarray:
        # Unlabeled joints have arbitrary coordinates, also outside the image.
        return np.where(joints[..., 2:] > 0, joints, (-9, -9, 0)).transpose(1, 2, 0)


def _image_source(root: Path, names: list[str], problems: list[Problem]) -> tuple[EncodedSource, np.ndarray]:
    """Source of the images (folder or `images.tar`), and for each name whether it contains the image."""
    tar = root / "images.tar"
    if (root / "images").is_dir() or not tar.is_file():
        return Files(root, names), np.ones(len(names), bool)
    members = {member.name.removeprefix("./"): member for member in list_members(tar)}
    problems += [Problem(str(tar / name), "an image", "none") for name in names if name not in members]
    exists = np.array([name in members for name in names], bool)
    return TarMembers(root, [(tar.name, members[name]) for name in names if name in members]), exists
