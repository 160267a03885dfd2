"""Base class of the pose datasets: one sample per person, with the image cropped around them."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import numpy as np

from ..core.geometry import Size, Window
from ..core.problems import DatasetError
from ..dataset import Dataset, Sample
from ..field_types import Box, Image, Keypoints
from ..formats.image import decode_image
from ..stored_images import EncodedSource

MARGIN = 1 / 8
"""Margin of the crop around the box, as a share of the longer edge of the box.

Xiao et al. 2018 enlarge the box of a person to 1.25 times its size; Belagiannis et al. 2015 add 20 px left and right
and 10 px above and below the joints of people of about 150 px.
"""
MIN_CROP = 16
"""Minimum width and height of the crop in pixels, within the image."""


class People(Dataset):
    """One sample per person: the image cropped around them, and their joints and boxes in pixels of the crop.

    Subclasses set `fields` (`image`, `joints`, `box` and others), `_images`, `_image_of` and `_values`. The optional
    fields `left` and `top` are the position of the upper left pixel of the crop in the full image.

    Attributes:
        cropped: whether images are cropped around the person; see `complete_images`.
    """

    cropped: bool = True
    _images: EncodedSource
    _image_of: np.ndarray
    """(N,) integers, ascending: index of the image of each person."""
    _values: dict[str, np.ndarray]
    """Field name to values of all people, in pixels of the full images: `joints` (N, J, 3), `box` (N, 4), ..."""

    def __len__(self) -> int:
        return len(self._image_of)

    def complete_images(self) -> Self:
        """The same people in complete images: for training to find them, and for scores without a known box."""
        complete = copy.copy(self)
        complete.cropped = False
        return complete

    def sample_name(self, index: int) -> str:
        """Name of the image file; for the second and later people of an image, followed by their number."""
        image = self._image_of[index]
        number = index - int(np.searchsorted(self._image_of, image))
        return self._images.name(int(image)) + (f" person {number + 1}" if number else "")

    def read(self, index: int) -> Sample:
        number = int(self._image_of[index])
        image = decode_image(self._images.read(number), self.root / self._images.name(number))
        complete = (0, 0, *image.shape[:2])
        top, left, height, width = (
            person_crop(self._values["box"][index], image.shape[:2]) if self.cropped else complete
        )
        values: dict[str, Any] = {name: column[index] for name, column in self._values.items()}
        values |= {"left": left, "top": top}
        points = values["joints"][values["joints"][:, 2] > 0, :2] - (left, top)
        # Pixel centers are at integers: the crop extends half a pixel beyond the first and the last one.
        if len(points) and not ((points >= -0.5) & (points < (width - 0.5, height - 0.5))).all(axis=1).any():
            expected = f"a labeled joint in the box, within the image of {image.shape[1]}x{image.shape[0]}"
            raise DatasetError(self.root / self.sample_name(index), expected, "none")
        sample: Sample = {}
        for name, field_type in self.fields.items():
            if isinstance(field_type, Image):
                sample[name] = np.ascontiguousarray(image[top : top + height, left : left + width])
            elif isinstance(field_type, Keypoints):
                # Unlabeled ones are stored with any coordinates.
                joints = np.where(values[name][:, 2:] > 0, values[name] - (left, top, 0), 0)
                sample[name] = joints.astype(np.float32)
            elif isinstance(field_type, Box):
                sample[name] = (values[name] - (left, top, left, top)).astype(np.float32)
            else:
                sample[name] = np.array(values[name])
        return sample


def person_crop(box: np.ndarray, size: Size) -> Window:
    """Crop around the box of a person: the box with a margin, within an image of (height, width) `size`.

    The box is (4,) left, top, right, bottom in pixels, edges included, and may extend beyond the image. The crop is at
    the nearest edge of the image if the box is outside.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    width, height = right - left + 1, bottom - top + 1
    margin = MARGIN * max(width, height)
    first_column, columns = _crop_interval(left, width, margin, size[1])
    first_row, rows = _crop_interval(top, height, margin, size[0])
    return first_row, first_column, rows, columns


def _crop_interval(start: float, extent: float, margin: float, length: int) -> tuple[int, int]:
    """First pixel and number of pixels of a crop along an axis of the image of this length."""
    margin = max(margin, (MIN_CROP - extent) / 2)
    first, last = math.floor(start - margin + 0.5), math.floor(start + extent + margin + 0.5)
    minimum = min(MIN_CROP, length)
    first = min(max(first, 0), length - minimum)
    return first, max(min(last, length) - first, minimum)


def bounding_boxes(joints: np.ndarray) -> np.ndarray:
    """Bounding boxes of the labeled joints of people, (N, J, 3): x, y and flag, 0 if unlabeled.

    Returns (N, 4) float64 left, top, right, bottom; nan for people without a labeled joint.
    """
    points = joints[..., :2].astype(np.float64)
    labeled = joints[..., 2:] > 0
    minimum, maximum = np.where(labeled, points, np.inf).min(1), np.where(labeled, points, -np.inf).max(1)
    return np.where(labeled.any(1), np.concatenate([minimum, maximum], axis=1), np.nan)
