from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from densevision.datasets.dataset import Sample
from densevision.datasets.field_types import Flow as FlowKind
from densevision.datasets.field_types import Image, Keypoints, SegmentationMask, Skeleton
from densevision.datasets.formats.image import read_image
from densevision.errors import UserError
from densevision.tasks.comparison_grid import draw_comparison, write_comparison
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.distributed import ProcessGroup
from densevision.tasks.evaluation import Evaluation, require_ground_truth, score, worst_samples
from densevision.tasks.flow import Flow
from densevision.tasks.pose import HumanPose
from densevision.tasks.task import MonitoredMetric
from densevision.tasks.translation import Translation

from .training.toys import Reliefs

TEST = Reliefs(5, "test")


def too_far(sample: Sample) -> DepthMap:
    """Twice the true depth: abs_rel 1."""
    return DepthMap(np.nan_to_num(2 * sample["depth"], nan=1.0))


def test_every_sample_is_read_once_and_counted():
    indices: list[int] = []

    class Recorded(Reliefs):
        def read(self, index: int) -> Sample:
            indices.append(index)
            return super().read(index)

    evaluation = score(Depth(), too_far, Recorded(5, "test"), "all-pixels")
    assert indices == [0, 1, 2, 3, 4]
    assert (evaluation.samples, evaluation.protocol) == (5, "all-pixels")
    assert evaluation.metrics["abs_rel"] == pytest.approx(1)
    assert all(type(value) is float for value in evaluation.metrics.values())


def test_samples_limits_the_number_of_samples():
    assert score(Depth(), too_far, TEST, "all-pixels", samples=2).samples == 2
    assert score(Depth(), too_far, TEST, "all-pixels", samples=99).samples == 5


def test_the_shares_of_processes_partition_a_split():
    for samples, processes in ((5, 2), (1, 3), (0, 2), (7, 7)):
        shares = [list(ProcessGroup(rank, processes).indices(samples)) for rank in range(processes)]
        assert sorted(chain.from_iterable(shares)) == list(range(samples))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_single_process_has_the_complete_split():
    assert ProcessGroup.current() == ProcessGroup(0, 1)


def test_examples_are_the_first_samples_with_their_predictions():
    examples = score(Depth(), too_far, TEST, "all-pixels", num_examples=2).examples
    assert len(examples) == 2
    for index, (sample, prediction) in enumerate(examples):
        np.testing.assert_array_equal(sample["image"], TEST.read(index)["image"])
        assert isinstance(prediction, DepthMap)
        np.testing.assert_array_equal(prediction.meters, too_far(sample).meters)


def test_progress_is_reported_after_every_sample():
    calls: list[tuple[int, int]] = []
    score(Depth(), too_far, TEST, "all-pixels", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_worst_samples_are_sorted_and_skip_those_without_a_score():
    factors = {0: 1.1, 1: 1.5, 2: 1.2, 3: 1.9, 4: 1.0}
    remaining = iter(factors.values())

    def predict(sample: Sample) -> DepthMap:
        return DepthMap(np.nan_to_num(next(remaining) * sample["depth"], nan=1.0))

    evaluation = score(Depth(), predict, TEST, "all-pixels", per_sample=True)
    assert {row["index"]: row["abs_rel"] for row in evaluation.per_sample} == pytest.approx(
        {index: factor - 1 for index, factor in factors.items()}, abs=1e-5
    )
    assert [row["sample"] for row in evaluation.per_sample] == [f"test/{index}" for index in factors]
    assert worst_samples(evaluation, Depth.monitor, count=3) == [3, 1, 2]
    assert worst_samples(evaluation, MonitoredMetric("abs_rel", higher_is_better=True), count=2) == [4, 0]
    evaluation.per_sample.append({"index": 5, "abs_rel": float("nan")})
    assert worst_samples(evaluation, Depth.monitor, count=9) == [3, 1, 2, 0, 4]


def test_an_evaluation_is_restored_from_its_scores_without_examples():
    evaluation = score(Depth(), too_far, TEST, "all-pixels", num_examples=2)
    restored = Evaluation(**evaluation.scores())
    assert restored.examples == [] and restored.metrics == evaluation.metrics and restored.samples == 5


def test_a_comparison_grid_uses_the_value_range_of_the_ground_truth():
    examples = score(Depth(), lambda sample: DepthMap(sample["depth"]), TEST, "all-pixels", num_examples=2).examples
    grid = draw_comparison(Depth(), TEST.fields, examples)
    height, width = TEST.size
    assert grid.shape == (2 * height + 4, 3 * width + 8, 3) and grid.dtype == np.uint8
    np.testing.assert_array_equal(grid[:height, :width], examples[0][0]["image"])
    ground_truth, prediction = grid[:height, width + 4 : 2 * width + 4], grid[:height, 2 * width + 8 :]
    np.testing.assert_array_equal(ground_truth, prediction)
    halved = draw_comparison(Depth(), TEST.fields, [(examples[0][0], DepthMap(examples[0][0]["depth"] / 2))])
    assert not np.array_equal(halved[:height, 2 * width + 8 :], prediction)


def test_a_small_grid_is_enlarged_by_an_integer_factor(tmp_path):
    grid = np.random.default_rng(0).integers(0, 256, (3, 7, 3), dtype=np.uint8)
    write_comparison(tmp_path / "a.png", grid, min_width=20)
    stored = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(stored, grid.repeat(2, 0).repeat(2, 1))


class Unlabeled(Reliefs):
    """Reliefs whose first samples have a value of `field` without ground truth."""

    def __init__(self, field="depth", field_type=None, value=None, unlabeled=99, **options) -> None:
        super().__init__(5, "test", **options)
        self.field, self.value, self.unlabeled, self.indices = field, value, unlabeled, []
        if field_type is not None:
            self.fields = {"image": Image(), "first": Image(), "second": Image(), field: field_type}

    def read(self, index: int) -> Sample:
        self.indices.append(index)
        sample = super().read(index)
        value = np.full(self.size, np.nan, np.float32) if self.value is None else self.value
        unlabeled = {self.field: value} if index < self.unlabeled else {}
        return {**sample, "first": sample["image"], "second": sample["image"], **unlabeled}


SKELETON = Skeleton(("a", "b"), ((0, 1),), ((0, 1),))


@pytest.mark.parametrize(
    ("task", "dataset", "protocol"),
    [
        (Depth(), Unlabeled(), "all-pixels"),
        (Depth(), Unlabeled(value=np.zeros((20, 24), np.float32)), "all-pixels"),
        (Depth(), Unlabeled(value=np.full((20, 24), 200, np.float32)), "kitti-garg-80"),
        (Flow(), Unlabeled("flow", FlowKind(0, 1), np.full((20, 24, 2), np.nan, np.float32)), "kitti"),
        (HumanPose(), Unlabeled("joints", Keypoints(SKELETON), np.zeros((2, 3), np.float32)), "pck-box"),
        (Translation(), Unlabeled("labels", SegmentationMask(("a", "b")), np.full((20, 24), 255, np.uint8)), "labels"),
    ],
    ids=["nan", "zero", "beyond-the-range", "flow", "joints", "labels"],
)
def test_a_split_without_ground_truth_is_refused(task, dataset, protocol):
    with pytest.raises(UserError, match=rf"No sample of the split 'test' of Reliefs \(5 read\) .* protocol {protocol}"):
        require_ground_truth(task, dataset, protocol)
    with pytest.raises(UserError, match=r"\(2 read\)"):
        require_ground_truth(task, dataset, protocol, samples=2)


def test_an_empty_split_is_refused():
    with pytest.raises(UserError, match=r"'test' of Reliefs \(0 read\)"):
        require_ground_truth(Depth(), Reliefs(0, "test"), "all-pixels")


def test_the_first_sample_with_ground_truth_suffices():
    partial = Unlabeled(unlabeled=3)
    require_ground_truth(Depth(), partial, "all-pixels")
    assert partial.indices == [0, 1, 2, 3]
    # Unknown values spread when a protocol resizes; they do not make a sample worthless.
    require_ground_truth(Depth(), Reliefs(2, "test"), "make3d-c1")


def test_the_reason_of_an_undefined_score_is_stated():
    assert Evaluation("rgb", 2, {"psnr": 30.0}).undefined() == {}
    undefined = Evaluation("rgb", 2, {"psnr": 30.0, "ssim": float("nan"), "epe": float("inf")}).undefined()["undefined"]
    assert list(undefined) == ["ssim", "epe"] and "no sample defines it under rgb" in undefined["ssim"]
