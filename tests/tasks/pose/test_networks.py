"""Every trunk with both heads: joints of odd pictures, gradients for all that is learned, and where a cell lies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone, list_backbones
from densevision.backbones.backbone import Level
from densevision.datasets.skeletons import LSP
from densevision.tasks.pose.belagiannis import Belagiannis, BelagiannisCascade
from densevision.tasks.pose.deconvolution import Deconvolution
from densevision.tasks.pose.heatmaps import decode, in_pixels
from densevision.tasks.pose.losses import find_loss
from densevision.tasks.pose.networks import (
    HeatmapNetwork,
    PoseNetwork,
    RegressionNetwork,
    from_fractions,
    to_fractions,
)
from densevision.tasks.pose.regression import Regression

JOINTS = 14
HEADS = ("regression", "deconvolution")
ODD = (127, 161)

# Other trunks of their files have the same levels and fewer layers.
DEEPEST = (
    "plain56_cifar", "preact1001_cifar", "preact110_cifar", "preact164_cifar", "preact200", "resnet101",
    "resnet110_cifar", "resnet1202_cifar", "resnet152", "resnet44_cifar", "resnet56_cifar",
)  # fmt: skip
TRUNKS = [pytest.param(name, marks=pytest.mark.slow) if name in DEEPEST else name for name in list_backbones()]

LIGHT: dict[str, int | None] = {
    "lenet5": None, "alexnet": None, "vgg11": 5, "googlenet": None, "resnet18": 4, "resnet20_cifar": None,
    "preact110_cifar": 2, "inception_v4": 3, "inception_resnet_v2": 3,
}  # fmt: skip
"""One trunk of each family, and how many of its levels are tried with numbers."""


def with_head(backbone: Any, head: str, joints: int = JOINTS) -> Any:
    if head == "regression":
        return RegressionNetwork(backbone, Regression(backbone.levels, joints))
    return HeatmapNetwork(backbone, Deconvolution(backbone.levels, joints))


def network_of(trunk: str, head: str, levels: int | None = None) -> Any:
    return with_head(create_backbone(trunk, classes=0, levels=levels), head)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


def pictures(height: int, width: int, channels: int = 3, batch: int = 2) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


# --- all pairs, without numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", TRUNKS)
def test_both_heads_answer_for_an_odd_picture_with_gradients_for_every_parameter_however_short_the_trunk(trunk):
    with torch.device("meta"):
        network = network_of(trunk, "deconvolution")
        levels = network.backbone.levels
        image = torch.empty(2, network.backbone.in_channels, *ODD)
        seen: list[list[Tensor]] = []
        hook = network.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        maps = network(image)
        hook.remove()
        (features,) = seen
        regression = Regression(levels, JOINTS)
        fractions = regression(features)
        # Quarters of 127 x 161, rounded up.
        assert maps.shape == (2, JOINTS, 32, 41) and fractions.shape == (2, JOINTS, 2)
        assert maps.dtype == fractions.dtype == torch.float32
        (maps.sum() + fractions.sum()).backward()
        assert without_gradient(network) == [] and without_gradient(regression) == []
        # A trunk that is cut short gives the first of the same levels.
        for built in range(1, len(levels)):
            leaves = [level.detach().requires_grad_() for level in features[:built]]
            head = Deconvolution(levels[:built], JOINTS)
            regression = Regression(levels[:built], JOINTS)
            maps, fractions = head(leaves, ODD), regression(leaves)
            assert maps.shape == (2, JOINTS, 32, 41) and fractions.shape == (2, JOINTS, 2)
            (maps.sum() + fractions.sum()).backward()
            assert without_gradient(head) == [] and without_gradient(regression) == []
            assert leaves[-1].grad is not None


@pytest.mark.parametrize("size", [(128, 160), (131, 99), (105, 105), (33, 70)])
@pytest.mark.parametrize("head", HEADS)
def test_joints_come_in_threes_and_maps_in_quarters_whatever_the_size_of_the_picture(head, size):
    with torch.device("meta"):
        network = network_of("resnet18", head)
        with torch.no_grad():
            made = network(torch.empty(2, 3, *size))
    quarters = (2, JOINTS, -(-size[0] // 4), -(-size[1] // 4))
    assert made.shape == (quarters if head == "deconvolution" else (2, JOINTS, 3)) and made.dtype == torch.float32


# --- with numbers, one light trunk a family ----------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("trunk", LIGHT)
def test_training_may_begin_at_an_odd_size_with_finite_gradients_and_joints_inside_the_picture(trunk, head):
    torch.manual_seed(0)
    network = network_of(trunk, head, LIGHT[trunk])
    image = pictures(97, 83, network.backbone.in_channels)
    joints = torch.cat((70 * torch.rand(2, JOINTS, 2), torch.full((2, JOINTS, 1), 2.0)), dim=-1)
    terms = find_loss("paper", network)(image, joints)
    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
    assert any(gradient.abs().max() > 0 for name, gradient in gradients.items() if name.startswith("backbone"))
    with torch.no_grad():
        made = network.eval()(image)
    assert torch.isfinite(made).all()
    if head == "deconvolution":
        made = in_pixels(decode(made))
    assert (made[..., 2] >= 0).all() and (made[..., 2] <= 1).all()
    # A map's outermost cells reach beyond an odd picture by less than a cell.
    assert (made[..., :2] >= -0.5).all() and (made[..., 0] < 83 + 3).all() and (made[..., 1] < 97 + 3).all()


@pytest.mark.parametrize("head", HEADS)
def test_a_picture_is_answered_alike_alone_and_in_a_batch(head):
    torch.manual_seed(0)
    network = network_of("resnet18", head, 3).eval()
    image = pictures(64, 96)
    with torch.no_grad():
        together, alone = network(image), network(image[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_the_trunks_preprocessing_is_applied_once_and_its_maps_are_left_as_they_are(head):
    network = network_of("resnet18", head, 3).eval()
    kept: list[Tensor] = []
    plain = network.backbone.features

    def features(picture: Tensor) -> list[Tensor]:
        kept.append(picture)
        levels = plain(picture)
        kept.extend([levels[-1], levels[-1].clone()])
        return levels

    network.backbone.features = features
    image = pictures(64, 96)
    with torch.no_grad():
        network(image)
    torch.testing.assert_close(kept[0], network.backbone.preprocessing(image))
    assert torch.equal(kept[1], kept[2])


@pytest.mark.parametrize("head", HEADS)
def test_a_network_takes_its_pictures_exactly_and_says_what_it_learns_from(head):
    network = network_of("resnet18", head, 3)
    assert isinstance(network, PoseNetwork) and network.takes == "exact" and network.stride == 8
    assert network.answers == {"regression": "coordinates", "deconvolution": "heatmaps"}[head]


@pytest.mark.parametrize("build", [*HEADS, Belagiannis, BelagiannisCascade])
def test_networks_run_in_half_precision_and_answer_in_full(build):
    torch.manual_seed(0)
    network = network_of("resnet18", build, 3) if isinstance(build, str) else build(LSP)
    image = pictures(120, 80)
    joints = torch.cat((70 * torch.rand(2, JOINTS, 2), torch.full((2, JOINTS, 1), 2.0)), dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        terms = find_loss("paper", network)(image, joints)
        network.eval()
        made = network(image)
        answer = made if network.answers == "heatmaps" else network.coordinates(image)[-1]
    torch.stack(list(terms.values())).sum().backward()
    assert made.dtype == answer.dtype == torch.float32 and all(term.dtype == torch.float32 for term in terms.values())
    assert without_gradient(network) == []
    if network.answers == "coordinates":
        # Their last layer is not rounded to bf16's 8 bits.
        assert not torch.equal(answer, answer.bfloat16().float())
        with torch.no_grad():
            torch.testing.assert_close(made, network(image), rtol=0, atol=2)


# --- coordinates -------------------------------------------------------------------------------------------------


def test_fractions_are_of_the_pictures_edges():
    # The left edge is half a pixel before pixel 0, the lower edge half a pixel behind the last.
    pixels = torch.tensor([[-0.5, -0.5], [0.0, 0.0], [79.5, 119.5], [39.5, 59.5]])
    fractions = torch.tensor([[0, 0], [0.5 / 80, 0.5 / 120], [1, 1], [0.5, 0.5]])
    torch.testing.assert_close(to_fractions(pixels, (120, 80)), fractions)
    torch.testing.assert_close(from_fractions(fractions, (120, 80)), pixels)
    # So that a resize, x' = s (x + 1/2) - 1/2, leaves them alone; the authors' (x + 1) / W it would move.
    torch.testing.assert_close(to_fractions(2 * (pixels + 0.5) - 0.5, (240, 160)), fractions)


def test_an_untrained_regression_looks_where_joints_are_expected_and_before_that_is_known_in_the_middle():
    torch.manual_seed(0)
    network = network_of("resnet18", "regression", 3).eval()
    with torch.no_grad():
        made = network(pictures(64, 96))
        middle = torch.tensor([47.5, 31.5]).expand(2, JOINTS, 2)
        torch.testing.assert_close(made[..., :2], middle, rtol=0, atol=6)
        assert (made[..., 2] == 1).all()
        network.expected += torch.tensor([0.25, -0.5])
        torch.testing.assert_close(network(pictures(64, 96))[..., :2], made[..., :2] + torch.tensor([24.0, -32.0]))


def test_the_regression_reads_the_mean_of_the_deepest_level():
    levels = (Level("fine", 4, 3), Level("deep", 8, 5))
    head = Regression(levels, JOINTS).eval()
    deep = torch.randn(2, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    shuffled = deep.flatten(2)[..., torch.randperm(42)].view_as(deep)
    made = head([torch.full((2, 3, 14, 12), torch.nan), deep])
    assert made.shape == (2, JOINTS, 2)
    torch.testing.assert_close(head([deep, shuffled]), made)


# --- heat maps ---------------------------------------------------------------------------------------------------


# Facts 3.5: Xiao et al., for 16 joints and for 17.
@pytest.mark.parametrize(
    ("trunk", "parameters"),
    [
        ("resnet50", (33_999_440, 33_999_697)),
        ("resnet101", (52_991_568, 52_991_825)),
        ("resnet152", (68_635_216, 68_635_473)),
    ],
)
def test_with_a_resnet_the_network_has_the_published_number_of_parameters(trunk, parameters):
    with torch.device("meta"):
        backbone = create_backbone(trunk, classes=0)
        networks = [with_head(backbone, "deconvolution", joints) for joints in (16, 17)]
    assert tuple(count(network) for network in networks) == parameters


def test_maps_are_a_quarter_of_the_picture():
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
def test_there_are_as_many_deconvolutions_as_lead_to_stride_four_and_none_wider_than_its_trunk(
    stride, channels, widths
):
    head = Deconvolution((Level("deep", stride, channels),), JOINTS)
    assert [block[0].out_channels for block in head.deconvolutions] == widths  # type: ignore[index]
    assert head.predict.in_channels == (widths or [channels])[-1]
    narrow = Deconvolution((Level("deep", stride, channels),), JOINTS, width=32)
    assert [block[0].out_channels for block in narrow.deconvolutions] == [32] * len(widths)  # type: ignore[index]


def test_a_trunk_that_ends_before_stride_four_is_averaged_down_to_it():
    head = Deconvolution((Level("fine", 1, 1),), 1)
    nn.init.ones_(head.predict.weight)
    level = torch.arange(64.0).view(1, 1, 8, 8)
    torch.testing.assert_close(head([level], (8, 8)), nn.functional.avg_pool2d(level, 4))


def test_the_start_is_the_authors():
    torch.manual_seed(0)
    head = Deconvolution((Level("deep", 32, 512),), JOINTS)
    for layer in (*(block[0] for block in head.deconvolutions), head.predict):  # type: ignore[index]
        # Xiao's code: N(0, 0.001²), biases 0.
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not head.predict.bias.any()  # type: ignore[union-attr]


def test_cells_keep_their_place_whatever_the_size_of_the_picture():
    # What is seen at a place does not move when the picture is continued: no map is stretched to a picture's size.
    torch.manual_seed(0)
    network = network_of("resnet18", "deconvolution", 3).eval()
    image = pictures(160, 160, batch=1)
    with torch.no_grad():
        whole = network(image)
        for height, width in ((131, 99), (127, 129), (96, 100)):
            part = network(image[..., :height, :width])
            torch.testing.assert_close(part[..., :10, :10], whole[..., :10, :10], rtol=1e-3, atol=1e-7)


def test_trunks_that_lose_units_at_the_border_have_their_maps_over_the_whole_picture():
    # Facts of AlexNet 2012: 227 x 227 leaves 6 x 6 units at stride 32, where 8 x 8 would cover the padded picture.
    network = network_of("alexnet", "deconvolution").eval()
    image = pictures(227, 227, batch=1)
    with torch.no_grad():
        assert network.backbone.features(network.backbone.preprocessing(image))[-1].shape[-2:] == (6, 6)
        assert network(image).shape == (1, JOINTS, 57, 57)
