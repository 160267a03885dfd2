from __future__ import annotations

import math

import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from densevision.datasets.image_folders import ImageFolders
from densevision.tasks.colorization import Colorization
from densevision.tasks.colorization.colorized_image import ColorizedImage
from densevision.tasks.colorization.encoding import bins_of, smoothed
from densevision.tasks.colorization.lab import lab_of
from densevision.tasks.colorization.metrics import ColorizationMetrics, colorfulness, psnr, thresholds_reached


def sample(rgb: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": rgb}


def target_of(rgb: np.ndarray) -> ColorizedImage:
    lab = lab_of(rgb)
    return ColorizedImage(lab[..., 0], lab[..., 1:])


def gray_of(rgb: np.ndarray) -> ColorizedImage:
    lab = lab_of(rgb)
    return ColorizedImage(lab[..., 0], np.zeros_like(lab[..., 1:]))


def scores(prediction: ColorizedImage, rgb: np.ndarray) -> dict[str, float]:
    metrics = ColorizationMetrics()
    metrics.update(prediction, sample(rgb))
    return metrics.compute()


def test_the_area_is_the_mean_share_within_the_thresholds_0_to_150():
    # Facts 3.2.
    rng = np.random.default_rng(0)
    target, prediction = (rng.uniform(-90, 90, (7, 9, 2)).astype(np.float32) for _ in range(2))
    error = np.linalg.norm(prediction.astype(np.float64) - target, axis=-1)
    shares = [(error <= threshold).mean() for threshold in range(151)]
    assert (thresholds_reached(prediction, target) / 151).mean() == pytest.approx(np.mean(shares))
    error_of = {0.0: 151, 0.5: 150, 1.0: 150, 149.5: 1, 150.0: 1, 150.5: 0, 400.0: 0}
    prediction = np.array([[(distance, 0.0) for distance in error_of]], np.float32)
    assert thresholds_reached(prediction, np.zeros_like(prediction)).ravel().tolist() == list(error_of.values())


def test_the_target_scores_1_and_gray_less_and_least_when_rare_colors_count():
    rgb = data.astronaut()[::4, ::4]
    perfect, gray = scores(target_of(rgb), rgb), scores(gray_of(rgb), rgb)
    assert perfect["auc"] == perfect["auc_rebalanced"] == 1
    assert perfect["clipped"] == 0 and perfect["colorfulness"] == perfect["colorfulness_of_ground_truth"]
    # Facts 3.2: on ImageNet gray has 89.1 raw and 58.0 rebalanced.
    assert gray["auc_rebalanced"] < gray["auc"] - 0.1 < 0.95
    assert gray["colorfulness"] < 1 < gray["colorfulness_of_ground_truth"]


def test_the_rebalanced_area_weighs_pixels_by_the_inverse_prior_of_their_true_color():
    rng = np.random.default_rng(1)
    rgb = np.concatenate([data.coffee()[::16, ::16], rng.integers(0, 256, (4, 38, 3), np.uint8)])
    target = target_of(rgb)
    prediction = ColorizedImage(target.lightness, target.ab + rng.normal(0, 20, target.ab.shape).astype(np.float32))
    bins = bins_of(target.ab)
    weight = 1 / smoothed(np.bincount(bins.ravel(), minlength=313))[bins]
    shares = thresholds_reached(prediction.ab, target.ab) / 151
    assert scores(prediction, rgb)["auc_rebalanced"] == pytest.approx((weight * shares).sum() / weight.sum())


def test_the_weights_belong_to_the_images_and_not_to_the_prediction():
    rgb = data.chelsea()[::8, ::8]
    metrics = [ColorizationMetrics(), ColorizationMetrics()]
    for tally, prediction in zip(metrics, (target_of(rgb), gray_of(rgb)), strict=True):
        tally.update(prediction, sample(rgb))
    np.testing.assert_array_equal(metrics[0].state()[0], metrics[1].state()[0])


def test_colors_beyond_the_screen_are_scored_before_they_are_clipped():
    # Facts 3.2.
    rgb = np.full((4, 4, 3), 128, np.uint8)
    lightness = lab_of(rgb)[..., 0]
    far, farther = (ColorizedImage(lightness, np.full((4, 4, 2), value, np.float32)) for value in (100.0, 104.0))
    np.testing.assert_array_equal(far.clipped, True)
    assert scores(far, rgb)["clipped"] == 1
    assert scores(far, rgb)["auc"] > scores(farther, rgb)["auc"]


def test_psnr_is_scikit_images_and_ends_at_8_bit_rounding():
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (20, 30, 3), np.uint8) for _ in range(2))
    assert psnr(one, other) == pytest.approx(peak_signal_noise_ratio(one, other))
    assert psnr(one, one) == pytest.approx(58.92, abs=0.01)
    assert psnr(one, one + (one < 255)) < psnr(one, one)


def test_colorfulness_of_plain_images_is_that_of_the_formula():
    # Hasler & Suesstrunk 2003: rg = 255, yb = 127.5 everywhere, no spread.
    red = np.zeros((3, 4, 3), np.uint8)
    red[..., 0] = 255
    assert colorfulness(red) == pytest.approx(0.3 * math.hypot(255, 127.5))
    half = np.zeros((2, 2, 3), np.uint8)
    half[0, :, 0] = 255
    spread = math.hypot(127.5, 63.75)
    assert colorfulness(half) == pytest.approx(spread + 0.3 * spread)
    assert colorfulness(np.full((3, 3, 3), 77, np.uint8)) == 0


def test_gray_scores_what_the_readme_of_the_photos_says(shared_data):
    # shared/data/README.md: 160 test images, mean 21.744 dB, median 21.172. scikit-image's conversion gives 21.718.
    photos = ImageFolders(shared_data / "bsds500", "test")
    prediction = Colorization().baseline(photos)
    found = []
    for index in range(len(photos)):
        image = photos.read(index)["image"]
        found.append(psnr(prediction(sample(image)).to_image(), image))
    assert len(found) == 160
    assert np.mean(found) == pytest.approx(21.744, abs=0.05)
    assert np.median(found) == pytest.approx(21.172, abs=0.05)


def test_without_an_image_every_score_is_nan_and_sizes_must_agree():
    empty = ColorizationMetrics().compute()
    assert empty.pop("samples") == 0 and all(math.isnan(value) for value in empty.values())
    with pytest.raises(ValueError, match="cannot be compared"):
        scores(gray_of(np.zeros((3, 4, 3), np.uint8)), np.zeros((4, 4, 3), np.uint8))
