"""Image folders: listing, and resizing all images to the same scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from ...datasets.core.files import IMAGE_SUFFIXES, list_files
from ...datasets.core.geometry import Size
from ...errors import UserError
from ...tasks.image_io import load_image, load_image_as
from .model import InspectedModel, to_pixels

MAX_ASPECT = 8
"""Images with a larger aspect ratio are squeezed when resized by their short side."""


def list_images(folder: Path, subset: int | None = None) -> list[Path]:
    """Images of a folder and its subfolders, sorted by path; links are followed, hidden files are left out.

    Args:
        folder: folder to search.
        subset: maximum number of images, evenly spaced; None: all.

    Raises:
        UserError: the folder does not exist or contains no images, or a subset below 1.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}'.")
    files = sorted(
        file for file in (folder / name for name in list_files(folder, IMAGE_SUFFIXES, [])) if file.is_file()
    )
    if not files:
        raise UserError(f"The folder '{folder}' contains no images ({', '.join(IMAGE_SUFFIXES)}).")
    return _evenly_spaced(files, subset)


def images_in(folder: Any, subset: int | None = None) -> list[Path]:
    """The images of a folder, or of a list of files; see `list_images`.

    Raises:
        UserError: as `list_images`.
    """
    if isinstance(folder, (str, Path)):
        return list_images(Path(folder), subset)
    return _evenly_spaced([Path(file) for file in folder], subset)


def _evenly_spaced(files: list[Path], subset: int | None) -> list[Path]:
    if subset is not None and subset < 1:
        raise UserError(f"--subset is {subset}; it must be at least 1.")
    if subset is None or subset >= len(files):
        return files
    return [files[number * len(files) // subset] for number in range(subset)]


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize (H, W, C) uint8 to (height, width): area averaging to shrink, bicubic to enlarge."""
    if image.shape[:2] == size:
        return image
    enlarges = size[0] * size[1] > image.shape[0] * image.shape[1]
    result = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA)
    return result.reshape(*size, image.shape[2])


def scaled_size(source: Size, *, short_side: int | None = None, long_side: int | None = None) -> Size:
    """(height, width) of the same aspect ratio with the given short or long side in pixels; see `MAX_ASPECT`."""
    factor = short_side / min(source) if short_side is not None else (long_side or max(source)) / max(source)
    limit = MAX_ASPECT * short_side if short_side is not None else max(source) * factor
    height, width = (max(1, round(min(length * factor, limit))) for length in source)
    return height, width


def preprocess_at_scale(model: InspectedModel, source: Any, short_side: int) -> tuple[Tensor, ...]:
    """Preprocess an entire image, resized to a short side in pixels: (1, C, H, W) in [0, 1].

    Unlike `InspectedModel.preprocess`, it does not crop for classifiers.

    Raises:
        UserError: a source that is not an image, or a model with other inputs.
    """
    if model.task is not None and not model.classes:
        image = load_image(source)
        size = scaled_size((image.shape[0], image.shape[1]), short_side=short_side)
        return replace(model, size=size).pixels(resize(image, size))
    image = load_image_as(source, model.optimized_channels[0])
    size = scaled_size((image.shape[0], image.shape[1]), short_side=short_side)
    return (to_pixels(resize(image, size)).to(model.device),)


def one_image(image: Any) -> Any:
    """The image of a method that takes one; given alone or as a tuple or list of one.

    Raises:
        UserError: several images.
    """
    if not isinstance(image, (tuple, list)):
        return image
    if len(image) != 1:
        raise UserError(f"This method takes one image, but {len(image)} were given.")
    return image[0]
