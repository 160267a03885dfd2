"""`densevision.visualize`: every method on a predictor, a backbone and any other module, which it leaves as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from densevision import visualize
from densevision.errors import UserError
from densevision.visualize import Visualization

from .core.test_model import state_of
from .toys import Toy, random_image, untrained


class Plain(nn.Module):
    """A classifier in torchvision's style: stages by name, a pool and a linear layer. It has no preprocessing."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)
            self.layer1 = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.layer1(self.relu(self.conv1(x)))).flatten(1))


SIDE = 40
MODELS: dict[str, tuple[Callable[[], Any], Callable[[Any], nn.Module], str]] = {
    # How it is made, the module that must not change, and a level.
    "predictor": (lambda: untrained("classification").predictor, lambda model: model.model, "stage1"),
    "backbone": (Toy, lambda model: model, "a"),
    "module": (Plain, lambda model: model, "layer1"),
}
METHODS: dict[str, Callable[[Any, Any, str, Path], Visualization]] = {
    "saliency": lambda model, image, level, folder: visualize.saliency(model, image, target=1),
    "guided_backprop": lambda model, image, level, folder: visualize.guided_backprop(model, image, f"{level}:1"),
    "deconvnet": lambda model, image, level, folder: visualize.deconvnet(model, image, f"{level}:1"),
    "input_x_gradient": lambda model, image, level, folder: visualize.input_x_gradient(model, image, "class:1"),
    "integrated_gradients": lambda model, image, level, folder: visualize.integrated_gradients(
        model, image, lambda output: output[:, 1] - output[:, 2], steps=3
    ),
    "grad_cam": lambda model, image, level, folder: visualize.grad_cam(model, image, f"{level}:1", level=level),
    "occlusion": lambda model, image, level, folder: visualize.occlusion(model, image, 1, patch=16, stride=12),
    "activations": lambda model, image, level, folder: visualize.activations(model, image, level),
    "filters": lambda model, image, level, folder: visualize.filters(model),
    "receptive_field": lambda model, image, level, folder: visualize.receptive_field(model, layers=True),
    "top_activations": lambda model, image, level, folder: visualize.top_activations(model, folder, f"{level}:1"),
    "feature_visualization": lambda model, image, level, folder: visualize.feature_visualization(
        model, 1, size=(SIDE, SIDE), steps=3
    ),
    "feature_inversion": lambda model, image, level, folder: visualize.feature_inversion(model, image, level, steps=2),
    "deepdream": lambda model, image, level, folder: visualize.deepdream(model, image, level, octaves=1, steps=2),
    "style_transfer": lambda model, image, level, folder: visualize.style_transfer(
        model, image, image, content_layers=(level,), style_layers=(level,), steps=2
    ),
    "nearest_patches": lambda model, image, level, folder: visualize.nearest_patches(
        model, image, folder, level=level, at=[(20, 20)], short_side=SIDE
    ),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{seed}.png")
    return tmp_path


def test_every_method_is_tested():
    assert {*METHODS, "list_targets"} == set(visualize.METHODS)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_any_model_and_leaves_it_as_it_was(kind, method, folder):
    make, module_of, level = MODELS[kind]
    model = make()
    module = module_of(model).train()
    next(module.parameters()).requires_grad_(False)
    before = state_of(module)
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    result = METHODS[method](model, random_image(SIDE, SIDE)[0], level, folder)
    assert state_of(module) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in module.state_dict().items())
    assert result.image.dtype == np.uint8 and result.image.ndim == 3 and result.image.shape[2] == 3
    assert result.array.size and np.nanmax(result.array) > np.nanmin(result.array)
    assert all(isinstance(note, str) for note in result.notes)
    written = result.save(folder / "result.png")
    assert [path.name for path in written] == ["result.png", "result.npy"]
    assert np.array_equal(np.load(written[1]), result.array, equal_nan=result.array.dtype.kind == "f")
    assert result._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_as_it_was_after_an_exception(kind):
    make, module_of, level = MODELS[kind]
    model = make()
    module = module_of(model).train()
    before = state_of(module)

    def fail(output: Tensor) -> Tensor:
        raise RuntimeError("in the target")

    for method in (visualize.saliency, visualize.guided_backprop, visualize.occlusion, visualize.grad_cam):
        options: dict[str, Any] = {"level": level} if method is visualize.grad_cam else {}
        with pytest.raises(RuntimeError, match="in the target"):
            method(model, torch.rand(3, SIDE, SIDE), fail, **options)
    assert state_of(module) == before


def test_tensors_are_taken_as_they_are():
    model, image = Plain().eval(), 3 * random_image(SIDE, 30)[0] - 1
    image.requires_grad_()
    (grad,) = torch.autograd.grad(model(image)[0, 2], image)
    for given in (image, image[0], [image]):
        np.testing.assert_allclose(visualize.saliency(model, given, 2).array, grad.abs().amax(1), rtol=1e-5)
    with pytest.raises(UserError, match=r"must be one image, \(1, C, H, W\) or \(C, H, W\), not \(2, 3, 8, 8\)"):
        visualize.saliency(model, torch.zeros(2, 3, 8, 8), 2)


def test_files_arrays_and_images_are_scaled_to_0_to_1_for_a_module(folder):
    model, pixels = Plain(), np.asarray(Image.open(folder / "0.png"))
    expected = visualize.saliency(model, torch.from_numpy(pixels.copy()).movedim(2, 0) / 255, 2).array
    for image in (folder / "0.png", str(folder / "0.png"), pixels, Image.open(folder / "0.png")):
        np.testing.assert_allclose(visualize.saliency(model, image, 2).array, expected, rtol=1e-5)


def test_an_index_a_class_and_a_function_are_the_same_target():
    model, image = Toy(), random_image(SIDE, SIDE)[0]
    maps = [visualize.saliency(model, image, target).array for target in (2, "class:2", lambda logits: logits[:, 2])]
    assert np.array_equal(maps[0], maps[1]) and np.array_equal(maps[0], maps[2])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (7, r"class:7 is not in the output of shape \(1, 5\), which has to be \(B, classes\)"),
        ("class:tabby", "Plain has no class names, hence no target class:tabby; give an index: class:3"),
        ("layer2:3", "no level of Plain named 'layer2'; nearest: layer1"),
        ("layer1:8", "layer1 has the channels 0 to 7, not 8"),
        (lambda output: output.mean(), r"returned shape \(\); it must return one score for every image, shape \(1,\)"),
        (lambda output: 3, "returned a int; it must return one score"),
    ],
)
def test_targets_that_a_module_does_not_have_are_refused(target, message):
    with pytest.raises(UserError, match=message):
        visualize.saliency(Plain(), random_image(SIDE, SIDE)[0], target)


def test_an_output_that_is_not_a_tensor_needs_a_function():
    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"out": self.conv(x)}

    with pytest.raises(UserError, match="The output is a dict, not a tensor; give a function of it as the target"):
        visualize.saliency(Segmenter(), random_image()[0], 1)
    assert visualize.saliency(Segmenter(), random_image()[0], lambda out: out["out"][:, 1].mean((1, 2))).array.any()


def test_what_is_not_a_model_is_refused():
    with pytest.raises(UserError, match=r"A int is not a model: give a Predictor, a Backbone, an nn\.Module or a name"):
        visualize.saliency(3, random_image()[0], 1)
    with pytest.raises(UserError, match="no backbone named 'resnet51'"):
        visualize.saliency("resnet51", random_image()[0], 1)


def test_targets_of_a_module_are_its_parts_and_classes_by_index():
    expected = [f"{name}:CHANNEL" for name in ("conv1", "relu", "layer1", "avgpool", "fc")]
    assert visualize.list_targets(Plain()) == [*expected, "class:INDEX"]


def test_the_field_of_a_module_is_that_of_its_convolutions():
    result = visualize.receptive_field(Plain())
    table = {line.split()[0]: line.split()[1:4] for line in result.notes if line}
    # Stride, size and center: 3 pixels around each, then 3 of those every second pixel.
    assert result.notes[-1].split()[0] == "avgpool" and result.notes[-1].endswith("mean over positions in avgpool")
    assert table["conv1"] == ["1", "3", "0"] and table["layer1"] == ["2", "5", "0"]
    assert result.array[0].tolist() == [[1, 3, 0, 2], [1, 3, 0, 2]]


def test_a_module_is_traced_up_to_its_last_map():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Hardswish(inplace=True), nn.Flatten(), nn.Linear(16, 2))
    result = visualize.receptive_field(module, size=(5, 5))
    assert [line.split()[0] for line in result.notes] == ["level", "0", "1"]
    assert result.array[1].tolist() == [[2, 3, 1, 1]] * 2
    with pytest.raises(UserError, match="Linear has no modules that return feature maps; give one of its parts"):
        visualize.receptive_field(nn.Linear(3, 2))


def test_options_are_given_by_name_or_together():
    from densevision.visualize.features.feature_inversion import InversionOptions

    model, image = Toy(), random_image(12, 10)[0]
    by_name = visualize.feature_inversion(model, image, "a", steps=2, seed=3)
    together = visualize.feature_inversion(model, image, "a", options=InversionOptions(steps=2, seed=3))
    assert np.array_equal(by_name.array, together.array)
    assert by_name.notes == together.notes and by_name.notes[0].startswith("After 2 steps: relative error ")
    with pytest.raises(TypeError, match="stpes"):
        visualize.feature_inversion(model, image, "a", stpes=2)


def test_progress_has_the_number_of_steps_and_named_values():
    reports: list[tuple[int, int, list[str]]] = []
    visualize.feature_visualization(
        Toy(), ["class:1", "a:2"], size=(12, 10), steps=2,
        progress=lambda done, total, values: reports.append((done, total, list(values))),
    )  # fmt: skip
    assert reports == [(1, 2, ["class:class 1", "a:2"]), (2, 2, ["class:class 1", "a:2"])]
