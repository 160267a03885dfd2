"""Saliency is the largest absolute gradient over the channels, and SmoothGrad its mean over noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.apps.visualize.probes import parse_probe
from densevision.apps.visualize.saliency import saliency
from densevision.errors import UserError

from .toys import picture, toy, untrained

captum = pytest.importorskip("captum.attr")


def test_it_is_captums_saliency_with_the_largest_channel():
    """captum keeps the channels apart; the paper takes the largest. Largest difference found: 0."""
    subject = toy()
    theirs = captum.Saliency(subject.model.eval()).attribute(picture()[0], target=2)
    ours = saliency(subject, picture(), parse_probe("class:2", subject))
    np.testing.assert_allclose(ours, theirs.amax(1), atol=1e-7)


def test_smoothgrad_is_captums_noise_tunnel_at_the_same_noise():
    """captum's deviations are absolute, 1 by default; the paper's are a share of the picture's range.

    captum draws all its noise at once from torch's own stream, which the same seed makes the same. Largest difference
    found: 0.
    """
    subject = toy()
    image = 0.3 + 0.4 * picture()[0]
    torch.manual_seed(5)
    tunnel = captum.NoiseTunnel(captum.Saliency(subject.model.eval()))
    spread = 0.15 * float(image.max() - image.min())
    channels = captum.Saliency(subject.model)  # the tunnel averages channels apart, where the maximum comes first
    theirs = tunnel.attribute(image, nt_samples=6, stdevs=spread, target=2)
    torch.manual_seed(5)
    noise = torch.normal(0.0, torch.full((6, *image.shape[1:]), spread))
    each = channels.attribute(image + noise, target=2)
    torch.testing.assert_close(theirs, each.mean(0, keepdim=True))
    ours = saliency(subject, (image,), parse_probe("class:2", subject), smooth=6, noise=0.15, seed=5)
    np.testing.assert_allclose(ours, each.amax(1).mean(0, keepdim=True), atol=1e-6)


def test_it_is_written_down_for_a_network_that_is_linear():
    subject = toy(norm=False, biased=False)
    for layer in (subject.trunk.conv1, subject.trunk.conv2, subject.trunk.conv3):
        torch.nn.init.zeros_(layer.weight)
    # One positive path: red three times, blue minus five times, through 1x1 pools of one pixel.
    with torch.no_grad():
        subject.trunk.conv1.weight[0, :, 1, 1] = torch.tensor([3.0, 0.0, -1.0])
    found = saliency(subject, (torch.full((1, 3, 4, 4), 0.9),), parse_probe("a:0", subject))
    # dS/dI of the mean over 16 places: 3 / 16 / std of red (0.229, the ImageNet constants).
    np.testing.assert_allclose(found, np.full((1, 4, 4), 3 / 16 / 0.229), rtol=1e-6)


def test_every_picture_that_goes_in_has_a_map():
    subject = untrained("flow")
    pixels = (*picture(48, 48, 0), *picture(48, 48, 1))
    found = saliency(subject, pixels, parse_probe("flow-u@20,20", subject))
    assert found.shape == (2, 48, 48) and found.min() >= 0 and found[0].any() and found[1].any()


def test_noise_of_no_size_changes_nothing():
    subject = toy()
    probe = parse_probe("class:1", subject)
    plain = saliency(subject, picture(), probe)
    np.testing.assert_allclose(saliency(subject, picture(), probe, smooth=3, noise=0), plain, rtol=1e-5)


def test_the_same_seed_gives_the_same_and_another_gives_another():
    subject = toy()
    probe = parse_probe("class:1", subject)
    first, again, other = (saliency(subject, picture(), probe, smooth=20, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_a_dead_unit_is_no_picture():
    subject = toy()
    with torch.no_grad():
        subject.trunk.conv3.bias[2] = -1e6
    for smooth in (0, 4):
        with pytest.raises(UserError, match="No pixel changes b:2 on this picture: it is dead; active ones nearby: b:"):
            saliency(subject, picture(), parse_probe("b:2", subject), smooth=smooth)


def test_numbers_below_zero_are_refused():
    subject = toy()
    with pytest.raises(UserError, match=r"--smooth -1 --noise 0\.15: neither may be below 0"):
        saliency(subject, picture(), parse_probe("class:1", subject), smooth=-1)
