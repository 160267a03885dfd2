"""PatchGANs of every depth: parameters, map sizes, and receptive fields by graph and by gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from densevision.errors import UserError
from densevision.tasks.translation.layers import SLOPE, STD
from densevision.tasks.translation.patchgan import MAX_LAYERS, PatchGAN

DEPTHS = range(MAX_LAYERS + 1)
# Facts 3.6, "PatchGAN, ndf 64, input 6 channels".
FIELDS = (1, 16, 34, 70, 142, 286, 574)
MAPS_OF_256 = (256, 126, 62, 30, 14, 6, 2)
WITHOUT_BIAS = (9_024, 139_585, 666_433, 2_768_705, 6_964_033, 11_159_361, 15_354_689)
WITH_BIAS = (9_153, 139_713, 666_817, 2_769_601, 6_965_441, 11_161_281, 15_357_121)
INSTANCE_NORM = (8_897, 139_457, 666_049, 2_767_809, 6_962_625, 11_157_441, 15_352_257)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("layers", DEPTHS)
def test_number_of_parameters(layers):
    with torch.device("meta"):
        assert count(PatchGAN(6, layers)) == WITHOUT_BIAS[layers]
        assert count(PatchGAN(6, layers, use_bias=True)) == WITH_BIAS[layers]
        assert count(PatchGAN(6, layers, "instance")) == INSTANCE_NORM[layers]


def test_unconditional_discriminator_has_3072_parameters_less():
    with torch.device("meta"):
        assert count(PatchGAN(3)) == 2_765_633  # facts 3.6, "Unconditional"


@pytest.mark.parametrize("layers", DEPTHS)
def test_map_size_of_an_image_of_256(layers):
    with torch.device("meta"), torch.no_grad():
        logits = PatchGAN(6, layers)(torch.empty(2, 6, 256, 256))
    assert logits.shape == (2, 1, MAPS_OF_256[layers], MAPS_OF_256[layers])


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("layers", DEPTHS)
def test_receptive_field_by_graph(layers, norm):
    discriminator = PatchGAN(4, layers, norm, width=2)
    state = {name: value.clone() for name, value in discriminator.state_dict().items()}
    assert discriminator.receptive_field == FIELDS[layers]
    assert all(torch.equal(value, state[name]) for name, value in discriminator.state_dict().items())


@pytest.mark.parametrize("along", ["width", "height"])
@pytest.mark.parametrize("layers", DEPTHS)
def test_receptive_field_is_the_support_of_the_gradient(layers, along):
    discriminator = PatchGAN(2, layers, width=2).double().eval()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            # Weights of one sign, so that paths do not cancel; a mean, so that gradients keep their scale.
            parameter.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else 1)
    # Facts 3.6: an input clearly larger than the receptive field.
    short, long = discriminator.min_size, FIELDS[layers] + 6 * 2**layers
    size = (short, long) if along == "width" else (long, short)
    pair = torch.ones(1, 2, *size, dtype=torch.float64, requires_grad=True)
    logits = discriminator(pair)
    row, column = logits.shape[-2] // 2, logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, row, column], pair)
    support = gradient[0].sum(0).amax(0 if along == "width" else 1).nonzero().flatten()
    assert len(support) == int(support[-1]) - int(support[0]) + 1 == FIELDS[layers]
    assert int(support[0]) > 0 and int(support[-1]) < long - 1


def test_first_and_last_convolution_are_not_normalized_and_slopes_are_0_2():
    discriminator = PatchGAN(6)
    types = [type(layer) for layer in discriminator.body]
    unit = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert types == [nn.Conv2d, nn.LeakyReLU, *unit, *unit, *unit]
    assert {layer.negative_slope for layer in discriminator.body if isinstance(layer, nn.LeakyReLU)} == {SLOPE} == {0.2}
    assert isinstance(discriminator.predict, nn.Conv2d)


def test_widths_double_up_to_512_and_only_the_first_layers_are_strided():
    with torch.device("meta"):
        convolutions = [layer for layer in PatchGAN(6, 5).body if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512, 512, 512]
    assert [layer.stride for layer in convolutions] == [(2, 2)] * 5 + [(1, 1)]


def test_initialization_is_the_papers():
    torch.manual_seed(0)
    discriminator = PatchGAN(6)
    for layer in discriminator.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            assert float(layer.weight.detach().std()) == pytest.approx(STD, rel=0.02)
        if isinstance(layer, nn.BatchNorm2d):
            assert float(layer.weight.detach().mean()) == pytest.approx(1, abs=0.01)
            assert float(layer.weight.detach().std()) == pytest.approx(STD, rel=0.3)
    assert STD == 0.02 and all(
        not value.any() for name, value in discriminator.named_parameters() if name.endswith("bias")
    )


@pytest.mark.parametrize("layers", DEPTHS)
def test_smallest_image_has_a_gradient_and_smaller_ones_are_refused(layers):
    for norm in ("batch", "instance"):
        discriminator = PatchGAN(2, layers, norm, width=2)
        size = discriminator.min_size if layers else 2  # a single pixel has no variance to normalize by
        discriminator(torch.rand(1, 2, size, size)).sum().backward()
        assert all(parameter.grad is not None for parameter in discriminator.parameters())
        if layers:
            with pytest.raises(UserError, match=f"needs images of {size} pixels or more, and this one is"):
                discriminator(torch.rand(1, 2, size, size - 1))


def test_invalid_depth_and_norm_are_refused():
    with pytest.raises(UserError, match="0 to 6 strided layers, not 7"):
        PatchGAN(6, 7)
    with pytest.raises(UserError, match="no normalization named 'bacth'; did you mean 'batch'"):
        PatchGAN(6, norm="bacth")  # pyright: ignore[reportArgumentType]
