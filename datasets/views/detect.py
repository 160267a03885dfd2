"""The layout of a folder of photos with cameras."""

from __future__ import annotations

from pathlib import Path

from ..core.problems import DatasetError
from .colmap import FOLDERS, read_colmap
from .kitti_odometry import read_kitti
from .llff import read_llff
from .middlebury_stereo import is_middlebury, read_middlebury
from .scene import Scene
from .transforms_json import read_transforms, read_view_folder

LAYOUTS = (
    "poses_bounds.npy (LLFF), transforms.json (NeRF), cameras.json (your own), sparse/0/images.bin (COLMAP), calib.txt "
    "with ../../poses/NN.txt (KITTI odometry) or disp2.png (Middlebury stereo)"
)


def read_scene(folder: Path) -> Scene:
    """Read a scene, in whatever layout its folder has.

    Raises:
        DatasetError: photos without camera poses, or a damaged file.
    """
    if (folder / "poses_bounds.npy").is_file():
        return read_llff(folder)
    if any((folder / name).is_file() for name in ("transforms.json", "transforms_train.json")):
        return read_transforms(folder)
    if (folder / "cameras.json").is_file():
        return read_view_folder(folder)
    if any((folder / part / f"images.{suffix}").is_file() for part in FOLDERS for suffix in ("bin", "txt")):
        return read_colmap(folder)
    if (folder / "calib.txt").is_file():
        return read_kitti(folder)
    if is_middlebury(folder):
        return read_middlebury(folder)
    raise DatasetError(folder, f"camera poses of the photos: {LAYOUTS}", "none")
