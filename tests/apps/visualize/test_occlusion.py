"""What covering a patch does, computed window by window, is what running every covered picture in full gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densevision.apps.visualize import occlusion as method
from densevision.apps.visualize.occlusion import occlusion
from densevision.apps.visualize.occlusion_maps import Changed, Trail, covered_maps
from densevision.apps.visualize.occlusion_windows import Windows
from densevision.apps.visualize.probes import parse_probe
from densevision.apps.visualize.subject import subject_of_trunk
from densevision.backbones import create_backbone
from densevision.backbones.backbone import Level
from densevision.backbones.layers import LocalResponseNorm, PooledBackbone
from densevision.errors import UserError

from .toys import CLASSES, picture, toy, untrained

captum = pytest.importorskip("captum.attr")


def trunk_subject(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    """A trunk with random weights, in double precision so that what differs is no rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return subject_of_trunk(create_backbone(name, **{"classes": 10, **options}).to(dtype))


def both_ways(subject: Any, pixels: tuple[Tensor, ...], probe: str, patch: Any, stride: Any, fill: Any = "grey") -> Any:
    """Window by window and in full, and by how much they differ: a share of the largest score."""
    asked = parse_probe(probe, subject)
    ours, full = (occlusion(subject, pixels, asked, patch, stride, fill, way) for way in (True, False))
    assert ours.scores.shape == full.scores.shape and full.scores.any()
    return ours, full, np.abs(ours.scores - full.scores).max() / np.abs(full.scores).max()


@pytest.mark.parametrize(
    ("name", "probe", "size", "patch", "stride", "fill"),
    [
        ("vgg11_bn", "block4:1", (55, 48), 16, 29, "grey"),
        ("vgg11_lrn", "block3:2", (48, 70), (5, 40), (29, 30), "blurred"),
        ("alexnet", "conv5:3", (115, 99), 12, (51, 40), "grey"),
        ("alexnet_tv", "conv5:3", (97, 81), 8, (31, 29), "blurred"),
        ("resnet18", "class:class 4", (75, 93), (16, 9), (31, 35), "blurred"),
        ("resnet50", "class:class 5", (64, 70), (64, 8), 31, "grey"),
        ("googlenet", "class:class 6", (75, 64), 12, 31, "grey"),
        ("googlenet_tv", "inception_4e:7", (64, 64), 1, 21, "grey"),
        ("lenet5", "class:class 8", (32, 32), 7, 5, "blurred"),
    ],
)
def test_a_trunk_is_followed_to_its_end_and_gives_what_running_it_in_full_gives(name, probe, size, patch, stride, fill):
    subject = trunk_subject(name, classes=10 if probe.startswith("class") else 0)
    pixels = tuple(each.double() for each in picture(*size, channels=subject.trunk.in_channels))
    ours, full, apart = both_ways(subject, pixels, probe, patch, stride, fill)
    # The scores are stored in float32.
    assert apart < 1e-6
    assert ours.in_full_from is None and full.in_full_from == "input"


def test_in_single_precision_the_difference_is_rounding():
    """1e-4 is what the issue asks for; found: 2e-5 of the largest score."""
    subject = trunk_subject("resnet18", torch.float32)
    assert both_ways(subject, picture(96, 80), "class:class 2", 16, 16)[2] < 1e-4


def test_levels_and_units_are_followed_as_far_as_they_lie():
    subject = trunk_subject("resnet18")
    pixels = tuple(each.double() for each in picture(64, 75))
    for probe in ("layer2:3", "stem:1@9,20", "layer1.0.conv2:5", "layer3:2 - 2 * layer1:4"):
        ours, _, apart = both_ways(subject, pixels, probe, 9, 17)
        assert apart < 1e-6 and ours.in_full_from is None


class Made(PooledBackbone):
    """A convolution, something in the middle, another convolution, a mean and one linear layer.

    Args:
        middle: of this network and maps of 4 channels to such maps.
    """

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.describe("made", [Level("a", 1, 4)], classes=CLASSES, in_channels=3, built=None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, (3, 5), 1, (2, 1))
            self.fc = nn.Linear(4, CLASSES)
            self.middle = middle
            self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
            self.few = nn.Parameter(torch.randn(4, 2, 2, 3))

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.last(self.middle(self, self.first(image))).relu()]


def written_through_a_view(x: Tensor) -> Tensor:
    x[:, :, 3] = 0.0
    x[:, 1].add_(1.0)
    return x


def residual_in_place(x: Tensor) -> Tensor:
    y = functional.relu(x)
    y += x
    return y.mul_(2.0)


def view_that_is_changed_later(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    x.relu_()
    return flat.view_as(x)


MIDDLES: dict[str, tuple[Any, str | None]] = {
    # And the operation that is not followed.
    "dilated": (lambda net, x: functional.conv2d(x, net.weight, padding=2, dilation=2), None),
    "a stride larger than the kernel": (lambda net, x: functional.conv2d(x, net.weight[:, :, :1, :1], stride=2), None),
    "more padding than kernel": (lambda net, x: functional.conv2d(x, net.weight, stride=(2, 1), padding=(3, 4)), None),
    "groups": (lambda net, x: functional.conv2d(x, net.few, stride=(3, 2), groups=2), None),
    "a pool that rounds up": (lambda net, x: functional.max_pool2d(x, 3, 2, ceil_mode=True), None),
    "a padded pool": (lambda net, x: functional.max_pool2d(x - 9, 3, 2, 1), None),
    "a dilated pool": (lambda net, x: functional.max_pool2d(x, 2, 1, dilation=3), None),
    "a mean pool": (lambda net, x: functional.avg_pool2d(x, 3, 2, 1), None),
    "a mean pool over what is there": (lambda net, x: functional.avg_pool2d(x, 3, 2, 1, False, False), "avg_pool2d"),
    "branches of unlike reach": (lambda net, x: functional.conv2d(x, net.weight, padding=1) * x + x.tanh(), None),
    "joined channels": (lambda net, x: torch.cat([x[:, :2], functional.max_pool2d(x, 3, 1, 1)[:, 2:]], 1), "slice"),
    "branches side by side": (
        lambda net, x: functional.conv2d(
            torch.cat([x, functional.max_pool2d(x, 5, 1, 2)], 1).flip(1), net.few, groups=4
        ),
        None,
    ),
    "in place": (lambda net, x: residual_in_place(x), None),
    "in place from a wider window": (lambda net, x: x.relu().add_(functional.max_pool2d(x, 5, 1, 2)), None),
    "response normalisation": (lambda net, x: LocalResponseNorm(alpha=0.1)(x), None),
    "channels weighted by their means": (lambda net, x: x.tanh() * x.mean((2, 3), keepdim=True), "mean"),
    "a softmax over everything": (lambda net, x: x.flatten(1).softmax(1).view_as(x) * 100, "view"),
    "transposed": (lambda net, x: functional.conv_transpose2d(x, net.weight, stride=2), "convolution"),
    "enlarged": (lambda net, x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"), "upsample_bilinear2d"),
    "thinned out": (lambda net, x: x[:, :, ::2, 1::2], "slice"),
    "written through a view": (lambda net, x: written_through_a_view(x), "select"),
    "a view that is changed later": (lambda net, x: view_that_is_changed_later(x), "view"),
    "a map of its own": (lambda net, x: x * torch.arange(x.shape[3]) + torch.ones_like(x), "mul"),
}


@pytest.mark.parametrize("way", MIDDLES)
def test_whatever_a_network_does_the_result_is_that_of_running_it_in_full(way, monkeypatch):
    middle, unknown = MIDDLES[way]
    subject = subject_of_trunk(Made(middle).double())
    # Several batches, the last of which is not full: 7 x 6 patches, 8 at once.
    monkeypatch.setattr(method, "BATCH_PIXELS", 8 * 23 * 19)
    pixels = tuple(each.double() for each in picture(23, 19))
    ours, _, apart = both_ways(subject, pixels, "class:class 2", 4, 3)
    assert ours.scores.shape == (1, 7, 6)
    assert apart < 1e-6
    # The mean over places at the end is not followed where the windows are still small.
    assert ours.in_full_from in ((None, "mean") if unknown is None else (unknown,))


def test_large_pictures_too_go_in_pairs_so_that_what_all_patches_share_can_be_told(monkeypatch):
    """With one picture a batch, channels weighted by their own means would look weighted by constants."""
    monkeypatch.setattr(method, "BATCH_PIXELS", 1)
    subject = subject_of_trunk(Made(MIDDLES["channels weighted by their means"][0]).double())
    for side, shape in ((12, (1, 2, 2)), (8, (1, 1, 1))):
        ours, _, apart = both_ways(subject, (picture(side, side)[0].double(),), "class:class 2", 5, 6)
        assert ours.scores.shape == shape and apart < 1e-6


def test_the_windows_of_alexnet_are_those_of_the_receptive_field():
    """Pixels 100 ... 115 of 227 and the units that change (facts 4, found there by covering them)."""
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
    windows = Windows(torch.tensor([100]), torch.tensor([115]), 227)
    for name, kernel, stride, padding, extent, first, last in layers:
        windows = windows.through(kernel, stride, padding, 1, extent)
        assert (int(windows.first), int(windows.last), windows.size) == (first, last, last - first + 1), name


def test_windows_near_the_end_start_earlier_and_never_leave_the_map():
    windows = Windows(torch.tensor([0, 8, 17]), torch.tensor([3, 11, 20]), 21).through(3, 1, 1, 1, 21)
    assert windows.first.tolist() == [0, 7, 16] and windows.last.tolist() == [4, 12, 20]
    assert windows.size == 6 and windows.start.tolist() == [0, 7, 15]
    jumped = Windows(torch.tensor([3]), torch.tensor([3]), 10).through(1, 2, 0, 1, 5)
    assert jumped.size == 1 and jumped.start.tolist() == [2]


def test_only_windows_are_stored_and_they_hold_the_changed_units_exactly():
    subject = trunk_subject("resnet18")
    clean = picture(128, 128)[0].double()
    trail = Trail()
    corner = torch.tensor([40, 48])
    cover = covered_maps(clean, torch.zeros_like(clean), (corner, corner), (16, 16), trail)
    seen = subject.look((cover(torch.tensor([0, 1])),), ("stem", "layer1"), answer=False).levels
    # 7 x 7 of stride 2 and padding 3: ceil((40 + 3 - 6) / 2) = 19 to floor((55 + 3) / 2) = 29.
    # The pool makes 9 to 15 of it, four 3 x 3 convolutions 5 to 19: for pixels 40 ... 55.
    for name, first, last in (("stem", 19, 29), ("layer1", 5, 19)):
        made = seen[name]
        assert isinstance(made, Changed)
        assert made.tiles.shape[-1] == made.step.rows.size == last - first + 1
        assert (int(made.step.rows.first[0]), int(made.step.rows.last[0])) == (first, last)
        covered = clean.clone()
        covered[..., 40:56, 40:56] = 0
        usual = subject.look((torch.cat([clean, covered]),), (name,), answer=False).levels[name]
        changed = (usual[0] != usual[1]).any(0).any(1).nonzero().flatten()
        assert first <= int(changed.min()) and int(changed.max()) <= last


def test_it_is_captums_occlusion_where_no_patch_is_cut_off():
    """captum's windows at the border are smaller where the grid does not fit, ours are left out; it spreads each score
    over its patch and takes the mean of what lies over a pixel, and each colour gets all of it. Largest difference
    found: 4e-7."""
    subject = toy()
    image = picture(14, 12)[0]
    grey = torch.tensor(subject.grey).view(1, 3, 1, 1)
    theirs = captum.Occlusion(subject.model.eval()).attribute(
        image, sliding_window_shapes=(3, 4, 6), strides=(3, 2, 3), target=2, baselines=grey.expand_as(image)
    )
    ours = occlusion(subject, (image,), parse_probe("class:2", subject), (4, 6), (2, 3))
    assert ours.scores.shape == (1, 6, 3)
    np.testing.assert_allclose(ours.pixels[0], theirs[0, 1].detach(), atol=1e-5)


def test_it_is_written_down_for_a_network_that_adds():
    subject = toy(norm=False, biased=False)
    nn.init.zeros_(subject.trunk.conv1.weight)
    with torch.no_grad():
        subject.trunk.conv1.weight[0, 0, 1, 1] = 3.0  # red, three times
    found = occlusion(subject, (torch.full((1, 3, 5, 7), 0.9),), parse_probe("a:0", subject), (2, 3), 2)
    # Red of 0.9 against grey, 0.485, over the deviation 0.229 (ImageNet's constants): six of 35 pixels lose it.
    lost = 3 * (0.9 - 0.485) / 0.229 * 6 / 35
    np.testing.assert_allclose(found.scores, np.full((1, 2, 3), lost), rtol=1e-5)
    assert np.isnan(found.pixels[0, 4]).all()
    np.testing.assert_allclose(found.pixels[0, :4], np.full((4, 7), lost), rtol=1e-5)


def test_a_blurred_patch_changes_nothing_where_the_picture_is_even():
    subject = toy()
    even = torch.full((1, 3, 12, 12), 0.3)
    even[..., :6] = 0.8
    found = occlusion(subject, (even,), parse_probe("class:1", subject), 2, 2, "blurred").scores[0]
    assert np.abs(found[:, :2]).max() < 1e-5 < np.abs(found[:, 2:4]).max()


@pytest.mark.parametrize(
    ("task", "probe"),
    [
        ("depth", "depth@20,20"),
        ("colorization", "a@3,4,20,20"),
        ("restoration", "red@30,11"),
        ("flow", "flow-u@20,20"),
    ],
)
def test_dense_tasks_give_what_running_them_in_full_gives(task, probe):
    subject = untrained(task)
    pixels = tuple(
        picture(48, 48, seed, getattr(kind, "channels", 3))[0]
        for seed, kind in enumerate(subject.task.inputs(subject.fields).values())
    )
    ours, _, apart = both_ways(subject, pixels, probe, 16, 16)
    assert apart < 1e-4
    assert len(ours.scores) == len(pixels) and all(np.ptp(scores) > 0 for scores in ours.scores)


def test_pictures_that_change_each_others_answers_are_looked_at_alone():
    subject = untrained("translation")
    assert subject.together == 1
    pixels = picture(32, 32, channels=subject.trunk.in_channels)
    found = occlusion(subject, pixels, parse_probe("red@9,9", subject), 16, 16)
    assert found.in_full_from == "input"
    clean = subject.look(pixels).output[0, 0, 9, 9]
    covered = pixels[0].clone()
    covered[..., 16:, :16] = torch.tensor(subject.grey).view(-1, 1, 1)
    assert found.scores[0, 1, 0] == pytest.approx(float(clean - subject.look((covered,)).output[0, 0, 9, 9]), abs=1e-5)


def test_the_network_is_as_it_was_and_the_same_again_gives_the_same():
    subject = trunk_subject("resnet18", torch.float32)
    subject.model.train()
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    probe = parse_probe("layer1:3", subject)
    first, again = (occlusion(subject, picture(48, 48), probe, 16, 16).scores for _ in range(2))
    assert np.array_equal(first, again)
    assert all(module.training and not module._forward_hooks for module in subject.model.modules())
    assert all(parameter.requires_grad for parameter in subject.model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.model.state_dict().items())


@pytest.mark.parametrize(
    ("patch", "stride", "answer"),
    [
        (13, 2, "--patch 13 is larger than the picture, which the network sees at 14x12"),
        (0, 2, "--patch 0 --stride 2: both are 1 pixel or more"),
        ((3, 4), -1, "--patch 3x4 --stride -1: both are 1 pixel or more"),
    ],
)
def test_a_patch_that_cannot_be_is_refused(patch, stride, answer):
    subject = toy()
    with pytest.raises(UserError, match=answer):
        occlusion(subject, picture(14, 12), parse_probe("class:1", subject), patch, stride)


def test_a_dead_unit_is_no_picture():
    subject = toy()
    with torch.no_grad():
        subject.trunk.conv3.bias[2] = -1e6
    with pytest.raises(UserError, match="No pixel changes b:2 on this picture: it is dead; active ones nearby: b:"):
        occlusion(subject, picture(), parse_probe("b:2", subject), 4, 4)


def test_the_verb_writes_a_picture_and_the_scores(run, picture, tmp_path):
    picture(tmp_path / "digit.png", 32, 32)
    words = ("--network", "classification", "--image", "digit.png", "--probe", "class:3", "--out", "seen.png")
    said = run("visualize", "occlusion", *words, "--patch", "8", "--stride", "5", "--fill", "blurred")
    assert said.out.splitlines()[-1] == "Wrote seen.png and seen.npy.", said
    array = np.load(tmp_path / "seen.npy")
    # floor((32 - 8) / 5) + 1 = 5 (facts 4)
    assert array.shape == (1, 5, 5) and array.dtype == np.float32 and np.ptp(array) > 0


def test_the_verb_says_where_covered_pictures_began_to_be_run_in_full(run, picture, tmp_path):
    """Shortcuts of this network thin their maps out by a slice."""
    picture(tmp_path / "small.png", 32, 32)
    words = ("--network", "resnet20_cifar", "--image", "small.png", "--probe", "class:class 3", "--out", "s.png")
    said = run("visualize", "occlusion", *words, "--patch", "16", "--stride", "100")
    assert "From its operation 'slice' on, resnet20_cifar ran in full for every patch." in said.err
