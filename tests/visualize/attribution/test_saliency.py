"""Saliency maps and SmoothGrad: equality with captum, seeds, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.errors import UserError
from densevision.visualize.attribution.saliency import saliency
from densevision.visualize.core.targets import parse_target

from ..toys import random_image, toy, untrained

captum = pytest.importorskip("captum.attr")


def saliency_maps(*arguments: Any, **options: Any) -> np.ndarray:
    return saliency(*arguments, **options).array


def test_saliency_equals_captums_maximum_over_channels():
    """captum returns all channels; the paper takes the maximum. Maximum difference: 0."""
    model = toy()
    theirs = captum.Saliency(model.module.eval()).attribute(random_image()[0], target=2)
    ours = saliency_maps(model, random_image(), parse_target("class:2", model))
    np.testing.assert_allclose(ours, theirs.amax(1), atol=1e-7)


def test_smoothgrad_equals_captums_noise_tunnel():
    """captum's standard deviations are absolute, 1 by default; the paper's are a fraction of the image's range.

    captum samples all its noise at once from torch's global generator, which the same seed reproduces. Maximum
    difference: 0.
    """
    model = toy()
    image = 0.3 + 0.4 * random_image()[0]
    torch.manual_seed(5)
    tunnel = captum.NoiseTunnel(captum.Saliency(model.module.eval()))
    noise_std = 0.15 * float(image.max() - image.min())
    channels = captum.Saliency(model.module)  # the tunnel averages every channel, here the maximum comes first
    theirs = tunnel.attribute(image, nt_samples=6, stdevs=noise_std, target=2)
    torch.manual_seed(5)
    noise = torch.normal(0.0, torch.full((6, *image.shape[1:]), noise_std))
    each = channels.attribute(image + noise, target=2)
    torch.testing.assert_close(theirs, each.mean(0, keepdim=True))
    ours = saliency_maps(model, (image,), parse_target("class:2", model), smoothgrad_samples=6, noise_std=0.15, seed=5)
    np.testing.assert_allclose(ours, each.amax(1).mean(0, keepdim=True), atol=1e-6)


def test_saliency_of_a_linear_model_matches_manual_computation():
    model = toy(norm=False, biased=False)
    for layer in (model.backbone.conv1, model.backbone.conv2, model.backbone.conv3):
        torch.nn.init.zeros_(layer.weight)
    # One positive path: red times 3, blue times -1, through the center of the kernel.
    with torch.no_grad():
        model.backbone.conv1.weight[0, :, 1, 1] = torch.tensor([3.0, 0.0, -1.0])
    result = saliency_maps(model, (torch.full((1, 3, 4, 4), 0.9),), parse_target("a:0", model))
    # dS/dI of the mean over 16 positions: 3 / 16 / std of red (0.229, the ImageNet constants).
    np.testing.assert_allclose(result, np.full((1, 4, 4), 3 / 16 / 0.229), rtol=1e-6)


def test_every_input_has_a_map():
    model = untrained("flow")
    pixels = (*random_image(48, 48, 0), *random_image(48, 48, 1))
    result = saliency_maps(model, pixels, parse_target("flow-u@20,20", model))
    assert result.shape == (2, 48, 48) and result.min() >= 0 and result[0].any() and result[1].any()


def test_smoothgrad_without_noise_is_the_plain_gradient():
    model = toy()
    objective = parse_target("class:1", model)
    plain = saliency_maps(model, random_image(), objective)
    np.testing.assert_allclose(
        saliency_maps(model, random_image(), objective, smoothgrad_samples=3, noise_std=0), plain, rtol=1e-5
    )


def test_the_seed_determines_the_noise():
    model = toy()
    objective = parse_target("class:1", model)
    first, again, other = (
        saliency_maps(model, random_image(), objective, smoothgrad_samples=20, seed=seed) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_a_dead_channel_is_an_error():
    model = toy()
    with torch.no_grad():
        model.backbone.conv3.bias[2] = -1e6
    for smooth in (0, 4):
        with pytest.raises(UserError, match="No pixel changes b:2 on this image: it is not active; nearest active"):
            saliency_maps(model, random_image(), parse_target("b:2", model), smoothgrad_samples=smooth)


def test_negative_arguments_are_refused():
    model = toy()
    with pytest.raises(UserError, match=r"--smoothgrad-samples -1 --noise-std 0\.15: neither may be below 0"):
        saliency_maps(model, random_image(), parse_target("class:1", model), smoothgrad_samples=-1)
