"""Decoding of network outputs into pixels of the original image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.geometry import Size
from densevision.errors import UserError
from densevision.tasks.inference import Predictor
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.pose import HumanPose, heatmaps
from densevision.tasks.pose.heatmaps import DECODINGS, decode, encode, pixels_to_cells
from densevision.tasks.prediction import PredictionContext

from .toys import FIELDS, SIZE, FixedJoints, predict


def random_points(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).uniform(-0.5, np.array([width, height]) - 0.5, (3, 2))


def to_input(points: np.ndarray, source: Size, keep_aspect: bool) -> np.ndarray:
    """Points of the source in pixels of the network's input: resized, and centered if the aspect is kept."""
    x_scale, y_scale = SIZE[1] / source[1], SIZE[0] / source[0]
    if keep_aspect:
        x_scale = y_scale = min(x_scale, y_scale)
    border = (SIZE[1] - x_scale * source[1]) / 2, (SIZE[0] - y_scale * source[0]) / 2
    return (points + 0.5) * (x_scale, y_scale) - 0.5 + border


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("source", [(64, 96), (121, 83), (37, 53), (5, 400), (400, 5), (1, 1), (300, 200)])
def test_joints_are_in_pixels_of_an_image_of_any_size(source, keep_aspect):
    points = random_points(*source)
    network = FixedJoints(to_input(points, source, keep_aspect))
    prediction = predict(network, np.zeros((*source, 3), np.uint8), HumanPose(keep_aspect), mode="fit")
    np.testing.assert_allclose(prediction.joints[:, :2], points, atol=1e-4)
    np.testing.assert_allclose(prediction.joints[:, 2], [0.2, 0.5, 0.8])
    assert prediction.joints.dtype == np.float32 and prediction.box is None
    assert prediction.image is not None and prediction.image.shape == (*source, 3)


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_joints_of_a_box_are_in_pixels_of_the_complete_image(keep_aspect):
    # A margin of 80 / 8 in each direction: see `test_crop_has_a_margin_of_an_eighth_of_the_longer_edge`.
    points = random_points(100, 60)
    network, image = FixedJoints(to_input(points, (100, 60), keep_aspect)), np.zeros((150, 200, 3), np.uint8)
    prediction = predict(network, image, HumanPose(keep_aspect), box=(30, 20, 40, 80))
    np.testing.assert_allclose(prediction.joints[:, :2], points + np.array([20, 10]), atol=1e-4)
    assert prediction.box == (20, 10, 60, 100) and prediction.to_image().shape == (100, 60, 3)
    assert "in the box 20,10,60,100" in prediction.summary()


def test_summary_names_a_box_in_the_corner():
    prediction = predict(FixedJoints(np.zeros((3, 2))), np.zeros((150, 200, 3), np.uint8), box=(0, 0, 40, 80))
    assert prediction.box == (0, 0, 50, 90) and "in the box 0,0,50,90" in prediction.summary()
    assert "in the whole image" in predict(FixedJoints(np.zeros((3, 2))), np.zeros((150, 200, 3), np.uint8)).summary()


@pytest.mark.parametrize("decoding", DECODINGS)
def test_joint_is_at_the_peak_of_its_heat_map(decoding):
    # Centers of cells, which every decoding finds; an input at half the size, shifted right by one column.
    points = torch.tensor([[[21.5, 33.5], [45.5, 61.5], [0.0, 0.0]]])
    maps, _ = encode(pixels_to_cells(points), torch.tensor([[True, True, False]]), (25, 21))
    matrix = np.array([[0.5, 0, 1], [0, 0.5, 0], [0, 0, 1]])
    context = PredictionContext({"image": np.zeros((194, 166, 3), np.uint8)}, FIELDS, (194, 166), matrix)
    prediction: Any = HumanPose(decoding=decoding).decode(maps, context)
    # DARK's parabola is exact except for the truncation of the blur.
    np.testing.assert_allclose(prediction.joints[:2], [[41, 67, 1], [89, 123, 1]], atol=0.02)
    # An empty map gives the input's pixel (0, 0) in the original image, with confidence 0.
    np.testing.assert_allclose(prediction.joints[2], [-2, 0, 0])


def test_joint_of_an_empty_heat_map_is_neither_drawn_nor_counted():
    class EmptyHeatmaps(FixedJoints):
        output_type = "heatmaps"

        def forward(self, image: Tensor) -> Tensor:
            maps = torch.full((1, 3, 16, 24), -0.1)
            maps[:, 1] = 0.0
            return maps

    calls: tuple[dict[str, Any], ...] = ({}, {"flip": True}, {"box": (30, 20, 40, 80)})
    for options in calls:
        prediction = predict(EmptyHeatmaps(np.zeros((3, 2))), np.full((121, 83, 3), 90, np.uint8), **options)
        assert (
            np.isfinite(prediction.joints).all()
            and (prediction.joints[:, 2] == 0).all()
            and (prediction.flags == 0).all()
        )
        assert (
            "0 of 3 joints confident, mean confidence 0.00" in prediction.summary()
            and (prediction.to_image() == 90).all()
        )
        assert prediction.as_json()["num_keypoints"] == 0


def test_heat_maps_are_decoded_with_the_sigma_of_the_task():
    # DARK's blur is exact for Gaussians of its own width.
    points = torch.tensor([[[40.2, 30.9]] * 3])
    maps, _ = encode(pixels_to_cells(points), torch.ones(1, 3, dtype=torch.bool), (16, 24), sigma=1.0)
    context = PredictionContext({"image": np.zeros((*SIZE, 3), np.uint8)}, FIELDS, SIZE, np.eye(3))
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatmaps, "decode", lambda maps, *options: calls.append(options) or decode(maps, *options))
        prediction: Any = HumanPose(sigma=1.0, decoding="dark").decode(maps, context)
    assert calls == [("dark", 1.0)]
    np.testing.assert_allclose(prediction.joints[:, :2], points[0], atol=0.4)


def test_half_precision_output_is_decoded_in_full_precision():
    output = torch.tensor([[[1.5, 2.25, 1.0]] * 3], dtype=torch.bfloat16)
    context = PredictionContext({"image": np.zeros((*SIZE, 3), np.uint8)}, FIELDS, SIZE, np.diag([0.5, 0.5, 1]))
    prediction: Any = HumanPose().decode(output, context)
    np.testing.assert_array_equal(prediction.joints, [[3, 4.5, 1]] * 3)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        # Top, left, height and width, by hand.
        ((100, 50, 40, 80), (40, 90, 100, 60)),
        ((100, 50, 80, 40), (40, 90, 60, 100)),
        ((0, 0, 40, 80), (0, 0, 90, 50)),
        ((-30, -30, 80, 80), (0, 0, 60, 60)),
        ((280, 350, 80, 80), (340, 270, 60, 30)),
        ((-10, -10, 1000, 1000), (0, 0, 400, 300)),
        # At least sixteen pixels.
        ((100, 100, 2, 2), (93, 93, 16, 16)),
    ],
)
def test_crop_has_a_margin_of_an_eighth_of_the_longer_edge(box, expected):
    assert HumanPose().inference.crop_for_box(box, (400, 300)) == expected


@pytest.mark.parametrize("box", [(300, 0, 10, 10), (0, -20, 10, 20), (5, 5, 0, 10), (5, 5, -3, 10)])
def test_box_outside_the_image_or_without_extent_is_a_user_error(box):
    with pytest.raises(UserError, match="image, which is 300 wide and 400 high"):
        predict(FixedJoints(np.zeros((3, 2))), np.zeros((400, 300, 3), np.uint8), box=box)


def test_crop_of_a_box_is_the_image_of_the_training_sample(tmp_path):
    dataset_class("coco-people").write_example(tmp_path)
    people = open_dataset("coco-people", tmp_path, "val")
    images = sorted((tmp_path / "val2017").iterdir())
    for index in range(4):
        # Two people per image, x, y, width and height as its file states them.
        box = ((8, 8, 56, 72), (80, 8, 56, 72))[index % 2]
        predictor = Predictor(HumanPose(), FixedJoints(np.zeros((3, 2))), FIELDS, SIZE)
        prediction: Any = predictor.predict(images[index // 2], box=box)
        np.testing.assert_array_equal(prediction.image, people.read(index)["image"])


@pytest.mark.parametrize("head", HumanPose.heads)
def test_images_of_any_size_and_number_of_channels(head):
    torch.manual_seed(0)
    model: Any = ModelSpec(HumanPose(), FIELDS, "resnet20_cifar", {}, head).build()
    for size in ((1, 1), (5, 400), (400, 5), (33, 47), (64, 96, 1), (64, 96, 4)):
        for box in (None, (0, 0, 3, 3)):
            prediction = predict(
                model, np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8), box=box, flip=True
            )
            assert np.isfinite(prediction.joints).all() and prediction.joints.shape == (3, 3)
            assert prediction.to_image().ndim == 3
