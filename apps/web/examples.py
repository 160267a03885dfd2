"""Pictures to begin with, drawn when the page is opened: by the worlds, and where none fits, by the two pens below.

No photograph ships with the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ...datasets import DATASETS, dataset_class
from ...datasets.dataset import World
from ...datasets.fields import Category, Image, Kind, Labels
from ...datasets.geometry import Size
from .networks import Offer

COUNT = 3
"""Examples a checkpoint."""
SIZE: Size = (192, 256)

STREET = (
    # Class and polygon, x and y in shares of the picture, the farthest first.
    ("sky", ((0, 0), (1, 0), (1, 1), (0, 1))),
    ("building", ((0, 0.02), (0.2, 0.1), (0.43, 0.36), (0.43, 0.58), (0, 0.8))),
    ("building", ((1, 0), (0.84, 0.14), (0.84, 0.6), (1, 0.7))),
    ("tree", ((0.55, 0.5), (0.56, 0.34), (0.64, 0.2), (0.74, 0.1), (0.86, 0.12), (0.88, 0.4), (0.86, 0.6))),
    ("fence", ((0.6, 0.53), (0.9, 0.56), (0.9, 0.66), (0.6, 0.58))),
    ("road", ((0.44, 0.54), (0.58, 0.54), (1, 0.84), (1, 1), (0, 1), (0, 0.92))),
    ("pavement", ((0, 0.76), (0.43, 0.55), (0.45, 0.55), (0, 0.93))),
    ("pavement", ((0.58, 0.54), (1, 0.68), (1, 0.85))),
    ("pole", ((0.3, 0.2), (0.312, 0.2), (0.312, 0.68), (0.3, 0.68))),
    ("sign", ((0.28, 0.22), (0.33, 0.22), (0.33, 0.28), (0.28, 0.28))),
    ("pedestrian", ((0.2, 0.5), (0.235, 0.5), (0.24, 0.76), (0.195, 0.76))),
    ("car", ((0.48, 0.52), (0.54, 0.52), (0.55, 0.58), (0.47, 0.58))),
    ("car", ((0.62, 0.66), (0.66, 0.57), (0.78, 0.57), (0.83, 0.66), (0.84, 0.75), (0.61, 0.75))),
)
"""What a town may look like from behind a windscreen."""


def write_examples(offer: Offer, folder: Path) -> list[list[Path]]:
    """Files that a checkpoint can answer, a row of as many as it takes at a time; none where nothing here fits it.

    Args:
        offer: the checkpoint.
        folder: where they are written.
    """
    kinds = list(offer.kinds.values())
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, values in enumerate(_samples(offer, kinds)):
        row = [folder / f"{number}-{place}.png" for place in range(len(kinds))]
        for path, value, kind in zip(row, values, kinds, strict=True):
            _write(path, value, kind)
        rows.append(row)
    return rows


def _samples(offer: Offer, kinds: list[Kind]) -> Iterable[Sequence[np.ndarray]]:
    trained_on = (offer.header.get("data") or {}).get("name")
    for name in dict.fromkeys((trained_on, offer.task.default.data)):
        if name in DATASETS and issubclass(dataset_class(name), World):
            world = dataset_class(name)(None, "test").at(SIZE)  # pyright: ignore[reportArgumentType] - worlds take none
            if list(offer.task.inputs(world.fields).values()) == kinds:
                asked = offer.task.examined(world)
                names = tuple(offer.task.inputs(asked.fields))
                return ([sample[field] for field in names] for sample in map(asked.read, range(COUNT)))
    (kind, *others) = kinds
    if not others and isinstance(kind, Labels) and {name for name, _ in STREET} <= set(kind.names):
        street = street_labels(kind, SIZE)
        return [[street], [np.ascontiguousarray(street[:, ::-1])]]
    for asked_for in offer.task.targets(offer.fields).values():
        if not others and isinstance(kind, Image) and isinstance(asked_for, Category):
            return [[_written(name, kind.channels)] for name in asked_for.names if len(name) == 1][:COUNT]
    return []


def street_labels(kind: Labels, size: Size) -> np.ndarray:
    """A street drawn in labels: (H, W) uint8, of a kind that knows the classes of `STREET`."""
    height, width = size
    labels = np.full(size, kind.ignore, np.uint8)
    for name, corners in STREET:
        polygon = np.round(np.array(corners) * (width - 1, height - 1)).astype(np.int32)
        cv2.fillPoly(labels, [polygon], kind.names.index(name))
    return labels


def _written(letter: str, channels: int) -> np.ndarray:
    """(56, 56, C) uint8: a letter or a digit as by a broad pen, white on black."""
    canvas = np.zeros((112, 112), np.uint8)
    (width, height), _ = cv2.getTextSize(letter, cv2.FONT_HERSHEY_SIMPLEX, 2.8, 10)
    place = ((112 - width) // 2, (112 + height) // 2)
    cv2.putText(canvas, letter, place, cv2.FONT_HERSHEY_SIMPLEX, 2.8, 255, 10, cv2.LINE_AA)
    small = cv2.resize(canvas, (56, 56), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], channels, axis=2)


def _write(path: Path, value: np.ndarray, kind: Kind) -> None:
    """Pictures as they are; label maps with the colours in which they are drawn as their palette."""
    from PIL import Image as Pillow

    if isinstance(kind, Labels):
        stored = Pillow.fromarray(value.astype(np.uint8))
        numbers = np.full(256, kind.ignore, np.uint8)
        numbers[: len(kind.names)] = range(len(kind.names))
        stored.putpalette(kind.draw(numbers[None])[0].tobytes())
    else:
        drawn = kind.draw(value)
        stored = Pillow.fromarray(drawn[..., 0] if value.shape[-1] == 1 else drawn)
    stored.save(path)
