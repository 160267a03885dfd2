"""Target strings: parsing, objectives, and error messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.tasks import list_tasks
from densevision.tasks.pose.heatmaps import cells_to_pixels, encode
from densevision.tasks.prediction import OutputSpec
from densevision.visualize.core.model import ForwardResult, inspect_backbone
from densevision.visualize.core.objectives import (
    Keypoint,
    Region,
    Sum,
    check_nonzero_gradient,
    evaluate_objective,
    gradients,
)
from densevision.visualize.core.targets import dense_channels, list_targets, parse_target

from ..toys import CLASSES, SIDE, Toy, random_image, toy, untrained

NAMED = ("tabby", "tiger cat", "Persian cat", "goldfish", "cat - like")

# A target for every task; boxes contain the pixel.
EXAMPLE_TARGETS = {
    "classification": "class:3",
    "colorization": "a@20,30",
    "depth": "depth@10,12,5,4",
    "flow": "flow-u@20,30,3,2",
    "hand_pose": "index tip z",
    "memorability": "memorability",
    "pose": "left wrist x",
    "restoration": "green@20,30",
    "translation": "red@20,30,4,4",
    "video": "red-2@20,30,4,4",
}


INSPECTED = [task for task in list_tasks() if task != "view_synthesis"]
"""A model of photos with cameras is not inspected."""


def images_of(model: Any, side: int = SIDE) -> tuple[torch.Tensor, ...]:
    channels = [field_type.input_channels for field_type in model.inputs.values()]
    return tuple(random_image(side, side, seed, count)[0] for seed, count in enumerate(channels))


def named_toy() -> Any:
    return inspect_backbone(Toy(), NAMED)


@pytest.mark.parametrize("text", ["class:tabby", "a:2", "b:3@4,1", "conv1:5@0,0", "norm:1"])
def test_str_of_an_objective_is_its_target(text):
    objective = parse_target(text, named_toy())
    assert str(objective) == text
    assert parse_target(str(objective), named_toy()) == objective


@pytest.mark.parametrize("task", INSPECTED)
def test_every_task_has_targets(task):
    model = untrained(task)
    objective = parse_target(EXAMPLE_TARGETS[task], model)
    assert str(parse_target(str(objective), model)) == str(objective)
    assert evaluate_objective(model, images_of(model), objective)[0].shape == (1,)


@pytest.mark.parametrize("task", INSPECTED)
def test_listed_targets_can_be_parsed(task):
    model = untrained(task)
    targets = list_targets(model)
    for text in [*targets[:9], *targets[-9:]]:
        target = text.replace("X,Y,WIDTH,HEIGHT", "1,2,3,4").replace("X,Y", "1,2").replace("CHANNEL", "0")
        assert str(parse_target(target, model)).casefold() == target.casefold()


def test_a_class_has_a_name_and_a_number():
    model = named_toy()
    result = model.forward(random_image())
    for text in ("class:tiger cat", "class:1", "class:TIGER CAT"):
        assert parse_target(text, model)(result) == result.output[:, 1]


def test_a_class_logit_is_taken_before_the_softmax():
    model = toy()
    value, _ = evaluate_objective(model, random_image(), parse_target("class:2", model))
    torch.testing.assert_close(value, model.backbone.eval()(model.backbone.preprocessing(*random_image()))[:, 2])


def test_a_channel_is_a_mean_and_a_unit_is_at_x_y():
    model = toy()
    result = model.forward(random_image(), ["b"])
    maps = result.levels["b"]
    torch.testing.assert_close(parse_target("b:3", model)(result), maps[:, 3].mean((1, 2)))
    assert parse_target("b:3@4,1", model)(result) == maps[:, 3, 1, 4]


def test_a_layer_without_spatial_positions_has_units():
    model = toy()
    result = model.forward(random_image(), ["fc"])
    assert parse_target("fc:2", model)(result) == result.output[:, 2]


def test_a_region_is_a_mean_over_x_y_width_height():
    prediction = torch.arange(2 * 6 * 8, dtype=torch.float32).view(1, 2, 6, 8)
    result = ForwardResult((prediction,), prediction, {})
    assert Region("depth", 1, 2, 3)(result) == prediction[0, 1, 3, 2]
    assert Region("depth", 0, 2, 3, 4, 2)(result) == prediction[0, 0, 3:5, 2:6].mean()


def test_sums_differences_and_factors():
    model = named_toy()
    tabby, tiger = (parse_target(f"class:{name}", model) for name in ("tabby", "tiger cat"))
    mixed = parse_target("class:tabby - 0.5 * class:tiger cat + b:3", model)
    assert mixed == tabby - 0.5 * tiger + parse_target("b:3", model)
    assert (str(mixed), mixed.levels, mixed.needs_output) == ("class:tabby - 0.5 * class:tiger cat + b:3", ("b",), True)
    value, result = evaluate_objective(model, random_image(), mixed)
    expected = result.output[:, 0] - 0.5 * result.output[:, 1] + result.levels["b"][:, 3].mean()
    torch.testing.assert_close(value, expected)
    assert str(parse_target("class:cat - like", model)) == "class:cat - like"
    assert parse_target("-class:tabby", model) == parse_target("- class:tabby", model) == -tabby
    assert str(-tabby) == "-class:tabby" and isinstance(-tabby, Sum)
    assert not parse_target("a:1 - b:1", model).needs_output


def test_a_keypoint_is_the_mean_position_under_its_heat_map():
    # A map as in training: a Gaussian with peak 1 on 0. The rest of the map shifts the mean only a little.
    joints = torch.tensor([[[20.3, 9.6]]])
    maps, _ = encode(joints, torch.ones(1, 1, dtype=torch.bool), (48, 64))
    result = ForwardResult((maps,), maps, {})
    grads = torch.cat([Keypoint("nose", 0, axis)(result) for axis in "xy"])
    assert (grads - cells_to_pixels(joints[0, 0])).abs().max() < 0.5


def test_a_keypoint_of_a_regression_is_its_coordinate():
    prediction = torch.tensor([[[1.0, 2.0, 1.0], [3.0, 4.0, 1.0]]])
    assert Keypoint("elbow", 1, "y")(ForwardResult((prediction,), prediction, {})) == 4


def test_units_of_a_siamese_backbone_are_those_of_the_first_image():
    model = untrained("flow")
    pixels = images_of(model)
    objective = parse_target("layer1:3", model)
    value, result = evaluate_objective(model, pixels, objective)
    assert result.levels["layer1"].shape[0] == 2 and value.shape == (1,)
    by_first, by_second = gradients(model, pixels, objective)
    assert by_first.any() and not by_second.any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class:cat", "no class named 'cat'; nearest: tiger cat, cat - like, Persian cat."),
        ("class:goldfsh", "no class named 'goldfsh'; nearest: goldfish."),
        ("class:7", "classes 0 to 4, not 7"),
        ("c:3", "no level of toy named 'c'; nearest: fc"),
        ("conv4:3", "no level of toy named 'conv4'; nearest: conv"),
        ("b:8", "b has the channels 0 to 7, not 8"),
        ("b:x", "'x' in 'b:x' is not a channel"),
        ("b:1@3", "'3' in 'b:1@3' is not a position; write integers with commas: X,Y"),
        ("depth@3,4", "'depth' is not a target of toy; nearest: "),
        ("x * class:tabby", "'x' in 'x * class:tabby' is not a number"),
        ("", "The target is empty"),
        ("  ", "The target is empty"),
    ],
)
def test_invalid_targets_are_refused_with_suggestions(text, message):
    with pytest.raises(UserError, match=r"\A[^\n]*\Z") as error:
        parse_target(text, named_toy())
    assert message in str(error.value)


def test_a_dense_target_needs_a_position():
    with pytest.raises(UserError, match="has no position; add a pixel of the image: depth@X,Y"):
        parse_target("depth", untrained("depth"))


def test_an_unknown_keypoint_is_refused_with_suggestions():
    with pytest.raises(UserError, match="nearest: left wrist x"):
        parse_target("left wist x", untrained("pose"))


def test_a_backbone_without_a_classifier_has_no_class_targets():
    with pytest.raises(UserError, match="no classifier, hence no target class:tabby; choose a level: layer1:0@10,10"):
        parse_target("class:tabby", inspect_backbone(create_backbone("resnet18", levels=2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b:1@6,0", "b:1@6,0 is outside of b, which is 5 wide and 6 high"),
        ("b:1@-1,0", "is outside of b"),
        ("conv1:6", "conv1 has the channels 0 to 5, not 6"),
    ],
)
def test_a_position_outside_of_the_level_is_refused(text, message):
    model = toy()
    with pytest.raises(UserError) as error:
        evaluate_objective(model, random_image(12, 10), parse_target(text, model))
    assert message in str(error.value)


@pytest.mark.parametrize("position", ["48,0", "0,48", "-1,3", "40,40,9,3"])
def test_a_position_outside_of_the_image_is_refused(position):
    model = untrained("depth")
    with pytest.raises(UserError, match="is outside of the model input, which is 48 wide and 48 high"):
        evaluate_objective(model, images_of(model), parse_target(f"depth@{position}", model))


def test_a_dead_unit_is_an_error_with_the_nearest_active_ones():
    model = toy()
    with torch.no_grad():
        model.backbone.conv3.bias[[2, 3]] = -1e6
    for text, suggestion in (("b:3", "b:4, b:1, b:5"), ("b:3@2,2", "@2,2")):
        objective = parse_target(text, model)
        grads = gradients(model, random_image(), objective)
        with pytest.raises(
            UserError, match=f"No pixel changes {text} on this image: it is not active; nearest active"
        ) as error:
            check_nonzero_gradient(model, random_image(), objective, grads)
        assert suggestion in str(error.value) and "b:2" not in str(error.value)


def test_targets_are_those_of_the_output_that_a_task_states():
    dense = {name: list(dense_channels(untrained(name))) for name in INSPECTED}
    without = {name for name, channels in dense.items() if not channels}
    assert without == {"classification", "hand_pose", "memorability", "pose"}
    assert dense["depth"] == ["depth"] and dense["flow"] == ["flow-u", "flow-v"]
    assert dense["restoration"] == ["red", "green", "blue"] and dense["colorization"][:2] == ["a", "b"]
    assert set(EXAMPLE_TARGETS) == set(INSPECTED)


def test_a_number_per_image_is_a_target_by_its_name(monkeypatch):
    model = untrained("classification")
    spec = OutputSpec(("memorability", "arousal"), "from 0 to 1", "values")
    monkeypatch.setattr(type(model.task), "output_spec", lambda *_: spec)
    assert list_targets(model)[-2:] == ["memorability", "arousal"]
    objective = parse_target("arousal", model)
    value, result = evaluate_objective(model, images_of(model), objective)
    assert str(objective) == "arousal" and value.item() == result.output[0, 1].item()
    with pytest.raises(UserError, match=r"'memorabilty' is not a target of .*; nearest: memorability"):
        parse_target("memorabilty", model)


def use_double(monkeypatch):
    """Replace float32, to which models convert their predictions, by float64, for accurate finite differences."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch, "float32", torch.float64)


FINITE_DIFFERENCES = [
    *((name, {}, None, text) for name, text in EXAMPLE_TARGETS.items()),
    ("colorization", {"output": "regression"}, None, "b@3,40"),
    ("flow", {}, None, "flow-v@7,9"),
    ("pose", {}, "regression", "left wrist y"),
    ("translation", {"source_field": "image", "target_field": "labels"}, None, "class:{}@20,30"),
    ("translation", {"norm": "instance"}, None, "blue@9,9"),
]


@pytest.mark.parametrize(("task", "options", "head", "text"), FINITE_DIFFERENCES)
def test_gradients_match_finite_differences(monkeypatch, task, options, head, text):
    model = untrained.__wrapped__(task, head, **options)
    use_double(monkeypatch)
    model.module.double()
    if "{}" in text:
        text = text.format(model.fields["labels"].names[1])
    objective = parse_target(text, model)
    pixels = tuple(0.1 + 0.8 * each.double() for each in images_of(model))
    grads = gradients(model, pixels, objective)
    for number, gradient in enumerate(grads):
        assert gradient.dtype == torch.float64 and gradient.any()
        # Along the gradient and along noise, with steps too small to switch a ReLU or a maximum.
        noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for direction in (gradient / gradient.norm(), noise / noise.norm()):
            scores = []
            for step in (1e-6, -1e-6):
                perturbed = [each + step * direction if index == number else each for index, each in enumerate(pixels)]
                with torch.no_grad():
                    scores.append(float(evaluate_objective(model, tuple(perturbed), objective)[0]))
            difference = (scores[0] - scores[1]) / 2e-6
            expected = float((gradient * direction).sum())
            assert difference == pytest.approx(expected, rel=1e-4, abs=1e-5 * float(gradient.norm()))


def test_the_command_lists_targets(capsys):
    from densevision.apps.cli import main

    main(["visualize", "list-targets", "--model", "lenet5_mnist"])
    result = capsys.readouterr().out.splitlines()
    assert result[0] == "c1:CHANNEL" and result[-1] == "class:9" and len(result) == 5 + 5 + 10


def test_classes_without_names_are_numbered():
    assert list_targets(toy())[-1] == f"class:class {CLASSES - 1}"
    assert np.unique(list_targets(toy())).size == len(list_targets(toy()))
