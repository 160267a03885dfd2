"""Probes say what they measure, measure what they say, and answer what they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.apps.visualize.measures import Joint, Region, Sum
from densevision.apps.visualize.probes import DENSE, parse_probe, probes_of
from densevision.apps.visualize.sensitivity import gradients, require_alive, score
from densevision.apps.visualize.subject import Seen, subject_of_trunk
from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.tasks import list_tasks
from densevision.tasks.pose.heatmaps import encode, from_cells

from .toys import CLASSES, SIDE, Toy, picture, toy, untrained

NAMED = ("tabby", "tiger cat", "Persian cat", "goldfish", "cat - like")

# A probe of each task's dense answer, and of the two that have none; the box holds the pixel.
A_PROBE = {
    "classification": "class:3",
    "colorization": "a@20,30",
    "depth": "depth@10,12,5,4",
    "flow": "flow-u@20,30,3,2",
    "pose": "left wrist x",
    "restoration": "green@20,30",
    "translation": "red@20,30,4,4",
}


def pictures_of(subject: Any, side: int = SIDE) -> tuple[torch.Tensor, ...]:
    inputs = subject.task.prepared(subject.fields)
    channels = [getattr(inputs[name], "channels", 3) for name in subject.task.inputs(subject.fields)]
    return tuple(picture(side, side, seed, count)[0] for seed, count in enumerate(channels))


def named_toy() -> Any:
    return subject_of_trunk(Toy(), NAMED)


@pytest.mark.parametrize("text", ["class:tabby", "a:2", "b:3@4,1", "conv1:5@0,0", "norm:1"])
def test_a_probe_is_written_as_it_is_typed(text):
    probe = parse_probe(text, named_toy())
    assert str(probe) == text
    assert parse_probe(str(probe), named_toy()) == probe


@pytest.mark.parametrize("task", list_tasks())
def test_every_task_has_words_for_its_answer(task):
    subject = untrained(task)
    probe = parse_probe(A_PROBE[task], subject)
    assert str(parse_probe(str(probe), subject)) == str(probe)
    assert score(subject, pictures_of(subject), probe)[0].shape == (1,)


@pytest.mark.parametrize("task", list_tasks())
def test_what_is_listed_can_be_typed(task):
    subject = untrained(task)
    listed = probes_of(subject)
    for text in [*listed[:9], *listed[-9:]]:
        typed = text.replace("X,Y,WIDTH,HEIGHT", "1,2,3,4").replace("X,Y", "1,2").replace("CHANNEL", "0")
        assert str(parse_probe(typed, subject)).casefold() == typed.casefold()


def test_a_class_goes_by_its_name_and_by_its_number():
    subject = named_toy()
    seen = subject.look(picture())
    for text in ("class:tiger cat", "class:1", "class:TIGER CAT"):
        assert parse_probe(text, subject).measure(seen) == seen.output[:, 1]


def test_a_class_is_measured_before_the_softmax():
    subject = toy()
    value, _ = score(subject, picture(), parse_probe("class:2", subject))
    torch.testing.assert_close(value, subject.trunk.eval()(subject.trunk.preprocessing(*picture()))[:, 2])


def test_a_channel_is_a_mean_and_a_unit_is_at_x_then_y():
    subject = toy()
    seen = subject.look(picture(), ["b"])
    maps = seen.levels["b"]
    torch.testing.assert_close(parse_probe("b:3", subject).measure(seen), maps[:, 3].mean((1, 2)))
    assert parse_probe("b:3@4,1", subject).measure(seen) == maps[:, 3, 1, 4]


def test_a_layer_without_places_is_a_row_of_units():
    subject = toy()
    seen = subject.look(picture(), ["fc"])
    assert parse_probe("fc:2", subject).measure(seen) == seen.output[:, 2]


def test_a_region_is_a_mean_over_x_y_width_height():
    answer = torch.arange(2 * 6 * 8, dtype=torch.float32).view(1, 2, 6, 8)
    seen = Seen((answer,), answer, {})
    assert Region("depth", 1, 2, 3).measure(seen) == answer[0, 1, 3, 2]
    assert Region("depth", 0, 2, 3, 4, 2).measure(seen) == answer[0, 0, 3:5, 2:6].mean()


def test_sums_differences_and_factors_are_what_they_say():
    subject = named_toy()
    tabby, tiger = (parse_probe(f"class:{name}", subject) for name in ("tabby", "tiger cat"))
    mixed = parse_probe("class:tabby - 0.5 * class:tiger cat + b:3", subject)
    assert mixed == tabby - 0.5 * tiger + parse_probe("b:3", subject)
    assert (str(mixed), mixed.levels, mixed.asks) == ("class:tabby - 0.5 * class:tiger cat + b:3", ("b",), True)
    value, seen = score(subject, picture(), mixed)
    expected = seen.output[:, 0] - 0.5 * seen.output[:, 1] + seen.levels["b"][:, 3].mean()
    torch.testing.assert_close(value, expected)
    assert str(parse_probe("class:cat - like", subject)) == "class:cat - like"
    assert parse_probe("-class:tabby", subject) == parse_probe("- class:tabby", subject) == -tabby
    assert str(-tabby) == "-class:tabby" and isinstance(-tabby, Sum)
    assert not parse_probe("a:1 - b:1", subject).asks


def test_the_mean_place_under_a_heat_map_is_the_joint():
    # A map as those that are learned: one Gaussian of peak 1 on 0. The rest of the map draws the mean by little.
    joints = torch.tensor([[[20.3, 9.6]]])
    maps, _ = encode(joints, torch.ones(1, 1, dtype=torch.bool), (48, 64))
    seen = Seen((maps,), maps, {})
    found = torch.cat([Joint("nose", 0, axis).measure(seen) for axis in "xy"])
    assert (found - from_cells(joints[0, 0])).abs().max() < 0.5


def test_a_coordinate_that_is_answered_is_the_probe():
    answer = torch.tensor([[[1.0, 2.0, 1.0], [3.0, 4.0, 1.0]]])
    assert Joint("elbow", 1, "y").measure(Seen((answer,), answer, {})) == 4


def test_of_a_trunk_that_sees_two_pictures_the_first_ones_units_are_meant():
    subject = untrained("flow")
    pixels = pictures_of(subject)
    probe = parse_probe("layer1:3", subject)
    value, seen = score(subject, pixels, probe)
    assert seen.levels["layer1"].shape[0] == 2 and value.shape == (1,)
    by_first, by_second = gradients(subject, pixels, probe)
    assert by_first.any() and not by_second.any()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("class:cat", "no class named 'cat'; nearest: tiger cat, cat - like, Persian cat."),
        ("class:goldfsh", "no class named 'goldfsh'; nearest: goldfish."),
        ("class:7", "classes 0 to 4, and no 7"),
        ("c:3", "no level of toy named 'c'; nearest: fc"),
        ("conv4:3", "no level of toy named 'conv4'; nearest: conv"),
        ("b:8", "b has the channels 0 to 7, and no 8"),
        ("b:x", "'x' in 'b:x' is no channel"),
        ("b:1@3", "'3' in 'b:1@3' is no place; write whole numbers with commas: X,Y"),
        ("depth@3,4", "'depth' is no probe of toy; nearest: "),
        ("x * class:tabby", "'x' in 'x * class:tabby' is no number"),
        ("", "The probe is empty"),
        ("  ", "The probe is empty"),
    ],
)
def test_a_probe_of_nothing_is_answered_with_the_nearest(text, sentence):
    with pytest.raises(UserError, match=r"\A[^\n]*\Z") as mistake:
        parse_probe(text, named_toy())
    assert sentence in str(mistake.value)


def test_a_dense_probe_without_a_place_says_which_it_lacks():
    with pytest.raises(UserError, match="names no place; add one in pixels of the shown picture: depth@X,Y"):
        parse_probe("depth", untrained("depth"))


def test_a_joint_that_a_skeleton_lacks_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="nearest: left wrist x"):
        parse_probe("left wist x", untrained("pose"))


def test_a_trunk_without_a_classifier_names_no_class():
    with pytest.raises(UserError, match="has no classifier, hence no class:tabby; probe a level: layer1:0@10,10"):
        parse_probe("class:tabby", subject_of_trunk(create_backbone("resnet18", levels=2)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("b:1@6,0", "b:1@6,0 lies outside of b, which is 5 wide and 6 high here"),
        ("b:1@-1,0", "lies outside of b"),
        ("conv1:6", "conv1 has the channels 0 to 5, and no 6"),
    ],
)
def test_a_place_outside_of_the_level_says_how_large_it_is(text, sentence):
    subject = toy()
    with pytest.raises(UserError) as mistake:
        score(subject, picture(12, 10), parse_probe(text, subject))
    assert sentence in str(mistake.value)


@pytest.mark.parametrize("place", ["48,0", "0,48", "-1,3", "40,40,9,3"])
def test_a_place_outside_of_the_picture_says_how_large_it_is(place):
    subject = untrained("depth")
    with pytest.raises(UserError, match="outside of the picture, which is 48 wide and 48 high as the network sees it"):
        score(subject, pictures_of(subject), parse_probe(f"depth@{place}", subject))


def test_a_dead_unit_is_said_to_be_dead_with_the_nearest_active_ones():
    subject = toy()
    with torch.no_grad():
        subject.trunk.conv3.bias[[2, 3]] = -1e6
    for text, offered in (("b:3", "b:4, b:1, b:5"), ("b:3@2,2", "@2,2")):
        probe = parse_probe(text, subject)
        found = gradients(subject, picture(), probe)
        with pytest.raises(UserError, match=f"No pixel changes {text} on this picture: it is dead; active") as mistake:
            require_alive(subject, picture(), probe, found)
        assert offered in str(mistake.value) and "b:2" not in str(mistake.value)


def test_the_table_of_words_knows_the_tasks_that_there_are():
    assert set(DENSE) <= set(list_tasks())
    assert set(A_PROBE) == set(list_tasks())


@pytest.fixture
def in_double(monkeypatch):
    """Networks turn what they answer into float32; here into float64, so that a difference has digits."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch, "float32", torch.float64)


FINITE_DIFFERENCES = [
    *((name, {}, None, text) for name, text in A_PROBE.items()),
    ("colorization", {"answer": "regression"}, None, "b@3,40"),
    ("flow", {}, None, "flow-v@7,9"),
    ("pose", {}, "regression", "left wrist y"),
    ("translation", {"from_": "image", "to": "labels"}, None, "class:{}@20,30"),
    ("translation", {"norm": "instance"}, None, "blue@9,9"),
]


@pytest.mark.parametrize(("task", "options", "head", "text"), FINITE_DIFFERENCES)
def test_finite_differences_confirm_the_gradient_of_a_dense_probe(in_double, task, options, head, text):
    subject = untrained.__wrapped__(task, head, **options)
    subject.model.double()
    if "{}" in text:
        text = text.format(subject.fields["labels"].names[1])
    probe = parse_probe(text, subject)
    pixels = tuple(0.1 + 0.8 * each.double() for each in pictures_of(subject))
    found = gradients(subject, pixels, probe)
    for number, gradient in enumerate(found):
        assert gradient.dtype == torch.float64 and gradient.any()
        # Along the gradient itself, and along noise: the steps are far smaller than what moves a ReLU or a maximum.
        noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for direction in (gradient / gradient.norm(), noise / noise.norm()):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [each + step * direction if place == number else each for place, each in enumerate(pixels)]
                with torch.no_grad():
                    ends.append(float(score(subject, tuple(moved), probe)[0]))
            difference = (ends[0] - ends[1]) / 2e-6
            expected = float((gradient * direction).sum())
            assert difference == pytest.approx(expected, rel=1e-4, abs=1e-5 * float(gradient.norm()))


def test_the_verb_lists_what_may_be_asked(capsys):
    from densevision.apps.cli import main

    main(["visualize", "probes", "--network", "classification"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "c1:CHANNEL" and said[-1] == "class:9" and len(said) == 5 + 5 + 10


def test_numbers_are_offered_where_classes_have_no_names():
    assert probes_of(toy())[-1] == f"class:class {CLASSES - 1}"
    assert np.unique(probes_of(toy())).size == len(probes_of(toy()))
