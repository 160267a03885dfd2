"""Small movements before every look: what a network sees in a picture only from exactly there is no thing.

Lucid pads, shifts, scales, turns and shifts again (Olah et al. 2017). Here the five are one movement and one
interpolation, and the size stays: what moves in from outside is grey, as lucid's padding is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SHIFTS = (8, 4)
"""Pixels of 224: each shifts by up to half of it to either side."""
SCALES = tuple(1 + step / 100 for step in range(-10, 11, 2))
ANGLES = (*range(-10, 11), 0, 0, 0, 0, 0)
"""Degrees."""
GREY = 0.5


def small_movement(stream: torch.Generator, largest: float = 1.0) -> Tensor:
    """A (2, 3) matrix from the moved picture to the picture, in units of half its sides, drawn as lucid draws.

    Args:
        stream: where the draws come from.
        largest: as a multiple of lucid's shifts, scales and angles.
    """
    angle = math.radians(largest * _one_of(ANGLES, stream))
    scale = _one_of(SCALES, stream) ** largest
    shifts = torch.rand(len(SHIFTS), 2, generator=stream) - 0.5
    x, y = (shifts * torch.tensor(SHIFTS)[:, None]).sum(0) * largest * 2 / 224
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    return torch.tensor([[cosine, -sine, x], [sine, cosine, y]])


def moved(picture: Tensor, movement: Tensor) -> Tensor:
    """(B, C, H, W) under a movement, at the same size, bilinearly."""
    height, width = picture.shape[-2:]
    # Turns are turns in pixels, also where the sides differ.
    sides = torch.tensor([[1.0, height / width, 1.0], [width / height, 1.0, 1.0]])
    matrix = (movement * sides).to(picture)
    places = functional.affine_grid(matrix.expand(len(picture), 2, 3), list(picture.shape), align_corners=False)
    return functional.grid_sample(picture - GREY, places, padding_mode="zeros", align_corners=False) + GREY


def _one_of(values: tuple[float, ...], stream: torch.Generator) -> float:
    return values[int(torch.randint(len(values), (), generator=stream))]
