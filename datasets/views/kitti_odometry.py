"""KITTI odometry: drives with the poses of a car's cameras (Geiger, Lenz, Urtasun, CVPR 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_bytes, read_lines
from ..core.problems import DatasetError
from ..examples import fake_views
from ..formats.image import EncodedImage, write_image
from .scene import Scene, SceneDataset, View

IMAGE_FOLDERS = ("image_2", "image_0", "image_3", "image_1")
"""Folders of photos, the first existing one is read: left color, left gray, right color, right gray."""
DEPTH_RANGE = (3.0, 100.0)
"""Meters."""


class KITTIOdometry(SceneDataset):
    """Sequences with poses; a photo is predicted from those before and after it.

    The root contains `sequences/NN/calib.txt`, `sequences/NN/image_2/NNNNNN.png` (or another camera, or JPEG) and
    `poses/NN.txt`: per photo the 3x4 matrix from camera 0 of the frame to camera 0 of the first frame, meters. Other
    cameras stand beside it, by what the last column of their projection says. One photo in eight is a test view.
    """

    title: ClassVar[str] = "KITTI odometry"
    terms: ClassVar[str] = "CC BY-NC-SA 3.0: research-only"

    @classmethod
    def read_scenes(cls, root: Path) -> Sequence[Scene]:
        folders = [file.parent for file in sorted((root / "sequences").glob("*/calib.txt"))]
        folders = [folder for folder in folders if (root / "poses" / f"{folder.name}.txt").is_file()]
        if not folders:
            raise DatasetError(root, "sequences/NN/calib.txt and poses/NN.txt", "none")
        return [read_kitti(folder) for folder in folders]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        sequence = Path(root) / "sequences" / "00"
        (sequence / "image_2").mkdir(parents=True)
        (Path(root) / "poses").mkdir()
        lines, views = [], fake_views(9, forward=True)
        camera = views[0][1]
        for number, (image, _, pose) in enumerate(views):
            write_image(sequence / "image_2" / f"{number:06}.png", image)
            # The frame of camera 0 is 6 cm to the right of that of camera 2, as in KITTI.
            inverse = np.column_stack([pose[:, :3].T, -pose[:, :3].T @ (pose[:, 3] - (0.06, 0, 0))])
            lines.append(" ".join(f"{value:.9e}" for value in inverse.ravel()))
        (Path(root) / "poses" / "00.txt").write_text("\n".join(lines))
        first = " ".join(f"{value:.9e}" for value in (camera @ np.eye(3, 4)).ravel())
        projection = camera @ np.column_stack([np.eye(3), (0.06, 0, 0)])
        second = " ".join(f"{value:.9e}" for value in projection.ravel())
        (sequence / "calib.txt").write_text(f"P0: {first}\nP2: {second}\n")


def read_kitti(folder: Path) -> Scene:
    """Read the sequence `.../sequences/NN`.

    Raises:
        DatasetError: no poses (sequences 11 to 21 have none), or a damaged file.
    """
    cameras = next((name for name in IMAGE_FOLDERS if (folder / name).is_dir()), IMAGE_FOLDERS[0])
    calibration = folder / "calib.txt"
    projections = dict(line.split(":", 1) for line in read_lines(calibration, "lines 'P0: 12 numbers'") if ":" in line)
    label = f"P{cameras[-1]}"
    projection = _matrices([projections.get(label, "")], calibration, f"a line '{label}: 12 numbers'")[0]
    intrinsics = projection[:, :3]
    if abs(np.linalg.det(intrinsics)) < 1e-6:
        raise DatasetError(calibration, "an intrinsic matrix that can be inverted", f"{label} with determinant 0")
    # The camera is beside camera 0: X = X_0 + K^-1 p.
    offset = np.linalg.inv(intrinsics) @ projection[:, 3]
    poses_file = folder.parent.parent / "poses" / f"{folder.name}.txt"
    poses = _matrices(read_lines(poses_file, "12 numbers per photo"), poses_file, "12 numbers per photo")
    suffix = next((file.suffix for file in sorted((folder / cameras).glob("0*"))), ".png")
    size = _size(folder / cameras / f"{0:06}{suffix}")
    views = []
    for number, to_scene in enumerate(poses):
        rotation = to_scene[:, :3].T
        pose = np.column_stack([rotation, -rotation @ to_scene[:, 3] + offset])
        name = f"{number:06}"
        views.append(View(name, intrinsics, size, pose, DEPTH_RANGE, folder / cameras / f"{name}{suffix}"))
    return Scene(folder, tuple(views))


def _matrices(lines: Sequence[str], file: Path, expected: str) -> list[np.ndarray]:
    matrices = []
    for line in lines:
        try:
            matrix = np.array(line.split(), np.float64)
        except ValueError:
            matrix = np.empty(0)
        if matrix.shape != (12,) or not np.isfinite(matrix).all():
            raise DatasetError(file, expected, f"'{line.strip()[:40]}'")
        matrices.append(matrix.reshape(3, 4))
    return matrices


def _size(file: Path) -> tuple[int, int]:
    return EncodedImage(read_bytes(file, "an image"), file).size
