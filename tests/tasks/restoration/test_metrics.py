"""PSNR and SSIM under each protocol, compared with public implementations and known errors."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.image_quality import IDENTICAL_PSNR, psnr, ssim
from densevision.tasks.restoration.metrics import PROTOCOLS, RestorationMetrics, RestoredImage, protocol_values


@pytest.fixture(scope="module")
def photos() -> tuple[np.ndarray, np.ndarray]:
    """A noisy and a clean photo, uint8."""
    clean = np.ascontiguousarray(data.chelsea()[40:200, 100:300])
    grain = np.random.default_rng(0).normal(0, 14, clean.shape)
    return np.clip(np.round(clean + grain), 0, 255).astype(np.uint8), clean


def public_ssim(clean: np.ndarray, noisy: np.ndarray, **options) -> float:
    """SSIM of scikit-image, with the last axis as channels."""
    value = structural_similarity(clean, noisy, channel_axis=-1, **options)
    assert isinstance(value, float)
    return value


WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
"""Facts 3.4: equals Wang's SSIM to 1e-15."""


def scored(protocol: str, *pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    metrics = RestorationMetrics(PROTOCOLS[protocol])
    for restored, clean in pairs:
        metrics.update(RestoredImage(restored), {"image": clean})
    return metrics.compute()


def test_psnr_in_color_is_that_of_scikit_image(photos):
    noisy, clean = photos
    assert scored("rgb", photos)["psnr"] == pytest.approx(peak_signal_noise_ratio(clean, noisy), abs=1e-9)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ssim_is_that_of_scikit_image(photos, protocol):
    noisy, clean = (protocol_values(image, PROTOCOLS[protocol]) for image in photos)
    public = public_ssim(clean, noisy, data_range=255, **WANG)
    assert scored(protocol, photos)["ssim"] == pytest.approx(public, abs=1e-6)
    # The default of the library (7x7 uniform, sample covariance) gives another value.
    default = public_ssim(clean, noisy, data_range=255)
    assert abs(default - public) > 1e-3


def test_ssim_agrees_with_torchmetrics_without_the_border(photos):
    functional = pytest.importorskip("torchmetrics.functional.image")
    import torch

    noisy, clean = (torch.from_numpy(image).double().permute(2, 0, 1)[None] for image in photos)
    _, places = functional.structural_similarity_index_measure(noisy, clean, data_range=255.0, return_full_image=True)
    inside = places[..., 5:-5, 5:-5].mean().item()
    assert scored("rgb", photos)["ssim"] == pytest.approx(inside, abs=1e-6)


def test_bt601_luma_psnr_is_1_322_db_higher_than_full_range(photos):
    noisy, clean = (image.astype(float) for image in photos)
    studio = scored("y-bt601", photos)["psnr"]
    weights = np.array((0.299, 0.587, 0.114))
    full = psnr(noisy @ weights, clean @ weights)
    # Facts 3.4: 20 log10(255 / 219) = 1.322 dB always; the weights are printed with three digits.
    assert studio - full == pytest.approx(20 * math.log10(255 / 219), abs=1e-3)
    # RGB scores are lower than those of their mean: facts 3.4 have 25.13 / 29.80 / 28.48 dB.
    assert scored("rgb", photos)["psnr"] < full < studio


def test_bt601_luma_is_from_16_to_235_and_not_rounded():
    ends = protocol_values(np.array([[[0, 0, 0], [255, 255, 255], [1, 0, 0]]], np.uint8), PROTOCOLS["y-bt601"])
    assert ends[0, :, 0] == pytest.approx([16, 235, 16 + 65.481 / 255], abs=1e-9)


def test_full_range_luma_is_that_of_opencv(photos):
    noisy = photos[0]
    ours = protocol_values(noisy, PROTOCOLS["y-full"])[..., 0]
    theirs = cv2.cvtColor(noisy, cv2.COLOR_RGB2YCrCb)[..., 0].astype(float)
    assert np.abs(ours - theirs).max() <= 1 and np.mean(ours != theirs) < 0.01


def test_a_mean_of_ratios_is_not_the_ratio_of_a_mean():
    clean = np.full((16, 16, 3), 100, np.uint8)
    pairs = [(clean + np.uint8(2), clean), (clean + np.uint8(20), clean)]
    # Facts 3.4: MSE 4 and 400 give 32.11, their mean 25.08.
    assert scored("rgb", *pairs)["psnr"] == pytest.approx(32.11, abs=0.005)
    assert 10 * math.log10(255**2 / 202) == pytest.approx(25.08, abs=0.005)


def test_psnr_of_identical_images_is_finite_and_maximal():
    clean = np.zeros((40, 50, 3), np.uint8)
    nearly = clean.copy()
    nearly[0, 0, 0] = 1
    assert scored("rgb", (clean, clean)) == {"psnr": IDENTICAL_PSNR, "ssim": 1.0, "samples": 1}
    assert scored("rgb", (nearly, clean))["psnr"] < IDENTICAL_PSNR
    large = np.zeros((2000, 2000, 3), np.uint8)
    almost = large.copy()
    almost[0, 0, 0] = 1
    assert psnr(almost.astype(float), large.astype(float)) == IDENTICAL_PSNR
    assert math.isfinite(scored("rgb", (clean, clean), (nearly, clean))["psnr"])


@pytest.mark.parametrize("border", [2, 3, 4])
def test_a_border_is_left_out_on_every_side(border):
    clean = np.full((32, 32, 3), 90, np.uint8)
    framed = clean.copy()
    framed[:border], framed[-border:], framed[:, :border], framed[:, -border:] = 0, 0, 0, 0
    assert scored(f"y-bt601-crop{border}", (framed, clean))["psnr"] == IDENTICAL_PSNR
    framed[border, 10] = 0
    assert scored(f"y-bt601-crop{border}", (framed, clean))["psnr"] < IDENTICAL_PSNR
    assert scored("y-bt601", (framed, clean))["psnr"] < 30


def test_small_images_have_psnr_but_no_ssim_and_tiny_ones_neither():
    small, tiny = np.zeros((10, 40, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    scores = scored("rgb", (small + np.uint8(3), small))
    assert math.isfinite(scores["psnr"]) and math.isnan(scores["ssim"])
    assert scored("y-bt601-crop4", (tiny, tiny))["samples"] == 0
    assert math.isnan(scored("rgb")["psnr"])
    larger = np.zeros((12, 40, 3), np.uint8)
    assert scored("rgb", (small, small), (larger, larger))["ssim"] == 1


def test_restored_values_are_clipped_and_rounded_before_scoring():
    restored = RestoredImage.from_floats(np.array([[[-0.2, 1.3, 0.5019]]]))
    assert restored.pixels.tolist() == [[[0, 255, 128]]] and restored.pixels.dtype == np.uint8


def test_ssim_depends_on_the_data_range(photos):
    noisy, clean = photos
    # Facts 3.4: data_range left at 1 for images of 0..255.
    public = public_ssim(clean, noisy, data_range=1, **WANG)
    assert ssim(noisy.astype(float), clean.astype(float)) > public + 0.003


def test_prediction_of_another_size_or_type_is_refused():
    metrics = RestorationMetrics(PROTOCOLS["rgb"])
    clean = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="cannot be compared"):
        metrics.update(RestoredImage(clean[1:]), {"image": clean})
    with pytest.raises(TypeError, match="need a RestoredImage"):
        metrics.update(DepthMap(clean[..., 0].astype(np.float32)), {"image": clean})
    with pytest.raises(UserError, match="did you mean 'y-bt601'"):
        lookup("restoration protocol", "y-bt602", PROTOCOLS)
