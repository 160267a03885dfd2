from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets.core.augmentation import PCA_VALUES, PCA_VECTORS, pca_color
from densevision.datasets.core.randomness import Purpose, generator
from densevision.tasks.classification import Classification

GRAY = np.full((4, 5, 3), 128, np.uint8)


def shift(index: int, deviation: float = 0.1) -> np.ndarray:
    """Shift of red, green and blue of a gray image in levels of 0..255, (3,)."""
    moved = pca_color(GRAY, generator(0, 0, index, Purpose.PREPARE), deviation).astype(int) - 128
    assert (moved == moved[0, 0]).all()
    return moved[0, 0]


def test_shift_is_two_and_a_half_levels_on_average():
    # trap 24: the literal rule with the covariance of 0..255 shifts by 803 levels, with square roots by 6.7
    shifts = np.array([shift(index) for index in range(1500)])
    assert np.abs(shifts).mean() == pytest.approx(2.5, abs=0.25)
    # facts 2.3: R by 1 sigma of a1 is .0123 = 3.15/255; the other directions are negligible.
    assert shifts[:, 0].std() == pytest.approx(3.15, abs=0.3)
    assert np.abs(shifts.mean(0)).max() < 0.3


def test_most_of_the_shift_is_brightness():
    # The first direction is nearly (1, 1, 1): red, green and blue change together.
    shifts = np.array([shift(index, 1.0) for index in range(500)])
    assert np.corrcoef(shifts.T).min() > 0.95


def test_the_constants_are_a_rotation_in_the_order_of_rgb():
    # facts 2.3: rows R (-.5675 .7192 .4009), G (-.5808 -.0045 -.8140), B (-.5836 -.6948 .4203); trap 25: BGR
    np.testing.assert_allclose(PCA_VECTORS.T @ PCA_VECTORS, np.eye(3), atol=2e-4)
    assert PCA_VECTORS[0].tolist() == [-0.5675, 0.7192, 0.4009]
    assert PCA_VECTORS[2].tolist() == [-0.5836, -0.6948, 0.4203]
    # The trace of the covariance of pixels in [0, 1], .2408: a deviation of .283 for each channel.
    assert PCA_VALUES.sum() == pytest.approx(0.2408) and np.sqrt(PCA_VALUES.sum() / 3) == pytest.approx(0.283, abs=5e-4)


def test_shift_follows_the_formula_of_the_paper():
    drawn = generator(0, 0, 7, Purpose.PREPARE).normal(0, 1.0, 3)
    expected = 255 * sum(PCA_VECTORS[:, axis] * drawn[axis] * PCA_VALUES[axis] for axis in range(3))
    np.testing.assert_allclose(shift(7, 1.0), expected, atol=0.5)


def test_color_shift_is_reproducible():
    assert shift(3).tolist() == shift(3).tolist()
    assert len({tuple(shift(index, 0.5)) for index in range(20)}) > 15


def test_values_are_clipped_not_wrapped():
    black_and_white = np.stack([np.zeros((4, 3), np.uint8), np.full((4, 3), 255, np.uint8)])
    for index in range(20):
        moved = pca_color(black_and_white, generator(0, 0, index, Purpose.PREPARE), 0.5)
        assert moved.dtype == np.uint8 and moved[0].max() < 128 and moved[1].min() > 127


@pytest.mark.parametrize(("strength", "levels"), [(1.0, 2.5), (0.5, 1.25)])
def test_classification_colors_training_images_by_its_strength(strength, levels):
    policy = Classification().augmentation
    moved = [
        policy.augment({"image": GRAY}, generator(0, 0, index, Purpose.PREPARE), strength)["image"].astype(int) - 128
        for index in range(600)
    ]
    assert np.abs(moved).mean() == pytest.approx(levels, abs=0.3)


def test_classification_leaves_evaluation_gray_images_and_strength_0_untouched():
    task, rng = Classification(), generator(0, 0, 0, Purpose.PREPARE)
    for sample, stream, strength in (
        ({"image": GRAY}, None, 1.0),
        ({"image": GRAY}, rng, 0.0),
        ({"image": GRAY[..., :1]}, rng, 1.0),
    ):
        assert task.augmentation.augment(sample, stream, strength) is sample


def test_color_augmentation_does_not_change_the_original_sample():
    sample = {"image": GRAY.copy(), "category": np.array(2)}
    moved = Classification().augmentation.augment(sample, generator(0, 0, 1, Purpose.PREPARE), 1.0)
    np.testing.assert_array_equal(sample["image"], GRAY)
    assert moved["category"] == 2 and not np.array_equal(moved["image"], GRAY)
