from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.datasets.fields import Skeleton
from densevision.datasets.skeletons import COCO, LSP, MPII
from densevision.errors import UserError
from densevision.tasks.pose.belagiannis import (
    REACH,
    SIZE,
    Belagiannis,
    BelagiannisCascade,
    ConvNet,
    Row,
    look_closer,
    parts_of,
    region_around,
)
from densevision.tasks.pose.losses import find_loss
from densevision.tasks.pose.networks import from_fractions, to_fractions


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pictures(height: int = 120, width: int = 80, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def soft_pictures(height: int = 120, width: int = 80) -> Tensor:
    """Blurs of a few colours: alike at any size, and of neighbouring pixels alike as photographs are."""
    return nn.functional.interpolate(pictures(6, 4), (height, width), mode="bicubic").clamp(0, 1)


def filled(module: nn.Module, std: float = 0.02, seed: int = 0) -> Any:
    """The module with all its weights drawn anew, in evaluation: a cascade that corrects something."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=rng))
    return module.eval()


# --- the table ---------------------------------------------------------------------------------------------------


def test_the_network_has_the_published_number_of_parameters_layer_by_layer():
    # Facts 3.5, the table: 14 joints, 28 outputs.
    with torch.device("meta"):
        network = Belagiannis(LSP)
    assert count(network) == 9_799_228
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [count(layer) for layer in convolutions] == [
        2_432, 9_248, 18_496, 36_928, 5_506_048, 2_099_200, 2_098_176,
    ]  # fmt: skip
    assert count(network.coarse.predict) == 28_700


def test_the_picture_passes_the_sizes_of_the_table():
    with torch.device("meta"):
        network = Belagiannis(LSP)
        shapes: dict[str, tuple[int, ...]] = {}

        def remember(name: str, layer: nn.Module) -> None:
            layer.register_forward_hook(lambda layer, inputs, output: shapes.update({name: tuple(output.shape[1:])}))

        for name, layer in network.coarse.layers.named_children():
            remember(name, layer)
        assert network.coordinates(torch.empty(2, 3, 120, 80))[0].shape == (2, 14, 2)
    # Facts 3.5: pools floor, 116 -> 57, 55 -> 27, 25 -> 12.
    assert [shapes[f"conv{number}"] for number in range(1, 8)] == [
        (32, 116, 76), (32, 55, 35), (64, 27, 17), (64, 25, 15), (1024, 1, 1), (2048, 1, 1), (1024, 1, 1),
    ]  # fmt: skip
    assert [shapes[f"pool{number}"] for number in (1, 2, 4)] == [(32, 57, 37), (32, 27, 17), (64, 12, 7)]
    # Facts 3.5: what follows each layer, in order.
    assert list(shapes) == [
        "conv1", "relu1", "pool1", "lrn1", "conv2", "relu2", "pool2", "lrn2", "conv3", "relu3",
        "conv4", "relu4", "pool4", "lrn4", "dropout4", "conv5", "relu5", "lrn5", "conv6", "relu6", "dropout6",
        "conv7", "relu7",
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "kernel"), [((120, 80), (12, 7)), ((100, 100), (9, 9)), ((60, 60), (4, 4))])
def test_the_fully_connected_kernel_is_what_the_picture_leaves(size, kernel):
    # Facts 3.5: 12 x 7; for 100 x 100 it is 9 x 9, for 60 x 60 4 x 4.
    with torch.device("meta"):
        assert ConvNet(28, size).layers.conv5.kernel_size == kernel  # type: ignore[union-attr]


def test_response_normalisation_is_matconvnets():
    # Facts 3.5: [5 1 1e-4/5 0.75] = torch's LocalResponseNorm(5, alpha=1e-4, beta=.75, k=1).
    with torch.device("meta"):
        layers = ConvNet(28, SIZE).layers
    maps = 100 * torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)(maps)
    for name in ("lrn1", "lrn2", "lrn4", "lrn5"):
        torch.testing.assert_close(layers.get_submodule(name)(maps), expected)
    assert (expected / maps).min() < 0.9  # at such values it does something


def test_the_start_is_the_authors():
    torch.manual_seed(0)
    network = Belagiannis(LSP)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0.1).all()
        else:
            # Facts 3.5: N(0, 0.01), of 800 numbers in the smallest layer.
            assert parameter.mean().abs().item() < 0.002 and parameter.std().item() == pytest.approx(0.01, rel=0.1)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_another_rule_starts_in_the_middle_of_the_picture_with_signals_of_equal_size():
    torch.manual_seed(0)
    network = Belagiannis(LSP, init="he_fan_in").eval()
    sizes: list[float] = []
    for layer in network.coarse.layers:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: sizes.append(output.std().item()))
    (made,) = network.coordinates(soft_pictures())
    assert all(0.5 < size < 3 for size in sizes) and len(sizes) == 7
    assert (made - 0.5).abs().max() < 0.25
    with pytest.raises(UserError, match="did you mean 'he_fan_in'"):
        Belagiannis(LSP, init="he_fan")


# --- what goes in and comes out ----------------------------------------------------------------------------------


def test_128_is_subtracted_from_every_colour():
    # Facts 3.5: evaluation subtracts 128; pictures are of 0 to 255.
    network = Belagiannis(LSP).eval()
    seen: list[Tensor] = []
    network.coarse.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    picture = pictures()
    network(picture)
    torch.testing.assert_close(seen[0], 255 * picture - 128, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [(120, 80), (240, 160), (131, 99), (60, 40)])
def test_the_answer_is_in_pixels_of_whatever_picture_came_in(size):
    network = filled(Belagiannis(LSP))
    picture = pictures(*size)
    with torch.no_grad():
        made, (fractions,) = network(picture), network.coordinates(picture)
    assert made.shape == (2, 14, 3) and made.dtype == torch.float32
    # (x + 1/2) / W: the left edge is 0, the right edge 1.
    torch.testing.assert_close((made[..., 0] + 0.5) / size[1], fractions[..., 0])
    torch.testing.assert_close((made[..., 1] + 0.5) / size[0], fractions[..., 1])
    assert (made[..., 2] == 1).all()
    assert (network.takes, network.answers, network.stride) == ("exact", "coordinates", 8)


def test_a_picture_twice_as_large_has_its_joints_at_the_same_fractions():
    network = filled(Belagiannis(LSP))
    with torch.no_grad():
        (small,) = network.coordinates(soft_pictures())
        (large,) = network.coordinates(soft_pictures(240, 160))
        (other,) = network.coordinates(soft_pictures().flip(0))
    torch.testing.assert_close(large, small, rtol=0, atol=2e-3)
    assert (other - small).abs().max() > 2e-2


# --- the cascade -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skeleton", "legs", "arms", "rest"),
    [
        (LSP, [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 13]),
        (MPII, [0, 1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15], [6, 7, 8, 9]),
        (COCO, [11, 12, 13, 14, 15, 16], [5, 6, 7, 8, 9, 10], [0, 1, 2, 3, 4]),
    ],
)
def test_every_joint_is_in_one_of_three_parts(skeleton, legs, arms, rest):
    # Facts 3.5: C = 3. Facts 3.5 has the joints' order in each set.
    assert parts_of(skeleton) == {"legs": legs, "arms": arms, "rest": rest}
    with torch.device("meta"):
        network = BelagiannisCascade(skeleton)
        made = network(torch.empty(2, 3, 131, 99))
    assert made.shape == (2, len(skeleton.names), 3) and len(network.refine) == 3


def test_a_skeleton_of_other_names_has_one_part():
    hand = Skeleton(("wrist root", "thumb", "index"), ((0, 1), (0, 2)), ())
    assert parts_of(hand) == {"rest": [0, 1, 2]}
    one_leg = Skeleton(("left_ankle", "Left Knee"), ((0, 1),), ())
    assert parts_of(one_leg) == {"legs": [0, 1]}


def test_the_cascade_has_a_network_more_a_part():
    with torch.device("meta"):
        network = BelagiannisCascade(LSP)
    # The table at 100 x 100 (conv5 of 9 x 9) for 12, 12 and 4 outputs, whose last layer is told as many numbers.
    each = 2_432 + 9_248 + 18_496 + 36_928 + (9 * 9 * 64 + 1) * 1024 + 2_099_200 + 2_098_176
    last = sum((1024 + 2 * joints + 1) * 2 * joints for joints in (6, 6, 2))
    assert count(network) == 9_799_228 + 3 * each + last == 38_549_992


def test_a_region_is_the_box_of_the_joints_and_a_margin():
    joints = torch.tensor([[[0.2, 0.5], [0.4, 0.9]], [[-3.0, 0.5], [0.1, 7.0]]])
    centre, reach = region_around(joints)
    torch.testing.assert_close(centre[:, 0], torch.tensor([[0.3, 0.7], [0.05, 0.75]]))
    torch.testing.assert_close(reach[:, 0], torch.tensor([[0.1, 0.2], [0.05, 0.25]]) + REACH)


def test_looking_closer_at_whole_pixels_is_cutting_them_out():
    picture = pictures(12, 16)
    # Rows 2 to 7 of 12 and columns 4 to 11 of 16.
    centre = torch.tensor([[[8 / 16, 5 / 12]]]).expand(2, 1, 2)
    reach = torch.tensor([[[4 / 16, 3 / 12]]]).expand(2, 1, 2)
    torch.testing.assert_close(look_closer(picture, centre, reach, (6, 8)), picture[:, :, 2:8, 4:12])
    # Twice as close: the middles of quarters of pixels lie between pixels, and the mean of four is the pixel's within.
    closer = look_closer(picture, centre, reach, (12, 16))
    expected = nn.functional.interpolate(picture, (24, 32), mode="bilinear")[:, :, 4:16, 8:24]
    torch.testing.assert_close(closer, expected)


def test_what_lies_outside_of_the_picture_is_seen_as_grey_and_every_picture_has_its_own_region():
    picture = pictures(12, 16)
    centre = torch.tensor([[[0.0, 0.0]], [[0.5, 0.5]]])
    reach = torch.full((2, 1, 2), 0.5)
    seen = look_closer(picture, centre, reach, (12, 16))
    assert max(seen[0, :, :6].max(), seen[0, :, :, :8].max()) < 1e-5
    torch.testing.assert_close(seen[0, :, 6:, 8:], picture[0, :, :6, :8])
    torch.testing.assert_close(seen[1], picture[1])


def test_the_second_stage_begins_as_the_first():
    torch.manual_seed(0)
    network = BelagiannisCascade(LSP).eval()
    with torch.no_grad():
        coarse, fine = network.coordinates(pictures())
        made = network(pictures())
    torch.testing.assert_close(fine, coarse)
    torch.testing.assert_close((made[..., 0] + 0.5) / 80, fine[..., 0])


def test_a_correction_is_in_halves_of_its_region_and_reaches_its_own_joints():
    network = filled(BelagiannisCascade(MPII))
    for part in network.refine.values():
        nn.init.zeros_(part.predict.weight)
        nn.init.zeros_(part.predict.bias)
    # x of the second arm joint: half a region to the right.
    arms = network.parts["arms"]
    network.refine["arms"].predict.bias.data[2] = 1
    with torch.no_grad():
        coarse, fine = network.coordinates(pictures())
    moved = torch.zeros_like(coarse)
    moved[:, arms[1], 0] = region_around(coarse[:, arms])[1][:, 0, 0]
    torch.testing.assert_close(fine - coarse, moved)


def test_a_part_is_told_where_in_its_region_its_coarse_joints_lie():
    # With the places taken back, every joint comes to the middle of its region, wherever it was.
    network = filled(BelagiannisCascade(LSP), std=0.05)
    for part, joints in network.parts.items():
        predict = network.refine[part].predict
        nn.init.zeros_(predict.weight)
        nn.init.zeros_(predict.bias)
        with torch.no_grad():
            predict.weight[:, 1024:] = -torch.eye(2 * len(joints))
    with torch.no_grad():
        coarse, fine = network.coordinates(pictures())
    assert coarse.std(1).min() > 1e-3
    for joints in network.parts.values():
        middle = region_around(coarse[:, joints])[0].expand(-1, len(joints), -1)
        torch.testing.assert_close(fine[:, joints], middle)


class Told(nn.Module):
    """A first stage that answers with what it is told."""

    size = SIZE

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, picture: Tensor) -> Tensor:
        return self.numbers


class Sighted(nn.Module):
    """A part of one joint that sees its dot, and answers with how far it is from where the coarse joint was."""

    def __init__(self, colour: int) -> None:
        super().__init__()
        self.colour = colour

    def forward(self, picture: Tensor, told: Tensor) -> Tensor:
        bright = picture[:, self.colour] + 128  # of the preprocessing
        weights = bright / bright.sum((-1, -2), keepdim=True)
        height, width = picture.shape[-2:]
        x = weights.sum(-2) @ (2 * (torch.arange(width) + 0.5) / width - 1)
        y = weights.sum(-1) @ (2 * (torch.arange(height) + 0.5) / height - 1)
        return torch.stack((x, y), dim=1) - told


def test_a_part_that_sees_its_joint_places_it_exactly_wherever_the_coarse_one_was():
    # A knee in red, a wrist in green and a nose in blue, each a part of its own, up to 0.1 from their coarse joints.
    skeleton = Skeleton(("knee", "wrist", "nose"), ((0, 1),), ())
    network: Any = BelagiannisCascade(skeleton, "he_fan_in").eval()
    assert list(network.parts.values()) == [[0], [1], [2]]
    for colour, part in enumerate(network.parts):
        network.refine[part] = Sighted(colour)
    # No region of 0.15 about them reaches beyond the picture.
    truth = torch.tensor([[[0.31, 0.62], [0.7, 0.33], [0.52, 0.3]], [[0.45, 0.7], [0.3, 0.55], [0.6, 0.6]]])
    away = 0.1 * (2 * torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0)) - 1)
    network.coarse = Told((truth + away - 0.5).flatten(1))
    rows, columns = (torch.arange(240) + 0.5) / 240, (torch.arange(160) + 0.5) / 160
    x, y = truth[..., 0, None, None], truth[..., 1, None, None]
    picture = torch.exp(-((columns - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * 0.012**2))
    with torch.no_grad():
        coarse, fine = network.coordinates(picture)
    torch.testing.assert_close(coarse, truth + away)
    # A tenth of a pixel.
    torch.testing.assert_close(fine, truth, rtol=0, atol=1 / 2400)


def test_a_part_sees_what_the_first_stage_cannot():
    # A checkerboard of single pixels in a picture of 480 x 320: grey once reduced to 120 x 80, but not up close.
    network = BelagiannisCascade(LSP).eval()
    rows, columns = torch.arange(480)[:, None], torch.arange(320)[None]
    board = ((rows + columns) % 2).float().expand(1, 3, 480, 320)
    seen: dict[str, Tensor] = {}

    def remember(name: str, part: nn.Module) -> None:
        part.register_forward_pre_hook(lambda part, inputs: seen.update({name: inputs[0]}))

    for name, part in (("coarse", network.coarse), *network.refine.items()):
        remember(name, part)
    with torch.no_grad():
        network(board)
    assert seen["coarse"].shape[-2:] == (120, 80) and seen["coarse"].std() < 10
    for part in ("legs", "arms", "rest"):
        assert seen[part].shape == (1, 3, 100, 100) and seen[part].std() > 30


def test_a_correction_sends_no_gradient_into_the_first_stage_and_both_learn_at_once():
    network = BelagiannisCascade(LSP, init="he_fan_in").eval()
    filled(network.refine)
    coarse, fine = network.coordinates(pictures())
    fine.sum().backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in network.coarse.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.refine.parameters())
    coarse.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.coarse.parameters())


def dots(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey pictures of 64 x 64 with a dot of another colour at each of three joints, and the joints (count, 3, 3)."""
    rng = torch.Generator().manual_seed(seed)
    middles = 0.25 + 0.5 * torch.rand(count, 1, 2, generator=rng)
    joints = (middles + 0.12 * torch.randn(count, 3, 2, generator=rng)).clamp(0.1, 0.9)
    places = (torch.arange(64) + 0.5) / 64
    across, down = (torch.exp(-(places - joints[..., axis, None]).square() / (2 * 0.04**2)) for axis in (0, 1))
    pixels = from_fractions(joints, (64, 64))
    return 0.5 + 0.5 * down[..., None] * across[..., None, :], torch.cat(
        (pixels, torch.full((count, 3, 1), 2.0)), dim=-1
    )


def test_both_stages_learned_at_once_the_second_ends_below_the_first_on_unseen_pictures(monkeypatch):
    # The same cascade with a small table: a first stage that sees 16 x 16 pixels, parts that see 24 x 24 of 64 x 64.
    table = (Row(8, 5, then=("relu", "pool")), Row(48, 0, then=("relu",)))
    for name, value in (("TABLE", table), ("SIZE", (16, 16)), ("REGION", (24, 24))):
        monkeypatch.setattr(f"densevision.tasks.pose.belagiannis.{name}", value)
    torch.manual_seed(0)
    network = BelagiannisCascade(Skeleton(("left knee", "right knee", "wrist"), ((0, 1),), ()), "he_fan_in")
    optimizer, compare = torch.optim.Adam(network.parameters(), 1e-3), find_loss("l2", network)
    for step in range(120):
        terms = compare(*dots(16, step))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    picture, joints = dots(100, 1000)
    truth = to_fractions(joints[..., :2], (64, 64))
    with torch.no_grad():
        coarse, fine = ((stage - truth).norm(dim=-1).mean().item() for stage in network.coordinates(picture))
    # The first stage has learned something too: the middle of the picture is 0.2 away.
    assert coarse < 0.12 and fine < 0.75 * coarse


def test_training_the_second_stage_alone_brings_it_below_the_first():
    # The coarse stage stays; the corrections learn the constant by which it is off.
    torch.manual_seed(0)
    network = BelagiannisCascade(LSP).eval()
    picture = pictures(batch=4)
    truth = torch.cat((network(picture)[..., :2].detach() + 5.0, torch.full((4, 14, 1), 2.0)), dim=-1)
    layers = [part.predict for part in network.refine.values()]  # type: ignore[union-attr]
    optimizer = torch.optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.5)  # type: ignore[union-attr]
    compare = find_loss("l2", network)
    for _ in range(6):
        terms = compare(picture, truth)
        terms["l2_2"].backward()
        optimizer.step()
        optimizer.zero_grad()
    terms = compare(picture, truth)
    assert terms["l2_2"] < 0.5 * terms["l2_1"]
