"""Scores of translation, each under a named protocol.

Of made pictures, each for every picture and then the mean:

    l1         mean absolute difference of values in [0, 1]
    psnr       dB, and
    ssim       as in `tasks.likeness`, over all three colours
    sharpness  mean length of the made luminance's gradient over that of the true one: 1 is as sharp, below 1 blurred

Of label maps, pixel_accuracy, class_accuracy and mean_iou (see `agreement`). A judge who reads labels in pictures makes
them scores of pictures too: `true_pixel_accuracy` and its siblings are what the same judge scores on the true pictures,
which made ones are to be measured by.

    pictures          the scores of pictures
    facades           these, and what the decoder of the world of facades reads
    judge=CHECKPOINT  these, and what a checkpoint of this task reads that was trained from pictures to labels
    fid               these, and the Fréchet Inception Distance
    labels            the scores of label maps

`facades+fcn-score`, `judge=CHECKPOINT+fcn-score` and `labels+fcn-score` count a class without any pixel as 0 in the
means, as pix2pix's script does; otherwise it is left out.

`error`, which is watched, is under every protocol the plainest number, lower is better: l1 of pictures, and
1 - pixel_accuracy of labels. Convention: pictures are compared as 8-bit RGB, as saved files would be, grey ones with
three equal channels. Nothing depends on the order of the samples. nan where nothing was counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.fields import Image
from ...errors import UserError, unknown_name
from ..likeness import mean_score, psnr, ssim
from ..pictures import LUMINANCE
from ..task import Metrics, Prediction
from .agreement import Absent, agreement, confusion
from .frechet import Eye, frechet_distance, inception
from .judges import Judge, facades_judge, trained_judge
from .made import LabelMap, Made

FCN_SCORE = "+fcn-score"
NOTHING = np.zeros((0, 1), np.int64)
"""A table of counts before the first picture says how many classes there are."""


class PictureMetrics(Metrics):
    """error, l1, psnr, ssim, sharpness and samples."""

    names = ("l1", "psnr", "ssim", "sharpness")

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one picture.

        Args:
            prediction: a `Made`.
            truth: a sample, whose field `prediction.goal` is the true picture.

        Raises:
            ValueError: the two differ in size.
            UserError: the answer is a label map.
        """
        made, true = pictures_of(prediction, truth)
        first, second = made.astype(np.float64), true.astype(np.float64)
        l1 = float(np.abs(first - second).mean() / 255)
        self._rows.append((l1, psnr(first, second), ssim(first, second), sharpness(first, second)))

    def state(self) -> Any:
        """The scores of every picture."""
        return list(self._rows)

    def merge(self, states: Iterable[Any]) -> None:
        """See `Metrics.merge`."""
        self._rows = [row for state in states for row in state]

    def compute(self) -> dict[str, float]:
        """The means over the pictures; `samples` is how many counted."""
        means = {name: mean_score(row[place] for row in self._rows) for place, name in enumerate(self.names)}
        return {"error": means["l1"], **means, "samples": float(len(self._rows))}


class JudgedMetrics(PictureMetrics):
    """The scores of pictures, and how far a judge finds the labels in the made and in the true ones."""

    def __init__(self, judge: Callable[[str], Judge], absent: Absent = "left out") -> None:
        """An empty tally.

        Args:
            judge: who judges the pictures of a field; asked for at the first picture.
            absent: what a class without any pixel counts.
        """
        super().__init__()
        self.judge = judge
        self.absent: Absent = absent
        self._made, self._true = NOTHING, NOTHING

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """As `PictureMetrics.update`; the sample holds the judge's labels too.

        Raises:
            UserError: it does not, or a judge that cannot judge.
        """
        made, true = pictures_of(prediction, truth)
        assert isinstance(prediction, Made)
        judge = self.judge(prediction.goal)
        labels = truth.get(judge.field)
        if labels is None or labels.ndim != 2:
            raise UserError(
                f"The protocol compares what a judge reads with the label map '{judge.field}', which the data set "
                "lacks: use the protocol pictures."
            )
        found, known = (confusion(judge.read(picture), labels, judge.kind) for picture in (made, true))
        super().update(prediction, truth)
        self._made, self._true = pooled([self._made, found]), pooled([self._true, known])

    def state(self) -> Any:
        """The scores of every picture, and pixels by true class and by what was read in made and true pictures."""
        return super().state(), self._made, self._true

    def merge(self, states: Iterable[Any]) -> None:
        """See `Metrics.merge`."""
        states = list(states)
        super().merge(rows for rows, _, _ in states)
        self._made, self._true = pooled(made for _, made, _ in states), pooled(true for _, _, true in states)

    def compute(self) -> dict[str, float]:
        """Every score; those that begin with `true_` are the judge's on the true pictures."""
        true = {f"true_{name}": score for name, score in agreement(self._true, self.absent).items()}
        return {**super().compute(), **agreement(self._made, self.absent), **true}


class FrechetMetrics(PictureMetrics):
    """The scores of pictures, and fid between all the made and all the true ones."""

    def __init__(self, eye: Callable[[], Eye] = inception) -> None:
        """An empty tally.

        Args:
            eye: what sees a picture's features; asked for at the first picture.
        """
        super().__init__()
        self.eye = eye
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """As `PictureMetrics.update`.

        Raises:
            UserError: the weights cannot be had.
        """
        made, true = pictures_of(prediction, truth)
        see = self.eye()
        self._seen.append((see(made), see(true)))
        super().update(prediction, truth)

    def state(self) -> Any:
        """The scores and the two pictures' features of every sample."""
        return super().state(), list(self._seen)

    def merge(self, states: Iterable[Any]) -> None:
        """See `Metrics.merge`."""
        states = list(states)
        super().merge(rows for rows, _ in states)
        self._seen = [pair for _, seen in states for pair in seen]

    def compute(self) -> dict[str, float]:
        """Every score; fid is nan for fewer than two pictures."""
        made, true = (np.array([pair[place] for pair in self._seen]) for place in (0, 1))
        return {**super().compute(), "fid": frechet_distance(made, true)}


class LabelMetrics(Metrics):
    """error, pixel_accuracy, class_accuracy, mean_iou and samples."""

    def __init__(self, absent: Absent = "left out") -> None:
        self.absent: Absent = absent
        self._counts, self._samples = NOTHING, 0

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one picture; one of which nothing is said is no sample.

        Args:
            prediction: a `LabelMap`.
            truth: a sample, whose field `prediction.goal` is (H, W) labels.

        Raises:
            ValueError: the two differ in size.
            UserError: the answer is a picture.
        """
        if isinstance(prediction, Made):
            raise UserError(f"The protocol labels scores label maps; '{prediction.goal}' is a picture: use pictures.")
        if not isinstance(prediction, LabelMap):
            raise TypeError(f"labels are judged on a LabelMap, not on a {type(prediction).__name__}")
        counts = confusion(prediction.classes, truth[prediction.goal], prediction.kind)
        self._counts = pooled([self._counts, counts])
        self._samples += bool(counts.any())

    def state(self) -> Any:
        """Pixels by true and answered class, and how many pictures they are of."""
        return self._counts, self._samples

    def merge(self, states: Iterable[Any]) -> None:
        """See `Metrics.merge`."""
        states = list(states)
        self._counts, self._samples = pooled(counts for counts, _ in states), sum(samples for _, samples in states)

    def compute(self) -> dict[str, float]:
        """Every score by name; `samples` is how many pictures counted."""
        scores = agreement(self._counts, self.absent)
        return {"error": 1 - scores["pixel_accuracy"], **scores, "samples": float(self._samples)}


def judged_by(checkpoint: str, absent: Absent = "left out") -> Metrics:
    """An empty tally with a trained judge.

    Raises:
        UserError: no checkpoint is named.
    """
    if not checkpoint:
        raise UserError("The protocol judge wants a checkpoint that reads labels in pictures: judge=CHECKPOINT.")
    return JudgedMetrics(partial(trained_judge, checkpoint), absent)


PROTOCOLS: dict[str, Callable[[], Metrics]] = {
    "pictures": PictureMetrics,
    "facades": partial(JudgedMetrics, facades_judge),
    f"facades{FCN_SCORE}": partial(JudgedMetrics, facades_judge, "zero"),
    "judge": partial(judged_by, ""),
    "fid": FrechetMetrics,
    "labels": LabelMetrics,
    f"labels{FCN_SCORE}": partial(LabelMetrics, "zero"),
}
"""An empty tally by the protocol's name; "judge" is followed by "=" and a checkpoint."""


def find_protocol(name: str) -> Callable[[], Metrics]:
    """What makes an empty tally under the protocol of a name.

    Raises:
        UserError: no such protocol; the nearest name is offered.
    """
    protocol, _, checkpoint = name.partition("=")
    if protocol == "judge":
        absent: Absent = "zero" if checkpoint.endswith(FCN_SCORE) else "left out"
        return partial(judged_by, checkpoint.removesuffix(FCN_SCORE), absent)
    if name not in PROTOCOLS:
        raise unknown_name("translation protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def pictures_of(prediction: Prediction, truth: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The made and the true picture, (H, W, 3) uint8."""
    if isinstance(prediction, LabelMap):
        raise UserError(f"The protocol scores pictures; '{prediction.goal}' is a label map: use the protocol labels.")
    if not isinstance(prediction, Made):
        raise TypeError(f"pictures are judged on a Made, not on a {type(prediction).__name__}")
    made, true = prediction.picture(), Image().draw(truth[prediction.goal])
    if made.shape != true.shape:
        raise ValueError(f"a picture of {made.shape} cannot be compared with one of {true.shape}")
    return made, true


def sharpness(made: np.ndarray, true: np.ndarray) -> float:
    """Mean gradient of the first's luminance over that of the second's; nan where the second has none.

    Args:
        made, true: (H, W, 3) float64 RGB.
    """
    first, second = _mean_gradient(made @ LUMINANCE), _mean_gradient(true @ LUMINANCE)
    return first / second if second > 0 else math.nan


def _mean_gradient(luminance: np.ndarray) -> float:
    """Of (H, W), from every pixel to its right and lower neighbours; 0 of a single row or column."""
    across, down = np.diff(luminance, axis=1)[:-1], np.diff(luminance, axis=0)[:, :-1]
    return float(np.hypot(across, down).mean()) if across.size else 0.0


def pooled(tables: Iterable[np.ndarray]) -> np.ndarray:
    """The sum of tables of counts, of which some may be empty."""
    filled = [table for table in tables if table.any()]
    return np.sum(filled, axis=0) if filled else NOTHING
