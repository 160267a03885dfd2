"""A network that is looked at gives what it gives elsewhere, and is afterwards what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.apps.visualize.drawing import checked_out, in_colour, over, photograph, signed, write_both
from densevision.apps.visualize.looking import level_names
from densevision.apps.visualize.measures import Channel
from densevision.apps.visualize.sensitivity import gradients
from densevision.apps.visualize.subject import open_subject, still, subject_of, subject_of_trunk
from densevision.backbones import create_backbone
from densevision.backbones.backbone import features_on_meta
from densevision.backbones.conformance import check_backbone
from densevision.backbones.opened_weights import WeightsWarning
from densevision.errors import UserError
from densevision.tasks import list_tasks
from densevision.tasks.inference import load

from .toys import SIDE, Toy, picture, toy, untrained

PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)


def state_of(model: torch.nn.Module) -> list[object]:
    """Everything that a look might leave behind."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = [
        (module.training, "features" in vars(module), *(len(vars(module)[name]) for name in hooks))
        for module in model.modules()
    ]
    return [*modules, *((each.requires_grad, each.grad) for each in model.parameters())]


@pytest.mark.parametrize("task", ["classification", "colorization", "depth", "pose", "restoration"])
def test_a_look_gives_what_inference_gives(task):
    predictor = load(task, device="cpu", amp="off")
    subject = subject_of(predictor)
    seen = subject.look(subject.pixels(PHOTOGRAPH))
    view = "fit" if "fit" in predictor.task.views else None
    shown = subject.shown(PHOTOGRAPH)
    answer = seen.output.softmax(1) if task == "classification" else seen.output
    ours = predictor.task.decode(answer.detach(), shown.query)
    theirs = predictor.predict(PHOTOGRAPH, view=view)
    np.testing.assert_allclose(ours.picture(), theirs.picture(), atol=1)


def test_a_pixel_of_the_original_is_found_in_the_shown_picture():
    subject = untrained("classification")
    shown = subject.shown(np.zeros((48, 96, 3), np.uint8))
    # The training size is 48: short side 256 / 224 of it, 55, long side 110, then the middle 48: x' = 55/48 x - 31.
    x, y = shown.place(47.5, 23.5)
    assert (x, y) == pytest.approx((23.5, 23.5), abs=0.6)


def test_of_a_person_who_was_sought_the_part_is_shown(monkeypatch):
    subject = untrained("pose")
    monkeypatch.setattr(type(subject.task), "sought", lambda _task, _pictures: ((40, 20, 30, 50), "found"))
    whole = np.zeros((90, 131, 3), np.uint8)
    whole[45, 55] = 255
    shown = subject.shown(whole)
    left, top = shown.query.corner
    assert (left, top) != (0, 0) and shown.query.size < (90, 131)
    x, y = shown.place(55, 45)
    brightest = divmod(int(shown.pixels[0].sum(1).argmax()), shown.pixels[0].shape[-1])
    assert brightest == pytest.approx((y, x), abs=1)


def test_every_kind_of_trunk_says_its_levels_in_the_pass_that_answers():
    for name in ("alexnet", "googlenet", "inception_v4", "lenet5", "preact110_cifar", "resnet50", "vgg16_bn"):
        with torch.device("meta"):
            trunk = create_backbone(name).eval()
        side = 16 * trunk.levels[-1].stride
        size = trunk.classifier_size or trunk.fixed_size or (side, side)
        image = torch.empty(2, trunk.in_channels, *size, device="meta")
        seen = subject_of_trunk(trunk).look((image,), [level.name for level in trunk.levels])
        maps, _ = features_on_meta(trunk, image)
        assert [tuple(made.shape) for made in seen.levels.values()] == [tuple(made.shape) for made in maps], name
        assert seen.output.shape == (2, trunk.classes)


@pytest.mark.parametrize("name", ["lenet5", "googlenet_tv", "resnet20_cifar"])
def test_levels_are_what_features_returns_and_what_the_answer_depends_on(name):
    trunk = create_backbone(name, classes=10).eval()
    pixels = picture(32, 32, channels=trunk.in_channels)
    names = [level.name for level in trunk.levels]
    seen = subject_of_trunk(trunk).look(pixels, names)
    for level, expected in zip(names, trunk.features(trunk.preprocessing(pixels[0])), strict=True):
        torch.testing.assert_close(seen.levels[level], expected)
    watched = (pixels[0].clone().requires_grad_(),)
    seen = subject_of_trunk(trunk).look(watched, names)
    assert all(each.any() for each in torch.autograd.grad(seen.output.sum(), list(seen.levels.values())))


def test_timms_levels_are_part_of_the_pass_that_answers():
    trunk = create_backbone("timm:resnet18", classes=10)
    watched = (picture(64, 64)[0].requires_grad_(),)
    seen = subject_of_trunk(trunk).look(watched, ["layer2"])
    assert torch.autograd.grad(seen.output.sum(), seen.levels["layer2"])[0].any()


@pytest.mark.parametrize("relu", ["in place", "re-used in place", "function in place", "method in place"])
def test_a_level_in_front_of_a_relu_in_place_is_not_rectified(relu):
    seen = toy(relu).look(picture(), ["norm"])
    assert seen.levels["norm"].min() < 0


def test_a_look_for_levels_alone_ends_with_the_last_of_them():
    subject = toy()
    subject.look(picture(), ["a"])
    subject.model.backbone.conv3.register_forward_hook(lambda *_: pytest.fail("conv3 was run"))
    seen = subject.look(picture(), ["a", "conv2"], answer=False)
    assert seen.answer is None and seen.levels["conv2"].shape[1] == 8


def test_nothing_is_left_behind():
    lenet: Any = subject_of_trunk(create_backbone("lenet5"))
    for subject in (toy("re-used"), lenet):
        model = subject.model.train()
        next(model.parameters()).requires_grad_(False)
        before = state_of(model)
        pixels = picture(32, 32, channels=subject.trunk.in_channels)
        gradients(subject, pixels, Channel(subject.trunk.levels[0].name, 2))
        assert state_of(model) == before


def test_nothing_is_left_behind_by_a_look_that_fails():
    subject = toy()
    before = state_of(subject.model)

    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    hook = subject.model.backbone.conv3.register_forward_hook(fail)
    with_hook = state_of(subject.model)
    with pytest.raises(RuntimeError, match="in the middle"):
        subject.look(picture(), ["a", "b"])
    assert state_of(subject.model) == with_hook
    hook.remove()
    assert state_of(subject.model) == before


def test_still_takes_away_hooks_that_were_added_and_keeps_those_that_were_there():
    model = Toy()
    calls = []
    model.conv1.register_forward_hook(lambda *_: calls.append("kept"))
    before = state_of(model)
    with pytest.raises(KeyboardInterrupt), still(model):
        model.conv1.register_forward_hook(lambda *_: calls.append("added"))
        raise KeyboardInterrupt
    assert state_of(model) == before
    model.features(picture()[0])
    assert calls == ["kept"]


def test_a_network_that_draws_when_it_is_asked_draws_the_same_every_time():
    subject = untrained("translation")
    pixels = picture(SIDE, SIDE, channels=subject.trunk.in_channels)
    torch.manual_seed(1)
    first = subject.look(pixels).output
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert torch.equal(first, subject.look(pixels).output)
    assert torch.equal(torch.random.get_rng_state(), state)
    # Its normalisations measure the batch at hand, so that two pictures would change each other's answers.
    assert subject.together == 1


def test_grey_is_what_the_preprocessing_makes_zero():
    for name in ("resnet18", "alexnet", "googlenet_tv", "lenet5"):
        with torch.device("meta"):
            trunk = create_backbone(name)
        grey = torch.tensor(subject_of_trunk(trunk).grey).view(1, -1, 1, 1)
        assert trunk.preprocessing(grey).abs().max() < 1e-4


def test_random_weights_are_said_to_be_random():
    with pytest.warns(WeightsWarning, match="resnet20_cifar has random weights; give --weights"):
        open_subject("resnet20_cifar")


@pytest.mark.parametrize(
    ("network", "file", "levels"),
    [
        ("alexnet", "alexnet_caffe_conv_pruned8bit_fp16", ["conv1", "conv2", "conv5", "pool5"]),
        ("resnet18", "resnet18_imagenet_to_layer3_fp16", ["stem", "layer1", "layer2", "layer3"]),
        ("vgg19", "vgg19_normalised_to_relu3_1_fp16", ["block1", "block2"]),
    ],
)
def test_a_file_that_covers_a_part_opens_that_part(shared_data, network, file, levels):
    subject = open_subject(network, shared_data / "weights" / f"{file}.safetensors")
    assert level_names(subject.trunk) == levels
    assert (subject.classes, subject.task) == ((), None)


def test_a_file_that_ends_within_a_level_is_looked_at_as_far_as_it_goes(shared_data):
    subject = open_subject("vgg19", shared_data / "weights" / "vgg19_normalised_to_relu3_1_fp16.safetensors")
    pixels = picture(32, 32)
    relu3_1 = subject.look(pixels, ["convolutions.11"], answer=False).levels["convolutions.11"]
    assert relu3_1.shape == (1, 256, 8, 8) and relu3_1.isfinite().all()
    with pytest.raises(UserError, match=r"weights of vgg19 end in front of 'convolutions\.13'"):
        subject.look(pixels, ["convolutions.13"], answer=False)


def test_weights_beside_a_checkpoint_are_refused():
    with pytest.raises(UserError, match="'depth' comes with its weights"):
        open_subject("depth", "imagenet")


def test_a_wrong_number_of_pictures_is_refused():
    with pytest.raises(UserError, match=r"takes 2 picture\(s\) \(first, second\), not 1"):
        untrained("flow").pixels(PHOTOGRAPH)


def test_every_task_can_be_a_subject():
    for name in list_tasks():
        subject = untrained(name)
        assert subject.task is not None and subject.trunk is not None


def test_the_toy_keeps_the_contract_of_a_trunk():
    check_backbone(Toy())


class TestDrawing:
    def test_zero_is_white_and_signs_have_colours(self):
        drawn = signed(np.array([[0.0, 1.0, -1.0]]))
        assert drawn[0, 0].tolist() == [255] * 3
        assert drawn[0, 1, 0] > drawn[0, 1, 2] and drawn[0, 2, 0] < drawn[0, 2, 2]

    def test_a_map_of_nothing_can_be_drawn(self):
        nothing = np.zeros((4, 5), np.float32)
        assert over(np.full((4, 5, 3), 90, np.uint8), nothing).shape == (4, 5, 3)
        assert (in_colour(np.zeros((3, 4, 5))) == 128).all()

    def test_one_channel_is_grey(self):
        assert photograph(torch.full((1, 1, 2, 2), 0.5)).tolist() == [[[128] * 3] * 2] * 2

    def test_the_raw_array_lies_beside_the_picture(self, tmp_path):
        values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
        files = write_both(tmp_path / "map.png", signed(values), values)
        assert [file.name for file in files] == ["map.png", "map.npy"]
        np.testing.assert_array_equal(np.load(files[1]), values)

    def test_other_formats_are_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"name a \.png file"):
            checked_out(tmp_path / "map.jpg")
