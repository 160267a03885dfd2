"""PSNR and SSIM of one image, and their mean; protocols are tested with their task."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from densevision.tasks.image_quality import IDENTICAL_PSNR, mean_score, psnr, ssim


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_equal_those_of_scikit_image(channels):
    clean = data.chelsea()[40:120, 100:220, :channels].astype(np.float64)
    noisy = clean + np.random.default_rng(0).normal(0, 14, clean.shape)
    assert psnr(noisy, clean) == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=255), abs=1e-9)
    # Facts 3.4: with these options it equals Wang's SSIM to 1e-15.
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert ssim(noisy, clean) == pytest.approx(structural_similarity(clean, noisy, channel_axis=-1, **wang), abs=1e-6)


def test_identical_images_have_a_finite_psnr_and_ssim_1():
    image = np.random.default_rng(0).uniform(0, 255, (12, 14, 3))
    assert psnr(image, image) == IDENTICAL_PSNR and ssim(image, image) == pytest.approx(1, abs=1e-12)
    assert math.isnan(ssim(image[:10], image[:10]))


def test_mean_score_ignores_order_and_nan():
    scores = [0.1, 1e16, 0.3, -1e16, math.nan]
    assert mean_score(scores) == mean_score(scores[::-1]) == 0.1
    assert math.isnan(mean_score([])) and math.isnan(mean_score([math.nan]))
