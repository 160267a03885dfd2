"""Style transfer that keeps the colours of the content picture.

Gatys, Bethge, Hertzmann, Shechtman: Preserving Color in Neural Artistic Style Transfer. 2016, arXiv:1606.05897: the
style picture gets the content's colours before (section 3), or brightness alone is transferred (section 4).
Pictures are (1, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...tasks.pictures import LUMINANCE

SMALLEST = 1e-5
"""Added to the variances: a picture of one colour has none."""


def with_colours_of(picture: Tensor, like: Tensor) -> Tensor:
    """A picture moved linearly in the space of colours, to the mean and the covariance of another's.

    The map is C^(1/2) S^(-1/2) for the covariances C of the other and S of the picture: of all that do, it depends on
    no choice of axes. It is not clipped to [0, 1].
    """
    own, other = (each.double()[0].flatten(1) for each in (picture, like))
    moved = _root(_covariance(other), 0.5) @ _root(_covariance(own), -0.5) @ (own - own.mean(1, keepdim=True))
    return (moved + other.mean(1, keepdim=True)).view_as(picture).to(picture.dtype)


def brightness_of(pixels: Tensor) -> Tensor:
    """(1, 1, H, W) luminance (Rec. 601)."""
    return (pixels * pixels.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)


def in_grey(pixels: Tensor, like: Tensor | None = None) -> Tensor:
    """A picture without colours, (1, 3, H, W); brought to mean and spread of another's luminance if one is given."""
    bright = brightness_of(pixels)
    if like is not None:
        other = brightness_of(like)
        bright = (bright - bright.mean()) * other.std() / bright.std().clamp_min(SMALLEST) + other.mean()
    return bright.expand(-1, 3, -1, -1)


def with_brightness_of(pixels: Tensor, bright: Tensor) -> Tensor:
    """A picture's colours under another's luminance: the same is added to red, green and blue, so that YIQ's I and Q
    stay. What leaves [0, 1] is clipped."""
    return (pixels + brightness_of(bright) - brightness_of(pixels)).clamp(0, 1)


def _covariance(colours: Tensor) -> Tensor:
    return torch.cov(colours, correction=0) + SMALLEST * torch.eye(
        len(colours), dtype=colours.dtype, device=colours.device
    )


def _root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**power) @ vectors.mT
