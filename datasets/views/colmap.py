"""COLMAP: cameras from photos (Schoenberger, Frahm: Structure-from-Motion Revisited, CVPR 2016), as text or binary."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...limits import LimitExceeded, check_entries
from ..core.files import read_bytes, read_lines
from ..core.problems import DatasetError
from ..examples import fake_views
from ..formats.image import write_image
from .scene import Scene, SceneDataset, View

MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8), ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4), ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
)  # fmt: skip
"""Camera models by number, with their number of parameters."""
TWO_FOCAL = {"PINHOLE", "OPENCV"}
MAX_DISTORTION = 0.01
"""Distortion coefficients up to this are ignored: about a pixel in the corners of a small image."""
FOLDERS = ("sparse/0", "sparse", ".")
NEARER, FARTHER = 0.9, 1.2
"""Factors of the depths of the points, of which the nearest and farthest thousandth are left out."""


class COLMAP(SceneDataset):
    """A model of COLMAP: `cameras`, `images` and `points3D` (.bin or .txt) in `sparse/0`, `sparse` or the root, and the
    photos in `images`. The photos must be undistorted (colmap image_undistorter); they may be smaller than the cameras
    say. The points give the range of depths of every view. One photo in eight, by name, is a test view.
    """

    title: ClassVar[str] = "COLMAP model"
    terms: ClassVar[str] = "as of the photos (terms.txt)"

    @classmethod
    def read_scenes(cls, root: Path) -> Sequence[Scene]:
        return [read_colmap(root)]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        root = Path(root)
        for folder in ("sparse/0", "images"):
            (root / folder).mkdir(parents=True)
        lines, points = [], []
        views = fake_views(9)
        height, width = views[0][0].shape[:2]
        camera = views[0][1]
        for number, (image, _, pose) in enumerate(views):
            write_image(root / "images" / f"{number}.png", image)
            w, x, y, z = quaternion_of(pose[:, :3])
            moved = " ".join(f"{value:.9g}" for value in (w, x, y, z, *pose[:, 3]))
            lines += [f"{number + 1} {moved} 1 {number}.png", "1 1 1 2 2 2"]
        for number, depth in enumerate((1.5, 6.0), 1):
            points.append(f"{number} 0 0 {depth} 9 9 9 0.5 1 0 2 0")
        cx, cy = camera[0, 2] + 0.5, camera[1, 2] + 0.5
        model = f"# cameras\n1 PINHOLE {width} {height} {camera[0, 0]:.9g} {camera[1, 1]:.9g} {cx:.9g} {cy:.9g}\n"
        (root / "sparse/0/cameras.txt").write_text(model)
        (root / "sparse/0/images.txt").write_text("# images\n" + "\n".join(lines) + "\n")
        (root / "sparse/0/points3D.txt").write_text("# points\n" + "\n".join(points) + "\n")


def read_colmap(root: Path) -> Scene:
    """Read a model and find its photos.

    Raises:
        DatasetError: no model, a damaged file, distorted photos, or too few points.
    """
    found = [(root / folder, suffix) for folder in FOLDERS for suffix in ("bin", "txt")
             if (root / folder / f"images.{suffix}").is_file()]  # fmt: skip
    if not found:
        raise DatasetError(root / "sparse/0", "cameras, images and points3D of COLMAP", "none")
    folder, suffix = found[0]
    read = _read_binary if suffix == "bin" else _read_text
    cameras, images, points = read(folder)
    photos = root / "images" if (root / "images").is_dir() else root
    views = []
    for image in sorted(images, key=lambda one: one.name):
        if image.camera not in cameras:
            raise DatasetError(folder / f"cameras.{suffix}", f"the camera {image.camera} of '{image.name}'", "none")
        if Path(image.name).is_absolute() or ".." in Path(image.name).parts or "\0" in image.name:
            raise DatasetError(folder / f"images.{suffix}", f"photos in '{photos}'", f"'{image.name[:60]}'")
        camera, size = cameras[image.camera]
        pose = np.column_stack([rotation_of(image.quaternion), image.shift])
        visible = [points[number] for number in image.points if number in points]
        depths = np.reshape(visible or list(points.values()), (-1, 3)) @ pose[2, :3] + pose[2, 3]
        depths = depths[depths > 0]
        if not len(depths):
            raise DatasetError(folder / f"points3D.{suffix}", f"points in front of '{image.name}'", "none")
        near, far = np.percentile(depths, (0.1, 99.9))
        name = Path(image.name).with_suffix("").as_posix()
        views.append(View(name, camera, size, pose, (NEARER * float(near), FARTHER * float(far)), photos / image.name))
    return Scene(root, tuple(views))


@dataclass(frozen=True)
class StoredImage:
    """A line of `images`: quaternion (w, x, y, z) and shift from the scene to the camera, and numbers of its points."""

    name: str
    camera: int
    quaternion: np.ndarray
    shift: np.ndarray
    points: Sequence[int]


Model = tuple[dict[int, tuple[np.ndarray, tuple[int, int]]], list[StoredImage], dict[int, np.ndarray]]
"""Cameras (intrinsic matrix, (height, width)), images, and points (3,), by number."""


def _camera(
    model: str, width: int, height: int, values: Sequence[float], file: Path
) -> tuple[np.ndarray, tuple[int, int]]:
    focal_lengths = 2 if model in TWO_FOCAL else 1
    distortion = values[focal_lengths + 2 :]
    if model not in ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV") or any(
        abs(k) > MAX_DISTORTION for k in distortion
    ):
        raise DatasetError(file, "undistorted photos (colmap image_undistorter)", f"a camera {model} with distortion")
    fx, fy = values[0], values[focal_lengths - 1]
    # COLMAP has pixel centers at 0.5.
    cx, cy = values[focal_lengths] - 0.5, values[focal_lengths + 1] - 0.5
    if not (0 < width < 10**6 and 0 < height < 10**6):
        raise DatasetError(file, "width and height of the photos", f"{width}x{height}")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64), (height, width)


def _read_text(folder: Path) -> Model:
    def rows(name: str) -> list[list[str]]:
        lines = read_lines(folder / f"{name}.txt", f"the {name} of a COLMAP model")
        return [line.split() for line in lines if not line.startswith("#")]

    name = ""
    try:
        name = "cameras"
        cameras = {}
        for number, model, width, height, *values in rows(name):
            if len(values) != dict(MODELS).get(model):
                raise ValueError(f"a camera {model} with {len(values)} parameters")
            camera = _camera(model, int(width), int(height), list(map(float, values)), folder / f"{name}.txt")
            cameras[int(number)] = camera
        name = "images"
        # The lines of points of photos without any are empty, and left out: a line of an image has ten words.
        images: list[StoredImage] = []
        for row in rows(name):
            if len(row) == 10 and not _is_number(row[9]):
                pose = np.array(row[1:8], np.float64)
                images.append(StoredImage(row[9], int(row[8]), pose[:4], pose[4:], []))
            elif images:
                last = images.pop()
                numbers = [int(word) for word in row[2::3]]
                images.append(StoredImage(last.name, last.camera, last.quaternion, last.shift, numbers))
        name = "points3D"
        points = {int(row[0]): np.array(row[1:4], np.float64) for row in rows(name)}
    except (ValueError, IndexError) as error:
        reason = " ".join(str(error).split()) or "too few words"
        raise DatasetError(folder / f"{name}.txt", f"the {name} of a COLMAP model", reason) from None
    return cameras, images, points


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class _Bytes:
    """Values of a binary file, in order; what ends too early is a `DatasetError`."""

    def __init__(self, file: Path, what: str) -> None:
        self.file, self.expected = file, f"the {what} of a COLMAP model"
        self.data, self.at = read_bytes(file, self.expected), 0

    def take(self, layout: str) -> tuple:
        size = struct.calcsize("<" + layout)
        if self.at + size > len(self.data):
            raise DatasetError(self.file, self.expected, f"an end after {len(self.data)} bytes")
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += size
        return values

    def count(self, smallest: int) -> int:
        """A number of entries of at least so many bytes, which the file must have."""
        (count,) = self.take("Q")
        try:
            check_entries(count)
        except LimitExceeded as error:
            raise DatasetError(self.file, self.expected, str(error)) from None
        if count * smallest > len(self.data) - self.at:
            raise DatasetError(self.file, self.expected, f"{count} entries in {len(self.data)} bytes")
        return count

    def skip(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise DatasetError(self.file, self.expected, f"an end after {len(self.data)} bytes")
        self.at += size

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise DatasetError(self.file, self.expected, "a name without an end")
        name, self.at = self.data[self.at : end], end + 1
        return name.decode(errors="surrogateescape")


def _read_binary(folder: Path) -> Model:
    stored, cameras = _Bytes(folder / "cameras.bin", "cameras"), {}
    for _ in range(stored.count(24)):
        number, model, width, height = stored.take("iiQQ")
        if not 0 <= model < len(MODELS):
            raise DatasetError(stored.file, f"a camera model from 0 to {len(MODELS) - 1}", str(model))
        name, parameters = MODELS[model]
        cameras[number] = _camera(name, width, height, stored.take(f"{parameters}d"), stored.file)
    stored, images = _Bytes(folder / "images.bin", "images"), []
    for _ in range(stored.count(73)):
        _, *pose, camera = stored.take("i7di")
        name, count = stored.text(), stored.count(24)
        start = stored.at
        stored.skip(24 * count)
        table = np.frombuffer(stored.data, np.dtype([("x", "<f8"), ("y", "<f8"), ("id", "<i8")]), count, start)
        images.append(StoredImage(name, camera, np.array(pose[:4]), np.array(pose[4:]), table["id"].tolist()))
    stored, points = _Bytes(folder / "points3D.bin", "points"), {}
    for _ in range(stored.count(51)):
        number, x, y, z = stored.take("Q3d")
        stored.skip(3 + 8)
        stored.skip(8 * stored.count(8))
        points[number] = np.array([x, y, z])
    return cameras, images, points


def rotation_of(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) rotation of a quaternion (w, x, y, z), which is normalized."""
    length = np.linalg.norm(quaternion)
    w, x, y, z = quaternion / length if length > 0 else quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z) of a (3, 3) rotation by less than half a turn."""
    w = np.sqrt(max(1e-12, 1 + np.trace(rotation))) / 2
    difference = rotation - rotation.T
    return np.array([w, difference[2, 1] / (4 * w), difference[0, 2] / (4 * w), difference[1, 0] / (4 * w)])
