"""Random transforms before every forward pass, for robustness of feature visualization (Olah et al. 2017).

Lucid pads, jitters, scales, rotates and jitters again. Here the five are composed to one affine transform and one
interpolation, and the size is unchanged: the border is filled with gray, like lucid's padding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SHIFTS = (8, 4)
"""Ranges of the two shifts, in pixels of 224, centered at 0."""
SCALES = tuple(1 + step / 100 for step in range(-10, 11, 2))
ANGLES = (*range(-10, 11), 0, 0, 0, 0, 0)
"""Degrees."""
GRAY = 0.5


def random_transform(generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Sample a (2, 3) matrix from the transformed image to the image, in units of half the image size, as in lucid.

    Args:
        generator: random number generator.
        strength: multiple of lucid's shifts, scales and angles.
    """
    angle = math.radians(strength * _choice(ANGLES, generator))
    scale = _choice(SCALES, generator) ** strength
    shifts = torch.rand(len(SHIFTS), 2, generator=generator) - 0.5
    x, y = (shifts * torch.tensor(SHIFTS)[:, None]).sum(0) * strength * 2 / 224
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    return torch.tensor([[cosine, -sine, x], [sine, cosine, y]])


def apply_transform(image: Tensor, transform: Tensor) -> Tensor:
    """Transform (B, C, H, W) bilinearly at the same size."""
    height, width = image.shape[-2:]
    # Rotations are rotations in pixels also for images that are not square.
    aspect = torch.tensor([[1.0, height / width, 1.0], [width / height, 1.0, 1.0]])
    matrix = (transform * aspect).to(image)
    coordinates = functional.affine_grid(matrix.expand(len(image), 2, 3), list(image.shape), align_corners=False)
    return functional.grid_sample(image - GRAY, coordinates, padding_mode="zeros", align_corners=False) + GRAY


def _choice(values: tuple[float, ...], generator: torch.Generator) -> float:
    return values[int(torch.randint(len(values), (), generator=generator))]
