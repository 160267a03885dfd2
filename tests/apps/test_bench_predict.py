"""The benchmark of `predict` compares like with like."""

from __future__ import annotations

import pytest
import torch

from densevision.benchmarks.measure import Setting
from densevision.benchmarks.predict import DAMAGED, measure

SMALL = ((4, (60, 80)), (3, (90, 64)))


def test_both_sides_answer_the_same_pictures_alike_and_refuse_the_damaged_ones():
    pytest.importorskip("skimage")
    report = measure(Setting(torch.device("cpu"), 1, rounds=1), sizes=SMALL)
    facts = report.facts
    assert (facts["answers"], facts["skipped"]) == (7, DAMAGED)
    # The same network in the same precision on the same pixels: what differs is rounding.
    assert facts["largest_difference_metres"] < 1e-4
    assert facts["largest_difference_millimetres"] <= 1 and facts["largest_difference_levels"] <= 1
    (figure,) = report.figures
    assert (figure.unit, figure.rounds) == ("x", 1)
