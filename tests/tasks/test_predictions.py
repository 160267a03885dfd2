"""`repr` and notebook display of predictions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from densevision.datasets.field_types import SegmentationMask, Skeleton
from densevision.tasks.classification.metrics import ClassScores
from densevision.tasks.colorization.colorized_image import ColorizedImage
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.pose.pose_prediction import PosePrediction
from densevision.tasks.prediction import Prediction
from densevision.tasks.restoration.metrics import RestoredImage
from densevision.tasks.translation.predictions import LabelMap, TranslatedImage

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
DEPTH = np.array([[0.82, np.nan], [6.41, 2.0], [3.0, 4.0]], np.float32)
CLASSES = SegmentationMask(("sky", "road", "car"), 255)
JOINTS = np.array([[1.0, 2.0, 0.25], [3.0, 1.0, 0.9]], np.float32)

PREDICTIONS = [
    (DepthMap(DEPTH), "DepthMap(3x2, meters, 0.82 to 6.41)"),
    (DepthMap(np.full((3, 2), np.nan, np.float32)), "DepthMap(3x2, meters, no values)"),
    (FlowField(np.linspace(-3, 12.5, 48).reshape(4, 6, 2)), "FlowField(4x6, pixels, -3 to 12.5)"),
    (ClassScores(("cat", "dog"), np.array([0.3, 0.7])), "ClassScores(2 classes, probability, dog 0.70)"),
    (
        ColorizedImage(np.full((4, 6), 50, np.float32), np.linspace(-20, 30, 48).reshape(4, 6, 2)),
        "ColorizedImage(4x6, CIE Lab, a and b -20 to 30)",
    ),
    (RestoredImage(IMAGE), "RestoredImage(4x6, image, 0 to 71)"),
    (TranslatedImage(IMAGE, "image"), "TranslatedImage(4x6, image, 0 to 71)"),
    (LabelMap(np.array([[0, 2, 255]] * 2), CLASSES, "labels"), "LabelMap(2x3, classes, 2 of 3)"),
    (
        PosePrediction(JOINTS, Skeleton(("head", "foot"), ((0, 1),), ()), IMAGE),
        "PosePrediction(2 joints, pixels, confidence 0.25 to 0.9)",
    ),
]


@pytest.mark.parametrize(("prediction", "text"), PREDICTIONS, ids=[type(p).__name__ for p, _ in PREDICTIONS])
def test_repr_is_one_line_with_class_shape_unit_and_range(prediction, text):
    assert repr(prediction) == text


@pytest.mark.parametrize(("prediction", "text"), PREDICTIONS, ids=[type(p).__name__ for p, _ in PREDICTIONS])
def test_notebooks_display_the_visualization(prediction, text):
    decoded = cv2.imdecode(np.frombuffer(prediction._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(decoded[..., ::-1], prediction.to_image())


def test_a_prediction_without_details_has_its_unit():
    class Plain(Prediction):
        unit = "meters"

        def to_image(self, reference=None):
            return IMAGE

        def save(self, folder, stem):
            return []

    assert repr(Plain()) == "Plain(meters)"
