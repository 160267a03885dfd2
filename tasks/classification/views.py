"""How a picture is shown to a classifier: the protocols of the papers, as geometries.

Published scores are measured so; each view takes the picture's size, the size of the training, and the preprocessing of
the weights, whose `resize` and `crop` say how large the short side is made (256 for crops of 224) and by which filter.
"""

from __future__ import annotations

from collections.abc import Callable

from ...backbones.backbone import Preprocessing
from ...datasets.geometry import LARGEST_FIT, Filter, Geometry, Size, resize_and_crop

SCALES = (1.0, 1.5, 2.0)
"""Simonyan and Zisserman 2014, section 4.2: Q in {256, 384, 512}."""

View = Callable[[Size, Size, Preprocessing], tuple[Geometry, ...]]


def centre_crop(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """Short side `resize`, the central window of the training's size: the protocol of published single-crop scores."""
    resized = with_short_side(source, short_side(trained, weights))
    corner = round((resized[0] - trained[0]) / 2), round((resized[1] - trained[1]) / 2)
    return (resize_and_crop(source, resized, corner, trained, filter_of(weights)),)


def ten_crop(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """The four corners and the middle of the central square, and their mirror images.

    Krizhevsky et al. 2012, section 4.1: of 256 x 256 the windows of 224 at (0, 0), (0, 32), (32, 0), (32, 32) and
    (16, 16).
    """
    short = short_side(trained, weights)
    resized = with_short_side(source, short)
    top, left = ((side - short) // 2 for side in resized)
    room = short - trained[0], short - trained[1]
    corners = [(0, 0), (0, room[1]), (room[0], 0), room, (room[0] // 2, room[1] // 2)]
    return tuple(
        resize_and_crop(source, resized, (top + y, left + x), trained, filter_of(weights), mirrored)
        for mirrored in (False, True)
        for y, x in corners
    )


def dense(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """The whole picture at the short side `resize`, and its mirror image: VGG's dense evaluation at one scale."""
    return _whole(source, (short_side(trained, weights),), weights, trained)


def dense_three_scales(source: Size, trained: Size, weights: Preprocessing) -> tuple[Geometry, ...]:
    """The whole picture at three short sides, each with its mirror image: VGG's multi-scale evaluation."""
    return _whole(source, tuple(round(short_side(trained, weights) * scale) for scale in SCALES), weights, trained)


VIEWS: dict[str, View] = {
    "centre-crop": centre_crop,
    "ten-crop": ten_crop,
    "dense": dense,
    "dense-3-scales": dense_three_scales,
}
DENSE_VIEWS = ("dense", "dense-3-scales")
"""Those for which the classifier slides over the picture."""


def short_side(trained: Size, weights: Preprocessing) -> int:
    """What the short side is made, in the weights' proportion of `resize` to `crop`."""
    return round(min(trained) * weights.resize / weights.crop)


def with_short_side(source: Size, short: int) -> Size:
    """A size of this short side and the picture's aspect; the long side is rounded down, as torchvision does.

    A strip is squeezed where it would have to be enlarged beyond `LARGEST_FIT` times the short side.
    """
    height, width = source
    long = min(short * max(source) // min(source), max(LARGEST_FIT * short, *source))
    return (short, long) if height <= width else (long, short)


def filter_of(weights: Preprocessing) -> Filter:
    """Pillow's filter of the weights' training."""
    return "bicubic" if weights.interpolation == "bicubic" else "bilinear"


def _whole(source: Size, sides: tuple[int, ...], weights: Preprocessing, trained: Size) -> tuple[Geometry, ...]:
    """The whole picture, with a border where it is smaller than the classifier (LeNet's 28 of 32 pixels)."""
    views = []
    for side in sides:
        resized = with_short_side(source, side)
        window = max(resized[0], trained[0]), max(resized[1], trained[1])
        corner = round((resized[0] - window[0]) / 2), round((resized[1] - window[1]) / 2)
        views += [
            resize_and_crop(source, resized, corner, window, filter_of(weights), mirrored) for mirrored in (False, True)
        ]
    return tuple(views)
