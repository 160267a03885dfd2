"""Dirt, rain and what cameras do: drawn from a generator alone, true to their equations, and of the stated strength."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.rendering.camera import (
    HOLES,
    NOISE,
    blur,
    defocus,
    encoded,
    linear_light,
    low_resolution,
    masks,
    noise,
    shake,
    shot_noise,
)
from densevision.datasets.rendering.shapes import draw_shape
from densevision.datasets.rendering.weather import (
    DEGRADATIONS,
    GAIN,
    NONE,
    compose_dirt,
    degrade,
    dirt_matte,
    drops,
    rain,
    screen,
)
from densevision.datasets.synthetic import SyntheticWeather


def rng(*words: int) -> np.random.Generator:
    return np.random.default_rng((17, *words))


@pytest.fixture(scope="module")
def images():
    return [draw_shape(rng(index), 72, 96).image for index in range(8)]


def flat(value: float, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    return np.full((*size, 3), value, np.float32)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("size", [(64, 64), (33, 97), (7, 300), (1, 1)])
def test_every_degradation_accepts_any_size_and_is_reproducible(name, size):
    image = np.ascontiguousarray(np.broadcast_to(rng(1).integers(0, 256, (*size, 3)), (*size, 3))).astype(np.uint8)
    expected_values = image.copy()
    first, again = (degrade(image, rng(2), [name]) for _ in range(2))
    assert first.shape == image.shape and first.dtype == np.uint8
    assert np.array_equal(first, again) and np.array_equal(image, expected_values)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_every_degradation_changes_every_image_and_leaves_it_recognizable(name, images):
    errors = []
    for index, image in enumerate(images):
        dirty = degrade(image, rng(index), [name])
        assert not np.array_equal(dirty, image)
        errors.append(np.mean((dirty.astype(float) - image) ** 2))
    psnr = 10 * np.log10(255**2 / np.mean(errors))
    assert 12 < psnr < 36


def test_dirt_follows_the_equation_of_the_paper():
    clean, layer = rng(1).random((5, 4, 3)), rng(2).random((5, 4, 3))
    alpha, gain = rng(3).random((5, 4)), np.array((1.1, 0.5, 0.2))
    dirty = compose_dirt(clean, alpha, layer, gain)
    for row in range(5):
        for column in range(4):
            for color in range(3):
                a = alpha[row, column]
                # Facts 3.4: I' = p alpha D + (1 - alpha) I; alpha is not multiplied by p in the second term.
                expected = gain[color] * a * layer[row, column, color] + (1 - a) * clean[row, column, color]
                assert dirty[row, column, color] == pytest.approx(expected, abs=1e-6)


def test_dirt_with_zero_opacity_does_not_change_the_image():
    clean = rng(1).random((6, 6, 3)).astype(np.float32)
    assert np.array_equal(compose_dirt(clean, np.zeros((6, 6)), flat(1, (6, 6)), np.ones(3)), clean)


def test_dirt_attenuates_light_somewhere_and_transmits_most_of_it():
    for index in range(40):
        alpha, layer = dirt_matte(rng(index), 64, 64)
        assert alpha.min() >= 0 and alpha.max() <= 1
        # Facts 3.4: patches count where some pixel has alpha > 0.03.
        assert alpha.max() > 0.03 and alpha.mean() < 0.5
        assert layer.min() >= 0 and layer.max() <= 1
    assert GAIN == (0.9, 1.1)


def test_mattes_differ_between_seeds():
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


def test_screen_blend_of_black_and_white():
    image = rng(1).random((4, 4, 3))
    assert np.allclose(screen(image, np.zeros(3)), image)
    assert np.allclose(screen(image, np.ones(3)), 1)


def test_a_drop_shows_the_scene_upside_down():
    # Bright above, dark below: inside drops it is the other way round, outside nothing changes.
    image = flat(0.2, (120, 120))
    image[:60] = 0.7
    wet = drops(image, rng(4))
    changed = np.abs(wet - image).max(-1) > 0.2
    assert 0.005 < changed.mean() < 0.4
    assert (wet[:60][changed[:60]] < 0.5).mean() > 0.3
    near = cv2.dilate(changed.astype(np.uint8), np.ones((25, 25))) > 0
    assert np.array_equal(wet[~near], image[~near])


def test_noise_has_the_stated_deviation_and_is_uncorrelated():
    deviations = []
    for index in range(40):
        grain = noise(flat(0.5), rng(index)) - 0.5
        deviations.append(grain.std())
        assert abs(grain.mean()) < 4 * grain.std() / np.sqrt(grain.size)
        assert abs(np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1]) < 0.02
    assert NOISE[0] * 0.98 < min(deviations) and max(deviations) < NOISE[1] * 1.02
    assert max(deviations) > 4 * min(deviations)


def test_blur_averages_linear_light():
    # Facts 3.8: decode c <= .04045: c / 12.92, else ((c + .055) / 1.055)^2.4.
    assert linear_light(np.array([0.04, 0.5]))[0] == pytest.approx(0.04 / 12.92, rel=1e-6)
    assert linear_light(np.array([0.5]))[0] == pytest.approx((0.555 / 1.055) ** 2.4, rel=1e-5)
    values = np.linspace(0, 1, 256)
    assert np.allclose(encoded(linear_light(values)), values, atol=1e-4)
    # A bright point on black keeps its light: the encoded values' mean grows, the linear ones' does not.
    image = flat(0, (65, 65))
    image[32, 32] = 1
    smeared = blur(image, rng(3))
    assert linear_light(smeared).sum() == pytest.approx(3, rel=1e-3)
    assert smeared.sum() > 4


def test_blur_preserves_brightness_and_position():
    for index in range(20):
        kernel = shake(rng(index))
        assert kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
        middle = (kernel.shape[0] - 1) / 2
        rows, columns = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
        # The center of mass stays, else the network would have to shift the image back.
        assert (kernel * rows).sum() == pytest.approx(middle, abs=1e-3)
        assert (kernel * columns).sum() == pytest.approx(middle, abs=1e-3)


def test_masks_cover_the_stated_share_and_change_nothing_else():
    for index in range(20):
        image = rng(index).uniform(0.1, 0.4, (96, 128, 3)).astype(np.float32)
        torn = masks(image, rng(index))
        gone = (torn != image).any(-1)
        assert HOLES[0] <= gone.mean() < HOLES[1] + 0.06
        assert len(np.unique(torn[gone])) == 1


def test_low_resolution_preserves_flat_areas_and_removes_a_checkerboard():
    assert np.allclose(low_resolution(flat(0.6), rng(1)), round(0.6 * 255) / 255)
    board = np.indices((96, 96)).sum(0)[..., None] % 2 * np.ones(3, np.float32)
    assert low_resolution(board.astype(np.float32), rng(1))[16:-16, 16:-16].std() < 0.05


def test_defocus_is_a_gaussian_of_light_that_keeps_its_sum():
    point = flat(0, (41, 41))
    point[20, 20] = 1
    for index in range(5):
        light = linear_light(defocus(point, rng(index)))[..., 0]
        assert light.sum() == pytest.approx(1, abs=1e-2)
        middle, beside, below = light[20, 20], light[20, 21], light[21, 20]
        assert middle > beside == pytest.approx(below, rel=1e-3)
        # Samples of a Gaussian are 1, q, q⁴ times its peak.
        assert light[20, 22] / middle == pytest.approx((beside / middle) ** 4, rel=0.02)


def test_shot_noise_has_the_variance_of_its_photons():
    # Poisson: the variance of the light is its mean / photons, so that their ratio is the same in every gray.
    for index in range(5):
        lights = [linear_light(shot_noise(flat(value), rng(index))) for value in (0.3, 0.5)]
        photons = [light.mean() / light.var() for light in lights]
        assert photons[0] == pytest.approx(photons[1], rel=0.1)
        # Noise keeps the mean of the light, not that of encoded values.
        assert lights[1].mean() == pytest.approx(linear_light(np.array(0.5)), rel=0.02)
        assert 19 < photons[0] < 550


def test_none_leaves_the_image_and_is_chosen_like_any_other(images):
    assert np.array_equal(degrade(images[0], rng(1), [NONE]), images[0])
    gray = np.full((16, 16, 3), 128, np.uint8)
    noisy = np.mean([(degrade(gray, rng(index), ["noise", NONE]) != gray).any() for index in range(1000)])
    # One of two by chance, or both with probability 1/2: 1/2 · 1/2 + 1/2 · 1.
    assert noisy == pytest.approx(3 / 4, abs=0.05)


def test_one_or_two_of_the_named_degradations_are_applied():
    gray = np.full((16, 16, 3), 128, np.uint8)
    # A smaller gray is the same gray. One of two by chance, or both with probability 1/2: three in four are noisy.
    names = ["noise", "low-resolution"]
    grainy = sum(bool((degrade(gray, rng(index), names) != gray).any()) for index in range(2000))
    assert 1420 < grainy < 1580


def test_synthetic_weather_is_half_shapes_and_half_rooms_and_clean():
    check_dataset(SyntheticWeather)
    dataset = open_dataset("synthetic-weather", split="test").with_size((48, 64))
    assert list(dataset.fields) == ["image"]
    shapes = 0
    for index in range(60):
        drawn = dataset.read(index)["image"]
        stream = np.random.default_rng((0, 0, index, 6))
        # The choice is the stream's first number.
        if stream.random() < 0.5:
            shapes += np.array_equal(drawn, draw_shape(stream, 48, 64).image)
    assert 20 < shapes < 40
