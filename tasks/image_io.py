"""Image input: any source and mode as upright (H, W, 3) uint8 sRGB."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..datasets.core.files import read_bytes
from ..datasets.core.geometry import row_strips
from ..datasets.core.problems import DatasetError
from ..datasets.field_types import SegmentationMask
from ..datasets.formats.image import UNREADABLE, EncodedImage, num_frames
from ..datasets.formats.png import read_labels
from ..datasets.formats.rgb import array_to_rgb, image_to_rgb
from ..errors import UserError

LUMINANCE = (0.299, 0.587, 0.114)


def load_image(source: Any) -> np.ndarray:
    """Load gray, RGBA, 16-bit, CMYK, palette and rotated images as RGB.

    Args:
        source: a path or an `ImageFile`; an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16,
            bool or floats in [0, 1]; a PIL image; or a tensor (C, H, W) or (1, C, H, W) of uint8 or floats in [0, 1].

    Returns:
        (H, W, 3) uint8 sRGB, as `read_image` gives it to training; of files of several frames the first (see
        `count_frames`).

    Raises:
        UserError: not an image, unreadable, or of another shape or type.
    """
    source = open_source(source)
    if isinstance(source, ImageFile):
        return source.load()
    if hasattr(source, "getbands"):
        try:
            return image_to_rgb(source)
        except (*UNREADABLE, ZeroDivisionError) as error:
            raise UserError(
                f"An image of mode {source.mode} and size {source.size} cannot be read: {error}."
            ) from error
    if isinstance(source, Tensor):
        try:
            tensor = source.detach().cpu()
            array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantized, without data
            raise UserError(f"A tensor of {source.dtype}, {source.layout}, cannot be read as an image.") from error
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        if array.ndim != 3 or array.shape[0] not in (1, 3, 4):
            raise UserError(
                f"A tensor of shape {tuple(source.shape)} is not an image: give (C, H, W) with C 1, 3 or 4."
            )
        return load_image(np.moveaxis(array, 0, -1))
    if not isinstance(source, np.ndarray):
        raise UserError(f"A {type(source).__name__} is not an image: give a path, an array, a PIL image or a tensor.")
    return array_to_rgb(source)


def load_image_as(source: Any, channels: int) -> np.ndarray:
    """Load any image with the channels of a network: 3 gives (H, W, 3) RGB, 1 gives (H, W, 1) luminance (Rec. 601).

    Returns:
        uint8 array.

    Raises:
        UserError: not an image, or another number of channels, which an image file cannot supply.
    """
    image = load_image(source)
    if channels == 3:
        return image
    if channels == 1:
        luminance = np.empty((*image.shape[:2], 1), np.uint8)
        for rows in row_strips(image):
            luminance[rows, :, 0] = np.round(image[rows] @ LUMINANCE)
        return luminance
    raise UserError(f"The network takes images of {channels} channels: give it samples of its dataset instead.")


class ImageFile:
    """An image file that is opened once: its size is known before its pixels are decoded.

    Attributes:
        path: the file.
        frames: number of its frames or pages, known after `load`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.frames = Path(path), 1
        self._encoded: EncodedImage | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels, from the header; 0 if it is unreadable."""
        with suppress(Exception):
            height, width = self._open().header_size
            return height * width
        return 0

    def load(self) -> np.ndarray:
        """Decode the first frame, (H, W, 3) uint8 sRGB.

        Raises:
            UserError: there is no such file, or it cannot be read as an image.
        """
        if not os.path.isfile(self.path):
            raise UserError(f"There is no image file '{self.path}'.")
        try:
            encoded = self._open()
            pixels = encoded.decode()
        except DatasetError as error:
            raise UserError(f"{self.path} cannot be read as an image: {error.problem.found}.") from error
        finally:
            self._encoded = None  # its bytes are not needed any more
        self.frames = encoded.num_frames()
        return pixels

    def _open(self) -> EncodedImage:
        if self._encoded is None:
            self._encoded = EncodedImage(read_bytes(self.path, "an image"), self.path)
        return self._encoded


def open_source(source: Any) -> Any:
    """An input of a prediction: a path as `ImageFile`, anything else as it is."""
    return ImageFile(source) if isinstance(source, (str, Path)) else source


def count_frames(source: Any) -> int:
    """Number of frames or pages of a loaded `ImageFile` or a PIL image; 1 for everything else."""
    if isinstance(source, ImageFile):
        return source.frames
    return num_frames(source) if hasattr(source, "getbands") else 1


def count_pixels(source: Any) -> int:
    """Number of pixels of an `ImageFile` (from its header) or an array (H, W, ...); 0 if the header is unreadable."""
    return source.pixels if isinstance(source, ImageFile) else int(np.prod(np.shape(source)[:2]))


def load_labels(source: Any, field_type: SegmentationMask) -> np.ndarray:
    """Load a label map.

    Args:
        source: path of a one-channel or palette PNG whose values are classes; or an integer array (H, W) or
            (H, W, 1); or a PIL image of the same.
        field_type: the classes.

    Returns:
        (H, W) int64.

    Raises:
        UserError: not a label map, a color image, or a value that is not a class.
    """
    source = open_source(source)
    if isinstance(source, ImageFile):
        return read_labels(source.path, len(field_type.names), field_type.ignore).astype(np.int64)
    values = np.asarray(source)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    mismatch = field_type.check(values)
    if mismatch is not None:
        raise UserError(f"The label map must contain {mismatch[0]}, not {mismatch[1]}.")
    return values.astype(np.int64)
