"""Color and noise augmentation of images with albumentations: it changes values, not positions."""

from __future__ import annotations

import os
import random
from functools import lru_cache
from typing import Any

import numpy as np


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
    """Apply an albumentations transform with the same random parameters to all images.

    Args:
        images: (H, W, 3) uint8 each.
        rng: source of the parameters.
        transform: an albumentations `Compose`.
    """
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
    """PCA color augmentation of AlexNet: adds one random color to all pixels.

    Krizhevsky et al. 2012, section 4.1: [p1 p2 p3][a1 l1, a2 l2, a3 l3], a ~ N(0, deviation²), with deviation 0.1. The
    formula applies to colors in [0, 1] only, since eigenvalues are squares; the shift is then scaled to 0 to 255.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: source of a.
        deviation: standard deviation of a.
    """
    shift = 255 * PCA_VECTORS @ (rng.normal(0, deviation, 3) * PCA_VALUES)
    return np.clip(np.round(image + shift), 0, 255).astype(np.uint8)
