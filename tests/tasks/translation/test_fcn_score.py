"""Evaluators: the decoder of synthetic-facades, and checkpoints that were trained in the opposite direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.field_types import FieldType, Image, SegmentationMask
from densevision.errors import UserError
from densevision.tasks.translation import fcn_score
from densevision.tasks.translation.fcn_score import checkpoint_evaluator, facades_evaluator
from densevision.tasks.translation.predictions import LabelMap

CLASSES = SegmentationMask(("dark", "bright"), ignore=2)


@dataclass
class BrightnessPredictor:
    """A toy predictor and task: source and target fields, and labels by brightness."""

    source: str = "image"
    target: str = "labels"
    field_type: FieldType = CLASSES
    name: str = "translation"
    fields: Any = None

    @property
    def task(self) -> BrightnessPredictor:
        return self

    def inputs(self, fields: Any) -> dict[str, FieldType]:
        return {self.source: Image()}

    def targets(self, fields: Any) -> dict[str, FieldType]:
        return {self.target: self.field_type}

    def predict(self, image: np.ndarray) -> LabelMap:
        return LabelMap((image[..., 0] > 127).astype(np.int64), CLASSES, self.target)


@pytest.fixture
def checkpoints(monkeypatch) -> Iterator[dict[str, Any]]:
    """Checkpoints by path, and the number of loads."""
    checkpoints: dict[str, Any] = {"loads": 0}

    def load(path: str) -> BrightnessPredictor:
        checkpoints["loads"] += 1
        return checkpoints[path]

    monkeypatch.setattr(fcn_score, "load", load)
    fcn_score._load.cache_clear()
    yield checkpoints
    fcn_score._load.cache_clear()


def test_checkpoint_evaluator_predicts_labels_and_is_loaded_once(checkpoints):
    checkpoints["street.safetensors"] = BrightnessPredictor()
    evaluator, *_ = [checkpoint_evaluator("street.safetensors", "image") for _ in range(3)]
    assert (evaluator.field, evaluator.field_type, checkpoints["loads"]) == ("labels", CLASSES, 1)
    assert evaluator.predict_labels(np.array([[[0] * 3, [255] * 3]], np.uint8)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (BrightnessPredictor(name="depth"), "is a checkpoint of the task depth"),
        (BrightnessPredictor("labels", "image", Image()), r"translates 'labels' into 'image' \(Image\)"),
        (BrightnessPredictor("image", "gray", Image(1)), r"translates 'image' into 'gray' \(Image\)"),
        (
            BrightnessPredictor("edges"),
            "translates 'edges' into 'labels'.*to evaluate 'image' it must be trained with --source-field image",
        ),
    ],
)
def test_checkpoint_of_another_task_or_direction_is_refused(checkpoints, checkpoint, message):
    checkpoints["a"] = checkpoint
    with pytest.raises(UserError, match=message):
        checkpoint_evaluator("a", "image")


def test_facades_evaluator_decodes_synthetic_facades():
    dataset = open_dataset("synthetic-facades", split="test")
    evaluator = facades_evaluator("image")
    assert evaluator.field_type == dataset.fields["labels"] and evaluator.field in dataset.fields
    sample = dataset.read(0)
    predicted, other = (evaluator.predict_labels(dataset.read(index)["image"]) for index in (0, 1))
    assert predicted.shape == sample["labels"].shape
    assert (predicted == sample["labels"]).mean() > (other == sample["labels"]).mean() + 0.2
