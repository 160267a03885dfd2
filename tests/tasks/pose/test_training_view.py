"""What training sees of a sample: the geometry, the patches, the colours."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets.augmentation import Augmentation
from densevision.datasets.figures import Figures
from densevision.datasets.randomness import Purpose, generator
from densevision.tasks.pose import HumanPose, patched
from densevision.tasks.training.stream import TrainingView

from .toys import FIELDS, SIZE


def test_the_whole_person_stays_in_view_and_the_rest_is_drawn_as_the_run_says():
    usual = Augmentation(flip=0.25, rotate=30, zoom=1.3)
    for task, framing in ((HumanPose(), "fit"), (HumanPose(stretch=True), "stretch")):
        may = task.augmentation(usual, FIELDS, (80, 120))
        assert (may.framing, may.flip, may.rotate, may.zoom) == (framing, 0.25, 30, 1.3)
        # Without a zoom and a turn no joint leaves the picture, wherever in the window it lies.
        for index in range(8):
            world = Figures(size=(70, 40))
            seen = TrainingView(world, task, SIZE, Augmentation(flip=0.5), 0.0, 0).sample((0, index))
            assert (seen["joints"][:, 2] > 0).sum() == (world.read(index)["joints"][:, 2] > 0).sum()


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture of which no pixel is grey."""
    picture = np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)
    picture[..., 0] = picture[..., 1] + 40
    return picture


def test_patches_are_grey_hide_a_part_and_move_no_joint():
    sample = {"image": noise(), "joints": np.array([[3, 4, 2], [8, 9, 1], [0, 0, 0]], np.float32)}
    before, shares = sample["image"].copy(), []
    for index in range(40):
        made = HumanPose(patches=1.0).prepare(sample, generator(0, 0, index, Purpose.PREPARE), 0.0)
        assert made["joints"] is sample["joints"]
        hidden = (made["image"] != before).any(-1)
        assert np.ptp(made["image"][hidden].astype(int), axis=-1).max() == 0
        shares.append(hidden.mean())
    np.testing.assert_array_equal(sample["image"], before)
    # One or two, each of a tenth to a third of both sides.
    assert min(shares) > 0.008 and 0.05 < np.mean(shares) < 0.12 and max(shares) < 2 * 0.34**2


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (3, 3)])
def test_a_patch_on_a_tiny_picture_is_a_pixel_at_least_and_within_it(size):
    picture = noise(*size)
    assert all((patched(picture, np.random.default_rng(seed)) != picture).any() for seed in range(5))


@pytest.mark.parametrize(("patches", "least", "most"), [(0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)])
def test_so_many_pictures_have_patches(patches, least, most):
    # 200 draws at 0.3 are 60, standard deviation 6.5.
    sample, task = {"image": noise(8, 8)}, HumanPose(patches=patches)
    drawn = (task.prepare(sample, generator(0, 0, index, Purpose.PREPARE), 0.0)["image"] for index in range(200))
    assert least <= sum(not np.array_equal(image, sample["image"]) for image in drawn) <= most


def test_colours_change_as_the_run_says_and_nothing_in_evaluation():
    sample = {"image": noise(), "joints": np.zeros((3, 3), np.float32)}
    task = HumanPose(patches=0)
    coloured = task.prepare(sample, generator(0, 0, 0, Purpose.PREPARE), 1.0)
    assert not np.array_equal(coloured["image"], sample["image"]) and coloured["joints"] is sample["joints"]
    still = HumanPose(patches=1).prepare(sample, None, 1.0)
    assert all(still[name] is value for name, value in sample.items())
