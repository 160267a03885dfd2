"""Feature inversion: reconstruction of images from the features of a level."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from densevision.errors import UserError
from densevision.visualize.core.model import inspect_backbone
from densevision.visualize.features.feature_inversion import InversionOptions, feature_inversion

from ..core.test_model import state_of
from ..toys import Toy, random_image, toy

QUICK = InversionOptions(steps=60, tv_weight=0.01)


def test_the_first_level_is_inverted_almost_exactly():
    # Six rectified channels for three colors, before any pool: little information is lost.
    model, pixels = toy(norm=False), random_image(14, 11)
    result = feature_inversion(
        model, pixels, "a", options=InversionOptions(steps=300, tv_weight=0.0, l_alpha_weight=0.0)
    )
    assert result.error < 1e-2
    # With few active channels at a pixel, several colors have the same features.
    noise = (random_image(14, 11, seed=1)[0] - pixels[0]).square().mean()
    assert np.square(result.array - pixels[0].numpy()).mean() < noise / 4


@pytest.mark.parametrize(
    "options",
    [
        QUICK,
        InversionOptions(steps=60, tv_weight=0.01, param="fft"),
        InversionOptions(steps=60, tv_weight=0.01, optimizer="momentum"),
    ],
    ids=["pixels", "fft", "authors"],
)
def test_the_relative_error_falls_and_is_that_of_the_result(options):
    model, pixels = toy(), random_image(16, 13)
    errors: list[float] = []
    result = feature_inversion(
        model,
        pixels,
        "b",
        options=options,
        progress=lambda done, total, values: errors.append(values["relative error"]),
    )
    assert len(errors) == 60 and result.error < errors[0] / 2
    expected, activations = (
        model.forward(each, ("b",)).levels["b"] for each in (pixels, (torch.from_numpy(result.array),))
    )
    assert result.error == pytest.approx(
        float((activations - expected).square().sum() / expected.square().sum()), rel=1e-4
    )
    assert result.array.shape == (1, 3, 16, 13) and result.array.min() >= 0 and result.array.max() <= 1


def test_the_initial_noise_has_the_norm_of_the_image():
    # Facts 4: Gaussian noise rescaled to the norm x0. A step with learning rate 0 returns the initial image.
    model, pixels = toy(), random_image(64, 64)
    result = feature_inversion(model, pixels, "a", options=InversionOptions(steps=1, lr=0.0))
    gray = pixels[0].new_tensor(model.neutral_color).view(1, -1, 1, 1)
    norms = [float((each - gray).norm()) for each in (pixels[0], torch.from_numpy(result.array))]
    # The noise is clamped to [0, 1].
    assert norms[1] == pytest.approx(norms[0], rel=0.1)


def test_total_variation_smooths():
    model, pixels = toy(), random_image(16, 16)
    unregularized, smooth = (
        np.square(np.diff(feature_inversion(model, pixels, "b", steps=40, tv_weight=weight).array, axis=3)).mean()
        for weight in (0.0, 100.0)
    )
    assert smooth < unregularized / 2


def test_the_seed_determines_the_image():
    model, pixels = toy(), random_image(16, 16)
    first, second, other = (feature_inversion(model, pixels, "b", steps=10, seed=seed).array for seed in (0, 0, 1))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_the_model_is_unchanged():
    model = toy("re-used in place")
    before = state_of(model.module)
    feature_inversion(model, random_image(), "b", options=InversionOptions(steps=2))
    with pytest.raises(UserError):
        feature_inversion(model, random_image(), "c", options=InversionOptions(steps=2))
    assert state_of(model.module) == before


def test_a_level_of_zeros_is_refused():
    backbone = Toy(norm=False)
    assert backbone.conv1.bias is not None
    with torch.no_grad():
        backbone.conv1.bias.fill_(-1e4)
    with pytest.raises(UserError, match="'a' of toy is 0 everywhere on this image"):
        feature_inversion(inspect_backbone(backbone), random_image(), "a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps is 0"),
        ({"tv_weight": -1.0}, "--tv-weight is -1"),
        ({"tv_beta": 0.5}, "--tv-beta is 0.5"),
        ({"optimizer": "momentum", "param": "fft"}, "--optimizer adam"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        feature_inversion(toy(), random_image(), "b", options=InversionOptions(**options))


def test_the_command_writes_an_image_and_its_array(run, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "digit.png")
    words = ("--model", "lenet5_mnist", "--image", "digit.png", "--level", "c3", "--out", "seen.png")
    result = run("visualize", "feature-inversion", *words, "--steps", "5")
    assert result.out.splitlines()[-1] == "Wrote seen.png and seen.npy.", result
    array = np.load(tmp_path / "seen.npy")
    assert array.shape == (1, 1, 32, 32) and "After 5 steps: relative error " in result.out
    wrong = ("--model", "lenet5_mnist", "--image", "digit.png", "--level", "c9", "--out", "seen.png")
    assert "no level of lenet5_mnist named 'c9'" in run("visualize", "feature-inversion", *wrong).error
