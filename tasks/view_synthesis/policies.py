"""Augmentation and inference of view synthesis: which sources are taken, which part of the target is trained, and how
scenes in folders become predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...datasets.core.augmentation import Augmentation
from ...datasets.core.geometry import Geometry, Rectangle, Size, Window, plain_resize, translation
from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType
from ...datasets.formats.image import read_image
from ...datasets.formats.video import write_video
from ...datasets.views.detect import LAYOUTS
from ...errors import UserError
from ...registry import lookup
from ..image_io import ImageFile
from ..network import Network
from ..policies import AugmentationPolicy, InferencePolicy, SceneChoice
from .classical import CLASSICAL
from .requested_views import RequestedView, middle_view, requested_views

VIDEO_RATE = 24
PER_VIEW = ("views", "cameras", "poses")
PER_TARGET_PIXEL = ("image", "depth", "mask")


@dataclass(frozen=True)
class ViewAugmentation(AugmentationPolicy):
    """The nearest sources in random order, and a random window of the target. The images are resized alone: a flip
    would need other cameras.

    Attributes:
        views: number of sources; if a scene has fewer, some are there several times.
        crop: height and width of the window of the target in pixels; 0: the complete target.
    """

    views: int
    crop: int

    def limits(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        return replace(augmentation, hflip=0.0, max_rotation=0.0, max_zoom=1.0, crop_area=None, resize_short_side=None)

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        order = np.arange(self.views) % len(sample["views"])
        if rng is not None:
            order = rng.permutation(order)
        chosen = {**sample, **{name: sample[name][order] for name in PER_VIEW}}
        if rng is None or not self.crop or "image" not in sample:
            return chosen
        height, width = sample["image"].shape[:2]
        top, left = (int(rng.integers(max(0, length - self.crop) + 1)) for length in (height, width))
        window = (slice(top, top + self.crop), slice(left, left + self.crop))
        for name in (name for name in PER_TARGET_PIXEL if name in sample):
            chosen[name] = sample[name][window]
        return {**chosen, "camera": translation(-left, -top) @ sample["camera"]}


@dataclass(frozen=True)
class ViewInference(InferencePolicy):
    """Sources with their cameras, at their own size, and the camera of the target."""

    modes: tuple[str, ...] = ("native", "fit")
    context_fields: tuple[str, ...] = ("image",)
    reads_scenes: bool = True

    def inputs_per_prediction(self, fields: dict[str, FieldType]) -> None:
        return None

    def read_inputs(self, sources: Sequence[Any], fields: dict[str, FieldType]) -> Sample:
        """Read a scene.

        Args:
            sources: one `RequestedView`, sample with the input fields, or folder of a scene, whose middle photo is then
                left out and predicted.
            fields: input fields of the task.

        Raises:
            UserError: neither, or a folder without camera poses.
        """
        source = sources[0] if len(sources) == 1 else None
        if isinstance(source, RequestedView):
            return source.sample()
        if isinstance(source, Mapping) and fields.keys() <= source.keys():
            return dict(source)
        if isinstance(source, ImageFile) and source.path.is_dir():
            return middle_view(source.path)
        raise UserError(
            "A new view needs photos with their cameras: give the folder of a scene, which has "
            f"{LAYOUTS}; or a sample with the fields {', '.join(fields)}."
        )

    def crop_for_box(self, box: Rectangle, size: Size) -> Window:
        raise UserError("A new view is predicted as a whole: leave out the box.")

    def geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        if mode == "fit":
            factor = min(training_size[0] / source[0], training_size[1] / source[1])
            return (plain_resize(source, (max(1, round(source[0] * factor)), max(1, round(source[1] * factor)))),)
        return super().geometries(mode, source, training_size, model)

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        raise UserError("Mirrored images have other cameras: predict without a flip.")

    def requested_views(
        self, predictor: Any, folders: Sequence[Path], choice: SceneChoice
    ) -> tuple[Any, list[RequestedView]]:
        """The predictor with the stated views, planes or classical method, and the views that are requested."""
        changed = {name: value for name in ("views", "planes") if (value := getattr(choice, name)) is not None}
        changed_predictor = predictor.with_options(**changed)
        if choice.classical is None:
            predictor.model.require_numbers(changed_predictor.task.views, changed_predictor.task.planes)
        else:
            changed_predictor.model = lookup("classical method", choice.classical, CLASSICAL)()
        changed_predictor.model.planes = changed_predictor.task.planes
        views = changed_predictor.task.views
        return changed_predictor, [each for folder in folders for each in requested_views(folder, choice, views)]

    def write_results(self, out: Path, stems: Sequence[str]) -> Path | None:
        """Write SCENE_path.mp4, the video of the views of a path, 24 frames per second."""
        video, folders = None, dict.fromkeys(Path(stem).parent for stem in stems)
        for folder in (one for one in folders if one.name.endswith("_path")):
            frames = sorted(stem for stem in stems if Path(stem).parent == folder)
            video = write_video(out / f"{folder}.mp4", (_even(out / f"{stem}_view.png") for stem in frames), VIDEO_RATE)
        return video


def _even(file: Path) -> np.ndarray:
    """An image without its last row or column, if their number is odd, which videos do not have."""
    image = read_image(file)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
