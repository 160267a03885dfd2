"""Color-preserving style transfer.

Gatys, Bethge, Hertzmann, Shechtman: Preserving Color in Neural Artistic Style Transfer. 2016, arXiv:1606.05897: the
style image takes the content's colors first (section 3), or only the luminance is transferred (section 4).
Images are (1, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...tasks.image_io import LUMINANCE

EPSILON = 1e-5
"""Added to the variances, which are 0 for an image of one color."""


def match_colors(image: Tensor, reference: Tensor) -> Tensor:
    """Transform colors linearly to the mean and covariance of a reference image; not clipped to [0, 1].

    The map is C^(1/2) S^(-1/2) for the covariances C of the reference and S of the image; among all maps with this
    property it does not depend on a choice of axes.
    """
    colors, reference_colors = (each.double()[0].flatten(1) for each in (image, reference))
    mapped = (
        _root(_covariance(reference_colors), 0.5)
        @ _root(_covariance(colors), -0.5)
        @ (colors - colors.mean(1, keepdim=True))
    )
    return (mapped + reference_colors.mean(1, keepdim=True)).view_as(image).to(image.dtype)


def luminance(pixels: Tensor) -> Tensor:
    """Luminance (Rec. 601), (1, 1, H, W)."""
    return (pixels * pixels.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)


def to_gray(pixels: Tensor, reference: Tensor | None = None) -> Tensor:
    """Gray image, (1, 3, H, W), with mean and standard deviation of the reference's luminance if one is given."""
    luma = luminance(pixels)
    if reference is not None:
        reference_colors = luminance(reference)
        luma = (luma - luma.mean()) * reference_colors.std() / luma.std().clamp_min(EPSILON) + reference_colors.mean()
    return luma.expand(-1, 3, -1, -1)


def with_luminance(pixels: Tensor, luma: Tensor) -> Tensor:
    """Replace the luminance, clipped to [0, 1].

    The same value is added to red, green and blue, so that I and Q of YIQ are unchanged.
    """
    return (pixels + luminance(luma) - luminance(pixels)).clamp(0, 1)


def _covariance(colors: Tensor) -> Tensor:
    return torch.cov(colors, correction=0) + EPSILON * torch.eye(len(colors), dtype=colors.dtype, device=colors.device)


def _root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**power) @ vectors.mT
