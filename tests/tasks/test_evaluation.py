from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from densevision.datasets.dataset import Sample
from densevision.datasets.formats.picture import read_picture
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.evaluation import Evaluation, Share, evaluate, worst
from densevision.tasks.sheet import draw_sheet, tile, write_sheet

from .training.toys import Reliefs

TEST = Reliefs(5, "test")


def too_far(sample: Sample) -> DepthMap:
    """Twice as far as it is: abs_rel 1."""
    return DepthMap(np.nan_to_num(2 * sample["depth"], nan=1.0))


def test_every_sample_is_read_once_in_order_and_counted():
    read: list[int] = []

    class Watched(Reliefs):
        def read(self, index: int) -> Sample:
            read.append(index)
            return super().read(index)

    evaluation = evaluate(Depth(), too_far, Watched(5, "test"), "all-pixels")
    assert read == [0, 1, 2, 3, 4]
    assert (evaluation.samples, evaluation.protocol) == (5, "all-pixels")
    assert evaluation.metrics["abs_rel"] == pytest.approx(1)
    assert all(type(value) is float for value in evaluation.metrics.values())


def test_only_the_first_samples_are_counted_where_fewer_are_asked_for():
    assert evaluate(Depth(), too_far, TEST, "all-pixels", samples=2).samples == 2
    assert evaluate(Depth(), too_far, TEST, "all-pixels", samples=99).samples == 5


def test_the_shares_of_several_processes_partition_a_split():
    for samples, processes in ((5, 2), (1, 3), (0, 2), (7, 7)):
        shares = [list(Share(rank, processes).indices(samples)) for rank in range(processes)]
        assert sorted(chain.from_iterable(shares)) == list(range(samples))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_lone_process_has_the_whole():
    assert Share.here() == Share(0, 1)


def test_shown_samples_are_the_first_with_their_answers():
    shown = evaluate(Depth(), too_far, TEST, "all-pixels", show=2).shown
    assert len(shown) == 2
    for index, (sample, prediction) in enumerate(shown):
        np.testing.assert_array_equal(sample["image"], TEST.read(index)["image"])
        assert isinstance(prediction, DepthMap)
        np.testing.assert_array_equal(prediction.metres, too_far(sample).metres)


def test_progress_is_told_after_every_sample():
    told: list[tuple[int, int]] = []
    evaluate(Depth(), too_far, TEST, "all-pixels", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_the_worst_samples_come_first_and_those_that_count_nothing_not_at_all():
    wrong = {0: 1.1, 1: 1.5, 2: 1.2, 3: 1.9, 4: 1.0}
    answers = iter(wrong.values())

    def answer(sample: Sample) -> DepthMap:
        return DepthMap(np.nan_to_num(next(answers) * sample["depth"], nan=1.0))

    evaluation = evaluate(Depth(), answer, TEST, "all-pixels", each=True)
    assert dict(evaluation.errors) == pytest.approx({index: factor - 1 for index, factor in wrong.items()}, abs=1e-5)
    assert worst(evaluation, watch_higher=False, number=3) == [3, 1, 2]
    assert worst(evaluation, watch_higher=True, number=2) == [4, 0]
    evaluation.errors.append((5, float("nan")))
    assert worst(evaluation, watch_higher=False, number=9) == [3, 1, 2, 0, 4]


def test_what_a_training_state_keeps_of_an_evaluation_gives_it_back_without_the_pictures():
    evaluation = evaluate(Depth(), too_far, TEST, "all-pixels", show=2)
    again = Evaluation(**evaluation.scores())
    assert again.shown == [] and again.metrics == evaluation.metrics and again.samples == 5


def test_a_sheet_shows_input_truth_and_answer_of_every_sample_in_the_truths_range():
    shown = evaluate(Depth(), lambda sample: DepthMap(sample["depth"]), TEST, "all-pixels", show=2).shown
    sheet = draw_sheet(Depth(), TEST.fields, shown)
    height, width = TEST.size
    assert sheet.shape == (2 * height + 4, 3 * width + 8, 3) and sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[:height, :width], shown[0][0]["image"])
    truth, answer = sheet[:height, width + 4 : 2 * width + 4], sheet[:height, 2 * width + 8 :]
    np.testing.assert_array_equal(truth, answer)
    halved = draw_sheet(Depth(), TEST.fields, [(shown[0][0], DepthMap(shown[0][0]["depth"] / 2))])
    assert not np.array_equal(halved[:height, 2 * width + 8 :], answer)


def test_a_row_brings_its_pictures_to_the_first_ones_height():
    row = tile([np.zeros((20, 10, 3), np.uint8), np.zeros((10, 30, 3), np.uint8)])
    assert row.shape == (20, 10 + 4 + 60, 3)
    assert (row[:, 10:14] == 255).all()


def test_a_small_sheet_is_enlarged_by_a_whole_factor(tmp_path):
    sheet = np.random.default_rng(0).integers(0, 256, (3, 7, 3), dtype=np.uint8)
    write_sheet(tmp_path / "a.png", sheet, smallest=20)
    stored = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(stored, sheet.repeat(2, 0).repeat(2, 1))
