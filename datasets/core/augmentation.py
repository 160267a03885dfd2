"""Random augmentation: a flip, rotation, zoom and crop as one geometry per sample, and colors and noise of images."""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from .geometry import (
    Geometry,
    Size,
    Window,
    covering_size,
    crop_and_resize,
    hflip,
    resize_and_crop,
    rotation,
    scaling,
    translation,
)

ASPECT = (3 / 4, 4 / 3)
"""Minimum and maximum width / height of a crop by `crop_area`: Szegedy et al. 2014 (arXiv:1409.4842), section 6."""
TRIES = 10
"""Attempts to draw a crop by `crop_area`; after them, the largest center crop is used."""
MAX_SHIFT, MAX_ROTATION, MAX_SCALE = 0.03, 3.0, 1.03
"""Limits of the relative motion of frames: share of the size, degrees, factor. "A smaller transformation between the
frames", Dosovitskiy et al. 2015, section 4.2."""


@dataclass(frozen=True)
class Augmentation:
    """Parameters of the geometric augmentation. `crop_area`, else `resize_short_side`, else `max_zoom` sets the crop.

    Attributes:
        hflip: probability of a left-right flip.
        max_rotation: maximum rotation in either direction, in degrees.
        max_zoom: maximum magnification of the framed image; the factor is log-uniform in [1, max_zoom], or in
            [1 / max_zoom, max_zoom] for the framings "fit" and "stretch".
        framing: how the image is resized to the output before the zoom: it covers it ("cover"), fits into it ("fit"),
            or takes its aspect ratio ("stretch").
        resize_short_side: minimum and maximum length of the short side in pixels, uniform; then a random crop.
        crop_padding: with `resize_short_side`, pixels by which the crop may extend beyond the image.
        crop_area: minimum and maximum area of the crop as a share of the image; its aspect ratio is in [3/4, 4/3].
        relative_motion: strength in [0, 1] of an additional random motion of the second and later frames: at 1, up to
            `MAX_SHIFT` of height and width, `MAX_ROTATION` degrees and a factor of `MAX_SCALE`.
    """

    hflip: float = 0.0
    max_rotation: float = 0.0
    max_zoom: float = 1.0
    framing: Literal["cover", "fit", "stretch"] = "cover"
    resize_short_side: tuple[int, int] | None = None
    crop_padding: int = 0
    crop_area: tuple[float, float] | None = None
    relative_motion: float = 0.0


def sample_geometry(
    rng: np.random.Generator | None, source: Size, target: Size, augmentation: Augmentation
) -> Geometry:
    """Draw a random geometry: scale, shift, rotation and flip.

    Args:
        rng: random generator; None gives the center crop without augmentation.
        source: (height, width) of the sample.
        target: (height, width) of the output.
        augmentation: parameters of the distribution.
    """
    zoom = angle = 0.0
    position, flipped = (0.5, 0.5), False
    if rng is not None:
        # All numbers are drawn in any case, so that switching one augmentation off does not change the others.
        zoom, angle = rng.uniform(0, 1), rng.uniform(-1, 1)
        position, flipped = (rng.uniform(0, 1), rng.uniform(0, 1)), bool(rng.uniform(0, 1) < augmentation.hflip)
    if augmentation.crop_area is not None and rng is not None:
        window = random_crop(rng, source, augmentation.crop_area)
        crop = crop_and_resize(window, target).matrix()
        zoom = _magnification(crop, source, target)
        if augmentation.max_rotation == 0 and augmentation.relative_motion == 0:
            return crop_and_resize(window, target, zoom, flipped)
    elif augmentation.resize_short_side is not None:
        minimum, maximum = augmentation.resize_short_side
        # Uniform over the integers from the minimum to the maximum, both included.
        short = min(minimum + int(zoom * (maximum - minimum + 1)), maximum)
        height, width = (round(length * short / min(source)) for length in source)
        top, left = (
            math.floor(share * (length + 2 * augmentation.crop_padding - crop_length + 1)) - augmentation.crop_padding
            for share, length, crop_length in zip(position, (height, width), target, strict=True)
        )
        crop = resize_and_crop(source, (height, width), (top, left), target).matrix()
        zoom = _magnification(crop, source, target)
    else:
        shrinks = augmentation.framing != "cover" and rng is not None
        zoom = augmentation.max_zoom ** (2 * zoom - 1 if shrinks else zoom)
        height, width = (zoom * length for length in _framed_size(source, target, augmentation.framing))
        shift = translation(-position[0] * (width - target[1]), -position[1] * (height - target[0]))
        crop = shift @ scaling(width / source[1], height / source[0])
    center = translation((target[1] - 1) / 2, (target[0] - 1) / 2)
    matrix = center @ rotation(angle * augmentation.max_rotation) @ np.linalg.inv(center) @ crop
    if flipped:
        matrix = hflip(target[1]) @ matrix
    if augmentation.relative_motion == 0 or rng is None:
        return Geometry((matrix,), target, zoom)
    return Geometry((matrix, _random_motion(rng, target, augmentation.relative_motion) @ matrix), target, zoom)


def _framed_size(source: Size, target: Size, framing: str) -> tuple[float, float]:
    """(height, width) of the full image before the zoom."""
    if framing == "cover":
        return covering_size(source, target)
    if framing == "stretch":
        return target
    factor = min(target[0] / source[0], target[1] / source[1])
    return source[0] * factor, source[1] * factor


def _random_motion(rng: np.random.Generator, size: Size, strength: float) -> np.ndarray:
    """(3, 3) matrix of a random shift, rotation about the center and change of scale."""
    x, y, angle, log_scale = strength * rng.uniform(-1, 1, 4)
    center = translation((size[1] - 1) / 2, (size[0] - 1) / 2)
    factor = MAX_SCALE**log_scale
    about_center = center @ rotation(MAX_ROTATION * angle) @ np.diag([factor, factor, 1.0]) @ np.linalg.inv(center)
    return translation(MAX_SHIFT * x * size[1], MAX_SHIFT * y * size[0]) @ about_center


def random_crop(rng: np.random.Generator, source: Size, area: tuple[float, float]) -> Window:
    """Draw a crop of an image of (height, width) `source` as `RandomResizedCrop` of torchvision does.

    Its share of the area is uniform from the minimum to the maximum `area`, its aspect ratio log-uniform.
    """
    height, width = source
    for _ in range(TRIES):
        share, aspect = rng.uniform(*area), math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(share * height * width / aspect)), round(math.sqrt(share * height * width * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h, w = min(height, max(1, round(width / ASPECT[0]))), min(width, max(1, round(height * ASPECT[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def _magnification(matrix: np.ndarray, source: Size, target: Size) -> float:
    """Magnification relative to the image that just covers the target."""
    height, width = covering_size(source, target)
    return math.sqrt(np.linalg.det(matrix[:2, :2]) * source[0] * source[1] / (height * width))


@lru_cache(maxsize=8)
def color_jitter_transform(strength: float) -> Any:
    """Random brightness, contrast, gamma and channel gain 1 ± 0.2 (Eigen et al. 2014), times a strength in (0, 1]."""
    # Without it, albumentations looks for a newer version on the network at import.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A

    gain = 0.2 * strength
    return A.Compose(
        [
            A.RandomBrightnessContrast(brightness_limit=0.3 * strength, contrast_limit=0.3 * strength, p=0.8),
            A.RandomGamma(gamma_limit=(100 - 30 * strength, 100 + 40 * strength), p=0.5),
            A.MultiplicativeNoise(multiplier=(1 - gain, 1 + gain), per_channel=True, elementwise=False, p=0.5),
        ]
    )


@lru_cache(maxsize=8)
def gaussian_noise_transform(deviation: float) -> Any:
    """Gaussian noise, independent per pixel and channel, up to this standard deviation for values in [0, 1]."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A

    return A.Compose([A.GaussNoise(std_range=(0, deviation), per_channel=True, p=1)])


def apply_transform(images: list[np.ndarray], rng: np.random.Generator, transform: Any) -> list[np.ndarray]:
    """Apply an albumentations `Compose` with the same random parameters to all images, (H, W, 3) uint8 each."""
    words = rng.integers(0, 2**31, size=2)
    transformed = []
    for image in images:
        # Not `set_random_seed`: it gives every child the same stream, so that all transforms of p = 0.5 act together.
        transform.set_random_state(np.random.default_rng(words), random.Random(int(words[0])))
        transformed.append(transform(image=image)["image"])
    return transformed


# Eigenvalues and eigenvectors (columns) of the covariance of RGB in [0, 1] over ImageNet, in common use.
PCA_VALUES = np.array([0.2175, 0.0188, 0.0045])
PCA_VECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def pca_color(image: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """PCA color augmentation of AlexNet: adds one random color to all pixels of an image, (H, W, 3) uint8 RGB.

    Krizhevsky et al. 2012, section 4.1: [p1 p2 p3][a1 l1, a2 l2, a3 l3], a ~ N(0, deviation²), with deviation 0.1. The
    formula applies to colors in [0, 1] only, since eigenvalues are squares; the shift is then scaled to 0 to 255.
    """
    shift = 255 * PCA_VECTORS @ (rng.normal(0, deviation, 3) * PCA_VALUES)
    return np.clip(np.round(image + shift), 0, 255).astype(np.uint8)
