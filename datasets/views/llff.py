"""LLFF: forward-facing photos of scenes (Mildenhall et al.: Local Light Field Fusion, SIGGRAPH 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import IMAGE_SUFFIXES, read_lines
from ..core.problems import DatasetError
from ..examples import fake_views
from ..formats.arrays import read_npy, write_npy
from ..formats.image import write_image
from .scene import Scene, SceneDataset, View

NEARER, FARTHER = 0.95, 1.2
"""Factors of the bounds, which are percentiles of the depths of points."""


class LLFF(SceneDataset):
    """Scenes of LLFF and NeRF's real scenes.

    The root is a scene or a folder of scenes. A scene has photos in `images`, `images_4`, `images_8` (the folder of the
    smallest is read) and `poses_bounds.npy`: per photo, in the order of their names, the 3x5 matrix [R | center |
    (height, width, focal)] of the full size, whose axes are down, right and backwards, and the nearest and farthest
    depth. `masks` may have a mask for every photo. `views.txt` may have a line `NAME train` or `NAME test` for every
    photo; otherwise one view in eight is a test view.
    """

    title: ClassVar[str] = "LLFF"
    terms: ClassVar[str] = "no explicit license for the photos: treat as research-only"

    @classmethod
    def read_scenes(cls, root: Path) -> Sequence[Scene]:
        folders = (
            [root]
            if (root / "poses_bounds.npy").exists()
            else sorted(file.parent for file in root.glob("*/poses_bounds.npy"))
        )
        if not folders:
            raise DatasetError(root / "poses_bounds.npy", "camera poses of the photos", "no file")
        return [read_llff(folder) for folder in folders]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        views = fake_views(24)
        rows = []
        for number, (image, camera, pose) in enumerate(views):
            folder = Path(root) / "fern" / "images_8"
            folder.mkdir(parents=True, exist_ok=True)
            write_image(folder / f"image{number:03}.jpg", image)
            height, width = image.shape[0] * 8, image.shape[1] * 8
            rotation, center = pose[:, :3].T, -pose[:, :3].T @ pose[:, 3]
            axes = np.stack([rotation[:, 1], rotation[:, 0], -rotation[:, 2]], axis=1)
            matrix = np.column_stack([axes, center, (height, width, camera[0, 0] * 8)])
            rows.append([*matrix.ravel(), 1.0, 6.0])
        write_npy(Path(root) / "fern" / "poses_bounds.npy", np.array(rows))


def read_llff(folder: Path) -> Scene:
    """Read a scene.

    Raises:
        DatasetError: no photos, or rows that do not fit them.
    """
    file = folder / "poses_bounds.npy"
    rows = read_npy(file)
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind != "f" or not np.isfinite(rows).all():
        raise DatasetError(file, "N x 17 finite numbers", f"{'x'.join(map(str, rows.shape))} {rows.dtype}")
    photos = _photos(folder)
    if len(rows) != len(photos):
        raise DatasetError(file, f"a row for each of the {len(photos)} photos", f"{len(rows)} rows")
    masks = {mask.stem: mask for mask in (folder / "masks").glob("*")} if (folder / "masks").is_dir() else {}
    views = []
    for photo, row in zip(photos, rows.astype(np.float64), strict=True):
        matrix, (near, far) = row[:15].reshape(3, 5), row[15:]
        height, width, focal = matrix[:, 4]
        if not (0 < height < 1e6 and 0 < width < 1e6):
            raise DatasetError(file, "height and width of the photos", f"{height:g} and {width:g}")
        # Down, right, backwards to right, down, forward.
        rotation = np.stack([matrix[:, 1], matrix[:, 0], -matrix[:, 2]]).astype(np.float64)
        camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        pose = np.column_stack([rotation, -rotation @ matrix[:, 3]])
        bounds = (NEARER * near, FARTHER * far) if near < far else (near, far)
        views.append(View(photo.stem, camera, (height, width), pose, bounds, photo, masks.get(photo.stem)))
    return Scene(folder, tuple(views), _test_names(folder / "views.txt"))


def _photos(folder: Path) -> list[Path]:
    """Photos of the folder `images`, or `images_N` with the largest N, in the order of their names."""
    folders = {int(path.name.partition("_")[2] or 1): path for path in folder.glob("images*")
               if path.is_dir() and (path.name == "images" or path.name.partition("_")[2].isdecimal())}  # fmt: skip
    if not folders:
        raise DatasetError(folder / "images", "photos of the scene", "no folder")
    return sorted(file for file in folders[max(folders)].iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def _test_names(file: Path) -> frozenset[str] | None:
    if not file.is_file():
        return None
    lines = [line.split() for line in read_lines(file, "lines 'NAME train' or 'NAME test'")]
    if all(len(line) == 1 for line in lines):
        return None
    return frozenset(Path(line[0]).stem for line in lines if line[-1] == "test")
