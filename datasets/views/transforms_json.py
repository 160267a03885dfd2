"""Scenes whose cameras are in JSON: NeRF's transforms.json, and cameras.json of a folder of your own photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from ...atomic_io import json_text, write_json
from ...errors import UserError
from ...schema import Schema, Text, validate_json
from ..core.files import read_bytes
from ..core.problems import DatasetError
from ..dataset import Sample
from ..examples import fake_views
from ..formats.image import EncodedImage, write_image
from .scene import Scene, SceneDataset, View

REMEDY = "correct the file"
Row = tuple[float, float, float, float]
Positive = Annotated[float, Field(gt=0)]
BLENDER_RANGE = (2.0, 6.0)
"""Nearest and farthest depth of NeRF's synthetic scenes, whose files do not state them."""


class Frame(Schema):
    file_path: Text
    transform_matrix: tuple[Row, Row, Row, Row]


class Transforms(Schema):
    """`camera_angle_x`, or the focal lengths `fl_x` and `fl_y` in pixels with `cx`, `cy`, `w` and `h`."""

    frames: list[Frame]
    camera_angle_x: Annotated[float, Field(gt=0, lt=math.pi)] | None = None
    fl_x: Positive | None = None
    fl_y: Positive | None = None
    cx: float | None = None
    cy: float | None = None
    w: Positive | None = None
    h: Positive | None = None
    near: float = BLENDER_RANGE[0]
    far: float = BLENDER_RANGE[1]


class NeRFTransforms(SceneDataset):
    """Scenes of NeRF's synthetic dataset, and others with a transforms.json.

    The root contains `transforms_train.json` and `transforms_test.json`, or `transforms.json` (one view in eight is a
    test view). A frame has `file_path` (with or without suffix) and `transform_matrix`, camera to scene with the axes
    right, up and backwards. Transparent pixels become white. `near` and `far` in the file replace 2 and 6.
    """

    title: ClassVar[str] = "NeRF synthetic"
    terms: ClassVar[str] = "models of Blend Swap, several licenses: treat as research-only"

    @classmethod
    def read_scenes(cls, root: Path) -> Sequence[Scene]:
        return [read_transforms(root)]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        views = fake_views(9)
        for split, numbers in (("train", range(1, 9)), ("test", range(1))):
            frames, (_, camera, _) = [], views[0]
            (Path(root) / split).mkdir()
            for number in numbers:
                image, _, pose = views[number]
                write_image(Path(root) / split / f"r_{number}.png", image)
                to_scene = np.linalg.inv(np.vstack([pose, (0, 0, 0, 1)])) @ np.diag([1, -1, -1, 1])
                frames.append({"file_path": f"./{split}/r_{number}", "transform_matrix": to_scene.tolist()})
            angle = 2 * math.atan(views[0][0].shape[1] / 2 / camera[0, 0])
            stored = {"camera_angle_x": angle, "near": 1.0, "far": 8.0, "frames": frames}
            (Path(root) / f"transforms_{split}.json").write_text(json_text(stored))


def read_transforms(root: Path) -> Scene:
    """Read a scene with a transforms.json.

    Raises:
        UserError: no such file, or a value that is not as its schema says.
    """
    files = [root / f"transforms_{split}.json" for split in ("train", "test")]
    if not files[0].is_file():
        files = [root / "transforms.json"]
    views: list[list[View]] = []
    for file in (one for one in files if one is files[0] or one.is_file()):
        stored = validate_json(Transforms, read_bytes(file, "the cameras of the photos"), str(file), REMEDY)
        if not stored.frames:
            raise DatasetError(file, "frames", "none")
        first = _photo(root, stored.frames[0].file_path)
        size = EncodedImage(read_bytes(first, "an image"), first).size
        height, width = (stored.h or size[0]), (stored.w or size[1])
        if stored.fl_x is None and stored.camera_angle_x is None:
            raise DatasetError(file, "'camera_angle_x' or 'fl_x'", "neither")
        focal = stored.fl_x or width / 2 / math.tan((stored.camera_angle_x or 1) / 2)
        # Files have pixel centers at 0.5.
        cx, cy = (
            ((width if stored.cx is None else 2 * stored.cx) - 1) / 2,
            ((height if stored.cy is None else 2 * stored.cy) - 1) / 2,
        )
        camera = np.array([[focal, 0, cx], [0, stored.fl_y or focal, cy], [0, 0, 1]])
        views.append(
            [_view(root, frame, camera, (height, width), (stored.near, stored.far), file) for frame in stored.frames]
        )
    test = None if len(views) == 1 else frozenset(view.name for view in views[1])
    return Scene(root, tuple(view for each in views for view in each), test)


def _view(
    root: Path, frame: Frame, camera: np.ndarray, size: tuple[float, float], bounds: tuple[float, float], file: Path
) -> View:
    # Right, up, backwards to right, down, forward.
    to_scene = np.array(frame.transform_matrix) @ np.diag([1, -1, -1, 1])
    rotation = to_scene[:3, :3].T
    photo = _photo(root, frame.file_path)
    name = photo.relative_to(root).with_suffix("").as_posix()
    pose = np.column_stack([rotation, -rotation @ to_scene[:3, 3]])
    return View(name, camera, size, pose, bounds, photo)  # type: ignore[arg-type]


def _photo(root: Path, name: str) -> Path:
    """The photo that a JSON file names, below the root."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or "\0" in name:
        raise DatasetError(root, "photos below it", f"'{name[:60]}'")
    file = root / Path(*parts)
    return file if file.suffix else file.with_suffix(".png")


class StoredView(Schema):
    camera: Row
    pose: tuple[Row, Row, Row]
    near: float | None = None
    far: float | None = None


class Cameras(Schema):
    views: dict[str, StoredView]
    near: float | None = None
    far: float | None = None
    test: list[str] | None = None


class ViewFolders(SceneDataset):
    """Your own photos: a folder with `cameras.json`.

    `views` has, by the name of each photo file, `camera` (fx, fy, cx, cy in pixels, the center of the first pixel is 0)
    and `pose`, three rows of four numbers: [R t] from the scene to the camera, whose axes are right, down and forward.
    `near` and `far` are the nearest and farthest depth, of the file or of a view. `test` may list test photos;
    otherwise it is one in eight.
    """

    title: ClassVar[str] = "Folder of photos with cameras"
    terms: ClassVar[str] = "as of the photos (terms.txt)"

    @classmethod
    def read_scenes(cls, root: Path) -> Sequence[Scene]:
        return [read_view_folder(root)]

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        stored = {}
        for number, (image, camera, pose) in enumerate(fake_views(9)):
            write_image(Path(root) / f"{number}.png", image)
            stored[f"{number}.png"] = {
                "camera": [camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2]],
                "pose": pose.tolist(),
            }
        (Path(root) / "cameras.json").write_text(json_text({"near": 1.0, "far": 8.0, "views": stored}))


def write_view_folder(root: Path, sample: Sample) -> None:
    """Write the target and the sources of a sample as `0.png`, `1.png`, ... with a cameras.json; the target's frame is
    that of the scene."""
    images, poses = [sample["image"], *sample["views"]], [np.eye(3, 4), *sample["poses"]]
    cameras, views = [sample["camera"], *sample["cameras"]], {}
    for number, (image, camera, pose) in enumerate(zip(images, cameras, poses, strict=True)):
        write_image(root / f"{number}.png", image)
        intrinsics = [float(camera[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2))]
        views[f"{number}.png"] = {"camera": intrinsics, "pose": np.asarray(pose, float).tolist()}
    near, far = sample["depth_range"].tolist()
    write_json(root / "cameras.json", {"near": near, "far": far, "views": views})


def read_view_folder(root: Path) -> Scene:
    """Read a folder with a cameras.json.

    Raises:
        UserError: no such file, or a value that is not as its schema says.
    """
    file = root / "cameras.json"
    stored = validate_json(Cameras, read_bytes(file, "the cameras of the photos"), str(file), REMEDY)
    views, size = [], (1, 1)
    for number, (name, each) in enumerate(stored.views.items()):
        photo = _photo(root, name)
        if number == 0:
            size = EncodedImage(read_bytes(photo, "an image"), photo).size
        near, far = each.near or stored.near, each.far or stored.far
        if near is None or far is None:
            raise UserError(f"{file} lacks 'near' and 'far', the range of depths of what is seen: {REMEDY}.")
        views.append(
            View(
                Path(name).with_suffix("").as_posix(),
                matrix_of(each.camera),
                size,
                np.array(each.pose),
                (near, far),
                photo,
            )
        )
    test = None if stored.test is None else frozenset(Path(name).with_suffix("").as_posix() for name in stored.test)
    return Scene(root, tuple(views), test)


def matrix_of(camera: Sequence[float]) -> np.ndarray:
    """(3, 3) intrinsic matrix of fx, fy, cx and cy."""
    fx, fy, cx, cy = camera
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
