"""Paired bootstrap of two models, and the tables of the metrics."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from densevision.datasets.field_types import ClassLabel, FieldType, Image, SegmentationMask
from densevision.datasets.pose.skeletons import LSP
from densevision.datasets.samples import Samples
from densevision.errors import UserError
from densevision.tasks import create_task
from densevision.tasks.classification.metrics import ClassScores
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.evaluation import compare, score
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.pose.pose_prediction import PosePrediction
from densevision.tasks.task import confusion_tables
from densevision.tasks.translation.predictions import LabelMap

from .training.toys import Reliefs

TEST = Reliefs(30, "test")


def scaled(factor: float, noise: float = 0.0):
    rng = np.random.default_rng(0)
    return lambda sample: DepthMap(np.nan_to_num((factor + noise * rng.normal()) * sample["depth"], nan=1.0))


def evaluated(predict, samples: int = 30):
    return score(Depth(), predict, TEST, "all-pixels", samples, per_sample=True)


def test_the_interval_of_a_constant_difference_is_that_difference():
    found = compare(Depth(), evaluated(scaled(1.1)), evaluated(scaled(1.3)), resamples=50)
    assert found.difference == pytest.approx(0.2, abs=1e-4)
    assert found.interval == pytest.approx((0.2, 0.2), abs=1e-4) and found.better == 0.0
    assert (found.metric, found.samples, found.resamples) == ("abs_rel", 30, 50)


def test_models_of_equal_error_do_not_differ_and_the_samples_are_paired():
    first, second = evaluated(scaled(1.2, 0.05)), evaluated(scaled(1.2, 0.1))
    found = compare(Depth(), first, second, resamples=200)
    assert found.interval[0] < 0 < found.interval[1]
    assert compare(Depth(), first, first, resamples=20).interval == (0, 0)


def test_the_interval_is_that_of_the_pooled_metric():
    """By hand: the differences of the metric of each resampling as a set of its own."""
    first, second = evaluated(scaled(1.2, 0.2)), evaluated(scaled(1.1, 0.3))
    found = compare(Depth(), first, second, resamples=40, seed=5)
    rng, differences = np.random.default_rng(5), []
    for _ in range(40):
        values = []
        drawn = rng.integers(30, size=30)
        for each in (first, second):
            metrics = Depth().metrics("all-pixels")
            metrics.rows = [each.sample_states[index][0] for index in drawn]  # type: ignore[attr-defined]
            values.append(metrics.compute()["abs_rel"])
        differences.append(values[1] - values[0])
    assert found.interval == pytest.approx(tuple(np.quantile(differences, (0.025, 0.975))))


def test_evaluations_of_other_samples_are_refused():
    with pytest.raises(UserError, match="of 30 and 20 samples, under all-pixels and all-pixels; a comparison needs"):
        compare(Depth(), evaluated(scaled(1.1)), evaluated(scaled(1.1), 20))


# Tables


def test_depth_has_a_row_for_every_range_with_pixels():
    depth = np.array([[0.5, 1.5], [4.0, np.nan]], np.float32)
    fields = TEST.fields
    data = Samples([{"image": np.zeros((2, 2, 3), np.uint8), "depth": depth}], fields)
    evaluation = score(
        Depth(), lambda s: DepthMap(np.nan_to_num(1.5 * s["depth"])), data, "all-pixels", per_sample=True
    )
    assert evaluation.tables["ranges"] == [
        {"depth": "0 to 1 m", "pixels": 1, "abs_rel": 0.5, "rmse": 0.25},
        {"depth": "1 to 2 m", "pixels": 1, "abs_rel": 0.5, "rmse": 0.75},
        {"depth": "3 to 5 m", "pixels": 1, "abs_rel": 0.5, "rmse": 2.0},
    ]


def test_flow_has_a_row_for_every_range_of_speeds():
    task = create_task("flow")
    flow = np.zeros((1, 3, 2), np.float32)
    flow[0, :, 0] = 3, 20, 50
    metrics = task.metrics("pixel-mean")
    metrics.update(FlowField(flow + np.array([0, 2], np.float32)), {"flow": flow})
    assert metrics.tables({})["speeds"] == [
        {"flow": name, "pixels": 1, "epe": 2.0} for name in ("below 10 px", "10 to 40 px", "40 px and above")
    ]


def test_pose_has_a_row_for_every_part():
    joints = np.zeros((14, 3), np.float32)
    joints[:, 0], joints[:, 2] = 10 * np.arange(14), 2
    predicted = joints.copy()
    predicted[0, 1] = 1000  # the right ankle is wrong
    metrics = create_task("pose").metrics("pck-box")
    metrics.update(PosePrediction(predicted, LSP), {"joints": joints, "box": np.array([0, 0, 130, 100], np.float32)})
    rows = {row["part"]: row for row in metrics.tables({})["parts"]}
    assert rows["ankle"] == {"part": "ankle", "count": 2, "correct": 0.5} and rows["knee"]["correct"] == 1


def test_classification_has_a_confusion_matrix_and_a_row_for_every_class(tmp_path):
    names = ("cat", "dog", "cow")
    fields: dict[str, FieldType] = {"image": Image(), "category": ClassLabel(names)}
    labels, predicted = (0, 0, 1, 1), (0, 1, 1, 1)
    data = Samples([{"image": np.zeros((2, 2, 3), np.uint8), "category": label} for label in labels], fields)
    found = iter(predicted)
    task = create_task("classification")
    evaluation = score(task, lambda _: ClassScores(names, np.eye(3)[next(found)]), data, "center-crop", per_sample=True)
    assert evaluation.metrics["top1"] == 0.75
    assert evaluation.tables["confusion"] == [
        {"ground truth": "cat", "cat": 1, "dog": 1, "cow": 0},
        {"ground truth": "dog", "cat": 0, "dog": 2, "cow": 0},
        {"ground truth": "cow", "cat": 0, "dog": 0, "cow": 0},
    ]
    cat, dog, cow = evaluation.tables["classes"]
    assert cat == {"class": "cat", "count": 2, "recall": 0.5, "precision": 1.0, "iou": 0.5}
    assert dog["precision"] == pytest.approx(2 / 3) and np.isnan(cow["recall"])
    files = evaluation.to_csv(tmp_path / "scores.csv")
    assert [path.name for path in files] == ["scores.csv", "scores-classes.csv", "scores-confusion.csv"]
    with files[2].open() as file:
        assert next(csv.DictReader(file)) == {"ground truth": "cat", "cat": "1", "dog": "1", "cow": "0"}


def test_predictions_that_are_no_class_have_a_column_of_their_own():
    tables = confusion_tables(("a", "b"), np.array([[3, 1, 2], [0, 4, 0]]))
    assert tables["confusion"][0] == {"ground truth": "a", "a": 3, "b": 1, "no class": 2}
    assert tables["classes"][0]["recall"] == 0.5 and tables["classes"][1]["precision"] == 0.8


def test_label_maps_have_the_tables_of_their_classes():
    kind = SegmentationMask(("road", "sky"))
    metrics = create_task("translation").metrics("labels")
    labels = np.array([[0, 1], [1, 255]], np.uint8)
    metrics.update(LabelMap(np.array([[0, 0], [1, 1]]), kind, "labels"), {"labels": labels})
    tables = metrics.tables({"labels": kind, "image": Image()})
    assert [row["recall"] for row in tables["classes"]] == [1.0, 0.5]
    assert tables["confusion"][1] == {"ground truth": "sky", "road": 1, "sky": 1, "no class": 0}
