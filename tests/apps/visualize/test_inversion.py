"""What a level still knows of a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from densevision.apps.visualize.inversion import Inversion, invert
from densevision.apps.visualize.subject import subject_of_trunk
from densevision.errors import UserError

from .test_subject import state_of
from .toys import Toy, picture, toy

QUICK = Inversion(steps=60, variation=0.01)


def test_the_first_level_brings_the_picture_back():
    # Six rectified channels for three colours, before any pool: little is lost.
    subject, pixels = toy(norm=False), picture(14, 11)
    made = invert(subject, pixels, "a", Inversion(steps=300, variation=0.0, norm=0.0))
    assert made.error < 1e-2
    # Two channels of three numbers may be off at a place, where several colours look alike.
    noise = (picture(14, 11, seed=1)[0] - pixels[0]).square().mean()
    assert (made.pixels[0] - pixels[0]).square().mean() < noise / 4


@pytest.mark.parametrize(
    "inversion",
    [
        QUICK,
        Inversion(steps=60, variation=0.01, canvas="fourier"),
        Inversion(steps=60, variation=0.01, optimizer="momentum"),
    ],
    ids=["pixels", "fourier", "authors"],
)
def test_the_error_falls_and_is_that_of_the_picture(inversion):
    subject, pixels = toy(), picture(16, 13)
    errors: list[float] = []
    made = invert(subject, pixels, "b", inversion, lambda step, error: errors.append(error))
    assert len(errors) == 60 and made.error < errors[0] / 2
    wanted, found = (subject.look(each, ("b",)).levels["b"] for each in (pixels, made.pixels))
    assert made.error == pytest.approx(float((found - wanted).square().sum() / wanted.square().sum()), rel=1e-4)
    assert made.pixels[0].shape == (1, 3, 16, 13) and made.pixels[0].min() >= 0 and made.pixels[0].max() <= 1


def test_the_start_is_as_far_from_grey_as_the_picture():
    # Facts 4: Gaussian noise rescaled to the norm x0. One step at the rate 0 leaves the start as it is.
    subject, pixels = toy(), picture(64, 64)
    made = invert(subject, pixels, "a", Inversion(steps=1, rate=0.0))
    grey = pixels[0].new_tensor(subject.grey).view(1, -1, 1, 1)
    lengths = [float((each - grey).norm()) for each in (pixels[0], made.pixels[0])]
    # What noise would leave of [0, 1] is cut off.
    assert lengths[1] == pytest.approx(lengths[0], rel=0.1)


def test_variation_smooths():
    subject, pixels = toy(), picture(16, 16)
    rough, smooth = (
        invert(subject, pixels, "b", Inversion(steps=40, variation=weight)).pixels[0].diff(dim=3).square().mean()
        for weight in (0.0, 100.0)
    )
    assert smooth < rough / 2


def test_the_same_seed_paints_the_same():
    subject, pixels = toy(), picture(16, 16)
    one, two = (invert(subject, pixels, "b", Inversion(steps=10)) for _ in range(2))
    assert torch.equal(one.pixels[0], two.pixels[0])
    assert not torch.equal(one.pixels[0], invert(subject, pixels, "b", Inversion(steps=10, seed=1)).pixels[0])


def test_nothing_is_left_on_the_network():
    subject = toy("re-used in place")
    before = state_of(subject.model)
    invert(subject, picture(), "b", Inversion(steps=2))
    with pytest.raises(UserError):
        invert(subject, picture(), "c", Inversion(steps=2))
    assert state_of(subject.model) == before


def test_a_level_that_sees_nothing_is_refused():
    trunk = Toy(norm=False)
    assert trunk.conv1.bias is not None
    with torch.no_grad():
        trunk.conv1.bias.fill_(-1e4)
    with pytest.raises(UserError, match="'a' of toy is 0 everywhere on this picture"):
        invert(subject_of_trunk(trunk), picture(), "a")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "--steps is 0"),
        ({"variation": -1.0}, "--variation is -1"),
        ({"beta": 0.5}, "--beta is 0.5"),
        ({"optimizer": "momentum", "canvas": "fourier"}, "--optimizer adam"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        invert(toy(), picture(), "b", Inversion(**options))


def test_the_verb_writes_a_picture_and_its_array(run, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "digit.png")
    words = ("--network", "classification", "--image", "digit.png", "--level", "c3", "--out", "seen.png")
    said = run("visualize", "invert", *words, "--steps", "5")
    assert said.out.splitlines()[-1] == "Wrote seen.png and seen.npy.", said
    array = np.load(tmp_path / "seen.npy")
    assert array.shape == (1, 1, 32, 32) and "step 5 of 5: relative error " in said.out
    wrong = ("--network", "classification", "--image", "digit.png", "--level", "c9", "--out", "seen.png")
    assert "no level of classification named 'c9'" in run("visualize", "invert", *wrong).mistake
