"""PatchGANs of every depth: parameters, maps, and the patch that a logit judges, by graph and by gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from densevision.errors import UserError
from densevision.tasks.translation.layers import SLOPE, STD
from densevision.tasks.translation.patchgan import MOST_LAYERS, PatchGAN

DEPTHS = range(MOST_LAYERS + 1)
# Facts 3.6, "PatchGAN, ndf 64, input 6 channels".
FIELDS = (1, 16, 34, 70, 142, 286, 574)
MAPS_OF_256 = (256, 126, 62, 30, 14, 6, 2)
UNBIASED = (9_024, 139_585, 666_433, 2_768_705, 6_964_033, 11_159_361, 15_354_689)
BIASED = (9_153, 139_713, 666_817, 2_769_601, 6_965_441, 11_161_281, 15_357_121)
BY_PICTURES = (8_897, 139_457, 666_049, 2_767_809, 6_962_625, 11_157_441, 15_352_257)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("layers", DEPTHS)
def test_every_depth_has_the_known_number_of_parameters_in_all_its_forms(layers):
    with torch.device("meta"):
        assert count(PatchGAN(6, layers)) == UNBIASED[layers]
        assert count(PatchGAN(6, layers, biased=True)) == BIASED[layers]
        assert count(PatchGAN(6, layers, "instance")) == BY_PICTURES[layers]


def test_a_judge_that_does_not_know_the_source_has_3072_parameters_less():
    with torch.device("meta"):
        assert count(PatchGAN(3)) == 2_765_633  # facts 3.6, "Unconditional"


@pytest.mark.parametrize("layers", DEPTHS)
def test_a_picture_of_256_has_a_logit_for_every_patch(layers):
    with torch.device("meta"), torch.no_grad():
        made = PatchGAN(6, layers)(torch.empty(2, 6, 256, 256))
    assert made.shape == (2, 1, MAPS_OF_256[layers], MAPS_OF_256[layers])


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("layers", DEPTHS)
def test_the_patch_of_a_logit_is_followed_through_the_layers(layers, norm):
    judge = PatchGAN(4, layers, norm, width=2)
    state = {name: value.clone() for name, value in judge.state_dict().items()}
    assert judge.receptive_field == FIELDS[layers]
    assert all(torch.equal(value, state[name]) for name, value in judge.state_dict().items())


@pytest.mark.parametrize("along", ["width", "height"])
@pytest.mark.parametrize("layers", DEPTHS)
def test_the_patch_of_a_logit_is_the_support_of_its_gradient(layers, along):
    judge = PatchGAN(2, layers, width=2).double().eval()
    with torch.no_grad():
        for parameter in judge.parameters():
            # Weights of one sign, so that no two ways cancel; a mean, so that none fades or grows.
            parameter.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else 1)
    # Facts 3.6: an input that is clearly larger than the field.
    short, long = judge.smallest, FIELDS[layers] + 6 * 2**layers
    size = (short, long) if along == "width" else (long, short)
    pair = torch.ones(1, 2, *size, dtype=torch.float64, requires_grad=True)
    made = judge(pair)
    middle = made.shape[-2] // 2, made.shape[-1] // 2
    (gradient,) = torch.autograd.grad(made[0, 0, middle[0], middle[1]], pair)
    seen = gradient[0].sum(0).amax(0 if along == "width" else 1).nonzero().flatten()
    assert len(seen) == int(seen[-1]) - int(seen[0]) + 1 == FIELDS[layers]
    assert int(seen[0]) > 0 and int(seen[-1]) < long - 1


def test_the_first_and_the_last_convolution_are_not_normalised_and_slopes_are_a_fifth():
    judge = PatchGAN(6)
    kinds = [type(layer) for layer in judge.body]
    unit = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert kinds == [nn.Conv2d, nn.LeakyReLU, *unit, *unit, *unit]
    assert {layer.negative_slope for layer in judge.body if isinstance(layer, nn.LeakyReLU)} == {SLOPE} == {0.2}
    assert isinstance(judge.predict, nn.Conv2d)


def test_widths_double_up_to_512_and_only_the_first_ones_stride():
    with torch.device("meta"):
        convolutions = [layer for layer in PatchGAN(6, 5).body if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512, 512, 512]
    assert [layer.stride for layer in convolutions] == [(2, 2)] * 5 + [(1, 1)]


def test_weights_start_as_in_the_paper():
    torch.manual_seed(0)
    judge = PatchGAN(6)
    for layer in judge.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            assert float(layer.weight.detach().std()) == pytest.approx(STD, rel=0.02)
        if isinstance(layer, nn.BatchNorm2d):
            assert float(layer.weight.detach().mean()) == pytest.approx(1, abs=0.01)
            assert float(layer.weight.detach().std()) == pytest.approx(STD, rel=0.3)
    assert STD == 0.02 and all(not value.any() for name, value in judge.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("layers", DEPTHS)
def test_the_smallest_picture_has_a_logit_and_a_gradient_for_all_and_one_pixel_less_is_refused(layers):
    for norm in ("batch", "instance"):
        judge = PatchGAN(2, layers, norm, width=2)
        side = judge.smallest if layers else 2  # a single place has no spread to normalise by
        judge(torch.rand(1, 2, side, side)).sum().backward()
        assert all(parameter.grad is not None for parameter in judge.parameters())
        if layers:
            with pytest.raises(UserError, match=f"judges pictures of {side} pixels and more, and this one is"):
                judge(torch.rand(1, 2, side, side - 1))


def test_a_depth_that_the_paper_does_not_know_is_refused():
    with pytest.raises(UserError, match="0 to 6 layers that halve the picture, not 7"):
        PatchGAN(6, 7)
    with pytest.raises(UserError, match="no normalisation named 'bacth'; did you mean 'batch'"):
        PatchGAN(6, norm="bacth")  # pyright: ignore[reportArgumentType]
