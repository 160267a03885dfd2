"""Metrics of image-to-image translation, by protocol: L1, PSNR, SSIM, sharpness, FCN-score, FID and mean IoU.

Scores of images, computed per image and averaged:

    l1         mean absolute difference of values in [0, 1]
    psnr       dB, and
    ssim       as in `tasks.image_quality`, over all three colors
    sharpness  mean length of the luminance gradient over that of the ground truth: 1 is as sharp, below 1 blurred

Scores of label maps: pixel_accuracy, class_accuracy and mean_iou (see `fcn_score`). An evaluator that reads
labels in images makes them scores of images too; `true_pixel_accuracy` and its siblings are the same evaluator's scores
on the ground truth images, to which those of translated images should be compared.

    image-mean                   the scores of images
    fcn-score-synthetic-facades  these, and the scores of the labels that the decoder of synthetic-facades reads
    fcn-score=CHECKPOINT         these, with a checkpoint of this task that was trained from images to labels
    fid                          the scores of images, and the Fréchet inception distance
    labels                       the scores of label maps

With the suffix `+absent-zero`, `fcn-score-synthetic-facades`, `fcn-score=CHECKPOINT` and `labels` count a class without
any pixel as 0 in the means, as pix2pix's script does; otherwise it is left out.

`error`, the monitored metric, is lower-is-better under every protocol: l1 of images, and 1 - pixel_accuracy of labels.
Convention: images are compared as 8-bit RGB, as saved files would be, gray ones with three equal channels. Scores do
not depend on the order of the samples, and are nan without samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType, Image, SegmentationMask
from ...errors import UserError
from ...registry import lookup
from ..image_io import LUMINANCE
from ..image_quality import mean_score, psnr, ssim
from ..prediction import Prediction
from ..task import Metrics, RowMetrics, Table, confusion_tables
from .fcn_score import (
    Absent,
    SegmentationEvaluator,
    checkpoint_evaluator,
    confusion,
    facades_evaluator,
    segmentation_scores,
)
from .fid import FeatureExtractor, frechet_distance, inception
from .predictions import LabelMap, TranslatedImage

ABSENT_ZERO = "+absent-zero"
NO_COUNTS = np.zeros((), np.int64)
"""The confusion matrix before the first image, when the number of classes is unknown: to be added to any."""


class ImageMetrics(RowMetrics):
    """error, l1, psnr, ssim, sharpness and samples."""

    names = ("l1", "psnr", "ssim", "sharpness")

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one image; the real one is the sample's field `prediction.target_field`.

        Raises:
            ValueError: the sizes differ.
            UserError: the prediction is a label map.
        """
        fake, real = image_pair(prediction, ground_truth)
        assert isinstance(prediction, TranslatedImage)
        more = self.measure(prediction.target_field, ground_truth, fake, real)
        first, second = fake.astype(np.float64), real.astype(np.float64)
        l1 = float(np.abs(first - second).mean() / 255)
        self.rows.append((l1, psnr(first, second), ssim(first, second), sharpness(first, second), *more))

    def measure(self, target_field: str, sample: Sample, fake: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, ...]:
        """What a derived class adds to the row of a translated and a real image, (H, W, 3) uint8."""
        return ()

    def compute(self) -> dict[str, float]:
        means = {name: mean_score(row[index] for row in self.rows) for index, name in enumerate(self.names)}
        return {"error": means["l1"], **means, "samples": float(len(self.rows))}


class FCNScoreMetrics(ImageMetrics):
    """The scores of images, and those of the labels that an evaluator reads in the translated and the real images.

    Args:
        evaluator: from a target field to its evaluator; called at every image.
        absent: how a class without any pixel counts.
    """

    def __init__(self, evaluator: Callable[[str], SegmentationEvaluator], absent: Absent = "skip") -> None:
        super().__init__()
        self.evaluator = evaluator
        self.absent: Absent = absent
        self._fake, self._real = NO_COUNTS, NO_COUNTS

    def measure(self, target_field: str, sample: Sample, fake: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, ...]:
        """Count the labels of both images; the sample needs the evaluator's labels.

        Raises:
            UserError: the sample lacks them, or the evaluator does not fit the target field.
        """
        evaluator = self.evaluator(target_field)
        labels = sample.get(evaluator.field)
        if labels is None or labels.ndim != 2:
            raise UserError(
                f"The FCN-score needs the label map '{evaluator.field}', which the dataset lacks: use the protocol "
                "image-mean."
            )
        fake_counts, real_counts = (
            confusion(evaluator.predict_labels(image), labels, evaluator.field_type) for image in (fake, real)
        )
        self._fake, self._real = self._fake + fake_counts, self._real + real_counts
        return ()

    def state(self) -> Any:
        return super().state(), self._fake, self._real

    def merge(self, states: Iterable[Any]) -> None:
        states = list(states)
        super().merge(rows for rows, _, _ in states)
        self._fake, self._real = (sum((state[part] for state in states), NO_COUNTS) for part in (1, 2))

    def compute(self) -> dict[str, float]:
        """Every score; those with the prefix `true_` are the evaluator's on the real images."""
        real = {f"true_{name}": score for name, score in segmentation_scores(self._real, self.absent).items()}
        return {**super().compute(), **segmentation_scores(self._fake, self.absent), **real}


class FIDMetrics(ImageMetrics):
    """The scores of images, and fid between all translated and all real ones.

    Args:
        extractor: creates the feature extractor; called at every image.
    """

    def __init__(self, extractor: Callable[[], FeatureExtractor] = inception) -> None:
        super().__init__()
        self.extractor = extractor

    def measure(self, target_field: str, sample: Sample, fake: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, ...]:
        """The features of both images.

        Raises:
            UserError: the weights cannot be downloaded.
        """
        extract = self.extractor()
        return extract(fake), extract(real)

    def compute(self) -> dict[str, float]:
        """Every score; fid is nan for fewer than two images."""
        fake, real = (np.array([row[index] for row in self.rows]) for index in (-2, -1))
        return {**super().compute(), "fid": frechet_distance(fake, real)}


class LabelMetrics(Metrics):
    """error, pixel_accuracy, class_accuracy, mean_iou and samples."""

    def __init__(self, absent: Absent = "skip") -> None:
        self.absent: Absent = absent
        self._counts, self._samples = NO_COUNTS, 0

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one image by the (H, W) labels of the field `prediction.target_field`; one without any is not a sample.

        Raises:
            ValueError: the sizes differ.
            UserError: the prediction is an image.
        """
        if isinstance(prediction, TranslatedImage):
            raise UserError(
                f"The protocol labels scores label maps, and '{prediction.target_field}' is an image: use the protocol "
                "image-mean."
            )
        if not isinstance(prediction, LabelMap):
            raise TypeError(f"segmentation metrics take a LabelMap, not a {type(prediction).__name__}")
        counts = confusion(prediction.classes, ground_truth[prediction.target_field], prediction.field_type)
        self._counts = self._counts + counts
        self._samples += bool(counts.any())

    def state(self) -> Any:
        return self._counts, self._samples

    def merge(self, states: Iterable[Any]) -> None:
        states = list(states)
        self._counts = sum((counts for counts, _ in states), NO_COUNTS)
        self._samples = sum(samples for _, samples in states)

    def compute(self) -> dict[str, float]:
        scores = segmentation_scores(self._counts, self.absent)
        return {"error": 1 - scores["pixel_accuracy"], **scores, "samples": float(self._samples)}

    def tables(self, fields: dict[str, FieldType]) -> dict[str, Table]:
        """Recall, precision and intersection over union of every class, and the confusion matrix, in pixels."""
        counts = np.atleast_2d(self._counts)
        names = next(
            (kind.names for kind in fields.values() if isinstance(kind, SegmentationMask)),
            tuple(f"class {number}" for number in range(len(counts))),
        )
        return confusion_tables(names, counts) if self._samples else {}


def fcn_score_metrics(checkpoint: str, absent: Absent = "skip") -> Metrics:
    """Empty metrics with a checkpoint as the evaluator.

    Raises:
        UserError: the checkpoint is empty.
    """
    if not checkpoint:
        raise UserError(
            "The protocol fcn-score needs a checkpoint that reads labels in images: use fcn-score=CHECKPOINT."
        )
    return FCNScoreMetrics(partial(checkpoint_evaluator, checkpoint), absent)


PROTOCOLS: dict[str, Callable[[], Metrics]] = {
    "image-mean": ImageMetrics,
    "fcn-score-synthetic-facades": partial(FCNScoreMetrics, facades_evaluator),
    f"fcn-score-synthetic-facades{ABSENT_ZERO}": partial(FCNScoreMetrics, facades_evaluator, "zero"),
    "fcn-score": partial(fcn_score_metrics, ""),
    "fid": FIDMetrics,
    "labels": LabelMetrics,
    f"labels{ABSENT_ZERO}": partial(LabelMetrics, "zero"),
}
"""Name of a protocol to a function that creates its empty metrics; "fcn-score" is followed by "=" and a checkpoint."""


def find_protocol(name: str) -> Callable[[], Metrics]:
    """A function that creates the empty metrics of a protocol.

    Raises:
        UserError: no such protocol; the nearest name is suggested.
    """
    protocol, _, checkpoint = name.partition("=")
    if protocol == "fcn-score":
        absent: Absent = "zero" if checkpoint.endswith(ABSENT_ZERO) else "skip"
        return partial(fcn_score_metrics, checkpoint.removesuffix(ABSENT_ZERO), absent)
    return lookup("translation protocol", name, PROTOCOLS)


def image_pair(prediction: Prediction, ground_truth: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The translated and the real image, (H, W, 3) uint8.

    Raises:
        UserError: the prediction is a label map.
        TypeError: it is not a `TranslatedImage`.
        ValueError: the sizes differ.
    """
    if isinstance(prediction, LabelMap):
        raise UserError(
            f"The protocol scores images, and '{prediction.target_field}' is a label map: use the protocol labels."
        )
    if not isinstance(prediction, TranslatedImage):
        raise TypeError(f"image metrics take a TranslatedImage, not a {type(prediction).__name__}")
    fake, real = prediction.to_image(), Image().colorize(ground_truth[prediction.target_field])
    if fake.shape != real.shape:
        raise ValueError(f"an image of {fake.shape} cannot be compared with one of {real.shape}")
    return fake, real


def sharpness(fake: np.ndarray, real: np.ndarray) -> float:
    """Mean luminance gradient of the first image over that of the second; nan if the second has none.

    Args:
        fake, real: (H, W, 3) float64 RGB.
    """
    first, second = _mean_gradient(fake @ LUMINANCE), _mean_gradient(real @ LUMINANCE)
    return first / second if second > 0 else math.nan


def _mean_gradient(luminance: np.ndarray) -> float:
    """Mean length over (H, W), from every pixel to its right and lower neighbors; 0 for a single row or column."""
    dx, dy = np.diff(luminance, axis=1)[:-1], np.diff(luminance, axis=0)[:, :-1]
    return float(np.hypot(dx, dy).mean()) if dx.size else 0.0
