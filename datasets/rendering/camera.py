"""Degradations by cameras and files: motion and defocus blur, noise, low resolution, compression, and masked parts.

Each is a degradation as `weather.py` has them: from (H, W, 3) float32 in [0, 1] and a generator to the same.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..core.geometry import resize_antialiased
from .materials import Dice

SHAKE = (4.0, 14.0)
"""Pixels that a point travels during the exposure."""

DEFOCUS = (0.5, 3.0)
"""Standard deviation of the Gaussian in pixels: the upper bound is that of Wang et al. 2021 (Real-ESRGAN,
arXiv:2107.10833), section 3.2; narrower ones hardly differ from none."""

LOW_RESOLUTION_FACTORS = (2, 3, 4)

NOISE = (5 / 255, 50 / 255)
"""Standard deviation."""

PHOTONS = (20.0, 500.0)
"""Expected photons of a white pixel, log-uniform: noise of about 25 to 5 of 255 in a mid-gray."""

QUALITY = (5, 40)
"""Of JPEG, 1 to 100."""

HOLES = (0.05, 0.25)
"""Share of the image that is lost."""
HOLE_AREA = 150
"""Pixels of an average hole."""


def low_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Made smaller by 2, 3 or 4 with an antialiased bicubic filter, stored in 8 bits, and enlarged again."""
    factor = LOW_RESOLUTION_FACTORS[rng.integers(len(LOW_RESOLUTION_FACTORS))]
    height, width = image.shape[:2]
    smaller = max(1, round(height / factor)), max(1, round(width / factor))
    small = resize_antialiased(eight_bits(image), smaller, filter="bicubic")
    return resize_antialiased(small, (height, width), filter="bicubic").astype(np.float32) / 255


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A camera that shakes: the mean, in linear light, of the image along a wandering path."""
    kernel = shake(rng)
    return encoded(cv2.filter2D(linear_light(image), -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def defocus(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A lens out of focus: a Gaussian blur in linear light."""
    return encoded(cv2.GaussianBlur(linear_light(image), (0, 0), rng.uniform(*DEFOCUS)))


def shake(rng: np.random.Generator, steps: int = 64) -> np.ndarray:
    """(K, K) float32 that sums to 1: the light of a point along a smooth path, its center of mass in the middle."""
    turns = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.12, steps))
    path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), axis=0)
    path = (path - path.mean(0)) * rng.uniform(*SHAKE) / steps
    reach = math.ceil(np.abs(path).max()) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    corner = np.floor(path).astype(int)
    part = path - corner
    for right in (0, 1):
        for below in (0, 1):
            weight = np.abs(1 - right - part[:, 0]) * np.abs(1 - below - part[:, 1])
            np.add.at(kernel, (corner[:, 1] + below + reach, corner[:, 0] + right + reach), weight)
    return (kernel / kernel.sum()).astype(np.float32)


def noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grain that knows nothing of its neighbors: Gaussian, the same deviation in every color."""
    deviation = np.float32(rng.uniform(*NOISE))
    return image + deviation * rng.standard_normal(image.shape, np.float32)


def shot_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Few photons: their number is Poisson distributed around the linear light, independently in every color.

    Source: the signal-dependent part of the sensor model of Foi et al. 2008 (Practical Poissonian-Gaussian noise
    modeling and fitting for single-image raw-data), equation 4.
    """
    photons = math.exp(rng.uniform(*np.log(PHOTONS)))
    return encoded((rng.poisson(linear_light(image) * photons) / photons).astype(np.float32))


def jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Written as JPEG and read again by the real coder."""
    stored = cv2.cvtColor(eight_bits(image), cv2.COLOR_RGB2BGR)
    written = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(QUALITY[0], QUALITY[1] + 1))])[1]
    read = cv2.imdecode(written, cv2.IMREAD_COLOR)
    assert read is not None
    return cv2.cvtColor(read, cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def masks(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Parts of the image are gone: scratches and patches of one gray take their place."""
    height, width = image.shape[:2]
    dice = Dice(rng)
    lost = np.zeros((height, width), np.uint8)
    share = dice.uniform(*HOLES)
    while (lacking := share * height * width - cv2.countNonZero(lost)) > 0:
        for _ in range(max(1, int(lacking / HOLE_AREA))):
            _tear(lost, dice)
    gray = dice.pick((0.0, 0.5, 1.0))
    return np.where(lost[..., None] > 0, np.float32(gray), image)


def _tear(lost: np.ndarray, dice: Dice) -> None:
    """Draw a scratch or a patch into a mask, (H, W) uint8."""
    height, width = lost.shape
    points = np.cumsum([[dice.uniform(-18, 18), dice.uniform(-18, 18)] for _ in range(dice.integer(2, 4))], axis=0)
    points += (dice.uniform(0, width), dice.uniform(0, height))
    if dice.chance(0.7):
        cv2.polylines(lost, [np.round(points).astype(np.int32)], False, 255, dice.integer(2, 6))
    else:
        left, top = map(int, points[0])
        right, bottom = left + dice.integer(4, 14), top + dice.integer(4, 14)
        cv2.rectangle(lost, (left, top), (right, bottom), 255, -1)


def linear_light(encoded_values: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light: c / 12.92 up to 0.04045, ((c + 0.055) / 1.055)^2.4 above."""
    c = np.asarray(encoded_values, np.float32)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB; the inverse of `linear_light`."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Floats, clipped to [0, 1] and rounded to the nearest of 256 values."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
