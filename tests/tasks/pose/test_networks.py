"""Every backbone with both heads: odd image sizes, gradients of all parameters, and alignment of heat maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Level
from densevision.datasets.pose.skeletons import LSP
from densevision.tasks.pose.belagiannis import Belagiannis, BelagiannisCascade
from densevision.tasks.pose.heads import Deconvolution, Regression
from densevision.tasks.pose.heatmaps import decode, joints_to_pixels
from densevision.tasks.pose.losses import find_loss
from densevision.tasks.pose.networks import (
    HeatmapNetwork,
    PoseNetwork,
    RegressionNetwork,
    fractions_to_pixels,
    pixels_to_fractions,
)

from ...every_backbone import EVERY_BACKBONE

JOINTS = 14
HEADS = ("regression", "deconvolution")
ODD = (127, 161)

LIGHT: dict[str, int | None] = {
    "lenet5": None, "alexnet": None, "vgg11": 5, "googlenet": None, "resnet18": 4, "resnet20_cifar": None,
    "preact110_cifar": 2, "inception_v4": 3, "inception_resnet_v2": 3,
}  # fmt: skip
"""One backbone of each family, and the number of its levels for tests on the CPU (others: meta device)."""


def with_head(backbone: Any, head: str, joints: int = JOINTS) -> Any:
    if head == "regression":
        return RegressionNetwork(backbone, Regression(backbone.levels, joints))
    return HeatmapNetwork(backbone, Deconvolution(backbone.levels, joints))


def network_of(backbone: str, head: str, levels: int | None = None) -> Any:
    return with_head(create_backbone(backbone, num_classes=0, levels=levels), head)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


def images(height: int, width: int, channels: int = 3, batch: int = 2) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


# --- all pairs, on the meta device -------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_both_heads_support_odd_images_and_any_number_of_levels(backbone):
    with torch.device("meta"):
        network = network_of(backbone, "deconvolution")
        levels = network.backbone.levels
        image = torch.empty(2, network.backbone.in_channels, *ODD)
        inputs: list[list[Tensor]] = []
        hook = network.head.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        maps = network(image)
        hook.remove()
        (features,) = inputs
        regression = Regression(levels, JOINTS)
        fractions = regression(features)
        # Quarters of 127 x 161, rounded up.
        assert maps.shape == (2, JOINTS, 32, 41) and fractions.shape == (2, JOINTS, 2)
        assert maps.dtype == fractions.dtype == torch.float32
        (maps.sum() + fractions.sum()).backward()
        assert without_gradient(network) == [] and without_gradient(regression) == []
        # A truncated backbone returns the first of the same levels.
        for number in range(1, len(levels)):
            leaves = [level.detach().requires_grad_() for level in features[:number]]
            head = Deconvolution(levels[:number], JOINTS)
            regression = Regression(levels[:number], JOINTS)
            maps, fractions = head(leaves, ODD), regression(leaves)
            assert maps.shape == (2, JOINTS, 32, 41) and fractions.shape == (2, JOINTS, 2)
            (maps.sum() + fractions.sum()).backward()
            assert without_gradient(head) == [] and without_gradient(regression) == []
            assert leaves[-1].grad is not None


@pytest.mark.parametrize("size", [(128, 160), (131, 99), (105, 105), (33, 70)])
@pytest.mark.parametrize("head", HEADS)
def test_output_shape_at_any_image_size(head, size):
    with torch.device("meta"):
        network = network_of("resnet18", head)
        with torch.no_grad():
            output = network(torch.empty(2, 3, *size))
    quarters = (2, JOINTS, -(-size[0] // 4), -(-size[1] // 4))
    assert output.shape == (quarters if head == "deconvolution" else (2, JOINTS, 3)) and output.dtype == torch.float32


# --- on the CPU, one light backbone per family ----------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", LIGHT)
def test_initial_gradients_are_finite_and_joints_inside_an_odd_image(backbone, head):
    torch.manual_seed(0)
    network = network_of(backbone, head, LIGHT[backbone])
    image = images(97, 83, network.backbone.in_channels)
    joints = torch.cat((70 * torch.rand(2, JOINTS, 2), torch.full((2, JOINTS, 1), 2.0)), dim=-1)
    terms = find_loss("paper", network)(image, joints)
    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
    assert any(gradient.abs().max() > 0 for name, gradient in gradients.items() if name.startswith("backbone"))
    with torch.no_grad():
        output = network.eval()(image)
    assert torch.isfinite(output).all()
    output = joints_to_pixels(decode(output)) if head == "deconvolution" else output
    assert (output[..., 2] >= 0).all() and (output[..., 2] <= 1).all()
    # The outermost cells extend beyond an odd image by less than a cell.
    assert (output[..., :2] >= -0.5).all() and (output[..., 0] < 83 + 3).all() and (output[..., 1] < 97 + 3).all()


@pytest.mark.parametrize("head", HEADS)
def test_output_does_not_depend_on_the_batch(head):
    torch.manual_seed(0)
    network = network_of("resnet18", head, 3).eval()
    image = images(64, 96)
    with torch.no_grad():
        batched, single = network(image), network(image[1:])
    torch.testing.assert_close(batched[1:], single, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_preprocessing_is_applied_once_and_features_are_not_modified(head):
    network = network_of("resnet18", head, 3).eval()
    recorded: list[Tensor] = []
    plain = network.backbone.features

    def features(pixels: Tensor) -> list[Tensor]:
        recorded.append(pixels)
        levels = plain(pixels)
        recorded.extend([levels[-1], levels[-1].clone()])
        return levels

    network.backbone.features = features
    image = images(64, 96)
    with torch.no_grad():
        network(image)
    torch.testing.assert_close(recorded[0], network.backbone.preprocessing(image))
    assert torch.equal(recorded[1], recorded[2])


@pytest.mark.parametrize("head", HEADS)
def test_input_policy_stride_and_output_type(head):
    network = network_of("resnet18", head, 3)
    assert isinstance(network, PoseNetwork) and network.input_policy == "fixed" and network.stride == 8
    assert network.output_type == {"regression": "coordinates", "deconvolution": "heatmaps"}[head]


@pytest.mark.parametrize("build", [*HEADS, Belagiannis, pytest.param(BelagiannisCascade, marks=pytest.mark.slow)])
def test_output_is_float32_under_autocast(build):
    torch.manual_seed(0)
    network = network_of("resnet18", build, 3) if isinstance(build, str) else build(LSP)
    image = images(120, 80)
    joints = torch.cat((70 * torch.rand(2, JOINTS, 2), torch.full((2, JOINTS, 1), 2.0)), dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        terms = find_loss("paper", network)(image, joints)
        network.eval()
        output = network(image)
        raw = output if network.output_type == "heatmaps" else network.coordinates(image)[-1]
    torch.stack(list(terms.values())).sum().backward()
    assert output.dtype == raw.dtype == torch.float32 and all(term.dtype == torch.float32 for term in terms.values())
    assert without_gradient(network) == []
    if network.output_type == "coordinates":
        # The last layer is not rounded to bf16's 8 bits.
        assert not torch.equal(raw, raw.bfloat16().float())
        with torch.no_grad():
            torch.testing.assert_close(output, network(image), rtol=0, atol=2)


# --- coordinates -------------------------------------------------------------------------------------------------


def test_fractions_are_0_and_1_at_the_edges_of_the_image():
    # The left edge is half a pixel before pixel 0, the lower edge half a pixel after the last.
    pixels = torch.tensor([[-0.5, -0.5], [0.0, 0.0], [79.5, 119.5], [39.5, 59.5]])
    fractions = torch.tensor([[0, 0], [0.5 / 80, 0.5 / 120], [1, 1], [0.5, 0.5]])
    torch.testing.assert_close(pixels_to_fractions(pixels, (120, 80)), fractions)
    torch.testing.assert_close(fractions_to_pixels(fractions, (120, 80)), pixels)
    # Unlike the authors' (x + 1) / W, they are invariant to a resize, x' = s (x + 1/2) - 1/2.
    torch.testing.assert_close(pixels_to_fractions(2 * (pixels + 0.5) - 0.5, (240, 160)), fractions)


def test_untrained_regression_predicts_the_mean_pose_which_is_initially_the_center():
    torch.manual_seed(0)
    network = network_of("resnet18", "regression", 3).eval()
    with torch.no_grad():
        joints = network(images(64, 96))
        center = torch.tensor([47.5, 31.5]).expand(2, JOINTS, 2)
        torch.testing.assert_close(joints[..., :2], center, rtol=0, atol=6)
        assert (joints[..., 2] == 1).all()
        network.expected += torch.tensor([0.25, -0.5])
        torch.testing.assert_close(network(images(64, 96))[..., :2], joints[..., :2] + torch.tensor([24.0, -32.0]))


def test_regression_reads_the_mean_of_the_deepest_level():
    levels = (Level("fine", 4, 3), Level("deep", 8, 5))
    head = Regression(levels, JOINTS).eval()
    deep = torch.randn(2, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    shuffled = deep.flatten(2)[..., torch.randperm(42)].view_as(deep)
    offsets = head([torch.full((2, 3, 14, 12), torch.nan), deep])
    assert offsets.shape == (2, JOINTS, 2)
    torch.testing.assert_close(head([deep, shuffled]), offsets)


# --- heat maps ---------------------------------------------------------------------------------------------------


# Facts 3.5: Xiao et al., for 16 joints and for 17.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", (33_999_440, 33_999_697)),
        ("resnet101", (52_991_568, 52_991_825)),
        ("resnet152", (68_635_216, 68_635_473)),
    ],
)
def test_number_of_parameters_with_a_resnet(name, parameters):
    with torch.device("meta"):
        backbone = create_backbone(name, num_classes=0)
        networks = [with_head(backbone, "deconvolution", joints) for joints in (16, 17)]
    assert tuple(count(network) for network in networks) == parameters


def test_heat_maps_have_a_quarter_of_the_image_size():
    # Facts 3.5: input 256 x 192 -> 64 x 48.
    with torch.device("meta"):
        assert network_of("resnet50", "deconvolution")(torch.empty(2, 3, 256, 192)).shape[2:] == (64, 48)


@pytest.mark.parametrize(
    ("stride", "channels", "widths"),
    [
        (32, 2048, [256, 256, 256]),
        (32, 512, [256, 256, 256]),
        (16, 256, [256, 256]),
        (8, 128, [128]),
        (4, 64, []),
        (1, 64, []),
        (14, 384, [256, 256]),
    ],
)
def test_number_and_width_of_deconvolutions(stride, channels, widths):
    head = Deconvolution((Level("deep", stride, channels),), JOINTS)
    assert [block[0].out_channels for block in head.deconvolutions] == widths  # type: ignore[index]
    assert head.predict.in_channels == (widths or [channels])[-1]
    narrow = Deconvolution((Level("deep", stride, channels),), JOINTS, width=32)
    assert [block[0].out_channels for block in narrow.deconvolutions] == [32] * len(widths)  # type: ignore[index]


def test_backbone_that_ends_before_stride_4_is_average_pooled():
    head = Deconvolution((Level("fine", 1, 1),), 1)
    nn.init.ones_(head.predict.weight)
    level = torch.arange(64.0).view(1, 1, 8, 8)
    torch.testing.assert_close(head([level], (8, 8)), nn.functional.avg_pool2d(level, 4))


def test_initialization_is_the_authors():
    torch.manual_seed(0)
    head = Deconvolution((Level("deep", 32, 512),), JOINTS)
    for layer in (*(block[0] for block in head.deconvolutions), head.predict):  # type: ignore[index]
        # Xiao's code: N(0, 0.001²), biases 0.
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not head.predict.bias.any()  # type: ignore[union-attr]


def test_cells_stay_aligned_at_any_image_size():
    # A cell keeps its value when the image is extended: maps are not stretched to the size of the image.
    torch.manual_seed(0)
    network = network_of("resnet18", "deconvolution", 3).eval()
    image = images(160, 160, batch=1)
    with torch.no_grad():
        complete = network(image)
        for height, width in ((131, 99), (127, 129), (96, 100)):
            crop = network(image[..., :height, :width])
            torch.testing.assert_close(crop[..., :10, :10], complete[..., :10, :10], rtol=1e-3, atol=1e-7)


def test_heat_maps_of_backbones_without_padding_cover_the_complete_image():
    # Facts of AlexNet 2012: 227 x 227 leaves 6 x 6 cells at stride 32, and 8 x 8 would cover the padded image.
    network = network_of("alexnet", "deconvolution").eval()
    image = images(227, 227, batch=1)
    with torch.no_grad():
        assert network.backbone.features(network.backbone.preprocessing(image))[-1].shape[-2:] == (6, 6)
        assert network(image).shape == (1, JOINTS, 57, 57)
