"""Colour, noise, compression: what may change a picture's values and never its places. albumentations does it."""

from __future__ import annotations

import os
import random
from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=8)
def colour_jitter(strength: float) -> Any:
    """Exposure, contrast, gamma, a gain per channel in 1 +- 0.2 (Eigen et al. 2014), scaled by strength in (0, 1]."""
    # albumentations asks the network for its newest version at import unless told not to.
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
def grain(deviation: float) -> Any:
    """Gaussian noise of up to this standard deviation, of values in [0, 1], its own in every pixel and colour."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A

    return A.Compose([A.GaussNoise(std_range=(0, deviation), per_channel=True, p=1)])


def photometric(pictures: list[np.ndarray], rng: np.random.Generator, transform: Any) -> list[np.ndarray]:
    """Pictures through one draw of an albumentations transform: all of them get the same one.

    Args:
        pictures: (H, W, 3) uint8 each.
        rng: the only source of the draw.
        transform: an albumentations `Compose`.
    """
    words = rng.integers(0, 2**31, size=2)
    moved = []
    for picture in pictures:
        # Not `set_random_seed`: that gives every child the same stream, and all p = .5 transforms fire together.
        transform.set_random_state(np.random.default_rng(words), random.Random(int(words[0])))
        moved.append(transform(image=picture)["image"])
    return moved


# Of the covariance of RGB in [0, 1] over ImageNet: the constants in common use, columns of the matrix are eigenvectors.
PCA_VALUES = np.array([0.2175, 0.0188, 0.0045])
PCA_VECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def pca_colour(picture: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """One colour added to the whole picture, along the directions in which colours vary.

    Krizhevsky et al. 2012, section 4.1: [p1 p2 p3][a1 l1, a2 l2, a3 l3], a ~ N(0, deviation²), their deviation 0.1. The
    formula holds for colours in [0, 1] only, since eigenvalues are squares; the shift is scaled to the picture's range
    afterwards.

    Args:
        picture: (H, W, 3) uint8 RGB.
        rng: the only source of the draw.
        deviation: of a.
    """
    shift = 255 * PCA_VECTORS @ (rng.normal(0, deviation, 3) * PCA_VALUES)
    return np.clip(np.round(picture + shift), 0, 255).astype(np.uint8)
