"""InspectedModel: preprocessing, forward passes, partial weights, and rendering."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.backbones import create_backbone
from densevision.backbones.backbone import features_on_meta
from densevision.backbones.conformance import check_backbone
from densevision.backbones.weights import WeightsWarning
from densevision.datasets.core.drawing import diverging_map
from densevision.errors import UserError
from densevision.tasks import list_tasks
from densevision.tasks.inference import load
from densevision.visualize.core.hooks import level_names
from densevision.visualize.core.images import (
    overlay_heatmap,
    to_rgb,
    to_uint8_image,
    validate_out,
    write_image_and_array,
)
from densevision.visualize.core.model import frozen_eval, inspect_backbone, inspect_predictor, open_model
from densevision.visualize.core.objectives import Channel, gradients

from ..toys import SIDE, Toy, random_image, toy, untrained

PHOTO = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)


def state_of(model: torch.nn.Module) -> list[object]:
    """Everything that a forward pass might change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = [
        (module.training, "features" in vars(module), *(len(vars(module)[name]) for name in hooks))
        for module in model.modules()
    ]
    return [*modules, *((each.requires_grad, each.grad) for each in model.parameters())]


@pytest.mark.parametrize("task", ["classification", "colorization", "depth", "pose", "restoration"])
def test_forward_equals_inference(task):
    predictor = load(task, device="cpu", amp="off")
    model = inspect_predictor(predictor)
    result = model.forward(model.pixels(PHOTO))
    mode = "fit" if "fit" in predictor.task.inference.modes else None
    inputs = model.preprocess(PHOTO)
    prediction = result.output.softmax(1) if task == "classification" else result.output
    ours = predictor.task.decode(prediction.detach(), inputs.context)
    theirs = predictor.predict(PHOTO, mode=mode)
    np.testing.assert_allclose(ours.to_image(), theirs.to_image(), atol=1)


def test_a_pixel_of_the_original_is_mapped_to_the_model_input():
    model = untrained("classification")
    inputs = model.preprocess(np.zeros((48, 96, 3), np.uint8))
    # Input size 48: resized to a short side of 256 / 224 * 48 = 55 and a long side of 110, then center-cropped to 48:
    # x' = 55/48 x - 31.
    x, y = inputs.to_input_pixel(47.5, 23.5)
    assert (x, y) == pytest.approx((23.5, 23.5), abs=0.6)


def test_pose_input_is_the_crop_of_a_person(monkeypatch):
    model = untrained("pose")
    monkeypatch.setattr(
        type(model.task.inference), "find_box", lambda _task, _images, _fields: ((40, 20, 30, 50), "found")
    )
    image = np.zeros((90, 131, 3), np.uint8)
    image[45, 55] = 255
    inputs = model.preprocess(image)
    left, top = inputs.context.offset
    assert (left, top) != (0, 0) and inputs.context.size < (90, 131)
    x, y = inputs.to_input_pixel(55, 45)
    brightest = divmod(int(inputs.pixels[0].sum(1).argmax()), inputs.pixels[0].shape[-1])
    assert brightest == pytest.approx((y, x), abs=1)


def test_levels_of_all_backbones_are_captured_in_one_pass():
    for name in ("alexnet", "googlenet", "inception_v4", "lenet5", "preact110_cifar", "resnet50", "vgg16_bn"):
        with torch.device("meta"):
            backbone = create_backbone(name).eval()
        side = 16 * backbone.levels[-1].stride
        size = backbone.classifier_input_size or backbone.fixed_size or (side, side)
        image = torch.empty(2, backbone.in_channels, *size, device="meta")
        result = inspect_backbone(backbone).forward((image,), [level.name for level in backbone.levels])
        maps, _ = features_on_meta(backbone, image)
        assert [tuple(level_map.shape) for level_map in result.levels.values()] == [
            tuple(level_map.shape) for level_map in maps
        ], name
        assert result.output.shape == (2, backbone.num_classes)


@pytest.mark.parametrize("name", ["lenet5", "googlenet_tv", "resnet20_cifar"])
def test_levels_equal_features_and_are_part_of_the_graph(name):
    backbone = create_backbone(name, num_classes=10).eval()
    pixels = random_image(32, 32, channels=backbone.in_channels)
    names = [level.name for level in backbone.levels]
    result = inspect_backbone(backbone).forward(pixels, names)
    for level, expected in zip(names, backbone.features(backbone.preprocessing(pixels[0])), strict=True):
        torch.testing.assert_close(result.levels[level], expected)
    pixels_with_grad = (pixels[0].clone().requires_grad_(),)
    result = inspect_backbone(backbone).forward(pixels_with_grad, names)
    assert all(each.any() for each in torch.autograd.grad(result.output.sum(), list(result.levels.values())))


def test_levels_of_timm_backbones_are_part_of_the_graph():
    backbone = create_backbone("timm:resnet18", num_classes=10)
    pixels_with_grad = (random_image(64, 64)[0].requires_grad_(),)
    result = inspect_backbone(backbone).forward(pixels_with_grad, ["layer2"])
    assert torch.autograd.grad(result.output.sum(), result.levels["layer2"])[0].any()


@pytest.mark.parametrize("relu", ["in place", "re-used in place", "function in place", "method in place"])
def test_a_level_before_an_in_place_relu_is_not_rectified(relu):
    result = toy(relu).forward(random_image(), ["norm"])
    assert result.levels["norm"].min() < 0


def test_forward_without_output_ends_after_the_last_level():
    model = toy()
    model.forward(random_image(), ["a"])
    model.module.backbone.conv3.register_forward_hook(lambda *_: pytest.fail("conv3 was run"))
    result = model.forward(random_image(), ["a", "conv2"], run_output=False)
    assert result.prediction is None and result.levels["conv2"].shape[1] == 8


def test_the_model_is_unchanged():
    lenet: Any = inspect_backbone(create_backbone("lenet5"))
    for model in (toy("re-used"), lenet):
        module = model.module.train()
        next(module.parameters()).requires_grad_(False)
        before = state_of(module)
        pixels = random_image(32, 32, channels=model.backbone.in_channels)
        gradients(model, pixels, Channel(model.backbone.levels[0].name, 2))
        assert state_of(module) == before


def test_the_model_is_unchanged_after_an_exception():
    model = toy()
    before = state_of(model.module)

    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    hook = model.module.backbone.conv3.register_forward_hook(fail)
    with_hook = state_of(model.module)
    with pytest.raises(RuntimeError, match="in the middle"):
        model.forward(random_image(), ["a", "b"])
    assert state_of(model.module) == with_hook
    hook.remove()
    assert state_of(model.module) == before


def test_frozen_eval_removes_new_hooks_and_keeps_existing_ones():
    model = Toy()
    calls = []
    model.conv1.register_forward_hook(lambda *_: calls.append("kept"))
    before = state_of(model)
    with pytest.raises(KeyboardInterrupt), frozen_eval(model):
        model.conv1.register_forward_hook(lambda *_: calls.append("added"))
        raise KeyboardInterrupt
    assert state_of(model) == before
    model.features(random_image()[0])
    assert calls == ["kept"]


def test_models_with_noise_are_deterministic():
    model = untrained("translation")
    pixels = random_image(SIDE, SIDE, channels=model.backbone.in_channels)
    torch.manual_seed(1)
    first = model.forward(pixels).output
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert torch.equal(first, model.forward(pixels).output)
    assert torch.equal(torch.random.get_rng_state(), state)
    # Its normalization uses batch statistics, so that the predictions depend on the batch.
    assert model.max_batch == 1


def test_the_neutral_color_is_zero_after_preprocessing():
    for name in ("resnet18", "alexnet", "googlenet_tv", "lenet5"):
        with torch.device("meta"):
            backbone = create_backbone(name)
        gray = torch.tensor(inspect_backbone(backbone).neutral_color).view(1, -1, 1, 1)
        assert backbone.preprocessing(gray).abs().max() < 1e-4


def test_random_weights_raise_a_warning():
    with pytest.warns(WeightsWarning, match="resnet20_cifar has random weights; add --weights"):
        open_model("resnet20_cifar")


@pytest.mark.parametrize(
    ("network", "file", "levels"),
    [
        ("alexnet", "alexnet_caffe_conv_pruned8bit_fp16", ["conv1", "conv2", "conv5", "pool5"]),
        ("resnet18", "resnet18_imagenet_to_layer3_fp16", ["stem", "layer1", "layer2", "layer3"]),
        ("vgg19", "vgg19_normalised_to_relu3_1_fp16", ["block1", "block2"]),
    ],
)
def test_partial_weights_open_the_levels_they_cover(shared_data, network, file, levels):
    model = open_model(network, shared_data / "weights" / f"{file}.safetensors")
    assert level_names(model.backbone) == levels
    assert (model.classes, model.task) == ((), None)


def test_partial_weights_that_end_within_a_level(shared_data):
    model = open_model("vgg19", shared_data / "weights" / "vgg19_normalised_to_relu3_1_fp16.safetensors")
    pixels = random_image(32, 32)
    relu3_1 = model.forward(pixels, ["convolutions.11"], run_output=False).levels["convolutions.11"]
    assert relu3_1.shape == (1, 256, 8, 8) and relu3_1.isfinite().all()
    with pytest.raises(UserError, match=r"weights of vgg19 end before 'convolutions\.13'"):
        model.forward(pixels, ["convolutions.13"], run_output=False)


def test_weights_beside_a_checkpoint_are_refused():
    with pytest.raises(UserError, match="'depth' comes with its weights"):
        open_model("depth", "imagenet")


def test_a_wrong_number_of_images_is_refused():
    with pytest.raises(UserError, match=r"The model takes 2 input\(s\) \(first, second\), not 1"):
        untrained("flow").pixels(PHOTO)


def test_every_task_can_be_inspected():
    with pytest.raises(UserError, match="takes photos with cameras"):
        open_model("view_synthesis")
    for name in (name for name in list_tasks() if name != "view_synthesis"):
        model = untrained(name)
        assert model.task is not None and model.backbone is not None


def test_the_toy_backbone_conforms():
    check_backbone(Toy())


class TestRendering:
    def test_diverging_map_is_white_at_zero(self):
        rendered = diverging_map(np.array([[0.0, 1.0, -1.0]]))
        assert rendered[0, 0].tolist() == [255] * 3
        assert rendered[0, 1, 0] > rendered[0, 1, 2] and rendered[0, 2, 0] < rendered[0, 2, 2]

    def test_a_map_of_zeros_can_be_rendered(self):
        zeros = np.zeros((4, 5), np.float32)
        assert overlay_heatmap(np.full((4, 5, 3), 90, np.uint8), zeros).shape == (4, 5, 3)
        assert (to_rgb(np.zeros((3, 4, 5))) == 128).all()

    def test_one_channel_is_gray(self):
        assert to_uint8_image(torch.full((1, 1, 2, 2), 0.5)).tolist() == [[[128] * 3] * 2] * 2

    def test_image_and_array_have_the_same_name(self, tmp_path):
        values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
        files = write_image_and_array(tmp_path / "map.png", diverging_map(values), values)
        assert [file.name for file in files] == ["map.png", "map.npy"]
        np.testing.assert_array_equal(np.load(files[1]), values)

    def test_other_formats_are_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"name a \.png file"):
            validate_out(tmp_path / "map.jpg")
