"""Images that methods read and draw: folders, resizing to one scale, maps as (H, W, 3) uint8 RGB, and writing.

Color scales are clipped at a percentile (`color_scale`). The raw array is written unclipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from ...datasets.core.drawing import color_scale
from ...datasets.core.files import IMAGE_SUFFIXES, list_files
from ...datasets.core.geometry import Size
from ...datasets.formats.arrays import write_npy
from ...datasets.formats.image import write_image
from ...errors import UserError
from ...limits import LimitExceeded, check_pixels
from ...tasks.image_io import load_image, load_image_as
from .model import InspectedModel, to_pixels

MAX_ASPECT = 8
"""Images with a larger aspect ratio are squeezed when resized by their short side."""
GRAY = 128
"""Value of 0 in signed images."""
MIN_SIZE = 224
"""Maps with a shorter side in pixels below this are enlarged by an integer factor."""
ENDINGS = (".png",)


def list_images(folder: Path, subset: int | None = None) -> list[Path]:
    """Images of a folder and its subfolders, sorted by path; links are followed, hidden files are left out."""
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}'.")
    files = sorted(
        file for file in (folder / name for name in list_files(folder, IMAGE_SUFFIXES, [])) if file.is_file()
    )
    if not files:
        raise UserError(f"The folder '{folder}' contains no images ({', '.join(IMAGE_SUFFIXES)}).")
    return _evenly_spaced(files, subset)


def images_in(folder: Any, subset: int | None = None) -> list[Path]:
    """The images of a folder (`list_images`) or of a list of files, at most `subset` of them, evenly spaced."""
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
    if image.shape[:2] == valid_size(size):
        return image
    enlarges = size[0] * size[1] > image.shape[0] * image.shape[1]
    result = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA)
    return result.reshape(*size, image.shape[2])


def valid_size(size: Size) -> Size:
    """The size itself, (height, width), of an image to make.

    Raises:
        UserError: it has no pixel, or more than the limit of megapixels.
    """
    if min(size) < 1:
        raise UserError(f"--size is {size[0]}x{size[1]}; both must be at least 1 pixel.")
    try:
        check_pixels(size[1], size[0])
    except LimitExceeded as error:
        raise UserError(f"The size of the image to make is {error}.") from None
    return size


def scaled_size(source: Size, *, short_side: int | None = None, long_side: int | None = None) -> Size:
    """(height, width) of the same aspect ratio with the given short or long side in pixels; see `MAX_ASPECT`."""
    factor = short_side / min(source) if short_side is not None else (long_side or max(source)) / max(source)
    limit = MAX_ASPECT * short_side if short_side is not None else max(source) * factor
    height, width = (max(1, round(min(length * factor, limit))) for length in source)
    return height, width


def preprocess_at_scale(model: InspectedModel, source: Any, short_side: int) -> tuple[Tensor, ...]:
    """Preprocess an entire image, resized to a short side in pixels: (1, C, H, W) in [0, 1].

    Unlike `InspectedModel.preprocess`, it does not crop for classifiers.
    """
    if model.task is not None and not model.classes:
        image = load_image(source)
        size = scaled_size((image.shape[0], image.shape[1]), short_side=short_side)
        return replace(model, size=size).pixels(resize(image, size))
    image = load_image_as(source, model.optimized_channels[0])
    size = scaled_size((image.shape[0], image.shape[1]), short_side=short_side)
    return (to_pixels(resize(image, size)).to(model.device),)


def one_image(image: Any) -> Any:
    """The image of a method that takes one; given alone or as a tuple or list of one."""
    if not isinstance(image, (tuple, list)):
        return image
    if len(image) != 1:
        raise UserError(f"This method takes one image, but {len(image)} were given.")
    return image[0]


def to_uint8_image(pixels: Tensor) -> np.ndarray:
    """Convert (1, C, H, W) or (C, H, W) in [0, 1] to (H, W, 3) uint8: the first three channels, or gray from one."""
    array = pixels.detach().cpu().reshape(pixels.shape[-3:]).movedim(0, -1).float().clamp(0, 1).numpy()
    if array.shape[2] < 3:
        array = np.broadcast_to(array[..., :1], (*array.shape[:2], 3))
    return np.round(array[..., :3] * 255).astype(np.uint8)


def intensity_map(heat: np.ndarray) -> np.ndarray:
    """Grayscale map of non-negative (H, W): black at 0, white at the maximum."""
    relative = np.clip(heat / color_scale(heat), 0, 1)
    return np.repeat(np.round(relative * 255).astype(np.uint8)[..., None], 3, axis=2)


def overlay_heatmap(image: np.ndarray, heat: np.ndarray, opacity: float = 0.7) -> np.ndarray:
    """Overlay a heat map (H, W) >= 0: blue at 0 with half the opacity, red at the maximum with all of it."""
    relative = np.clip(np.nan_to_num(heat) / color_scale(heat), 0, 1)
    colors = cv2.applyColorMap(np.round(relative * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    alpha = opacity * (0.5 + 0.5 * relative[..., None])
    gray_image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.round((1 - alpha) * gray_image + alpha * colors).astype(np.uint8)


def to_rgb(values: np.ndarray) -> np.ndarray:
    """Signed (C, H, W), for example a gradient, as RGB: mid-gray is 0, each channel has its own color."""
    relative = np.clip(np.nan_to_num(values) / color_scale(values), -1, 1).transpose(1, 2, 0)
    if relative.shape[2] < 3:
        relative = np.repeat(relative[..., :1], 3, axis=2)
    return np.round(GRAY + relative[..., :3] * (255 - GRAY)).astype(np.uint8)


def enlarge(image: np.ndarray) -> np.ndarray:
    """Enlarge a small image by an integer factor until its short side is at least `MIN_SIZE`."""
    factor = -(-MIN_SIZE // min(image.shape[:2]))
    return image if factor <= 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def draw_crosses(image: np.ndarray, positions: Sequence[tuple[float, float]]) -> np.ndarray:
    """The enlarged image (see `enlarge`) with a white cross with a black rim at every position (x, y) of the image."""
    canvas = np.ascontiguousarray(enlarge(image))
    factor, arm = canvas.shape[0] / image.shape[0], max(5, min(canvas.shape[:2]) // 30)
    canvas = canvas.copy() if positions else canvas
    for x, y in positions:
        center = (round((x + 0.5) * factor - 0.5), round((y + 0.5) * factor - 0.5))
        for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.drawMarker(canvas, center, color, cv2.MARKER_CROSS, 2 * arm, thickness)
    return canvas


def validate_out(out: Path) -> Path:
    """Check the path of the output image, a .png file, before anything is computed."""
    if out.suffix.lower() not in ENDINGS:
        raise UserError(f"--out is '{out}'; name a .png file.")
    return out


def write_image_and_array(out: Path, image: np.ndarray, array: Any) -> list[Path]:
    """Write the image, and the raw array to the same name with .npy; returns both paths."""
    raw = validate_out(out).with_suffix(".npy")
    write_image(out, enlarge(image))
    write_npy(raw, np.asarray(array))
    return [out, raw]
