"""The second look at a person whose box nobody knows, and its protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from densevision.datasets import dataset_class, open_dataset
from densevision.tasks.evaluation import prepare_split, score
from densevision.tasks.inference import Predictor
from densevision.tasks.pose import HumanPose
from densevision.tasks.pose.policies import joints_box

from .toys import FIELDS, SIZE, DotHeatmaps, DotRegressor, FixedJoints, predict

DOTS = np.array([[310.0, 181], [359, 215], [270, 233]])
"""Nose, left and right hand of a person who is small in an image of 256 x 384; the crop has the aspect of `SIZE`."""


def small_person() -> np.ndarray:
    image = np.zeros((256, 384, 3), np.uint8)
    rows, columns = np.mgrid[:256, :384]
    for (x, y), channel in zip(DOTS, (2, 0, 1), strict=True):
        image[..., channel] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 5.0**2))
    return image


def error(**options: Any) -> float:
    prediction = predict(DotHeatmaps(), small_person(), HumanPose(decoding="argmax"), **options)
    assert prediction.box is None and prediction.to_image().shape == (256, 384, 3)
    return float(np.linalg.norm(prediction.joints[:, :2] - DOTS, axis=1).mean())


@pytest.mark.parametrize("flip", [False, True])
def test_second_look_at_a_small_person_is_more_exact(flip):
    # A cell of the first look is 16 pixels of the image, one of the second look about 5.
    assert error(mode="twice", flip=flip) < 0.6 * error(mode="fit", flip=flip)


def test_predictions_without_a_box_look_twice_and_those_with_a_box_once():
    assert error() == error(mode="twice")
    calls = []

    class Counting(DotRegressor):
        def forward(self, image: Tensor) -> Tensor:
            calls.append(image.shape)
            return super().forward(image)

    for box, looks in ((None, 2), ((255, 165, 120, 85), 1)):
        calls.clear()
        prediction = predict(Counting(), small_person(), box=box)
        np.testing.assert_allclose(prediction.joints[:, :2], DOTS, atol=0.5)
        assert len(calls) == looks


def test_predictions_of_a_batch_are_those_of_single_images():
    predictor = Predictor(HumanPose(), DotRegressor(), FIELDS, SIZE)
    images = [small_person(), small_person()[:, 100:], small_person()[60:]]
    together: list[Any] = predictor.predict_batch(images)
    for one, image in zip(together, images, strict=True):
        np.testing.assert_allclose(one.joints, predictor.predict(image).joints, atol=1e-3)  # type: ignore[attr-defined]


def test_box_is_around_the_joints_that_are_drawn():
    joints = np.array([[10.0, 20, 0.5], [40, 90, 0.2], [500, 3, 0.05], [np.nan, 0, 0.9]])
    np.testing.assert_array_equal(joints_box(joints, (100, 200)), [10, 20, 40, 90])
    # Nothing was found: the second look is at the complete image, as the first.
    np.testing.assert_array_equal(joints_box(joints[2:], (100, 200)), [0, 0, 199, 99])


def test_protocol_without_boxes_scores_complete_images(tmp_path):
    dataset_class("lsp").write_example(tmp_path)
    dataset = open_dataset("lsp", tmp_path, "test")
    fields = {name: dataset.fields[name] for name in ("image", "joints")}
    sizes = []

    class Looking(FixedJoints):
        def forward(self, image: Tensor) -> Tensor:
            sizes.append(len(image))
            return self.joints.expand(len(image), -1, -1)

    predictor = Predictor(HumanPose(), Looking(np.full((14, 2), 30.0)), fields, SIZE)
    for protocol, looks in (("pck-torso", 1), ("pck-found", 2)):
        sizes.clear()
        test, _ = prepare_split(predictor, dataset, protocol, None)
        assert score(predictor.task, predictor, test, protocol, 2, batch_size=2).samples == 2
        assert sum(sizes) == 2 * looks
        cropped = dataset.read(0)["image"].shape == test.read(0)["image"].shape
        assert cropped == (protocol == "pck-torso")
