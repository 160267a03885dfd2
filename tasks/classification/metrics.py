"""Class scores, the prediction of a classifier, and its metrics: top-1, top-5 accuracy, negative log-likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from ...atomic_io import write_json
from ...datasets.dataset import Sample
from ...datasets.field_types import ClassLabel, FieldType
from ...datasets.formats.image import write_image
from ..crops import TEST_CROPS
from ..prediction import Prediction
from ..task import RowMetrics, Table, confusion_tables

TOP = 5
ROW, WIDTH = 36, 300
BAR = (176, 204, 232)
RIGHT = (160, 214, 160)


@dataclass(frozen=True, repr=False)
class ClassScores(Prediction):
    """Class probabilities of an image.

    Attributes:
        names: class names.
        probabilities: (num_classes,), with sum 1.
    """

    names: tuple[str, ...]
    probabilities: np.ndarray
    unit: ClassVar[str] = "probability"

    @property
    def name(self) -> str:
        """The most probable class."""
        return self.names[int(np.argmax(self.probabilities))]

    def top(self, count: int = TOP) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, best first; classes of probability 0 are left out."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        best = [(self.names[index], float(self.probabilities[index])) for index in order]
        return [(name, share) for name, share in best if share > 0]

    def summary(self) -> str:
        return ", ".join(f"{name} {share:.3f}" for name, share in self.top(3))

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """(180, 300, 3) uint8: the five most probable classes as bars; the class of `reference` is green."""
        right = reference.name if isinstance(reference, ClassScores) else None
        page = np.full((ROW * TOP, WIDTH, 3), 255, np.uint8)
        for row, (name, share) in enumerate(self.top()):
            top = row * ROW
            color = RIGHT if name == right else BAR
            cv2.rectangle(page, (0, top + 4), (round(share * WIDTH), top + ROW - 4), color, -1)
            text = f"{name[:26]} {share:.2f}"
            cv2.putText(page, text, (6, top + 23), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
        return page

    def record(self) -> dict[str, Any]:
        """The most probable class, and the best five of all."""
        top = [{"label": name, "probability": round(share, 6)} for name, share in self.top()]
        return {**(top[0] if top else {}), "top": top}

    def _repr_parts(self) -> tuple[str, ...]:
        return f"{len(self.names)} classes", self.unit, f"{self.name} {self.probabilities.max():.2f}"

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_classes.json ({"name": probability}, best five first) and STEM_classes.png."""
        folder = Path(folder)
        json_file, image_file = folder / f"{stem}_classes.json", folder / f"{stem}_classes.png"
        write_json(json_file, {name: round(share, 6) for name, share in self.top()}, indent=2)
        write_image(image_file, self.to_image())
        return [json_file, image_file]


PROTOCOLS: tuple[str, ...] = tuple(TEST_CROPS)
"""Protocols differ in the crops of the image; the metrics are the same."""


class ClassificationMetrics(RowMetrics):
    """top1 and top5 accuracy from 0 to 1; nll, the mean negative natural logarithm of the label's probability.

    Ties and nan count as wrong: a network that gives every class the same probability has no accuracy.
    """

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        assert isinstance(prediction, ClassScores)
        probability = prediction.probabilities[int(ground_truth["category"])]
        better = int(np.count_nonzero(~(prediction.probabilities < probability))) - 1
        valid = not np.isnan(probability)
        nll = -float(np.log(max(probability, np.finfo(np.float32).tiny)))
        classes = int(ground_truth["category"]), int(np.argmax(prediction.probabilities))
        self.rows.append((valid and better < 1, valid and better < 5, nll, classes))

    def compute(self) -> dict[str, float]:
        columns = list(zip(*self.rows, strict=True))[:3] if self.rows else [(math.nan,)] * 3
        return {name: sum(column) / len(column) for name, column in zip(("top1", "top5", "nll"), columns, strict=True)}

    def tables(self, fields: dict[str, FieldType]) -> dict[str, Table]:
        """Precision and recall of every class, and the confusion matrix."""
        category = fields["category"]
        assert isinstance(category, ClassLabel)
        counts = np.zeros((len(category.names),) * 2, np.int64)
        np.add.at(counts, tuple(np.array([row[3] for row in self.rows], int).reshape(-1, 2).T), 1)
        return confusion_tables(category.names, counts)
