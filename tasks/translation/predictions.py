"""Predictions of translation: an image or a label map; and their mean as the baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.core.geometry import Size, plain_resize
from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType, SegmentationMask
from ...datasets.formats.image import write_image
from ...datasets.formats.png import write_png16
from ...errors import UserError
from ..prediction import ImagePrediction, Prediction, eight_bits, format_size

SUMMARY_CLASSES = 3
"""Maximum number of classes in a summary."""


@dataclass(frozen=True, repr=False)
class TranslatedImage(ImagePrediction):
    """A translated image, saved as STEM_translated.png.

    Attributes:
        target_field: name of the sample's field with the real image.
    """

    target_field: str
    suffix: ClassVar[str] = "translated"

    @classmethod
    def from_floats(cls, values: np.ndarray, target_field: str) -> TranslatedImage:
        """From (H, W, 1 or 3) floats, which are clipped to [0, 1]."""
        return cls(eight_bits(values), target_field)


@dataclass(frozen=True, repr=False)
class LabelMap(Prediction):
    """A class for every pixel.

    Attributes:
        classes: (H, W) integers, indices of `field_type.names`; `field_type.ignore` for unlabeled pixels (only in
            ground truth).
        field_type: the classes.
        target_field: name of the sample's field with the ground truth labels.
    """

    classes: np.ndarray
    field_type: SegmentationMask
    target_field: str
    unit: ClassVar[str] = "classes"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: a color for every class, black for unlabeled pixels."""
        return self.field_type.colorize(self.classes)

    def summary(self) -> str:
        count = np.bincount(self.classes[self.classes != self.field_type.ignore], minlength=1)
        first = [index for index in np.argsort(-count, kind="stable")[:SUMMARY_CLASSES] if count[index]]
        shares = [f"{self.field_type.names[index]} {100 * count[index] / count.sum():.0f} %" for index in first]
        return ", ".join(shares) or "no class"

    def _repr_parts(self) -> tuple[str, ...]:
        used = np.unique(self.classes[self.classes != self.field_type.ignore]).size
        return format_size(self.classes), self.unit, f"{used} of {len(self.field_type.names)}"

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM_labels.png, whose values are the classes, and STEM_labels_colors.png; returns the files.

        Values have 8 bits, or 16 if a class is above 255.
        """
        labels, colors = (Path(folder) / f"{stem}_labels{end}.png" for end in ("", "_colors"))
        if self.classes.max() < 256:
            write_image(labels, self.classes.astype(np.uint8))
        else:
            write_png16(labels, self.classes.astype(np.uint16))
        write_image(colors, self.to_image())
        return [labels, colors]


class MeanImage:
    """The baseline: the mean image, or the most frequent class of every pixel position.

    Images are resized to the size of the first one, and the mean to the size of each sample. Positions that no sample
    labels get the most frequent class overall.
    """

    def __init__(self, samples: Iterable[Sample], target_field: str, field_type: FieldType) -> None:
        """Average samples one by one.

        Args:
            samples: of a training set; a few hundred suffice.
            target_field: the predicted field.
            field_type: its type, an image or labels.

        Raises:
            UserError: no sample.
        """
        self.target_field, self.field_type = target_field, field_type
        total: np.ndarray | None = None
        count = 0
        for sample in samples:
            value = sample[target_field]
            size = (value.shape[0], value.shape[1]) if total is None else (total.shape[0], total.shape[1])
            values = self._to_floats(_resize(field_type, value, size))
            total = values if total is None else np.add(total, values, out=total)
            count += 1
        if total is None:
            raise UserError(f"There is no training sample with '{target_field}' to average.")
        if isinstance(field_type, SegmentationMask):
            most_frequent = int(total.sum(axis=(0, 1), dtype=np.float64).argmax())
            self.mean = np.where(total.any(axis=-1), total.argmax(axis=-1), most_frequent)
        else:
            # float32 sums can exceed 1 by rounding.
            self.mean = (total / count).clip(0, 1)

    def __call__(self, sample: Sample) -> TranslatedImage | LabelMap:
        """The mean, at the size of the sample's target."""
        height, width = sample[self.target_field].shape[:2]
        mean = _resize(self.field_type, self.mean, (height, width))
        if isinstance(self.field_type, SegmentationMask):
            return LabelMap(mean, self.field_type, self.target_field)
        return TranslatedImage.from_floats(mean, self.target_field)

    def _to_floats(self, value: np.ndarray) -> np.ndarray:
        """(h, w, K) float32: an image's values in [0, 1], or one-hot classes, 0 for unlabeled pixels."""
        if isinstance(self.field_type, SegmentationMask):
            labeled = value != self.field_type.ignore
            one_hot = value[..., None] == np.arange(len(self.field_type.names))
            return (one_hot & labeled[..., None]).astype(np.float32)
        return (value / np.iinfo(value.dtype).max if value.dtype.kind == "u" else value).astype(np.float32)


def _resize(field_type: FieldType, value: np.ndarray, size: Size) -> np.ndarray:
    """Images bilinearly, labels with nearest neighbor."""
    source = (value.shape[0], value.shape[1])
    return value if source == size else field_type.transform(value, plain_resize(source, size))
