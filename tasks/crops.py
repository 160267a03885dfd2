"""Test crops of the papers as geometries, for tasks that predict one output per image.

The crops are the protocols of published scores. Each takes the size of the image, the training size, and the
preprocessing of the weights, whose `resize` and `crop` give the length of the short side (256 for crops of 224) and
whose `interpolation` gives the filter.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..backbones.backbone import Preprocessing
from ..datasets.core.geometry import MAX_FIT_FACTOR, Filter, Geometry, Size, resize_and_crop
from ..datasets.field_types import FieldType
from .network import Network
from .policies import EvaluationPolicy, InferencePolicy

SCALES = (1.0, 1.5, 2.0)
"""Simonyan and Zisserman 2014, section 4.2: Q in {256, 384, 512}."""

Crops = Callable[[Size, Size, Preprocessing], tuple[Geometry, ...]]


def center_crop(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """Resize the short side to `resize` and crop the center at the training size: the usual single-crop protocol."""
    resized = with_short_side(source, short_side(trained, weights))
    corner = round((resized[0] - trained[0]) / 2), round((resized[1] - trained[1]) / 2)
    return (resize_and_crop(source, resized, corner, trained, filter_of(weights)),)


def ten_crop(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """The four corners and the center of the central square, and their horizontal flips.

    Krizhevsky et al. 2012, section 4.1: of 256 x 256 the windows of 224 at (0, 0), (0, 32), (32, 0), (32, 32) and
    (16, 16).
    """
    short = short_side(trained, weights)
    resized = with_short_side(source, short)
    top, left = ((side - short) // 2 for side in resized)
    margin = short - trained[0], short - trained[1]
    corners = [(0, 0), (0, margin[1]), (margin[0], 0), margin, (margin[0] // 2, margin[1] // 2)]
    return tuple(
        resize_and_crop(source, resized, (top + y, left + x), trained, filter_of(weights), mirrored)
        for mirrored in (False, True)
        for y, x in corners
    )


def dense(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """The full image at short side `resize` and its horizontal flip: VGG's dense evaluation at one scale."""
    return _full_image(source, (short_side(trained, weights),), weights, trained)


def dense_three_scales(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """The full image at three scales, each with its horizontal flip: VGG's multi-scale evaluation."""
    return _full_image(source, tuple(round(short_side(trained, weights) * scale) for scale in SCALES), weights, trained)


TEST_CROPS: dict[str, Crops] = {
    "center-crop": center_crop,
    "ten-crop": ten_crop,
    "dense": dense,
    "dense-3-scales": dense_three_scales,
}
DENSE_CROPS = ("dense", "dense-3-scales")
"""Modes in which the classifier is applied convolutionally to the full image."""


def short_side(trained: Size, weights: Preprocessing) -> int:
    """Length of the short side, in the weights' ratio of `resize` to `crop`."""
    return round(min(trained) * weights.resize / weights.crop)


def with_short_side(source: Size, short: int) -> Size:
    """The size with this short side and the image's aspect ratio; the long side is rounded down, as in torchvision.

    The long side is limited to `MAX_FIT_FACTOR` times the short side, unless the image itself is longer.
    """
    height, width = source
    long = min(short * max(source) // min(source), max(MAX_FIT_FACTOR * short, *source))
    return (short, long) if height <= width else (long, short)


def filter_of(weights: Preprocessing) -> Filter:
    """The Pillow filter that the weights were trained with."""
    return "bicubic" if weights.interpolation == "bicubic" else "bilinear"


def _full_image(source: Size, sides: tuple[int, ...], weights: Preprocessing, trained: Size) -> tuple[Geometry, ...]:
    """The full image, padded where it is smaller than the classifier's input (LeNet: 28 of 32 pixels)."""
    geometries = []
    for side in sides:
        resized = with_short_side(source, side)
        window = max(resized[0], trained[0]), max(resized[1], trained[1])
        corner = round((resized[0] - window[0]) / 2), round((resized[1] - window[1]) / 2)
        geometries += [
            resize_and_crop(source, resized, corner, window, filter_of(weights), mirrored) for mirrored in (False, True)
        ]
    return tuple(geometries)


class CropInference(InferencePolicy):
    """Test crops as input modes, with the mean of their outputs as the prediction."""

    def geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        """Crops as in the backbone's preprocessing: short side `resize`, crop `crop`, scaled to the training size."""
        assert model.backbone is not None
        return TEST_CROPS[mode](source, training_size, model.backbone.preprocessing)

    def merge(self, outputs: list[Tensor]) -> Tensor:
        return sum(outputs[1:], outputs[0]) / len(outputs)

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        """Outputs for a complete image are independent of a flip."""
        return output


class CropEvaluation(EvaluationPolicy):
    """Protocols and input modes have the same names."""

    def mode(self, protocol: str) -> str:
        return protocol
