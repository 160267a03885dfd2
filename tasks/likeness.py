"""How alike two pictures are: what every task that answers with a picture is scored by.

psnr = 10 log10(255² / MSE), in dB. ssim: Wang, Bovik, Sheikh, Simoncelli 2004, with their window (11x11, Gaussian of
1.5 pixels), biased covariance, K = 0.01 and 0.03, the mean over the places where the window lies inside; of several
channels, the mean. Values are float64 in 0..255 and are not rounded here. Scores are those of one picture; over
pictures they are averaged by `mean_score`: a mean of ratios is not the ratio of a mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np

IDENTICAL_PSNR = 100.0
"""dB, for pictures without a difference, whose ratio is infinite; no picture counts more."""

WINDOW, DEVIATION = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal to noise ratio, dB, of values in 0..255; `IDENTICAL_PSNR` at most."""
    error = float(np.mean((first - second) ** 2))
    return min(IDENTICAL_PSNR, 10 * math.log10(255**2 / error)) if error else IDENTICAL_PSNR


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of (h, w, channels) float64 in 0..255; nan where the window does not fit."""
    if min(first.shape[:2]) < WINDOW:
        return math.nan
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    x, y = _windowed(first), _windowed(second)
    variance_x, variance_y = _windowed(first**2) - x**2, _windowed(second**2) - y**2
    covariance = _windowed(first * second) - x * y
    likeness = (2 * x * y + c1) * (2 * covariance + c2) / ((x**2 + y**2 + c1) * (variance_x + variance_y + c2))
    return float(likeness.mean())


def mean_score(scores: Iterable[float]) -> float:
    """Rounded once, so that it is the same for every order; nan scores are left out, nan where none is left."""
    known = [score for score in scores if not math.isnan(score)]
    return math.fsum(known) / len(known) if known else math.nan


def _windowed(values: np.ndarray) -> np.ndarray:
    """The weighted mean about every place where the window lies inside."""
    reach = WINDOW // 2
    blurred = cv2.GaussianBlur(values, (WINDOW, WINDOW), DEVIATION)
    return blurred.reshape(values.shape)[reach:-reach, reach:-reach]
