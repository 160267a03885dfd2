"""Dirt, rain and what cameras do: drawn from a generator alone, true to their equations, and of the stated strength."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.weather import Weather
from densevision.datasets.worlds.camera import (
    HOLES,
    NOISE,
    blur,
    encoded,
    holes,
    linear_light,
    low_resolution,
    noise,
    shake,
)
from densevision.datasets.worlds.shapes import draw_shape
from densevision.datasets.worlds.weather import (
    DEGRADATIONS,
    GAIN,
    compose_dirt,
    degrade,
    dirt_matte,
    drops,
    rain,
    screen,
)


def rng(*words: int) -> np.random.Generator:
    return np.random.default_rng((17, *words))


@pytest.fixture(scope="module")
def pictures():
    return [draw_shape(rng(index), 72, 96).image for index in range(8)]


def flat(value: float, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    return np.full((*size, 3), value, np.float32)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("size", [(64, 64), (33, 97), (7, 300), (1, 1)])
def test_every_degradation_takes_any_size_and_repeats_itself_from_the_same_stream(name, size):
    picture = np.ascontiguousarray(np.broadcast_to(rng(1).integers(0, 256, (*size, 3)), (*size, 3))).astype(np.uint8)
    kept = picture.copy()
    first, again = (degrade(picture, rng(2), [name]) for _ in range(2))
    assert first.shape == picture.shape and first.dtype == np.uint8
    assert np.array_equal(first, again) and np.array_equal(picture, kept)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_every_degradation_changes_every_picture_and_leaves_it_recognisable(name, pictures):
    errors = []
    for index, picture in enumerate(pictures):
        dirty = degrade(picture, rng(index), [name])
        assert not np.array_equal(dirty, picture)
        errors.append(np.mean((dirty.astype(float) - picture) ** 2))
    psnr = 10 * np.log10(255**2 / np.mean(errors))
    assert 12 < psnr < 36


def test_dirt_is_the_equation_of_the_paper_with_the_gain_on_the_dirt_alone():
    clean, layer = rng(1).random((5, 4, 3)), rng(2).random((5, 4, 3))
    alpha, gain = rng(3).random((5, 4)), np.array((1.1, 0.5, 0.2))
    dirty = compose_dirt(clean, alpha, layer, gain)
    for row in range(5):
        for column in range(4):
            for colour in range(3):
                a = alpha[row, column]
                # Facts 3.4: I' = p alpha D + (1 - alpha) I; alpha is not multiplied by p in the second term.
                expected = gain[colour] * a * layer[row, column, colour] + (1 - a) * clean[row, column, colour]
                assert dirty[row, column, colour] == pytest.approx(expected, abs=1e-6)


def test_dirt_without_any_opacity_leaves_the_picture_as_it_was():
    clean = rng(1).random((6, 6, 3)).astype(np.float32)
    assert np.array_equal(compose_dirt(clean, np.zeros((6, 6)), flat(1, (6, 6)), np.ones(3)), clean)


def test_every_dirty_window_holds_back_light_somewhere_and_lets_most_of_it_through():
    for index in range(40):
        alpha, layer = dirt_matte(rng(index), 64, 64)
        assert alpha.min() >= 0 and alpha.max() <= 1
        # Facts 3.4: patches count where some pixel has alpha > 0.03.
        assert alpha.max() > 0.03 and alpha.mean() < 0.5
        assert layer.min() >= 0 and layer.max() <= 1
    assert GAIN == (0.9, 1.1)


def test_no_two_streams_share_a_matte():
    mattes = [dirt_matte(rng(index), 64, 64)[0] for index in range(30)]
    for first in range(30):
        for second in range(first):
            assert np.abs(mattes[first] - mattes[second]).max() > 0.1


def test_rain_only_adds_light_and_falls_within_45_degrees_of_the_vertical():
    # Facts 3.8: 45-135 degrees.
    for index in range(6):
        streaks = rain(flat(0.1), rng(index))[..., 0]
        assert streaks.min() >= 0.1 - 1e-6 and streaks.max() > 0.2
        across = np.abs(np.diff(streaks, axis=1)).mean()
        down = np.abs(np.diff(streaks, axis=0)).mean()
        assert across > 1.2 * down


def test_a_screen_of_black_is_nothing_and_of_white_is_white():
    picture = rng(1).random((4, 4, 3))
    assert np.allclose(screen(picture, np.zeros(3)), picture)
    assert np.allclose(screen(picture, np.ones(3)), 1)


def test_a_drop_shows_the_scene_upside_down():
    # Bright above, dark below: inside drops it is the other way round, outside nothing changes.
    picture = flat(0.2, (120, 120))
    picture[:60] = 0.7
    wet = drops(picture, rng(4))
    changed = np.abs(wet - picture).max(-1) > 0.2
    assert 0.005 < changed.mean() < 0.4
    assert (wet[:60][changed[:60]] < 0.5).mean() > 0.3
    near = cv2.dilate(changed.astype(np.uint8), np.ones((25, 25))) > 0
    assert np.array_equal(wet[~near], picture[~near])


def test_noise_has_the_stated_deviation_and_no_neighbours():
    deviations = []
    for index in range(40):
        grain = noise(flat(0.5), rng(index)) - 0.5
        deviations.append(grain.std())
        assert abs(grain.mean()) < 4 * grain.std() / np.sqrt(grain.size)
        assert abs(np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1]) < 0.02
    assert NOISE[0] * 0.98 < min(deviations) and max(deviations) < NOISE[1] * 1.02
    assert max(deviations) > 4 * min(deviations)


def test_light_is_added_up_linearly_and_coded_back():
    # Facts 3.8: decode c <= .04045: c / 12.92, else ((c + .055) / 1.055)^2.4.
    assert linear_light(np.array([0.04, 0.5]))[0] == pytest.approx(0.04 / 12.92, rel=1e-6)
    assert linear_light(np.array([0.5]))[0] == pytest.approx((0.555 / 1.055) ** 2.4, rel=1e-5)
    values = np.linspace(0, 1, 256)
    assert np.allclose(encoded(linear_light(values)), values, atol=1e-4)
    # A bright point on black keeps its light: the encoded values' mean grows, the linear ones' does not.
    picture = flat(0, (65, 65))
    picture[32, 32] = 1
    smeared = blur(picture, rng(3))
    assert linear_light(smeared).sum() == pytest.approx(3, rel=1e-3)
    assert smeared.sum() > 4


def test_a_shake_keeps_the_light_and_the_place():
    for index in range(20):
        kernel = shake(rng(index))
        assert kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
        middle = (kernel.shape[0] - 1) / 2
        rows, columns = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
        # The centre of mass stays, else the network would have to shift the picture back.
        assert (kernel * rows).sum() == pytest.approx(middle, abs=1e-3)
        assert (kernel * columns).sum() == pytest.approx(middle, abs=1e-3)


def test_holes_lose_the_stated_share_and_nothing_else():
    for index in range(20):
        picture = rng(index).uniform(0.1, 0.4, (96, 128, 3)).astype(np.float32)
        torn = holes(picture, rng(index))
        gone = (torn != picture).any(-1)
        assert HOLES[0] <= gone.mean() < HOLES[1] + 0.06
        assert len(np.unique(torn[gone])) == 1


def test_low_resolution_keeps_what_is_flat_and_loses_a_checkerboard():
    assert np.allclose(low_resolution(flat(0.6), rng(1)), round(0.6 * 255) / 255)
    board = np.indices((96, 96)).sum(0)[..., None] % 2 * np.ones(3, np.float32)
    assert low_resolution(board.astype(np.float32), rng(1))[16:-16, 16:-16].std() < 0.05


def test_one_or_two_of_the_named_degradations_meet_a_picture():
    grey = np.full((16, 16, 3), 128, np.uint8)
    # A smaller grey is the same grey. One of two by chance, or both with probability 1/2: three in four are noisy.
    names = ["noise", "low-resolution"]
    grainy = sum(bool((degrade(grey, rng(index), names) != grey).any()) for index in range(2000))
    assert 1420 < grainy < 1580


def test_the_world_is_half_shapes_and_half_rooms_and_clean():
    check_dataset(Weather)
    world = open_dataset("weather", split="test").at((48, 64))
    assert list(world.fields) == ["image"]
    shapes = 0
    for index in range(60):
        drawn = world.read(index)["image"]
        stream = np.random.default_rng((0, 0, index, 6))
        # The choice is the stream's first number.
        if stream.random() < 0.5:
            shapes += np.array_equal(drawn, draw_shape(stream, 48, 64).image)
    assert 20 < shapes < 40
