"""PSNR and SSIM.

psnr = 10 log10(255² / MSE), in dB. ssim: Wang, Bovik, Sheikh, Simoncelli 2004, with their window (11x11, Gaussian with
a standard deviation of 1.5 pixels), biased covariance, K = 0.01 and 0.03, averaged over the positions where the window
is inside the image, and over channels. Values are float64 in 0..255 and are not rounded here. Scores are per image;
`mean_score` averages them over images: a mean of ratios is not the ratio of means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np

IDENTICAL_PSNR = 100.0
"""PSNR in dB of identical images, whose ratio is infinite, and upper limit of all others."""

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of values in 0..255, at most `IDENTICAL_PSNR`."""
    error = float(np.mean((first - second) ** 2))
    return min(IDENTICAL_PSNR, 10 * math.log10(255**2 / error)) if error else IDENTICAL_PSNR


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of (H, W, C) float64 in 0..255; nan for images smaller than the window."""
    if min(first.shape[:2]) < WINDOW:
        return math.nan
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    x, y = _window_mean(first), _window_mean(second)
    variance_x, variance_y = _window_mean(first**2) - x**2, _window_mean(second**2) - y**2
    covariance = _window_mean(first * second) - x * y
    similarity = (2 * x * y + c1) * (2 * covariance + c2) / ((x**2 + y**2 + c1) * (variance_x + variance_y + c2))
    return float(similarity.mean())


def mean_score(scores: Iterable[float]) -> float:
    """Mean that does not depend on the order; nan scores are left out, and the mean of none is nan."""
    valid = [score for score in scores if not math.isnan(score)]
    return math.fsum(valid) / len(valid) if valid else math.nan


def _window_mean(values: np.ndarray) -> np.ndarray:
    """Gaussian-weighted mean at every position where the window is inside the image."""
    radius = WINDOW // 2
    blurred = cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA)
    return blurred.reshape(values.shape)[radius:-radius, radius:-radius]
