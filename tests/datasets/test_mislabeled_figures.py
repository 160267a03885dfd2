"""Synthetic figures with a fifth of the training labels wrong."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.synthetic import MISLABELED

SIZE = (64, 64)


def moved(split: str, count: int) -> np.ndarray:
    """Joints at other positions than in the same images of `synthetic-figures`."""
    wrong, right = (
        open_dataset(name, None, split).with_size(SIZE)
        for name in ("synthetic-mislabeled-figures", "synthetic-figures")
    )
    pairs = [(wrong.read(index), right.read(index)) for index in range(count)]
    assert all((one["image"] == other["image"]).all() for one, other in pairs)
    return np.concatenate([np.any(one["joints"][:, :2] != other["joints"][:, :2], 1) for one, other in pairs])


def test_a_fifth_of_the_training_joints_is_mislabeled():
    # 80 figures of 14 joints: the share's standard deviation is 0.012.
    assert moved("train", 80).mean() == pytest.approx(MISLABELED, abs=0.05)


def test_test_figures_have_correct_joints():
    assert not moved("test", 8).any()


def test_mislabeled_joint_is_in_the_image_and_keeps_its_flag():
    wrong, right = (
        open_dataset(name).with_size(SIZE).read(3)["joints"]
        for name in ("synthetic-mislabeled-figures", "synthetic-figures")
    )
    elsewhere = wrong[np.any(wrong != right, 1)]
    assert len(elsewhere) and (elsewhere[:, :2] >= 0).all() and (elsewhere[:, :2] <= 63).all()
    assert (wrong[:, 2] == right[:, 2]).all()
