"""Pictures painted by gradient ascent: their formulas, their canvases, and what they leave behind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from densevision.apps.visualize.canvas import Fourier, Pixels, blurred, colour_mixture, wave_scale
from densevision.apps.visualize.maximize import FIRST_STEPS, Ascent, maximize
from densevision.apps.visualize.measures import Channel, Each, Score, Unit
from densevision.apps.visualize.priors import alpha_norm, total_variation, unnaturalness
from densevision.apps.visualize.probes import parse_probe
from densevision.apps.visualize.robustness import GREY, moved, small_movement
from densevision.apps.visualize.subject import subject_of_trunk
from densevision.errors import UserError

from .test_subject import state_of
from .toys import Toy, picture, toy, untrained

CLASS = Score("class 1", 1)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_alpha_norm_sums_powers():
    x = torch.tensor([[[[2.0, -1.0], [0.0, 3.0]]], [[[0.5, 0.0], [0.0, 0.0]]]])
    assert alpha_norm(x, 6).tolist() == [2**6 + 1 + 3**6, 0.5**6]


def test_total_variation_is_that_of_a_picture_by_hand():
    # Facts 4: the difference is 0 at the last column and row. Right: 3, 0 / -4, 0. Below: -1, -8 / 0, 0.
    x = torch.tensor([[[[1.0, 4.0], [0.0, -4.0]]]])
    assert total_variation(x).item() == 3**2 + 1 + 8**2 + 4**2
    assert total_variation(x, beta=1).item() == pytest.approx(math.sqrt(3**2 + 1) + 8 + 4, rel=1e-4)
    assert total_variation(torch.cat((x, x), 1)).item() == 2 * total_variation(x).item()


def test_total_variation_of_a_flat_picture_has_a_gradient_with_every_beta():
    # Facts 4: the gradient of a power below 1 at 0.
    for beta in (1.0, 1.5, 2.0):
        flat = torch.full((1, 3, 4, 5), 0.5, requires_grad=True)
        total_variation(flat, beta).sum().backward()
        assert flat.grad is not None and torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (8, 5), (1, 3)])
def test_waves_are_scaled_as_lucid_scales_them(size):
    height, width = size
    scale = wave_scale(size)
    assert scale.shape == (height, width // 2 + 1)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    expected = np.sqrt(width * height) / np.maximum(np.hypot(rows, columns), 1 / max(width, height))
    np.testing.assert_allclose(scale.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(12, 10), (11, 9), (6, 13)])
def test_a_canvas_of_waves_is_a_picture_of_its_size_and_every_wave_counts(size):
    canvas = Fourier(2, 3, size, stream())
    made = canvas.picture()
    assert made.shape == (2, 3, *size) and made.min() > 0 and made.max() < 1
    (made * torch.randn(made.shape, generator=stream(1))).sum().backward()
    assert canvas.numbers.grad is not None
    # The real part of every wave moves the picture; so the last column of an odd width too.
    assert (canvas.numbers.grad[..., 0] != 0).all()


def test_one_wave_is_painted_as_by_hand():
    canvas = Fourier(1, 1, (8, 8), stream())
    with torch.no_grad():
        canvas.numbers.zero_()
        canvas.numbers[0, 0, 0, 1, 0] = 1.0
    # One cycle over the width: scale sqrt(64) / (1 / 8) = 64; irfft2 gives 2 * 64 / 64 * cosine; a quarter of that.
    expected = torch.sigmoid(0.5 * torch.cos(2 * math.pi * torch.arange(8) / 8)).expand(8, 8)
    torch.testing.assert_close(canvas.picture()[0, 0], expected)


@pytest.mark.parametrize("size", [(16, 24), (12, 20)])
def test_half_a_canvas_is_the_whole_one_at_every_other_pixel_without_its_short_waves(size):
    canvas = Fourier(1, 3, size, stream())
    with torch.no_grad():
        canvas.numbers[:, :, size[0] // 4 : -(size[0] // 4) + 1] = 0
        canvas.numbers[:, :, :, size[1] // 4 :] = 0
    torch.testing.assert_close(canvas.picture(0.5), canvas.picture()[..., ::2, ::2])
    noisy = Fourier(1, 3, size, stream())
    assert noisy.picture(0.5).shape == (1, 3, size[0] // 2, size[1] // 2)


def test_colours_are_mixed_as_in_photographs():
    # Facts 4: the longest column of the matrix is .462 long.
    assert colour_mixture().norm(dim=0).max() == pytest.approx(1.0)
    assert colour_mixture()[0, 0] == pytest.approx(0.26 / 0.462, abs=1e-3)
    canvas = Fourier(1, 3, (4, 4), stream())
    with torch.no_grad():
        canvas.numbers.zero_()
        canvas.numbers[0, 1, 0, 0, 0] = 1.0
    # The second number is red against blue, and leaves green as it is.
    red, green, blue = canvas.picture()[0, :, 0, 0].tolist()
    assert green == 0.5 and red > 0.5 and red + blue == pytest.approx(1.0)


def test_pixels_start_at_grey_and_stay_in_range():
    canvas = Pixels(2, (0.2, 0.4, 0.6), 3, (6, 5), stream(), spread=0.01)
    assert canvas.picture().mean((0, 2, 3)).tolist() == pytest.approx([0.2, 0.4, 0.6], abs=0.01)
    with torch.no_grad():
        canvas.numbers.add_(5)
    canvas.settle()
    assert canvas.picture().max() == 1


def test_blur_keeps_the_mean_and_smooths():
    x = picture(15, 11)[0]
    assert blurred(torch.full((1, 2, 6, 6), 0.3), 1.0).allclose(torch.tensor(0.3))
    assert total_variation(blurred(x, 1.0)) < total_variation(x) / 4
    spot = torch.zeros(1, 1, 21, 21)
    spot[..., 10, 10] = 1
    bell = torch.exp(-torch.arange(-10, 11).square() / 2.0)
    bell = torch.where(torch.arange(-10, 11).abs() <= 3, bell, torch.zeros(())) / bell[7:14].sum()
    torch.testing.assert_close(blurred(spot, 1.0)[0, 0], bell[:, None] * bell[None])


def test_no_movement_is_none():
    x = picture(9, 14)[0]
    torch.testing.assert_close(moved(x, torch.eye(2, 3)), x)


def test_a_quarter_turn_is_one_in_pixels_and_what_comes_in_is_grey():
    x = picture(5, 9)[0]
    turned = moved(x, torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(turned[..., 2:7], x[..., 2:7].rot90(1, (2, 3)))
    assert (turned[..., :2] == GREY).all()


def test_movements_stay_within_lucids():
    draws = stream()
    movements = torch.stack([small_movement(draws) for _ in range(400)])
    scales = 1 / movements[:, :, :2].det().abs().sqrt()
    angles = torch.atan2(movements[:, 1, 0], movements[:, 0, 0]).rad2deg()
    # Facts 4: jitter 8 and 4 (to either side half of it), scale .90 to 1.10 in steps of .02, -10 to 10 degrees.
    assert 0.9 - 1e-4 <= scales.min() < 0.92 and 1.08 < scales.max() <= 1.1 + 1e-4
    assert angles.min() == pytest.approx(-10, abs=0.1) and angles.max() == pytest.approx(10, abs=0.1)
    assert (movements[:, :, 2].abs() * 112 <= 6).all() and (movements[:, :, 2].abs() * 112 > 4).any()


def test_unnaturalness_is_the_distance_of_means_and_variances_over_all_pictures():
    norm = nn.BatchNorm2d(2).eval()
    assert norm.running_mean is not None
    norm.running_mean.copy_(torch.tensor([1.0, 0.0]))
    maps = torch.randn(3, 2, 4, 5, generator=stream())
    with unnaturalness(norm) as told:
        norm(maps)
        norm(maps)
        found = told()
        assert told().tolist() == 0
    means, variances = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
    once = (means - torch.tensor([1.0, 0.0])).norm() + (variances - 1).norm()
    # The first that is met counts ten times.
    torch.testing.assert_close(found, 11 * once)
    assert not norm._forward_pre_hooks


@pytest.mark.parametrize("canvas", ["fourier", "pixels"])
def test_what_is_painted_excites_more_than_the_start_and_than_noise(canvas):
    subject = toy()
    numbers: list[float] = []
    ascent = Ascent(canvas=canvas, steps=40, rate=0.2, movement=0.5, natural=0)
    made = maximize(subject, CLASS, (24, 21), 2, ascent, lambda step, scores: numbers.append(float(scores.min())))
    assert made.pixels[0].shape == (2, 3, 24, 21) and made.pixels[0].min() >= 0 and made.pixels[0].max() <= 1
    assert len(numbers) == 40 and float(made.scores.min()) > numbers[0] + 0.1
    assert float(made.scores.min()) > float(subject.look(picture(24, 21)).output[0, 1])


def test_two_pictures_painted_together_are_those_painted_from_the_same_noise():
    subject, ascent = toy(), Ascent(canvas="pixels", steps=FIRST_STEPS + 4, movement=0, natural=0)
    both = maximize(subject, CLASS, (12, 10), 2, ascent)
    alone = maximize(subject, CLASS, (12, 10), 1, ascent)
    torch.testing.assert_close(both.pixels[0][:1], alone.pixels[0], atol=1e-4, rtol=0)
    assert not torch.equal(both.pixels[0][0], both.pixels[0][1])


def test_every_picture_may_have_a_probe_of_its_own():
    subject, classes = toy(), (CLASS, Score("class 4", 4))
    ascent = Ascent(steps=FIRST_STEPS + 20, rate=0.2, movement=0)
    made = maximize(subject, Each(classes), (24, 20), 2, ascent)
    answers = subject.look(made.pixels).output
    torch.testing.assert_close(made.scores, answers[[0, 1], [1, 4]])
    assert answers[0, 1] > answers[1, 1] and answers[1, 4] > answers[0, 4]


def test_more_falloff_makes_larger_waves_stronger():
    usual, steep = wave_scale((16, 16)), wave_scale((16, 16), 1.5)
    # The frequencies are 1/16 and 4/16 cycles a pixel: 4^1.5 apart instead of 4.
    assert float(usual[0, 1] / usual[0, 4]) == pytest.approx(4)
    assert float(steep[0, 1] / steep[0, 4]) == pytest.approx(8)


def test_the_same_seed_paints_the_same_and_another_another():
    subject = toy()
    ascent = Ascent(steps=20)
    one, two = (maximize(subject, CLASS, (16, 16), 1, ascent) for _ in range(2))
    assert torch.equal(one.pixels[0], two.pixels[0])
    other = maximize(subject, CLASS, (16, 16), 1, Ascent(steps=20, seed=1))
    assert not torch.equal(one.pixels[0], other.pixels[0])


def test_priors_do_what_they_are_for():
    subject = toy()

    def painted(**options: Any) -> tuple[torch.Tensor, float]:
        ascent = Ascent(canvas="pixels", steps=60, rate=0.02, movement=0, **{"natural": 0.0, **options})
        pixels = maximize(subject, CLASS, (16, 16), 1, ascent).pixels[0]
        with unnaturalness(subject.model) as told, torch.no_grad():
            subject.look((pixels,))
            return pixels, float(told())

    free, far = painted()
    grey = free.new_tensor(subject.grey).view(1, -1, 1, 1)
    assert alpha_norm(painted(norm=0.1)[0] - grey, 2) < alpha_norm(free - grey, 2) / 2
    assert total_variation(painted(variation=0.1)[0]) < total_variation(free) / 2
    assert total_variation(painted(blur=0.7)[0]) < total_variation(free)
    assert painted(natural=4.0)[1] < far


def test_nothing_is_left_on_the_network():
    subject = toy("re-used in place")
    before, weights = state_of(subject.model), [each.clone() for each in subject.model.state_dict().values()]
    maximize(subject, CLASS, (12, 10), 1, Ascent(steps=3))
    with pytest.raises(UserError):
        maximize(subject, Unit("a", 1, 50, 0), (12, 10), 1, Ascent(steps=3))
    assert state_of(subject.model) == before
    assert all(torch.equal(one, other) for one, other in zip(weights, subject.model.state_dict().values(), strict=True))


def with_a_bias(value: float) -> Toy:
    """A toy whose channel a:2 is off by so much."""
    trunk = Toy(norm=False)
    assert trunk.conv1.bias is not None
    with torch.no_grad():
        trunk.conv1.bias[2] = value
    return trunk


def test_a_unit_that_starts_off_is_woken():
    # Facts 4: without help, the mean of a rectified channel has no gradient at all here.
    subject = subject_of_trunk(with_a_bias(-1.0))
    probe = Channel("a", 2)
    assert not subject.look((torch.full((1, 3, 12, 10), 0.45),), ("a",)).levels["a"][:, 2].any()
    made = maximize(subject, probe, (12, 10), 1, Ascent(steps=60, rate=0.2, movement=0))
    assert float(made.scores) > 0.1


def test_a_dead_unit_is_said_to_be_dead_with_its_neighbours():
    subject = subject_of_trunk(with_a_bias(-1e4))
    with pytest.raises(UserError, match=r"No pixel changes a:2 .*: it is dead; active ones nearby: a:[0-9]"):
        maximize(subject, Channel("a", 2), (12, 10), 1, Ascent(steps=5))


def test_both_frames_are_painted_for_a_network_of_two():
    subject = untrained("flow")
    probe = parse_probe("flow-u@10,10,20,20", subject)
    made = maximize(subject, probe, (32, 32), 1, Ascent(steps=4))
    assert [each.shape for each in made.pixels] == [(1, 3, 32, 32)] * 2
    assert not torch.equal(*made.pixels)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"rate": -1.0}, "--rate is -1"),
        ({"natural": float("nan")}, "--natural is nan"),
        ({"alpha": 0.5}, "--alpha 0.5"),
        ({"blur": 1.0}, "add --canvas pixels"),
        ({"coarse": 2.0}, "--coarse is 2"),
        ({"coarse": 0.5, "canvas": "pixels"}, "--coarse is 0.5"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        maximize(toy(), CLASS, (12, 10), 1, Ascent(**options))


def test_the_verb_writes_a_picture_and_its_array(run, tmp_path):
    said = run(
        *("visualize", "maximize", "--network", "classification", "--probe", "class:3", "--out", "three.png"),
        *("--count", "2", "--steps", "6", "--canvas", "fourier", "--seed", "1"),
    )
    assert said.out.splitlines()[-1] == "Wrote three.png and three.npy.", said
    array = np.load(tmp_path / "three.npy")
    assert array.shape == (2, 1, 32, 32) and array.dtype == np.float32
    assert "step 6 of 6: class:3 " in said.out


def test_the_verb_answers_mistakes_in_a_line(run):
    words = ("visualize", "maximize", "--network", "classification", "--out", "three.png", "--probe")
    assert "has the classes 0 to 9, and no 33" in run(*words, "class:33").mistake
    assert "--count 0" in run(*words, "class:3", "--count", "0").mistake
