"""VGAN: parameter counts, composition and axes, initialization. Traps of facts-next, D.1."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from densevision.errors import UserError
from densevision.tasks.video.networks import VGAN
from densevision.tasks.video.vgan import Discriminator, FrameGenerator, NoiseGenerator


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def on_meta():
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("on_meta")
def test_the_parameters_are_those_of_the_authors_code():
    # facts-next, count summary: main.lua, main_conditional.lua
    two, one = NoiseGenerator(), NoiseGenerator(two_streams=False)
    assert (count(two), count(one), count(Discriminator())) == (16_245_383, 12_663_619, 11_057_858)
    assert (count(two.background), count(two.foreground)) == (3_577_667, 12_651_328)
    assert (count(two.foreground_head), count(two.mask_head)) == (12_291, 4_097)
    frame = FrameGenerator()
    assert (count(frame), count(Discriminator(128))) == (68_216_455, 44_135_810)
    assert (count(frame.encoder), count(frame.background), count(frame.foreground)) == (
        11_021_696, 11_018_883, 46_143_104,
    )  # fmt: skip
    assert (count(frame.foreground_head), count(frame.mask_head)) == (24_579, 8_193)


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(("width", "parameters"), [(256, 4_682_055), (128, 1_480_871), (64, 525_399)])
def test_the_narrow_forms_have_their_counts(width, parameters):
    assert count(NoiseGenerator(width)) == parameters
    assert count(Discriminator(width // 8)) == {256: 2_776_418, 128: 700_082, 64: 178_010}[width]


@pytest.mark.usefixtures("on_meta")
def test_a_clip_has_32_frames_of_64_pixels_in_the_third_axis():
    assert NoiseGenerator(64)(torch.empty(2, 100)).clip.shape == (2, 3, 32, 64, 64)
    layers = FrameGenerator(3, 64)(torch.empty(2, 3, 64, 96))
    assert layers.clip.shape == (2, 3, 32, 64, 96) and layers.mask.shape == (2, 1, 32, 64, 96)
    assert layers.background is not None and layers.background.shape == (2, 3, 1, 64, 96)


def test_a_clip_is_composed_exactly_and_the_batch_axis_stays():
    # T: Squeeze drops the batch axis at batch 1.
    torch.manual_seed(0)
    network = NoiseGenerator(16).eval()
    with torch.no_grad():
        clip, mask, foreground, background = network(torch.randn(1, 100))
        assert background is not None and clip.shape == (1, 3, 32, 64, 64)
        assert mask.min() >= 0 and mask.max() <= 1 and clip.abs().max() <= 1
        torch.testing.assert_close(clip, mask * foreground + (1 - mask) * background, rtol=0, atol=0)
        # m = 0: a constant clip.
        nn.init.constant_(network.mask_head[0].bias, -1e4)  # type: ignore[index]
        still = network(torch.randn(1, 100))
    assert still.mask.max() == 0 and torch.equal(still.clip, still.background.expand_as(still.clip))


def test_sampling_uses_the_running_statistics():
    # generate.lua calls evaluate(): a sample does not depend on the others of its batch.
    torch.manual_seed(0)
    network, noise = NoiseGenerator(16).eval(), torch.randn(3, 100)
    with torch.no_grad():
        torch.testing.assert_close(network(noise).clip[:1], network(noise[:1]).clip, rtol=1e-4, atol=1e-6)


def test_weights_start_as_in_the_authors_code():
    torch.manual_seed(0)
    for layer in Discriminator(32).modules():
        if isinstance(layer, nn.Conv3d) and layer.bias is not None:
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1) and not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm3d):
            assert layer.eps == 1e-3 and layer.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.usefixtures("on_meta")
def test_the_frames_after_the_given_one_are_predicted():
    network = VGAN(1, 31, width=32)
    assert network.eval()(torch.empty(1, 3, 64, 64)).shape == (1, 4 * 31, 64, 64)
    with pytest.raises(UserError, match="--frames is 32; it must be at most 31"):
        VGAN(1, 32, width=32)


def test_a_discriminator_refuses_other_clips():
    with pytest.raises(UserError, match=r"reads 32 frames of 64x64, not 16 of 64x64"):
        Discriminator(8)(torch.zeros(1, 3, 16, 64, 64))
