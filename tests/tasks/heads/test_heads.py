from __future__ import annotations

import pytest
import torch
from torch import nn

from densevision.backbones import Level, create_backbone
from densevision.errors import UserError
from densevision.tasks.heads import HEADS, create_head, list_heads
from densevision.tasks.heads.head import distinct_strides, resize
from densevision.tasks.heads.up_projection import (
    SingleUpConvolution,
    UpConvolution,
    UpProjection,
    UpProjectionHead,
    to_fast,
)
from densevision.tasks.network import EncoderDecoder

LIGHT = (Level("a", 2, 4), Level("b", 4, 6), Level("c", 8, 8), Level("d", 16, 8), Level("e", 32, 10))


def features_of(levels: tuple[Level, ...], size: tuple[int, int], batch: int = 2) -> list[torch.Tensor]:
    """Random feature maps with the sizes of padded convolutions, rounded up."""
    height, width = size
    return [
        torch.randn(batch, level.channels, -(-height // level.stride), -(-width // level.stride)) for level in levels
    ]


def with_statistics(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, with random BatchNorm statistics instead of the initial 0 and 1."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


def test_every_registered_head_can_be_created():
    assert list_heads() == sorted(HEADS)
    for name in list_heads():
        head = create_head(name, LIGHT, 2)
        assert head.input_policy in ("tiled", "whole")
        assert head.predict.out_channels == 2 and head.predict.bias is not None


def test_an_unknown_head_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'unet'"):
        create_head("u-net", LIGHT, 1)


@pytest.mark.parametrize("name", list_heads())
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (33, 47)])
def test_outputs_have_the_image_size_and_finite_values(name, size):
    torch.manual_seed(0)
    head = with_statistics(create_head(name, LIGHT, 3))
    output = head(features_of(LIGHT, size), size)
    assert output.shape == (2, 3, *size)
    assert torch.isfinite(output).all()
    assert output.std() > 0


@pytest.mark.parametrize("name", ["unet", "up-projection", "up-convolution"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet20_cifar", "vgg11"])
def test_heads_on_light_backbones_train_on_a_single_image(name, backbone):
    torch.manual_seed(0)
    encoder = create_backbone(backbone, num_classes=0)
    head = create_head(name, encoder.levels, 1)
    output = head(encoder.features(torch.rand(1, 3, 45, 67)), (45, 67))
    assert output.shape == (1, 1, 45, 67) and torch.isfinite(output).all()
    output.square().mean().backward()
    for module in (encoder, head):
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.parametrize("name", [name for name in list_heads() if name != "up-convolution"])
def test_tiled_heads_give_the_same_output_in_a_tile(name):
    # Without a backbone: random levels, cut at multiples of the coarsest stride.
    torch.manual_seed(0)
    levels = LIGHT[:4]
    head = with_statistics(create_head(name, levels, 1))
    complete = features_of(levels, (64, 640), batch=1)
    left, right = 192, 448
    tile = [
        level[..., left // stride.stride : right // stride.stride]
        for level, stride in zip(complete, levels, strict=True)
    ]
    with torch.no_grad():
        output = head(complete, (64, 640))[..., left:right]
        tiled = head(tile, (64, right - left))
    middle = slice(112, 144)
    difference = (output - tiled)[..., middle].abs().max()
    if head.input_policy == "tiled":
        assert difference < 1e-5
    else:
        assert difference > 1e-5


def test_unet_uses_the_deepest_level_of_each_stride():
    levels = (Level("a", 1, 4), Level("b", 2, 4), Level("c", 2, 6), Level("d", 8, 8), Level("e", 8, 9))
    assert distinct_strides(levels) == [0, 2, 4]
    head = create_head("unet", levels, 1)
    features = features_of(levels, (16, 16))
    output = head(features, (16, 16))
    for unused in (1, 3):
        features[unused] = torch.full_like(features[unused], torch.nan)
    assert torch.equal(head(features, (16, 16)), output)


def test_unet_has_no_convolution_finer_than_its_backbone():
    head = create_head("unet", LIGHT, 1)
    widths: list[int] = []
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: widths.append(output.shape[-1]))
    head(features_of(LIGHT, (64, 64)), (64, 64))
    assert max(widths) == 32


def test_unet_on_a_single_level_is_a_convolution():
    head = create_head("unet", LIGHT[:1], 2)
    assert head(features_of(LIGHT[:1], (9, 7)), (9, 7)).shape == (2, 2, 9, 7)


def test_resize_is_bilinear_between_pixel_centers():
    maps = torch.tensor([[[[0.0, 4.0]]]])
    assert resize(maps, (1, 2)) is maps
    # Centers of the doubled pixels are at -0.25, 0.25, 0.75, 1.25 of the old ones.
    assert resize(maps, (1, 4)).flatten().tolist() == [0, 1, 3, 4]


def test_fast_and_plain_up_convolutions_are_equal_with_padding_after():
    torch.manual_seed(0)
    plain = UpConvolution(3, 5, "plain").double()
    fast = UpConvolution(3, 5, "fast").double()
    fast.load_state_dict(to_fast(plain.state_dict()))
    x = torch.randn(2, 3, 7, 4, dtype=torch.float64)
    assert plain(x).shape == (2, 5, 14, 8)
    torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-14)


def test_padding_before_is_a_6x6_kernel():
    # Facts 3.1: the authors' NYU code pads the two-tap kernels top and left.
    torch.manual_seed(0)
    plain = UpConvolution(1, 1, "plain").double()
    before = UpConvolution(1, 1, "fast", "before").double()
    before.load_state_dict(to_fast(plain.state_dict()))
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    # Offsets -3..+2: odd positions use taps one cell earlier, even positions are as in the plain form.
    w, bias = plain.state_dict()["k5x5.weight"][0, 0], plain.state_dict()["k5x5.bias"][0]
    unpooled = torch.zeros(12, 12, dtype=torch.float64)
    unpooled[::2, ::2] = x[0, 0]
    shifted = nn.functional.pad(unpooled, (3, 2, 3, 2))
    expected = torch.empty(12, 12, dtype=torch.float64)
    for row in range(12):
        for column in range(12):
            taps_y = (1, 3, 5) if row % 2 == 0 else (0, 2)
            taps_x = (1, 3, 5) if column % 2 == 0 else (0, 2)
            rows = w[0::2] if row % 2 == 0 else w[1::2]
            kernel = rows[:, 0::2] if column % 2 == 0 else rows[:, 1::2]
            patch = shifted[row : row + 6, column : column + 6]
            expected[row, column] = (kernel * patch[list(taps_y)][:, list(taps_x)]).sum() + bias
    # Rows of `shifted` begin 3 above: an odd row 2i + 1 and tap 0 read 2i - 2, tap 2 reads 2i.
    torch.testing.assert_close(before(x)[0, 0], expected, rtol=0, atol=1e-14)
    assert (before(x) - plain(x)).abs().max() > 0.1


def test_unpooling_puts_the_value_top_left():
    up = UpConvolution(1, 1, "plain")
    identity = torch.zeros(1, 1, 5, 5)
    identity[0, 0, 2, 2] = 1
    up.load_state_dict({"k5x5.weight": identity, "k5x5.bias": torch.zeros(1)})
    assert up(torch.tensor([[[[7.0]]]])).flatten().tolist() == [7, 0, 0, 0]


def test_invalid_up_convolution_options_are_refused():
    with pytest.raises(UserError, match="fast form"):
        UpConvolution(1, 1, "plain", "before")
    with pytest.raises(UserError, match="'fast' or 'plain'"):
        UpConvolution(1, 1, "quick")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("block", [UpProjection, SingleUpConvolution])
def test_blocks_of_both_forms_are_equal_after_conversion(block):
    torch.manual_seed(0)
    plain, fast = (with_statistics(block(4, 3, form).double()) for form in ("plain", "fast"))
    fast.load_state_dict(to_fast(plain.state_dict()))
    x = torch.randn(1, 4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("coarsest", "blocks"), [(32, 4), (16, 3), (4, 1), (2, 0), (1, 0)])
def test_up_projections_double_until_stride_2(coarsest, blocks):
    head = UpProjectionHead((Level("x", coarsest, 64),), 1)
    assert len(head.blocks) == blocks
    assert head.native([torch.randn(1, 64, 3, 2)]).shape == (1, 1, 3 * 2**blocks, 2 * 2**blocks)


@pytest.mark.parametrize("name", ["fpn", "unetplusplus", "deeplabv3plus", "upernet"])
def test_smp_decoders_refuse_too_few_strides(name):
    with pytest.raises(UserError, match="at least 3 strides and this backbone has 2, 4;"):
        create_head(name, LIGHT[:2], 1)


def test_decoders_with_global_pooling_refuse_a_batch_of_one():
    head = create_head("deeplabv3plus", LIGHT, 1)
    with pytest.raises(UserError, match="batch size of 2 or more"):
        head(features_of(LIGHT, (64, 64), batch=1), (64, 64))
    assert head.eval()(features_of(LIGHT, (64, 64), batch=1), (64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    ("backbone", "head", "policy"),
    [
        ("resnet18", "unet", "tiled"),
        ("vgg11", "up-projection", "tiled"),
        ("resnet18", "fpn", "whole"),  # the head resamples with aligned corners
        ("alexnet", "unet", "whole"),  # conv1 of 2012 has no padding, so its units are not aligned with the pixels
        ("inception_v4", "unet", "whole"),
        ("lenet5", "unet", "whole"),
    ],
)
def test_models_are_tiled_only_if_head_and_backbone_are(backbone, head, policy):
    with torch.device("meta"):
        encoder = create_backbone(backbone, num_classes=0)
        assert EncoderDecoder(encoder, create_head(head, encoder.levels, 1)).input_policy == policy
