"""Middlebury stereo 2003: views from equally spaced places (Scharstein, Szeliski: High-Accuracy Stereo Depth Maps Using
Structured Light, CVPR 2003)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..core.files import read_bytes
from ..core.problems import DatasetError
from ..examples import fake_views
from ..formats.image import EncodedImage, read_image, write_image
from .scene import Scene, SceneDataset, View

PHOTO = re.compile(r"im(\d)\.(png|ppm)")
PAIR = (2, 6)
"""Numbers of the views whose disparities are stored."""
BASELINE = 4
"""Steps between them."""
FULL_WIDTH = 1800
"""Width in pixels at which a stored disparity is one in pixels: at the quarter size, 450, it is four times that."""
NEARER, FARTHER = 0.95, 1.05
"""Factors of the range of depths."""


class MiddleburyStereo(SceneDataset):
    """Rectified photos of a scene from places on a line, such as `cones` and `teddy`.

    The root is a scene or a folder of scenes. A scene has photos `im0.png` to `im8.png` (or .ppm), or 2 and 6 alone,
    and the disparities `disp2.png` and `disp6.png`, of which the range of depths is taken. The unit of depth is the
    step between neighboring places; focal lengths are not published, and one of the width of the image is assumed. The
    two photos of a pair have no others to be predicted from: it is a scene for views between them.
    """

    title: ClassVar[str] = "Middlebury stereo 2003"
    terms: ClassVar[str] = "free for research, no explicit license: treat as research-only; cite"

    @classmethod
    def read_scenes(cls, root: Path) -> Sequence[Scene]:
        folders = [root] if is_middlebury(root) else sorted(each for each in root.glob("*") if is_middlebury(each))
        if not folders:
            raise DatasetError(root, "photos im0.png to im8.png and disp2.png or disp6.png", "none")
        return [read_middlebury(folder) for folder in folders]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        # Every third is on one line. A plane at 4 m, a focal length of 60 and steps of 0.15 m are 2.25 of 64 pixels.
        folder = Path(root) / "cones"
        for number, (image, *_) in enumerate(fake_views(25)[::3]):
            write_image(folder / f"im{number}.png", image)
        disparities = np.full((48, 64, 3), round(2.25 / 64 * FULL_WIDTH * BASELINE), np.uint8)
        for name in ("disp2.png", "disp6.png"):
            write_image(folder / name, disparities)


def is_middlebury(folder: Path) -> bool:
    """Whether a folder has disparities in the names of the dataset."""
    return any((folder / f"disp{number}.png").is_file() for number in PAIR)


def read_middlebury(folder: Path) -> Scene:
    """Read a scene.

    Raises:
        DatasetError: no photos, or a damaged file.
    """
    found = {int(match[1]): match[2] for file in folder.iterdir() if (match := PHOTO.fullmatch(file.name))}
    if not found:
        raise DatasetError(folder, "the photos im0.png to im8.png, or im2.png and im6.png", "none")
    suffix = next(iter(found.values()))
    photos = {number: folder / f"im{number}.{suffix}" for number in (PAIR if found.keys() <= set(PAIR) else range(9))}
    depths = [read_depth(file) for number in PAIR if (file := folder / f"disp{number}.png").is_file()]
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    if not known.size:
        raise DatasetError(folder / "disp2.png", "disparities above 0", "none")
    bounds = (NEARER * float(known.min()), FARTHER * float(known.max()))
    first = next(iter(photos.values()))
    height, width = EncodedImage(read_bytes(first, "an image"), first).size
    camera = np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1.0]])
    poses = {number: np.column_stack([np.eye(3), (-number, 0, 0)]) for number in photos}
    views = [View(file.stem, camera, (height, width), poses[number], bounds, file) for number, file in photos.items()]
    return Scene(folder, tuple(views))


def read_depth(file: Path) -> np.ndarray:
    """(H, W) float32 depth in steps from a file of disparities of view 2 or 6, nan where they are unknown (0)."""
    stored = read_image(file)[..., 0].astype(np.float32)
    # In widths of the image, the disparity of one step is the focal length, 1, times the step, 1, over the depth.
    return np.where(stored > 0, FULL_WIDTH * BASELINE / np.maximum(stored, 1), np.nan).astype(np.float32)
