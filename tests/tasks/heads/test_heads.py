from __future__ import annotations

import pytest
import torch
from torch import nn

from densevision.backbones import Level, create_backbone
from densevision.errors import UserError
from densevision.tasks.dense import DenseNetwork
from densevision.tasks.heads import HEADS, create_head, list_heads
from densevision.tasks.heads.head import distinct_strides, resize
from densevision.tasks.heads.up_projection import (
    SingleUpConvolution,
    UpConvolution,
    UpProjection,
    UpProjectionHead,
    to_fast,
)

LIGHT = (Level("a", 2, 4), Level("b", 4, 6), Level("c", 8, 8), Level("d", 16, 8), Level("e", 32, 10))


def features_of(levels: tuple[Level, ...], size: tuple[int, int], batch: int = 2) -> list[torch.Tensor]:
    """What a trunk with padded convolutions gives: sizes rounded up."""
    height, width = size
    return [
        torch.randn(batch, level.channels, -(-height // level.stride), -(-width // level.stride)) for level in levels
    ]


def settled(module: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics that a training would have left: not the initial 0 and 1."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


def test_every_line_of_the_catalogue_leads_to_a_head():
    assert list_heads() == sorted(HEADS)
    for name in list_heads():
        head = create_head(name, LIGHT, 2)
        assert head.takes in ("tiled", "whole")
        assert head.predict.out_channels == 2 and head.predict.bias is not None


def test_an_unknown_head_is_answered_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'unet'"):
        create_head("u-net", LIGHT, 1)


@pytest.mark.parametrize("name", list_heads())
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (33, 47)])
def test_odd_sizes_come_back_as_they_went_in_with_finite_numbers(name, size):
    torch.manual_seed(0)
    head = settled(create_head(name, LIGHT, 3))
    answer = head(features_of(LIGHT, size), size)
    assert answer.shape == (2, 3, *size)
    assert torch.isfinite(answer).all()
    assert answer.std() > 0


@pytest.mark.parametrize("name", ["unet", "up-projection", "up-convolution"])
@pytest.mark.parametrize("trunk", ["resnet18", "resnet20_cifar", "vgg11"])
def test_one_light_trunk_a_family_answers_with_numbers_and_learns_from_a_single_picture(name, trunk):
    torch.manual_seed(0)
    backbone = create_backbone(trunk, classes=0)
    head = create_head(name, backbone.levels, 1)
    answer = head(backbone.features(torch.rand(1, 3, 45, 67)), (45, 67))
    assert answer.shape == (1, 1, 45, 67) and torch.isfinite(answer).all()
    answer.square().mean().backward()
    for module in (backbone, head):
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.parametrize("name", [name for name in list_heads() if name != "up-convolution"])
def test_a_head_that_says_tiled_gives_in_a_tile_what_it_gives_in_the_whole(name):
    # A trunk's part is left out: the levels are random, cut at multiples of the coarsest stride.
    torch.manual_seed(0)
    levels = LIGHT[:4]
    head = settled(create_head(name, levels, 1))
    whole = features_of(levels, (64, 640), batch=1)
    left, right = 192, 448
    tile = [
        level[..., left // stride.stride : right // stride.stride] for level, stride in zip(whole, levels, strict=True)
    ]
    with torch.no_grad():
        answer = head(whole, (64, 640))[..., left:right]
        tiled = head(tile, (64, right - left))
    middle = slice(112, 144)
    difference = (answer - tiled)[..., middle].abs().max()
    if head.takes == "tiled":
        assert difference < 1e-5
    else:
        assert difference > 1e-5


def test_unet_asks_for_strides_and_takes_the_deepest_level_of_each():
    levels = (Level("a", 1, 4), Level("b", 2, 4), Level("c", 2, 6), Level("d", 8, 8), Level("e", 8, 9))
    assert distinct_strides(levels) == [0, 2, 4]
    head = create_head("unet", levels, 1)
    features = features_of(levels, (16, 16))
    answer = head(features, (16, 16))
    for unused in (1, 3):
        features[unused] = torch.full_like(features[unused], torch.nan)
    assert torch.equal(head(features, (16, 16)), answer)


def test_unet_convolves_nothing_finer_than_its_trunk():
    head = create_head("unet", LIGHT, 1)
    seen: list[int] = []
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.shape[-1]))
    head(features_of(LIGHT, (64, 64)), (64, 64))
    assert max(seen) == 32


def test_unet_of_a_single_level_is_a_convolution():
    head = create_head("unet", LIGHT[:1], 2)
    assert head(features_of(LIGHT[:1], (9, 7)), (9, 7)).shape == (2, 2, 9, 7)


def test_resize_leaves_the_right_size_alone_and_doubles_between_pixel_centres():
    maps = torch.tensor([[[[0.0, 4.0]]]])
    assert resize(maps, (1, 2)) is maps
    # Centres of the doubled pixels lie at -0.25, 0.25, 0.75, 1.25 of the old ones.
    assert resize(maps, (1, 4)).flatten().tolist() == [0, 1, 3, 4]


def test_fast_and_plain_up_convolutions_are_one_function_when_the_padding_is_after():
    torch.manual_seed(0)
    plain = UpConvolution(3, 5, "plain").double()
    fast = UpConvolution(3, 5, "fast").double()
    fast.load_state_dict(to_fast(plain.state_dict()))
    x = torch.randn(2, 3, 7, 4, dtype=torch.float64)
    assert plain(x).shape == (2, 5, 14, 8)
    torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-14)


def test_padding_before_is_the_6x6_kernel_and_another_function():
    # Facts 3.1: the authors' NYU code pads the two-tap kernels top and left.
    torch.manual_seed(0)
    plain = UpConvolution(1, 1, "plain").double()
    before = UpConvolution(1, 1, "fast", "before").double()
    before.load_state_dict(to_fast(plain.state_dict()))
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    # Offsets -3..+2: odd places see their taps one cell earlier, even places are as in the plain form.
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


def test_an_inserted_zero_grid_holds_the_value_top_left():
    up = UpConvolution(1, 1, "plain")
    identity = torch.zeros(1, 1, 5, 5)
    identity[0, 0, 2, 2] = 1
    up.load_state_dict({"k5x5.weight": identity, "k5x5.bias": torch.zeros(1)})
    assert up(torch.tensor([[[[7.0]]]])).flatten().tolist() == [7, 0, 0, 0]


def test_the_plain_form_has_no_padding_before():
    with pytest.raises(UserError, match="fast form"):
        UpConvolution(1, 1, "plain", "before")
    with pytest.raises(UserError, match="'fast' or 'plain'"):
        UpConvolution(1, 1, "quick")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("block", [UpProjection, SingleUpConvolution])
def test_blocks_of_both_forms_agree_after_conversion(block):
    torch.manual_seed(0)
    plain, fast = (settled(block(4, 3, form).double()) for form in ("plain", "fast"))
    fast.load_state_dict(to_fast(plain.state_dict()))
    x = torch.randn(1, 4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("coarsest", "blocks"), [(32, 4), (16, 3), (4, 1), (2, 0), (1, 0)])
def test_up_projections_double_until_stride_2(coarsest, blocks):
    head = UpProjectionHead((Level("x", coarsest, 64),), 1)
    assert len(head.blocks) == blocks
    assert head.native([torch.randn(1, 64, 3, 2)]).shape == (1, 1, 3 * 2**blocks, 2 * 2**blocks)


@pytest.mark.parametrize("name", ["fpn", "unetplusplus", "deeplabv3plus", "upernet"])
def test_decoders_of_smp_refuse_too_few_strides_in_one_sentence(name):
    with pytest.raises(UserError, match="at least 3 strides and this trunk has 2, 4;"):
        create_head(name, LIGHT[:2], 1)


def test_decoders_that_pool_the_whole_picture_say_why_they_cannot_train_on_one():
    head = create_head("deeplabv3plus", LIGHT, 1)
    with pytest.raises(UserError, match="batch of 2 or more"):
        head(features_of(LIGHT, (64, 64), batch=1), (64, 64))
    assert head.eval()(features_of(LIGHT, (64, 64), batch=1), (64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    ("trunk", "head", "takes"),
    [
        ("resnet18", "unet", "tiled"),
        ("vgg11", "up-projection", "tiled"),
        ("resnet18", "fpn", "whole"),  # the head resamples between the picture's corners
        ("alexnet", "unet", "whole"),  # conv1 of 2012 has no padding, so that its units are no quarter of the pixels
        ("inception_v4", "unet", "whole"),
        ("lenet5", "unet", "whole"),
    ],
)
def test_pictures_are_tiled_only_where_head_and_trunk_both_allow_it(trunk, head, takes):
    with torch.device("meta"):
        backbone = create_backbone(trunk, classes=0)
        assert DenseNetwork(backbone, create_head(head, backbone.levels, 1)).takes == takes
