"""Augmentation: geometry, random erasing and color jitter."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.synthetic import SyntheticFigures
from densevision.tasks.pose import HumanPose
from densevision.tasks.pose.policies import erase_patches
from densevision.tasks.training.data import AugmentedDataset

from .toys import FIELDS, SIZE


def test_augmentation_keeps_the_complete_person_in_view():
    options = Augmentation(hflip=0.25, max_rotation=30, max_zoom=1.3)
    for task, framing in ((HumanPose(), "fit"), (HumanPose(keep_aspect=False), "stretch")):
        result = task.augmentation.limits(options, FIELDS, (80, 120))
        assert (result.framing, result.hflip, result.max_rotation, result.max_zoom) == (framing, 0.25, 30, 1.3)
        # Without zoom and rotation no joint leaves the image.
        for index in range(8):
            dataset = SyntheticFigures(size=(70, 40))
            augmented = AugmentedDataset(dataset, task, SIZE, Augmentation(hflip=0.5), 0.0, 0).sample((0, index))
            assert (augmented["joints"][:, 2] > 0).sum() == (dataset.read(index)["joints"][:, 2] > 0).sum()


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    """A random image without gray pixels."""
    image = np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)
    image[..., 0] = image[..., 1] + 40
    return image


def test_random_erasing_draws_gray_patches_and_keeps_joints():
    sample = {"image": noise(), "joints": np.array([[3, 4, 2], [8, 9, 1], [0, 0, 0]], np.float32)}
    before, fractions = sample["image"].copy(), []
    for index in range(40):
        erased = HumanPose(random_erase=1.0).augmentation.augment(sample, generator(0, 0, index, Purpose.PREPARE), 0.0)
        assert erased["joints"] is sample["joints"]
        hidden = (erased["image"] != before).any(-1)
        assert np.ptp(erased["image"][hidden].astype(int), axis=-1).max() == 0
        fractions.append(hidden.mean())
    np.testing.assert_array_equal(sample["image"], before)
    # One or two, each of 0.1 to 0.33 times the height and width.
    assert min(fractions) > 0.008 and 0.05 < np.mean(fractions) < 0.12 and max(fractions) < 2 * 0.34**2


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (3, 3)])
def test_patch_on_a_tiny_image_has_at_least_one_pixel(size):
    image = noise(*size)
    assert all((erase_patches(image, np.random.default_rng(seed)) != image).any() for seed in range(5))


@pytest.mark.parametrize(("probability", "minimum", "maximum"), [(0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)])
def test_random_erase_is_the_probability_of_patches(probability, minimum, maximum):
    # 200 draws at 0.3 are 60, standard deviation 6.5.
    sample, task = {"image": noise(8, 8)}, HumanPose(random_erase=probability)
    images = (
        task.augmentation.augment(sample, generator(0, 0, index, Purpose.PREPARE), 0.0)["image"] for index in range(200)
    )
    assert minimum <= sum(not np.array_equal(image, sample["image"]) for image in images) <= maximum


def test_color_jitter_changes_colors_in_training_only():
    sample = {"image": noise(), "joints": np.zeros((3, 3), np.float32)}
    task = HumanPose(random_erase=0)
    colored = task.augmentation.augment(sample, generator(0, 0, 0, Purpose.PREPARE), 1.0)
    assert not np.array_equal(colored["image"], sample["image"]) and colored["joints"] is sample["joints"]
    evaluated = HumanPose(random_erase=1).augmentation.augment(sample, None, 1.0)
    assert all(evaluated[name] is value for name, value in sample.items())
