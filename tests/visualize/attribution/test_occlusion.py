"""Occlusion sensitivity: incremental computation equals full forward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Level
from densevision.backbones.layers import LRN, LocalResponseNorm, PooledBackbone
from densevision.errors import UserError
from densevision.visualize.attribution import occlusion as method
from densevision.visualize.attribution.incremental import CleanRunCache, IncrementalTensor, Intervals, occluded_maps
from densevision.visualize.attribution.occlusion import occlusion
from densevision.visualize.core.model import inspect_backbone
from densevision.visualize.core.targets import parse_target

from ..toys import CLASSES, random_image, toy, untrained

captum = pytest.importorskip("captum.attr")


def backbone_model(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    """A backbone with random weights, in double precision to avoid rounding differences."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return inspect_backbone(create_backbone(name, **{"num_classes": 10, **options}).to(dtype))


def both_ways(
    model: Any, pixels: tuple[Tensor, ...], target: str, patch: Any, stride: Any, baseline: Any = "gray"
) -> Any:
    """Incremental and full result, and their maximum difference relative to the maximum score."""
    objective = parse_target(target, model)
    options = {"patch": patch, "stride": stride, "baseline": baseline}
    ours, full = (occlusion(model, pixels, objective, **options, incremental=way) for way in (True, False))
    assert ours.array.shape == full.array.shape and full.array.any()
    return ours, full, np.abs(ours.array - full.array).max() / np.abs(full.array).max()


@pytest.mark.parametrize(
    ("name", "objective", "size", "patch", "stride", "baseline"),
    [
        ("vgg11_bn", "block4:1", (55, 48), 16, 29, "gray"),
        ("vgg11_lrn", "block3:2", (48, 70), (5, 40), (29, 30), "blurred"),
        ("alexnet", "conv5:3", (115, 99), 12, (51, 40), "gray"),
        ("alexnet_tv", "conv5:3", (97, 81), 8, (31, 29), "blurred"),
        ("resnet18", "class:class 4", (75, 93), (16, 9), (31, 35), "blurred"),
        ("resnet50", "class:class 5", (64, 70), (64, 8), 31, "gray"),
        ("googlenet", "class:class 6", (75, 64), 12, 31, "gray"),
        ("googlenet_tv", "inception_4e:7", (64, 64), 1, 21, "gray"),
        ("lenet5", "class:class 8", (32, 32), 7, 5, "blurred"),
    ],
)
def test_incremental_equals_full_for_backbones(name, objective, size, patch, stride, baseline):
    model = backbone_model(name, num_classes=10 if objective.startswith("class") else 0)
    pixels = tuple(each.double() for each in random_image(*size, channels=model.backbone.in_channels))
    ours, full, difference = both_ways(model, pixels, objective, patch, stride, baseline)
    # The scores are stored in float32.
    assert difference < 1e-6
    assert ours.full_from is None and full.full_from == "input"


def test_incremental_equals_full_in_single_precision():
    """Maximum difference: 2e-5 of the maximum score."""
    model = backbone_model("resnet18", torch.float32)
    assert both_ways(model, random_image(96, 80), "class:class 2", 16, 16)[2] < 1e-4


def test_incremental_equals_full_for_levels_and_units():
    model = backbone_model("resnet18")
    pixels = tuple(each.double() for each in random_image(64, 75))
    for objective in ("layer2:3", "stem:1@9,20", "layer1.0.conv2:5", "layer3:2 - 2 * layer1:4"):
        ours, _, difference = both_ways(model, pixels, objective, 9, 17)
        assert difference < 1e-6 and ours.full_from is None


class CustomBackbone(PooledBackbone):
    """A convolution, a custom function, another convolution, global average pooling and one linear layer.

    Args:
        middle: function of this backbone and maps with 4 channels, to maps with 4 channels.
    """

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self._set_metadata("level_map", [Level("a", 1, 4)], num_classes=CLASSES, in_channels=3, built=None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, (3, 5), 1, (2, 1))
            self.fc = nn.Linear(4, CLASSES)
            self.middle = middle
            self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
            self.few = nn.Parameter(torch.randn(4, 2, 2, 3))

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.last(self.middle(self, self.first(image))).relu()]


def write_through_a_view(x: Tensor) -> Tensor:
    x[:, :, 3] = 0.0
    x[:, 1].add_(1.0)
    return x


def in_place_residual(x: Tensor) -> Tensor:
    y = functional.relu(x)
    y += x
    return y.mul_(2.0)


def change_after_view(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    x.relu_()
    return flat.view_as(x)


MIDDLES: dict[str, tuple[Any, str | None]] = {
    # Function, and the operation that is not incremental.
    "dilated": (lambda net, x: functional.conv2d(x, net.weight, padding=2, dilation=2), None),
    "a stride larger than the kernel": (lambda net, x: functional.conv2d(x, net.weight[:, :, :1, :1], stride=2), None),
    "more padding than kernel": (lambda net, x: functional.conv2d(x, net.weight, stride=(2, 1), padding=(3, 4)), None),
    "groups": (lambda net, x: functional.conv2d(x, net.few, stride=(3, 2), groups=2), None),
    "a pool with ceil_mode": (lambda net, x: functional.max_pool2d(x, 3, 2, ceil_mode=True), None),
    "a padded pool": (lambda net, x: functional.max_pool2d(x - 9, 3, 2, 1), None),
    "a dilated pool": (lambda net, x: functional.max_pool2d(x, 2, 1, dilation=3), None),
    "a mean pool": (lambda net, x: functional.avg_pool2d(x, 3, 2, 1), None),
    "a mean pool without padding": (lambda net, x: functional.avg_pool2d(x, 3, 2, 1, False, False), "avg_pool2d"),
    "branches of two sizes": (
        lambda net, x: functional.conv2d(x, net.weight, padding=1) * x + x.tanh(),
        None,
    ),
    "mixed channels": (
        lambda net, x: torch.cat([x[:, :2], functional.max_pool2d(x, 3, 1, 1)[:, 2:]], 1),
        "slice",
    ),
    "concatenated branches": (
        lambda net, x: functional.conv2d(
            torch.cat([x, functional.max_pool2d(x, 5, 1, 2)], 1).flip(1), net.few, groups=4
        ),
        None,
    ),
    "in place": (lambda net, x: in_place_residual(x), None),
    "in place from a wider window": (lambda net, x: x.relu().add_(functional.max_pool2d(x, 5, 1, 2)), None),
    "hard swish": (lambda net, x: functional.hardswish(x, inplace=True), None),
    "response normalization": (lambda net, x: LocalResponseNorm(LRN(alpha=0.1))(x), None),
    "squeeze and excitation": (lambda net, x: x.tanh() * x.mean((2, 3), keepdim=True), "mean"),
    "a global softmax": (lambda net, x: x.flatten(1).softmax(1).view_as(x) * 100, "view"),
    "transposed": (lambda net, x: functional.conv_transpose2d(x, net.weight, stride=2), "convolution"),
    "upsampled": (lambda net, x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"), "upsample_bilinear2d"),
    "subsampled": (lambda net, x: x[:, :, ::2, 1::2], "slice"),
    "written through a view": (lambda net, x: write_through_a_view(x), "select"),
    "a view that is changed later": (lambda net, x: change_after_view(x), "view"),
    "a constant map": (lambda net, x: x * torch.arange(x.shape[3]) + torch.ones_like(x), "mul"),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_incremental_equals_full_for_all_operations(name, monkeypatch):
    middle, full_operation = MIDDLES[name]
    model = inspect_backbone(CustomBackbone(middle).double())
    # Several batches: 8 x 6 patches, of which the last row extends beyond the border, 7 per batch.
    monkeypatch.setattr(method, "BATCH_PIXELS", 7 * 23 * 19)
    pixels = tuple(each.double() for each in random_image(23, 19))
    ours, _, difference = both_ways(model, pixels, "class:class 2", 4, 3)
    assert ours.array.shape == (1, 8, 6)
    assert difference < 1e-6
    # The global average pooling at the end is not incremental if the windows are still small.
    assert ours.full_from in ((None, "mean") if full_operation is None else (full_operation,))


def test_batches_have_at_least_two_images(monkeypatch):
    """With one image per batch, per-image channel weights would have the shape of constants."""
    monkeypatch.setattr(method, "BATCH_PIXELS", 1)
    model = inspect_backbone(CustomBackbone(MIDDLES["squeeze and excitation"][0]).double())
    for side, shape in ((12, (1, 2, 2)), (5, (1, 1, 1))):
        ours, _, difference = both_ways(model, (random_image(side, side)[0].double(),), "class:class 2", 5, 6)
        assert ours.array.shape == shape and difference < 1e-6


def test_windows_of_alexnet():
    """Pixels 100 ... 115 of 227 and the units that they change (facts 4, measured by occlusion)."""
    layers = [
        ("conv1", 11, 4, 0, 55, 23, 28),
        ("pool1", 3, 2, 0, 27, 11, 14),
        ("conv2", 5, 1, 2, 27, 9, 16),
        ("pool2", 3, 2, 0, 13, 4, 8),
        ("conv3", 3, 1, 1, 13, 3, 9),
        ("conv4", 3, 1, 1, 13, 2, 10),
        ("conv5", 3, 1, 1, 13, 1, 11),
        ("pool5", 3, 2, 0, 6, 0, 5),
    ]
    windows = Intervals(torch.tensor([100]), torch.tensor([115]), 227)
    for name, kernel, stride, padding, extent, first, last in layers:
        windows = windows.apply_layer(kernel, stride, padding, 1, extent)
        assert (int(windows.first), int(windows.last), windows.size) == (first, last, last - first + 1), name


def test_windows_stay_inside_the_map():
    windows = Intervals(torch.tensor([0, 8, 17]), torch.tensor([3, 11, 20]), 21).apply_layer(3, 1, 1, 1, 21)
    assert windows.first.tolist() == [0, 7, 16] and windows.last.tolist() == [4, 12, 20]
    assert windows.size == 6 and windows.start.tolist() == [0, 7, 15]
    skipped = Intervals(torch.tensor([3]), torch.tensor([3]), 10).apply_layer(1, 2, 0, 1, 5)
    assert skipped.size == 1 and skipped.start.tolist() == [2]


def test_only_windows_are_stored_and_contain_the_changed_units():
    model = backbone_model("resnet18")
    clean = random_image(128, 128)[0].double()
    cache = CleanRunCache()
    corner = torch.tensor([40, 48])
    cover = occluded_maps(clean, torch.zeros_like(clean), (corner, corner), (16, 16), cache)
    result = model.forward((cover(torch.tensor([0, 1])),), ("stem", "layer1"), run_output=False).levels
    # 7 x 7 of stride 2 and padding 3: ceil((40 + 3 - 6) / 2) = 19 to floor((55 + 3) / 2) = 29.
    # After the pool 9 to 15, after four 3 x 3 convolutions 5 to 19: for pixels 40 ... 55.
    for name, first, last in (("stem", 19, 29), ("layer1", 5, 19)):
        level_map = result[name]
        assert isinstance(level_map, IncrementalTensor)
        assert level_map.tiles.shape[-1] == level_map.op.rows.size == last - first + 1
        assert (int(level_map.op.rows.first[0]), int(level_map.op.rows.last[0])) == (first, last)
        covered = clean.clone()
        covered[..., 40:56, 40:56] = 0
        full_maps = model.forward((torch.cat([clean, covered]),), (name,), run_output=False).levels[name]
        changed = (full_maps[0] != full_maps[1]).any(0).any(1).nonzero().flatten()
        assert first <= int(changed.min()) and int(changed.max()) <= last


@pytest.mark.parametrize(("size", "shape"), [((14, 12), (6, 3)), ((15, 13), (7, 4))])
def test_occlusion_equals_captums(size, shape):
    """Patches end at the border where the grid does not fit. captum averages the scores of the patches over a pixel,
    and repeats them for each color. Maximum difference: 4e-7."""
    model = toy()
    image = random_image(*size)[0]
    gray = torch.tensor(model.neutral_color).view(1, 3, 1, 1)
    theirs = captum.Occlusion(model.module.eval()).attribute(
        image, sliding_window_shapes=(3, 4, 6), strides=(3, 2, 3), target=2, baselines=gray.expand_as(image)
    )
    ours = occlusion(model, (image,), parse_target("class:2", model), patch=(4, 6), stride=(2, 3))
    assert ours.array.shape == (1, *shape)
    np.testing.assert_allclose(ours.pixels[0], theirs[0, 1].detach(), atol=1e-5)


def test_occlusion_of_a_linear_model_matches_manual_computation():
    model = toy(norm=False, biased=False)
    nn.init.zeros_(model.backbone.conv1.weight)
    with torch.no_grad():
        model.backbone.conv1.weight[0, 0, 1, 1] = 3.0  # red, three times
    result = occlusion(model, (torch.full((1, 3, 5, 7), 0.9),), parse_target("a:0", model), patch=(2, 3), stride=2)
    # Red 0.9 minus gray 0.485, over the standard deviation 0.229 (ImageNet's constants), for six of 35 pixels.
    expected = 3 * (0.9 - 0.485) / 0.229 * 6 / 35
    np.testing.assert_allclose(result.array[0, :2], np.full((2, 3), expected), rtol=1e-5)
    # The last row of patches is half beyond the border.
    np.testing.assert_allclose(result.array[0, 2], np.full(3, expected / 2), rtol=1e-5)
    np.testing.assert_allclose(result.pixels[0, :4], np.full((4, 7), expected), rtol=1e-5)
    np.testing.assert_allclose(result.pixels[0, 4], np.full(7, expected / 2), rtol=1e-5)
    apart = occlusion(model, (torch.rand(1, 3, 5, 7),), parse_target("a:0", model), patch=1, stride=4)
    assert np.isnan(apart.pixels[0, 1:4]).all() and apart.array.shape == (1, 2, 2)


def test_a_blurred_patch_changes_nothing_in_a_constant_region():
    model = toy()
    image = torch.full((1, 3, 12, 12), 0.3)
    image[..., :6] = 0.8
    result = occlusion(model, (image,), parse_target("class:1", model), patch=2, stride=2, baseline="blurred").array[0]
    assert np.abs(result[:, :2]).max() < 1e-5 < np.abs(result[:, 2:4]).max()


@pytest.mark.parametrize(
    ("task", "objective"),
    [
        ("depth", "depth@20,20"),
        ("colorization", "a@3,4,20,20"),
        ("restoration", "red@30,11"),
        ("flow", "flow-u@20,20"),
    ],
)
def test_incremental_equals_full_for_dense_tasks(task, objective):
    model = untrained(task)
    pixels = tuple(
        random_image(48, 48, seed, getattr(field_type, "channels", 3))[0]
        for seed, field_type in enumerate(model.task.inputs(model.fields).values())
    )
    ours, _, difference = both_ways(model, pixels, objective, patch=16, stride=16)
    assert difference < 1e-4
    assert len(ours.array) == len(pixels) and all(np.ptp(scores) > 0 for scores in ours.array)


def test_models_with_batch_statistics_run_image_by_image():
    model = untrained("translation")
    assert model.max_batch == 1
    pixels = random_image(32, 32, channels=model.backbone.in_channels)
    result = occlusion(model, pixels, parse_target("red@9,9", model), patch=16, stride=16)
    assert result.full_from == "input"
    clean = model.forward(pixels).output[0, 0, 9, 9]
    covered = pixels[0].clone()
    covered[..., 16:, :16] = torch.tensor(model.neutral_color).view(-1, 1, 1)
    assert result.array[0, 1, 0] == pytest.approx(float(clean - model.forward((covered,)).output[0, 0, 9, 9]), abs=1e-5)


def test_the_model_is_unchanged_and_results_are_deterministic():
    model = backbone_model("resnet18", torch.float32)
    model.module.train()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    objective = parse_target("layer1:3", model)
    first, again = (occlusion(model, random_image(48, 48), objective, patch=16, stride=16).array for _ in range(2))
    assert np.array_equal(first, again)
    assert all(module.training and not module._forward_hooks for module in model.module.modules())
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


@pytest.mark.parametrize(
    ("patch", "stride", "message"),
    [
        (13, 2, "--patch 13 is larger than the model input of 14x12"),
        (0, 2, "--patch 0 --stride 2: both must be at least 1 pixel"),
        ((3, 4), -1, "--patch 3x4 --stride -1: both must be at least 1 pixel"),
    ],
)
def test_invalid_patches_are_refused(patch, stride, message):
    model = toy()
    with pytest.raises(UserError, match=message):
        occlusion(model, random_image(14, 12), parse_target("class:1", model), patch=patch, stride=stride)


def test_a_dead_channel_is_an_error():
    model = toy()
    with torch.no_grad():
        model.backbone.conv3.bias[2] = -1e6
    with pytest.raises(UserError, match="No pixel changes b:2 on this image: it is not active; nearest active"):
        occlusion(model, random_image(), parse_target("b:2", model), patch=4, stride=4)


def test_the_command_writes_an_image_and_the_scores(run, image, tmp_path):
    image(tmp_path / "digit.png", 32, 32)
    words = ("--model", "lenet5_mnist", "--image", "digit.png", "--target", "class:3", "--out", "seen.png")
    result = run("visualize", "occlusion", *words, "--patch", "8", "--stride", "5", "--baseline", "blurred")
    assert result.out.splitlines()[-1] == "Wrote seen.png and seen.npy.", result
    array = np.load(tmp_path / "seen.npy")
    # ceil((32 - 8) / 5) + 1 = 6: the last patches extend beyond the border.
    assert array.shape == (1, 6, 6) and array.dtype == np.float32 and np.ptp(array) > 0


def test_the_command_reports_the_first_full_operation(run, image, tmp_path):
    """The shortcuts of this backbone subsample with a slice."""
    image(tmp_path / "small.png", 32, 32)
    words = ("--model", "resnet20_cifar", "--image", "small.png", "--target", "class:class 3", "--out", "s.png")
    result = run("visualize", "occlusion", *words, "--patch", "16", "--stride", "100")
    assert "From operation 'slice' on, resnet20_cifar ran in full for every patch." in result.out
