"""Example images, generated when the server starts: by the synthetic datasets, or by the two drawing functions below.

No photo ships with the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ...datasets import DATASETS, dataset_class
from ...datasets.core.geometry import Size
from ...datasets.dataset import SyntheticDataset
from ...datasets.field_types import ClassLabel, FieldType, Image, SegmentationMask
from ...datasets.hand.cube import uncut
from ...datasets.hand.hand_fields import CubeDepth
from .checkpoints import CheckpointEntry

COUNT = 3
"""Number of examples per checkpoint."""
SIZE: Size = (192, 256)

STREET = (
    # Class and polygon, x and y as fractions of the image size, the farthest first.
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
"""A street scene from the view of a driver."""


def write_examples(entry: CheckpointEntry, folder: Path) -> list[list[Path]]:
    """Write example images for a checkpoint to a folder.

    Returns:
        One row of files per example, with a file for each input of the model; empty if there is no fitting example.
    """
    field_types = list(entry.inputs.values())
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, values in enumerate(_samples(entry, field_types)):
        row = [folder / f"{number}-{column}.png" for column in range(len(field_types))]
        for path, value, field_type in zip(row, values, field_types, strict=True):
            _write(path, value, field_type)
        rows.append(row)
    return rows


def _samples(entry: CheckpointEntry, field_types: list[FieldType]) -> Iterable[Sequence[np.ndarray]]:
    trained_on = (entry.header.get("data") or {}).get("name")
    for name in dict.fromkeys((trained_on, entry.task.defaults.data)):
        if name in DATASETS and issubclass(dataset_class(name), SyntheticDataset):
            # Synthetic datasets have no root.
            synthetic = dataset_class(name)(None, "test").with_size(SIZE)  # pyright: ignore[reportArgumentType]
            if list(entry.task.inputs(synthetic.fields).values()) == field_types:
                dataset = entry.task.evaluation.dataset(synthetic)
                names = tuple(entry.task.inputs(dataset.fields))
                return ([sample[field] for field in names] for sample in map(dataset.read, range(COUNT)))
    (field_type, *others) = field_types
    if (
        not others
        and isinstance(field_type, SegmentationMask)
        and {name for name, _ in STREET} <= set(field_type.names)
    ):
        street = street_labels(field_type, SIZE)
        return [[street], [np.ascontiguousarray(street[:, ::-1])]]
    for target in entry.task.targets(entry.fields).values():
        if not others and isinstance(field_type, Image) and isinstance(target, ClassLabel):
            return [[_draw_character(name, field_type.channels)] for name in target.names if len(name) == 1][:COUNT]
    return []


def street_labels(field_type: SegmentationMask, size: Size) -> np.ndarray:
    """Label map of a street scene, (H, W) uint8; the field type must have the classes of `STREET`."""
    height, width = size
    labels = np.full(size, field_type.ignore, np.uint8)
    for name, corners in STREET:
        polygon = np.round(np.array(corners) * (width - 1, height - 1)).astype(np.int32)
        cv2.fillPoly(labels, [polygon], field_type.names.index(name))
    return labels


def _draw_character(character: str, channels: int) -> np.ndarray:
    """A letter or digit in thick strokes, white on black: (56, 56, C) uint8."""
    canvas = np.zeros((112, 112), np.uint8)
    (width, height), _ = cv2.getTextSize(character, cv2.FONT_HERSHEY_SIMPLEX, 2.8, 10)
    origin = ((112 - width) // 2, (112 + height) // 2)
    cv2.putText(canvas, character, origin, cv2.FONT_HERSHEY_SIMPLEX, 2.8, 255, 10, cv2.LINE_AA)
    small = cv2.resize(canvas, (56, 56), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], channels, axis=2)


def _write(path: Path, value: np.ndarray, field_type: FieldType) -> None:
    """Write an image; a label map gets a palette with the colors of its visualization, depth has 16 bits."""
    from PIL import Image as Pillow

    if isinstance(field_type, SegmentationMask):
        image = Pillow.fromarray(value.astype(np.uint8))
        labels = np.full(256, field_type.ignore, np.uint8)
        labels[: len(field_type.names)] = range(len(field_type.names))
        image.putpalette(field_type.colorize(labels[None])[0].tobytes())
    elif isinstance(field_type, CubeDepth):
        image = Pillow.fromarray(uncut(value))
    else:
        pixels = field_type.colorize(value)
        image = Pillow.fromarray(pixels[..., 0] if value.shape[-1] == 1 else pixels)
    image.save(path)
