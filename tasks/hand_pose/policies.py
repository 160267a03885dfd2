"""Augmentation and inference of hand pose: depth images are read, and the hand is found in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.core.augmentation import Augmentation
from ...datasets.core.files import natural_key
from ...datasets.core.geometry import Geometry, Rectangle, Size, Window, plain_resize
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType
from ...datasets.formats.arrays import read_npy
from ...datasets.formats.image import EncodedImage, read_image
from ...datasets.formats.png import read_depth_png
from ...datasets.formats.video import write_video
from ...datasets.hand.cube import camera_matrix, cut_cube, move_cube
from ...datasets.hand.localization import FoundHands, find_hand
from ...errors import UserError
from ..image_io import ImageFile
from ..network import Network
from ..policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from ..preprocessing import ModelInput

CAMERA = (241.42, 241.42, 160.0, 120.0)
"""fx, fy, cx and cy of ICVL's camera, whose images are 320 pixels wide."""
CAMERA_WIDTH = 320

CUBE_MM = 250.0
"""Side of the cube, if none is stated: that of ICVL and of `synthetic-hands`."""

VIDEO = "hands.mp4"
PALM, REFINEMENTS = "palm", 2
"""The joint at which the cube is centered again, and how often: a third time changes nothing more."""
FOUND = "the widest part of the nearest region"


@dataclass(frozen=True)
class HandAugmentation(AugmentationPolicy):
    """Rotation of the image, and other cubes: a mirrored hand is the other hand, and a zoom would change its distance.

    Attributes:
        shift: standard deviation in millimeters of a shift of the cube along each axis.
        scale: standard deviation of the factor of its side.
    """

    shift: float = 0.0
    scale: float = 0.0

    def limits(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        return replace(augmentation, hflip=0.0, max_zoom=1.0, crop_area=None, resize_short_side=None, framing="fit")

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Move the cube, as if the hand had been found a little elsewhere, and change its side."""
        if rng is None or self.shift == self.scale == 0:
            return sample
        offset = rng.normal(0, self.shift, 3)
        return {**sample, **move_cube(sample, offset, float(np.clip(rng.normal(1, self.scale), 0.5, 2)))}


@dataclass(frozen=True)
class HandInference(InferencePolicy):
    """One hand of a depth image, in the cube around the palm that `find_palm` finds.

    Attributes:
        camera: fx, fy, cx and cy in pixels; None: that of ICVL at the size of the image.
        cube: side of the cube in millimeters; None: 250.
    """

    modes: tuple[str, ...] = ("fit",)
    context_fields: tuple[str, ...] = ("camera", "cube", "frame", "frame_camera")
    camera: tuple[float, float, float, float] | None = None
    cube: float | None = None

    def read_inputs(self, sources: Sequence[Any], fields: dict[str, FieldType]) -> Sample:
        """Read a depth image, and cut out the hand.

        Args:
            sources: one 16-bit PNG in millimeters, .npy file or array: integers in millimeters, or floats in meters.
            fields: input fields of the task.

        Returns:
            "depth", "camera" and "cube" of the hand as in a dataset; "frame", (H, W) float32 meters, nan where unknown,
            and "frame_camera" of the complete image.

        Raises:
            UserError: not one depth image, or one without a known depth within reach, or of another unit.
        """
        if len(sources) != 1:
            raise UserError(f"The model takes 1 input(s) (depth), not {len(sources)}.")
        frame = load_depth(sources[0])
        if self.camera is None:
            scale = frame.shape[1] / CAMERA_WIDTH
            fx, fy, cx, cy = (scale * value for value in CAMERA)
            camera = camera_matrix(fx, fy, cx, cy)
        else:
            camera = camera_matrix(*self.camera)
        side = self.cube or CUBE_MM
        hand = find_hand(np.nan_to_num(1000 * frame, nan=0, posinf=0, neginf=0), camera, side)
        if (distance := hand["cube"][2]) < side / 2:
            raise UserError(
                f"The hand would be {distance:.0f} mm away, and the camera inside its cube of {side:g} mm: give depths "
                "in millimeters as integers or in meters as floats, or a smaller --cube."
            )
        return hand

    def find_box(self, inputs: Sample, fields: dict[str, FieldType]) -> tuple[Rectangle | None, str]:
        """No box: `read_inputs` has found the hand."""
        return None, FOUND

    def crop_for_box(self, box: Rectangle, size: Size) -> Window:
        raise UserError("A hand is cut out of its depth image by a cube, not by a box: leave out the box.")

    def refine(
        self, predictor: Any, inputs: Sequence[ModelInput], outputs: list[Tensor], batch_size: int
    ) -> list[Tensor]:
        return [self._recenter(predictor, one, output) for one, output in zip(inputs, outputs, strict=True)]

    def _recenter(self, predictor: Any, one: ModelInput, output: Tensor) -> Tensor:
        """Center the cube at the predicted palm, which is more exact than the one that was found, and predict again.

        Released code refines the center by a network of its own (`ScaleNet`); here, it is the one that predicts poses.
        """
        context = one.context
        inputs, names = context.inputs, context.fields["joints"].skeleton.names  # type: ignore[attr-defined]
        if "frame" not in inputs or PALM not in names:
            return output
        cube, (height, width) = inputs["cube"], context.size
        size = round(height * context.matrix[1, 1]), round(width * context.matrix[0, 0])
        for _ in range(REFINEMENTS):
            palm = output[0].view(-1, 3)[names.index(PALM)].cpu().numpy() * (cube[3] / 2) + cube[:3]
            cut = cut_cube(1000 * inputs["frame"], inputs["frame_camera"], palm, float(cube[3]), size)
            # Relative to the first cube, as `Task.decode` takes it.
            moved = torch.from_numpy((cut["cube"][:3] - cube[:3]) / (cube[3] / 2)).to(output)
            output = predictor.run_network([{"depth": cut["depth"]}], one.flip, one.mode) + moved.repeat(len(names))
        return output

    def write_results(self, out: Path, stems: Sequence[str]) -> Path | None:
        """Write hands.mp4, the drawn hands of all depth images one after the other, if they have one size."""
        files = sorted((out / f"{stem}_hand.png" for stem in stems), key=natural_key)
        files = [file for file in files if file.is_file()]
        if len(files) < 2 or len({EncodedImage(file.read_bytes(), file).size for file in files}) > 1:
            return None
        return write_video(out / VIDEO, map(read_image, files))

    def geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        return (plain_resize(source, training_size),)

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        raise UserError("A mirrored hand is the other hand, which the model does not know: predict without a flip.")


@dataclass(frozen=True)
class HandEvaluation(EvaluationPolicy):
    """Under `found`, the hand is looked for as in prediction; otherwise, the cube is centered at the labeled palm."""

    def under(self, dataset: Dataset, protocol: str) -> Dataset:
        return FoundHands(dataset) if protocol == "found" else dataset


def load_depth(source: Any) -> np.ndarray:
    """Load a depth image, (H, W) float32 meters, nan where unknown.

    Args:
        source: an `ImageFile` of a 16-bit PNG in millimeters (0: unknown) or of a .npy file; an array, PIL image or
            tensor (H, W) or (H, W, 1): integers in millimeters, or floats in meters.

    Raises:
        UserError: another type, as 8-bit images; the message says what is expected.
    """
    if isinstance(source, ImageFile):
        if source.path.suffix.lower() != ".npy":
            return read_depth_png(source.path, 1000)
        values, where = read_npy(source.path), str(source.path)
    else:
        values, where = np.asarray(source), "The input"
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "iuf" or values.dtype.itemsize < 2:
        raise UserError(
            f"{where} is no depth image: expected HxW integers of at least 16 bits in millimeters or floats in meters, "
            f"found {'x'.join(map(str, values.shape))} {values.dtype}."
        )
    meters = values.astype(np.float32)
    if values.dtype.kind in "iu":
        meters /= 1000
    meters[~(np.isfinite(meters) & (meters > 0))] = np.nan
    return meters
