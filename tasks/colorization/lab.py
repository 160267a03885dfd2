"""CIE Lab under D65 at 2 degrees, to and from sRGB: L in 0..100, a and b about -110..110.

Implemented here because networks need the lightness alone (a third of the work), predictions need unclipped colors,
and tests need float64. Constants and thresholds are scikit-image's, whose `rgb2lab` agrees to 1e-3 on a color cube;
OpenCV's float conversion is a lookup table with errors of 0.4.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...datasets.core.geometry import row_strips

XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""IEC 61966-2-1, rows X, Y, Z of linear light. The row of Y has sum 1, so that white has Y = 1."""

WHITE = (0.95047, 1.0, 1.08883)

AB_RANGE = 110.0
"""Upper bound of |a| and |b| of sRGB colors: a reaches from -86.2 to 98.2, b from -107.9 to 94.5."""


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """(..., 3, H, W) sRGB in [0, 1] to (..., 3, H, W) L, a, b."""
    xyz = torch.einsum("rc,...chw->...rhw", rgb.new_tensor(XYZ_OF_RGB), _linear(rgb))
    x, y, z = (_f(xyz[..., axis, :, :] / WHITE[axis]) for axis in range(3))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """(..., 3, H, W) L, a, b to sRGB, outside [0, 1] for colors outside the gamut."""
    lightness, a, b = lab.unbind(-3)
    y = (lightness + 16) / 116
    cubes = (_f_inverse(f) * white for f, white in zip((y + a / 500, y, y - b / 200), WHITE, strict=True))
    rgb_of_xyz = torch.linalg.inv(torch.tensor(XYZ_OF_RGB, dtype=torch.float64)).to(lab)
    return _encoded(torch.einsum("rc,...chw->...rhw", rgb_of_xyz, torch.stack(list(cubes), dim=-3)))


def lightness(rgb: Tensor) -> Tensor:
    """(..., 3, H, W) sRGB in [0, 1] to (..., 1, H, W) L: the first channel of `rgb_to_lab`."""
    return 116 * _f(_luminance(rgb)) - 16


def gray(rgb: Tensor) -> Tensor:
    """(..., 3, H, W) sRGB in [0, 1] to (..., 1, H, W): the sRGB value of the gray of the same lightness."""
    return _encoded(_luminance(rgb))


def lab_of(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB, uint8, uint16 or floats in [0, 1], to (H, W, 3) float32 L, a, b."""
    return np.ascontiguousarray(rgb_to_lab(_tensor_of(image)).movedim(0, -1).numpy())


def lightness_of(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB, uint8, uint16 or floats in [0, 1], to (H, W) float32 L."""
    result = np.empty(image.shape[:2], np.float32)
    for rows in row_strips(result):
        result[rows] = lightness(_tensor_of(image[rows]))[0].numpy()
    return result


def rgb_of(lab: np.ndarray) -> np.ndarray:
    """(H, W, 3) L, a, b to (H, W, 3) float32 sRGB, outside [0, 1] for colors outside the gamut."""
    values = torch.from_numpy(np.ascontiguousarray(lab, np.float32))
    return np.ascontiguousarray(lab_to_rgb(values.movedim(-1, 0)).movedim(0, -1).numpy())


def _tensor_of(image: np.ndarray) -> Tensor:
    """(3, H, W) float32 in [0, 1]."""
    top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    # Cast first: 8-bit values times anything wrap around.
    return torch.from_numpy(np.ascontiguousarray(image, np.float32) / np.float32(top)).movedim(-1, 0)


def _luminance(rgb: Tensor) -> Tensor:
    return torch.einsum("c,...chw->...hw", rgb.new_tensor(XYZ_OF_RGB[1]), _linear(rgb)).unsqueeze(-3)


def _linear(encoded: Tensor) -> Tensor:
    return torch.where(encoded > 0.04045, ((encoded + 0.055) / 1.055) ** 2.4, encoded / 12.92)


def _encoded(linear: Tensor) -> Tensor:
    # The power of a negative number is nan; the clamp keeps it out of the branch that is not taken.
    curved = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear)


def _f(t: Tensor) -> Tensor:
    return torch.where(t > 0.008856, t.clamp_min(0.008856) ** (1 / 3), 7.787 * t + 16 / 116)


def _f_inverse(f: Tensor) -> Tensor:
    return torch.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
