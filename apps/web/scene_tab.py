"""The tab of a task that predicts views of scenes: a path of the camera is rendered once, a slider shows its frames.

Scenes are folders of photos with cameras on the server; clients choose one and upload nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...datasets import open_dataset
from ...datasets.core.geometry import plain_resize
from ...datasets.dataset import Sample
from ...datasets.field_types import transform_sample
from ...datasets.formats.video import write_video
from ...datasets.views.paths import PATHS
from ...datasets.views.scene import FIELDS
from ...datasets.views.transforms_json import write_view_folder
from ...errors import UserError, unknown_name
from ...tasks.policies import SceneChoice
from .checkpoints import INFERENCE_LOCK, CheckpointEntry
from .handlers import Response, response_dir

FRAMES = 24
"""Frames of a path."""
RATE = 12
"""Frames per second of the video."""
SIDE = 160
"""Length of the longer side of a frame in pixels, at most."""
ROOM, ROOM_SIZE = 2, (128, 160)
"""Number of the generated room among the test samples of `room-views`, and its (height, width)."""


def scene_folders(folders: tuple[Path, ...], generated: Path) -> dict[str, Path]:
    """The scenes of the page by name: those of the caller, and an unseen synthetic room, which is written to
    `generated`.

    Raises:
        UserError: two folders of one name.
    """
    scenes: dict[str, Path] = {}
    for folder in folders:
        name = folder.absolute().name
        if name in scenes:
            raise UserError(f"Two scenes are named '{name}': rename one of the folders.")
        scenes[name] = folder
    write_view_folder(generated, open_dataset("room-views", None, "test").with_size(ROOM_SIZE).read(ROOM))
    return {**scenes, "generated room": generated}


class PathVideos:
    """Rendered paths by checkpoint, scene and kind of path, shared by all clients.

    Args:
        scenes: folders by name.
    """

    def __init__(self, scenes: Mapping[str, Path]) -> None:
        self.scenes = scenes
        self._frames: dict[tuple[str, str, str], list[np.ndarray]] = {}
        self._lock = threading.Lock()

    def render(self, entry: CheckpointEntry, scene: str, path: str, root: Path) -> Response:
        """The first frame of a path, and its video in a new folder in `root`.

        Raises:
            UserError: there is no such scene or path, or its photos cannot be read.
        """
        folder = self._folder(scene)
        started = time.perf_counter()
        with self._lock:
            key = (entry.name, scene, path)
            if key not in self._frames:
                self._frames[key] = render_path(entry, folder, path)
            frames = self._frames[key]
        seconds = time.perf_counter() - started
        with response_dir(root) as out:
            video = write_video(out / "path.mp4", iter(frames), RATE)
        height, width = frames[0].shape[:2]
        return Response(f"{len(frames)} views of {width}x{height}, in {seconds:.0f} s.", frames[0], [video])

    def frame(self, entry: CheckpointEntry, scene: str, path: str, number: int) -> Response:
        """A frame of a path that is rendered, counted from 1.

        Raises:
            UserError: it is not rendered yet.
        """
        frames = self._frames.get((entry.name, scene, path))
        if frames is None:
            raise UserError("This path is not rendered yet; press Render.")
        number = min(max(int(number), 1), len(frames))
        return Response(f"View {number} of {len(frames)}.", frames[number - 1])

    def _folder(self, scene: str) -> Path:
        if scene not in self.scenes:
            raise unknown_name("scene", scene, self.scenes)
        return self.scenes[scene]


def render_path(entry: CheckpointEntry, folder: Path, path: str) -> list[np.ndarray]:
    """Views along a path, (H, W, 3) uint8 with even sides of at most `SIDE`.

    Raises:
        UserError: there is no such path, or a photo cannot be read.
    """
    if path not in PATHS:
        raise unknown_name("path", path, PATHS)
    choice, frames = SceneChoice(path=f"{path}:{FRAMES}"), []
    with INFERENCE_LOCK:
        predictor, requested = entry.task.inference.requested_views(entry.predictor(), [folder], choice)
    for request in requested:
        sample = _small(request.sample())
        with INFERENCE_LOCK:  # frame by frame, so that other clients need not wait for a complete path
            frames.append(predictor.predict(sample).to_image())
    return frames


def _small(sample: Sample) -> Sample:
    """A sample whose photos have even sides of at most `SIDE`."""
    height, width = sample["views"].shape[1:3]
    factor = min(1.0, SIDE / max(height, width))
    size = [max(2, round(length * factor / 2) * 2) for length in (height, width)]
    fields = {name: kind for name, kind in FIELDS.items() if name in sample}
    return transform_sample(sample, fields, plain_resize((height, width), (size[0], size[1])))
