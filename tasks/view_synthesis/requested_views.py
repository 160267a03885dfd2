"""Requested views of scenes: which camera of which scene is predicted, and from which photos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...datasets.core.files import read_bytes
from ...datasets.dataset import Sample
from ...datasets.views.detect import read_scene
from ...datasets.views.paths import PATHS
from ...datasets.views.scene import MAX_SOURCES, Scene, View
from ...datasets.views.transforms_json import StoredView, matrix_of
from ...errors import UserError
from ...schema import validate_json
from ..policies import SceneChoice

MAX_FRAMES = 10_000


class StoredPose(StoredView):
    """A camera in a JSON file, as in `cameras.json`; without `camera`, that of the first photo."""

    camera: tuple[float, float, float, float] | None = None  # type: ignore[assignment]


@dataclass(frozen=True)
class RequestedView:
    """One view to predict.

    Attributes:
        scene: the photos.
        view: the camera; if it has a photo, that is left out of the sources.
        sources: the photos to predict from, nearest first.
        stem: of the output files, relative to the output folder.
        pose_file: the file that states the camera, if one does.
    """

    scene: Scene
    view: View
    sources: Sequence[View]
    stem: Path
    pose_file: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on which the prediction depends."""
        files = (self.pose_file, *(view.file for view in (*self.sources, self.view)))
        return tuple(file for file in files if file is not None)

    def sample(self) -> Sample:
        """The sample, with `image` if there is a photo of the view."""
        return self.scene.sample(self.view, self.sources)


def requested_views(folder: Path, choice: SceneChoice, views: int) -> list[RequestedView]:
    """The views of a scene that are requested: one, those of a path, or every photo from the others.

    Args:
        folder: the scene.
        choice: what the caller states.
        views: number of sources.

    Raises:
        UserError: no scene, no photo of that name, or a pose or path that is none.
    """
    scene = read_scene(folder)
    name = Path(folder).absolute().name
    if choice.path is not None:
        kind, _, frames = choice.path.partition(":")
        if kind not in PATHS or not re.fullmatch(r"[1-9]\d{0,4}", frames) or int(frames) > MAX_FRAMES:
            raise UserError(f"--path is '{choice.path}'; give {' or '.join(PATHS)} and a number of frames: spiral:60.")
        path = PATHS[kind](scene, int(frames))
        # A spiral has the same sources throughout: where they change, the video would jump.
        middle = replace(
            path[0], pose=np.column_stack([path[0].pose[:, :3], -path[0].pose[:, :3] @ _mean_center(path)])
        )
        fixed = scene.nearest(middle, views) if kind == "spiral" else None
        stems = [Path(f"{name}_path") / view.name for view in path]
        return [
            RequestedView(scene, view, fixed or scene.nearest(view, views), stem)
            for view, stem in zip(path, stems, strict=True)
        ]
    if choice.pose is not None:
        wanted = [_stored_view(choice.pose, scene)]
    elif choice.target is not None:
        wanted = [scene.view(choice.target)]
    else:
        wanted = list(scene.views)
    return [
        RequestedView(scene, view, scene.nearest(view, views), Path(name) / view.name, choice.pose) for view in wanted
    ]


def _mean_center(path: Sequence[View]) -> np.ndarray:
    return np.mean([view.center for view in path], axis=0)


def _stored_view(file: Path, scene: Scene) -> View:
    """A camera from a JSON file, with the depths of the scene where it states none."""
    stored = validate_json(StoredPose, read_bytes(file, "the pose of a camera"), str(file), "correct the file")
    first = scene.views[0]
    camera = first.camera if stored.camera is None else matrix_of(stored.camera)
    bounds = np.array([view.depth_range for view in scene.views])
    near, far = stored.near or float(bounds[:, 0].min()), stored.far or float(bounds[:, 1].max())
    size = first.size
    view = View(file.stem, camera, size, np.array(stored.pose, np.float64), (near, far))
    # The checks of a scene: rotation, focal lengths, near < far.
    return Scene(file, (view, first)).views[0]


def middle_view(folder: Path) -> Sample:
    """The sample of the middle photo of a scene, left out."""
    scene = read_scene(folder)
    view = scene.views[len(scene) // 2]
    return scene.sample(view, scene.nearest(view, MAX_SOURCES))
