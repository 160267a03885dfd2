"""The answers of a translation: a picture, or a label map; and the trivial answer to either."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.fields import Kind, Labels
from ...datasets.formats.picture import write_picture
from ...datasets.formats.png16 import write_png16
from ...datasets.geometry import Size, plain_resize
from ...errors import UserError
from ..picture_answer import PictureAnswer, eight_bits
from ..task import Prediction

NAMED = 3
"""How many classes a brief line names."""


@dataclass(frozen=True)
class Made(PictureAnswer):
    """A picture made of another, saved as STEM_translated.png.

    Attributes:
        goal: the field of a sample that holds the true one.
    """

    goal: str
    suffix: ClassVar[str] = "translated"

    @classmethod
    def of(cls, values: np.ndarray, goal: str) -> Made:
        """From (H, W, 1 or 3) floats, of which those outside [0, 1] are clipped."""
        return cls(eight_bits(values), goal)


@dataclass(frozen=True)
class LabelMap(Prediction):
    """A class for every pixel.

    Attributes:
        classes: (H, W) integers, positions in `kind.names`; `kind.ignore` where nothing is said (only in truths).
        kind: which classes there are.
        goal: the field of a sample that holds the true ones.
    """

    classes: np.ndarray
    kind: Labels
    goal: str
    unit: ClassVar[str] = "classes"

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: a colour for every class, black where nothing is said."""
        return self.kind.draw(self.classes)

    def brief(self) -> str:
        """The most frequent classes and their shares."""
        count = np.bincount(self.classes[self.classes != self.kind.ignore], minlength=1)
        first = [place for place in np.argsort(-count, kind="stable")[:NAMED] if count[place]]
        shares = [f"{self.kind.names[place]} {100 * count[place] / count.sum():.0f} %" for place in first]
        return ", ".join(shares) or "no class"

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_labels.png, whose values are the classes, and STEM_labels_colours.png.

        Values have 8 bits, and 16 where a class lies beyond 255.
        """
        labels, colours = (Path(folder) / f"{stem}_labels{end}.png" for end in ("", "_colours"))
        if self.classes.max() < 256:
            write_picture(labels, self.classes.astype(np.uint8))
        else:
            write_png16(labels, self.classes.astype(np.uint16))
        write_picture(colours, self.picture())
        return [labels, colours]


class MeanPicture:
    """The trivial answer: the mean picture, or the class that is most frequent at every place.

    Pictures of other sizes than the first are resized to it, and the answer to the size of the sample at hand. Where no
    sample says anything, the most frequent class of all stands.
    """

    def __init__(self, samples: Iterable[Sample], goal: str, kind: Kind) -> None:
        """Gather the samples one by one.

        Args:
            samples: of a training set; a few hundred suffice.
            goal: the field that is asked for.
            kind: its kind, a picture's or labels'.

        Raises:
            UserError: no sample.
        """
        self.goal, self.kind = goal, kind
        total: np.ndarray | None = None
        count = 0
        for sample in samples:
            value = sample[goal]
            size = (value.shape[0], value.shape[1]) if total is None else (total.shape[0], total.shape[1])
            seen = self._seen(_resized(kind, value, size))
            total = seen if total is None else np.add(total, seen, out=total)
            count += 1
        if total is None:
            raise UserError(f"There is no training sample whose '{goal}' could be averaged.")
        if isinstance(kind, Labels):
            usual = int(total.sum(axis=(0, 1), dtype=np.float64).argmax())
            self.answer = np.where(total.any(axis=-1), total.argmax(axis=-1), usual)
        else:
            # Sums in 32 bits may pass 1 by a rounding, which no picture does.
            self.answer = (total / count).clip(0, 1)

    def __call__(self, sample: Sample) -> Made | LabelMap:
        """The same answer to every sample, at the size of its goal."""
        height, width = sample[self.goal].shape[:2]
        answer = _resized(self.kind, self.answer, (height, width))
        if isinstance(self.kind, Labels):
            return LabelMap(answer, self.kind, self.goal)
        return Made.of(answer, self.goal)

    def _seen(self, value: np.ndarray) -> np.ndarray:
        """(h, w, K) float32: a picture's values in [0, 1], or a vote for each pixel's class."""
        if isinstance(self.kind, Labels):
            said = value != self.kind.ignore
            return ((value[..., None] == np.arange(len(self.kind.names))) & said[..., None]).astype(np.float32)
        return (value / np.iinfo(value.dtype).max if value.dtype.kind == "u" else value).astype(np.float32)


def _resized(kind: Kind, value: np.ndarray, size: Size) -> np.ndarray:
    """As geometries move a kind: pictures bilinearly, labels by the nearest."""
    source = (value.shape[0], value.shape[1])
    return value if source == size else kind.move(value, plain_resize(source, size))
