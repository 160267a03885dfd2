from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.datasets.field_types import Skeleton
from densevision.datasets.pose.skeletons import COCO, LSP, MPII
from densevision.errors import UserError
from densevision.tasks.pose.belagiannis import (
    CROP_MARGIN,
    INPUT_SIZE,
    Belagiannis,
    BelagiannisCascade,
    ConvNet,
    ConvSpec,
    body_parts,
    crop_around,
    sample_crop,
)
from densevision.tasks.pose.losses import find_loss
from densevision.tasks.pose.networks import fractions_to_pixels, pixels_to_fractions


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def images(height: int = 120, width: int = 80, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def soft_images(height: int = 120, width: int = 80) -> Tensor:
    """Smooth images of a few colors: similar at any size, with similar neighboring pixels like photos."""
    return nn.functional.interpolate(images(6, 4), (height, width), mode="bicubic").clamp(0, 1)


def randomized(module: nn.Module, std: float = 0.02, seed: int = 0) -> Any:
    """The module with random weights, in evaluation mode: a cascade with nonzero corrections."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=rng))
    return module.eval()


# --- layers ------------------------------------------------------------------------------------------------------


def test_number_of_parameters_of_each_layer():
    # Facts 3.5, the table: 14 joints, 28 outputs.
    with torch.device("meta"):
        network = Belagiannis(LSP)
    assert count(network) == 9_799_228
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [count(layer) for layer in convolutions] == [
        2_432, 9_248, 18_496, 36_928, 5_506_048, 2_099_200, 2_098_176,
    ]  # fmt: skip
    assert count(network.coarse.predict) == 28_700


def test_sizes_of_feature_maps():
    with torch.device("meta"):
        network = Belagiannis(LSP)
        shapes: dict[str, tuple[int, ...]] = {}

        def record_shape(name: str, layer: nn.Module) -> None:
            layer.register_forward_hook(lambda layer, inputs, output: shapes.update({name: tuple(output.shape[1:])}))

        for name, layer in network.coarse.layers.named_children():
            record_shape(name, layer)
        assert network.coordinates(torch.empty(2, 3, 120, 80))[0].shape == (2, 14, 2)
    # Facts 3.5: pools floor, 116 -> 57, 55 -> 27, 25 -> 12.
    assert [shapes[f"conv{number}"] for number in range(1, 8)] == [
        (32, 116, 76), (32, 55, 35), (64, 27, 17), (64, 25, 15), (1024, 1, 1), (2048, 1, 1), (1024, 1, 1),
    ]  # fmt: skip
    assert [shapes[f"pool{number}"] for number in (1, 2, 4)] == [(32, 57, 37), (32, 27, 17), (64, 12, 7)]
    # Facts 3.5: the layers after each convolution, in order.
    assert list(shapes) == [
        "conv1", "relu1", "pool1", "lrn1", "conv2", "relu2", "pool2", "lrn2", "conv3", "relu3",
        "conv4", "relu4", "pool4", "lrn4", "dropout4", "conv5", "relu5", "lrn5", "conv6", "relu6", "dropout6",
        "conv7", "relu7",
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "kernel"), [((120, 80), (12, 7)), ((100, 100), (9, 9)), ((60, 60), (4, 4))])
def test_fully_connected_kernel_has_the_size_of_the_remaining_map(size, kernel):
    # Facts 3.5: 12 x 7; for 100 x 100 it is 9 x 9, for 60 x 60 4 x 4.
    with torch.device("meta"):
        assert ConvNet(28, size).layers.conv5.kernel_size == kernel  # type: ignore[union-attr]


def test_response_normalization_equals_matconvnets():
    # Facts 3.5: [5 1 1e-4/5 0.75] = torch's LocalResponseNorm(5, alpha=1e-4, beta=.75, k=1).
    with torch.device("meta"):
        layers = ConvNet(28, INPUT_SIZE).layers
    maps = 100 * torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)(maps)
    for name in ("lrn1", "lrn2", "lrn4", "lrn5"):
        torch.testing.assert_close(layers.get_submodule(name)(maps), expected)
    assert (expected / maps).min() < 0.9  # large enough to have an effect


def test_initialization_is_the_authors():
    torch.manual_seed(0)
    network = Belagiannis(LSP)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0.1).all()
        else:
            # Facts 3.5: N(0, 0.01), of 800 numbers in the smallest layer.
            assert parameter.mean().abs().item() < 0.002 and parameter.std().item() == pytest.approx(0.01, rel=0.1)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_he_init_predicts_the_center_with_signals_of_similar_scale():
    torch.manual_seed(0)
    network = Belagiannis(LSP, init="he_fan_in").eval()
    scales: list[float] = []
    for layer in network.coarse.layers:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: scales.append(output.std().item()))
    (joints,) = network.coordinates(soft_images())
    assert all(0.5 < scale < 3 for scale in scales) and len(scales) == 7
    assert (joints - 0.5).abs().max() < 0.25
    with pytest.raises(UserError, match="did you mean 'he_fan_in'"):
        Belagiannis(LSP, init="he_fan")


# --- input and output --------------------------------------------------------------------------------------------


def test_128_is_subtracted_from_every_color():
    # Facts 3.5: evaluation subtracts 128; images are 0 to 255.
    network = Belagiannis(LSP).eval()
    pixels: list[Tensor] = []
    network.coarse.register_forward_pre_hook(lambda module, inputs: pixels.append(inputs[0]))
    image = images()
    network(image)
    torch.testing.assert_close(pixels[0], 255 * image - 128, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [(120, 80), (240, 160), (131, 99), (60, 40)])
def test_output_is_in_pixels_of_the_input_of_any_size(size):
    network = randomized(Belagiannis(LSP))
    image = images(*size)
    with torch.no_grad():
        joints, (fractions,) = network(image), network.coordinates(image)
    assert joints.shape == (2, 14, 3) and joints.dtype == torch.float32
    # (x + 1/2) / W: the left edge is 0, the right edge 1.
    torch.testing.assert_close((joints[..., 0] + 0.5) / size[1], fractions[..., 0])
    torch.testing.assert_close((joints[..., 1] + 0.5) / size[0], fractions[..., 1])
    assert (joints[..., 2] == 1).all()
    assert (network.input_policy, network.output_type, network.stride) == ("fixed", "coordinates", 8)


def test_image_of_twice_the_size_has_joints_at_the_same_fractions():
    network = randomized(Belagiannis(LSP))
    with torch.no_grad():
        (small,) = network.coordinates(soft_images())
        (large,) = network.coordinates(soft_images(240, 160))
        (other,) = network.coordinates(soft_images().flip(0))
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
def test_every_joint_is_in_exactly_one_of_three_parts(skeleton, legs, arms, rest):
    # Facts 3.5: C = 3. Facts 3.5 has the joints' order in each set.
    assert body_parts(skeleton) == {"legs": legs, "arms": arms, "rest": rest}
    with torch.device("meta"):
        network = BelagiannisCascade(skeleton)
        joints = network(torch.empty(2, 3, 131, 99))
    assert joints.shape == (2, len(skeleton.names), 3) and len(network.refine) == 3


def test_skeleton_with_other_names_has_one_part():
    hand = Skeleton(("wrist root", "thumb", "index"), ((0, 1), (0, 2)), ())
    assert body_parts(hand) == {"rest": [0, 1, 2]}
    one_leg = Skeleton(("left_ankle", "Left Knee"), ((0, 1),), ())
    assert body_parts(one_leg) == {"legs": [0, 1]}


def test_cascade_has_one_network_per_part():
    with torch.device("meta"):
        network = BelagiannisCascade(LSP)
    # The ConvNet at 100 x 100 (conv5 of 9 x 9) for 12, 12 and 4 outputs, with as many extra inputs of the last layer.
    each = 2_432 + 9_248 + 18_496 + 36_928 + (9 * 9 * 64 + 1) * 1024 + 2_099_200 + 2_098_176
    last = sum((1024 + 2 * joints + 1) * 2 * joints for joints in (6, 6, 2))
    assert count(network) == 9_799_228 + 3 * each + last == 38_549_992


def test_crop_is_the_bounding_box_of_the_joints_and_a_margin():
    joints = torch.tensor([[[0.2, 0.5], [0.4, 0.9]], [[-3.0, 0.5], [0.1, 7.0]]])
    center, extent = crop_around(joints)
    torch.testing.assert_close(center[:, 0], torch.tensor([[0.3, 0.7], [0.05, 0.75]]))
    torch.testing.assert_close(extent[:, 0], torch.tensor([[0.1, 0.2], [0.05, 0.25]]) + CROP_MARGIN)


def test_sample_crop_at_whole_pixels_equals_slicing():
    image = images(12, 16)
    # Rows 2 to 7 of 12 and columns 4 to 11 of 16.
    center = torch.tensor([[[8 / 16, 5 / 12]]]).expand(2, 1, 2)
    extent = torch.tensor([[[4 / 16, 3 / 12]]]).expand(2, 1, 2)
    torch.testing.assert_close(sample_crop(image, center, extent, (6, 8)), image[:, :, 2:8, 4:12])
    # At twice the resolution, samples are between pixels, and the mean of four is the pixel.
    enlarged = sample_crop(image, center, extent, (12, 16))
    expected = nn.functional.interpolate(image, (24, 32), mode="bilinear")[:, :, 4:16, 8:24]
    torch.testing.assert_close(enlarged, expected)


def test_sample_crop_is_0_outside_and_has_one_crop_per_image():
    image = images(12, 16)
    center = torch.tensor([[[0.0, 0.0]], [[0.5, 0.5]]])
    extent = torch.full((2, 1, 2), 0.5)
    crop = sample_crop(image, center, extent, (12, 16))
    assert max(crop[0, :, :6].max(), crop[0, :, :, :8].max()) < 1e-5
    torch.testing.assert_close(crop[0, :, 6:, 8:], image[0, :, :6, :8])
    torch.testing.assert_close(crop[1], image[1])


def test_initial_corrections_are_zero():
    torch.manual_seed(0)
    network = BelagiannisCascade(LSP).eval()
    with torch.no_grad():
        coarse, fine = network.coordinates(images())
        joints = network(images())
    torch.testing.assert_close(fine, coarse)
    torch.testing.assert_close((joints[..., 0] + 0.5) / 80, fine[..., 0])


def test_correction_is_in_units_of_half_the_crop_and_applies_to_its_joints():
    network = randomized(BelagiannisCascade(MPII))
    for part in network.refine.values():
        nn.init.zeros_(part.predict.weight)
        nn.init.zeros_(part.predict.bias)
    # x of the second arm joint: half a crop to the right.
    arms = network.parts["arms"]
    network.refine["arms"].predict.bias.data[2] = 1
    with torch.no_grad():
        coarse, fine = network.coordinates(images())
    moved = torch.zeros_like(coarse)
    moved[:, arms[1], 0] = crop_around(coarse[:, arms])[1][:, 0, 0]
    torch.testing.assert_close(fine - coarse, moved)


def test_part_networks_get_the_coarse_joints_relative_to_the_crop():
    # Subtracting the relative positions moves every joint to the center of its crop.
    network = randomized(BelagiannisCascade(LSP), std=0.05)
    for part, joints in network.parts.items():
        predict = network.refine[part].predict
        nn.init.zeros_(predict.weight)
        nn.init.zeros_(predict.bias)
        with torch.no_grad():
            predict.weight[:, 1024:] = -torch.eye(2 * len(joints))
    with torch.no_grad():
        coarse, fine = network.coordinates(images())
    assert coarse.std(1).min() > 1e-3
    for joints in network.parts.values():
        center = crop_around(coarse[:, joints])[0].expand(-1, len(joints), -1)
        torch.testing.assert_close(fine[:, joints], center)


class FixedOutputs(nn.Module):
    """A first stage with fixed outputs."""

    size = INPUT_SIZE

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, image: Tensor) -> Tensor:
        return self.outputs


class DotLocator(nn.Module):
    """A part of one joint that locates its dot, and returns the offset from the coarse joint."""

    def __init__(self, color: int) -> None:
        super().__init__()
        self.color = color

    def forward(self, image: Tensor, extra: Tensor) -> Tensor:
        bright = image[:, self.color] + 128  # undo the preprocessing
        weights = bright / bright.sum((-1, -2), keepdim=True)
        height, width = image.shape[-2:]
        x = weights.sum(-2) @ (2 * (torch.arange(width) + 0.5) / width - 1)
        y = weights.sum(-1) @ (2 * (torch.arange(height) + 0.5) / height - 1)
        return torch.stack((x, y), dim=1) - extra


def test_second_stage_corrects_to_a_tenth_of_a_pixel():
    # A knee in red, a wrist in green and a nose in blue, each a part, up to 0.1 from their coarse joints.
    skeleton = Skeleton(("knee", "wrist", "nose"), ((0, 1),), ())
    network: Any = BelagiannisCascade(skeleton, "he_fan_in").eval()
    assert list(network.parts.values()) == [[0], [1], [2]]
    for color, part in enumerate(network.parts):
        network.refine[part] = DotLocator(color)
    # Their crops with a margin of 0.15 are within the image.
    target = torch.tensor([[[0.31, 0.62], [0.7, 0.33], [0.52, 0.3]], [[0.45, 0.7], [0.3, 0.55], [0.6, 0.6]]])
    offset = 0.1 * (2 * torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0)) - 1)
    network.coarse = FixedOutputs((target + offset - 0.5).flatten(1))
    rows, columns = (torch.arange(240) + 0.5) / 240, (torch.arange(160) + 0.5) / 160
    x, y = target[..., 0, None, None], target[..., 1, None, None]
    image = torch.exp(-((columns - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * 0.012**2))
    with torch.no_grad():
        coarse, fine = network.coordinates(image)
    torch.testing.assert_close(coarse, target + offset)
    # A tenth of a pixel.
    torch.testing.assert_close(fine, target, rtol=0, atol=1 / 2400)


def test_crops_have_more_detail_than_the_first_stage():
    # A checkerboard of single pixels in an image of 480 x 320: gray when reduced to 120 x 80, but not in the crops.
    network = BelagiannisCascade(LSP).eval()
    rows, columns = torch.arange(480)[:, None], torch.arange(320)[None]
    board = ((rows + columns) % 2).float().expand(1, 3, 480, 320)
    crops: dict[str, Tensor] = {}

    def record_input(name: str, part: nn.Module) -> None:
        part.register_forward_pre_hook(lambda part, inputs: crops.update({name: inputs[0]}))

    for name, part in (("coarse", network.coarse), *network.refine.items()):
        record_input(name, part)
    with torch.no_grad():
        network(board)
    assert crops["coarse"].shape[-2:] == (120, 80) and crops["coarse"].std() < 10
    for part in ("legs", "arms", "rest"):
        assert crops[part].shape == (1, 3, 100, 100) and crops[part].std() > 30


def test_corrections_have_no_gradient_into_the_first_stage():
    network = BelagiannisCascade(LSP, init="he_fan_in").eval()
    randomized(network.refine)
    coarse, fine = network.coordinates(images())
    fine.sum().backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in network.coarse.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.refine.parameters())
    coarse.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.coarse.parameters())


def dots(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gray images of 64 x 64 with a dot in a separate color at each of three joints, and the joints (count, 3, 3)."""
    rng = torch.Generator().manual_seed(seed)
    centers = 0.25 + 0.5 * torch.rand(count, 1, 2, generator=rng)
    joints = (centers + 0.12 * torch.randn(count, 3, 2, generator=rng)).clamp(0.1, 0.9)
    positions = (torch.arange(64) + 0.5) / 64
    horizontal, vertical = (
        torch.exp(-(positions - joints[..., axis, None]).square() / (2 * 0.04**2)) for axis in (0, 1)
    )
    pixels = fractions_to_pixels(joints, (64, 64))
    return 0.5 + 0.5 * vertical[..., None] * horizontal[..., None, :], torch.cat(
        (pixels, torch.full((count, 3, 1), 2.0)), dim=-1
    )


def test_second_stage_generalizes_better_when_both_are_trained_at_once(monkeypatch):
    # A cascade with fewer layers: the input of the first stage is 16 x 16 pixels, crops are 24 x 24 of 64 x 64.
    layers = (ConvSpec(8, 5, then=("relu", "pool")), ConvSpec(48, 0, then=("relu",)))
    for name, value in (("CONVOLUTIONS", layers), ("INPUT_SIZE", (16, 16)), ("CROP_SIZE", (24, 24))):
        monkeypatch.setattr(f"densevision.tasks.pose.belagiannis.{name}", value)
    torch.manual_seed(0)
    network = BelagiannisCascade(Skeleton(("left knee", "right knee", "wrist"), ((0, 1),), ()), "he_fan_in")
    optimizer, compute_loss = torch.optim.Adam(network.parameters(), 1e-3), find_loss("l2", network)
    for step in range(120):
        terms = compute_loss(*dots(16, step))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    image, joints = dots(100, 1000)
    target = pixels_to_fractions(joints[..., :2], (64, 64))
    with torch.no_grad():
        coarse, fine = ((stage - target).norm(dim=-1).mean().item() for stage in network.coordinates(image))
    # The first stage has learned as well: the error of the image center is 0.2.
    assert coarse < 0.12 and fine < 0.75 * coarse


def test_training_the_second_stage_alone_lowers_its_loss_below_the_first():
    # The coarse stage is fixed; the corrections learn its constant error.
    torch.manual_seed(0)
    network = BelagiannisCascade(LSP).eval()
    image = images(batch=4)
    target = torch.cat((network(image)[..., :2].detach() + 5.0, torch.full((4, 14, 1), 2.0)), dim=-1)
    layers = [part.predict for part in network.refine.values()]  # type: ignore[union-attr]
    optimizer = torch.optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.5)  # type: ignore[union-attr]
    compute_loss = find_loss("l2", network)
    for _ in range(6):
        terms = compute_loss(image, target)
        terms["l2_2"].backward()
        optimizer.step()
        optimizer.zero_grad()
    terms = compute_loss(image, target)
    assert terms["l2_2"] < 0.5 * terms["l2_1"]
