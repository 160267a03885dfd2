"""Metrics of video prediction, by protocol.

`frames` compares predicted frames with those that followed, as 8-bit values:

    error            root mean squared error over all predicted frames of a clip, gray levels (the monitored metric)
    psnr, ssim       mean over the predicted frames (`image_quality`)
    psnr_1, psnr_2   the same of the first, second, ... predicted frame
    psnr_moving      PSNR over the pixels of the moving region, and psnr_static over all others
    mask_iou         intersection over union of the mask, from 0.5, with the true one; where the dataset has one

A pixel is in the moving region if it is in the true mask of the frame or of the last given one; without true masks, if
the true frame differs from the last given one by more than 10 levels in a channel.

`samples` is for clips from noise, which have no true continuation:

    error            Fréchet distance between features of the generated and of the true clips under a fixed random network
    static           share of generated clips with a static background
    moving           share of the pixels that differ from the background, in generated clips, and true_moving in true ones
    speed_overlap    share that the histograms of speeds of generated and true clips have in common (`speed`)

A fixed random network has never learned anything: the distance compares runs of this package and is no FVD.

Scores are means over clips, except mask_iou, which sums pixels, and the Fréchet distance. What does not occur is left
out: psnr_moving of clips without motion, mask_iou of datasets without masks.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np

from ...datasets.dataset import Sample
from ...datasets.field_types import Image
from ...errors import UserError
from ..image_quality import mean_score, psnr, ssim
from ..prediction import Prediction
from ..task import Metrics, RowMetrics
from .policies import Division
from .predicted_clip import PredictedClip

PROTOCOLS = ("frames", "samples")
MOVED = 10
"""Difference in gray levels above which a pixel counts as moved, where no true mask is known."""
STILL_SHARE, STILL_LEVELS = 0.2, 2.0
"""A background is static if this share of the pixels has at most this standard deviation over time, gray levels."""
FEATURES, NETWORK_SEED = 24, 2016
SPEED_BINS = (0.3, 0.95, 1.75, 3.0)
"""Limits of the bins of speeds, pixels per frame: still, the three speeds of `boats`, and faster."""
FOREGROUND, LEAST_AREA, TIME_STEP = 30, 12, 4
"""Difference to the background in gray levels that makes a pixel foreground, least pixels of what moves, and frames of
a step."""


def metrics_of(protocol: str, division: Division) -> Metrics:
    """New metrics under a protocol.

    Raises:
        UserError: an unknown protocol, or one that does not fit what is predicted.
    """
    if (protocol == "samples") == bool(division.context):
        kind = "clips from noise (--context 0)" if protocol == "samples" else "frames that follow given ones"
        raise UserError(f"The protocol '{protocol}' is for {kind}.")
    return SampleMetrics() if protocol == "samples" else FrameMetrics(division)


def _predicted(prediction: Prediction) -> PredictedClip:
    if not isinstance(prediction, PredictedClip):
        raise TypeError(f"video metrics need a PredictedClip, not a {type(prediction).__name__}")
    return prediction


class FrameMetrics(RowMetrics):
    """The metrics of `frames`, and `samples`, the number of clips."""

    def __init__(self, division: Division) -> None:
        super().__init__()
        self.division = division

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one clip; the sample has `clip`, and optionally `mask`.

        Raises:
            ValueError: the sizes differ.
        """
        predicted = _predicted(prediction)
        clip = np.stack([Image().colorize(frame) for frame in ground_truth["clip"]])
        following, last = self.division.following(clip), clip[max(0, self.division.context - 1)]
        if predicted.frames.shape != following.shape:
            raise ValueError(
                f"the prediction has the shape {predicted.frames.shape}, the ground truth {following.shape}"
            )
        masks = ground_truth.get("mask")
        rows = zip(predicted.frames.astype(np.float64), following.astype(np.float64), strict=True)
        squared = (predicted.frames.astype(np.float64) - following) ** 2
        row: dict[str, Any] = {"error": math.sqrt(squared.mean())}
        row["frames"] = [(psnr(*pair), ssim(*pair)) for pair in rows]
        if masks is None:
            moving = (np.abs(following.astype(int) - last) > MOVED).any(-1)
        else:
            true = self.division.following(masks)
            moving = true | masks[max(0, self.division.context - 1)]
            if predicted.masks is not None:
                found = predicted.masks >= 0.5
                row["overlap"] = int((found & true).sum()), int((found | true).sum())
        for name, region in (("psnr_moving", moving), ("psnr_static", ~moving)):
            if region.any():
                row[name] = min(100.0, 10 * math.log10(255**2 / max(squared[region].mean(), 1e-9)))
        self.rows.append(row)

    def compute(self) -> dict[str, float]:
        horizons = list(zip(*(row["frames"] for row in self.rows), strict=True))
        scores = {"error": mean_score(row["error"] for row in self.rows)}
        for index, name in enumerate(("psnr", "ssim")):
            each = [mean_score(values[index] for values in horizon) for horizon in horizons]
            scores[name] = mean_score(each)
            if name == "psnr":
                scores.update({f"psnr_{number}": value for number, value in enumerate(each, 1)})
        for name in ("psnr_moving", "psnr_static"):
            if known := [row[name] for row in self.rows if name in row]:
                scores[name] = mean_score(known)
        if overlaps := [row["overlap"] for row in self.rows if "overlap" in row]:
            both, either = np.sum(overlaps, axis=0)
            scores["mask_iou"] = float(both / either) if either else math.nan
        return {**scores, "samples": float(len(self.rows))}


class SampleMetrics(RowMetrics):
    """The metrics of `samples`; a row has a `describe`d true clip and a generated one, and whether that is static."""

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        frames = _predicted(prediction).frames
        clip = np.stack([Image().colorize(frame) for frame in ground_truth["clip"][: len(frames)]])
        self.rows.append((describe(clip), describe(frames), has_static_background(frames)))

    def compute(self) -> dict[str, float]:
        count = float(len(self.rows))
        names = ("error", "static", "moving", "true_moving", "speed_overlap")
        if not self.rows:
            return {**dict.fromkeys(names, math.nan), "samples": count}
        # Sums of floats depend on their order, which the number of processes must not change.
        rows = sorted(self.rows, key=lambda row: row[0].features.tolist())
        true, generated = ([row[index] for row in rows] for index in (0, 1))
        histograms = [speed_histogram([each.speed for each in clips]) for clips in (true, generated)]
        values = (
            frechet_distance(*(np.stack([each.features for each in clips]) for clips in (true, generated))),
            sum(row[2] for row in rows) / count,
            *(sum(each.moving for each in clips) / count for clips in (generated, true)),
            float(np.minimum(*histograms).sum()),
        )
        return {**dict(zip(names, values, strict=True)), "samples": count}


class ClipStatistics(NamedTuple):
    """What the protocol `samples` compares of a clip.

    Attributes:
        features: (24,), of the fixed random network.
        moving: share of the pixels that are foreground.
        speed: see `speed`.
    """

    features: np.ndarray
    moving: float
    speed: float


def describe(clip: np.ndarray) -> ClipStatistics:
    """The statistics of a clip (T, H, W, 3) uint8."""
    return ClipStatistics(features(clip), float(foreground_of(clip).mean()), speed(clip))


def foreground_of(clip: np.ndarray) -> np.ndarray:
    """Pixels of a clip (T, H, W, 3) uint8 that differ from their median over time: (T, H, W) bool."""
    return np.any(np.abs(clip.astype(np.float32) - np.median(clip, axis=0)) > FOREGROUND, axis=-1)


def speed(clip: np.ndarray) -> float:
    """Speed of what moves in a clip (T, H, W, 3) uint8, pixels per frame; 0 if nothing does.

    It is the median over time of the steps of the centers of connected parts of the foreground, each to the nearest
    center `TIME_STEP` frames later.
    """
    centers = []
    for mask in foreground_of(clip).astype(np.uint8):
        _, _, statistics, places = cv2.connectedComponentsWithStats(mask)
        centers.append(places[1:][statistics[1:, cv2.CC_STAT_AREA] >= LEAST_AREA])
    steps = []
    for here, there in zip(centers, centers[TIME_STEP:], strict=False):
        if len(here) and len(there):
            steps += list(np.linalg.norm(here[:, None] - there, axis=-1).min(axis=1) / TIME_STEP)
    return float(np.median(steps)) if steps else 0.0


def speed_histogram(speeds: Sequence[float]) -> np.ndarray:
    """Share of the speeds in each bin of `SPEED_BINS`, (5,)."""
    return np.bincount(np.digitize(speeds, SPEED_BINS), minlength=len(SPEED_BINS) + 1) / max(1, len(speeds))


def has_static_background(frames: np.ndarray) -> bool:
    """Whether the background of a clip (T, H, W, 3) uint8 does not change."""
    deviation = frames.astype(np.float64).std(axis=0).max(axis=-1)
    return bool(np.quantile(deviation, STILL_SHARE) <= STILL_LEVELS)


@cache
def _random_network() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(NETWORK_SEED)
    return rng.standard_normal((FEATURES, 3, 4, 8, 8)) / 28, rng.standard_normal((FEATURES, FEATURES)) / 5


def features(clip: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 to (24,) float64: a fixed random network of two layers, averaged over time and space."""
    import torch
    from torch.nn.functional import conv3d

    first, second = _random_network()
    values = torch.from_numpy(clip / 127.5 - 1).movedim(-1, 0)[None]
    responses = conv3d(values, torch.from_numpy(first), stride=(2, 4, 4), padding=(2, 4, 4)).abs().mean((2, 3, 4))
    return np.abs(responses[0].numpy() @ second)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of two normal distributions fitted to features, (N, F) each."""
    difference = first.mean(0) - second.mean(0)
    one, two = (np.cov(each, rowvar=False, bias=True) for each in (first, second))
    # The trace of the root of a product of covariances is the sum of the roots of its eigenvalues.
    roots = np.sqrt(np.clip(np.linalg.eigvals(one @ two).real, 0, None))
    return max(0.0, float(difference @ difference + np.trace(one) + np.trace(two) - 2 * roots.sum()))
