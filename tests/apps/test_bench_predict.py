"""Benchmark of `predict`: both implementations give the same results."""

from __future__ import annotations

import pytest
import torch

from densevision.benchmarks.measure import Setting
from densevision.benchmarks.predict import DAMAGED, measure

SMALL = ((4, (60, 80)), (3, (90, 64)))


def test_both_predict_the_same_images_equally_and_skip_the_damaged_ones():
    pytest.importorskip("skimage")
    report = measure(Setting(torch.device("cpu"), 1, rounds=1), sizes=SMALL, batched=False)
    facts = report.facts
    assert (facts["images"], facts["skipped"]) == (7, DAMAGED)
    # The same model in the same precision on the same pixels: only rounding differs.
    assert facts["largest_difference_meters"] < 1e-4
    assert facts["largest_difference_millimeters"] <= 1 and facts["largest_difference_levels"] <= 1
    (figure,) = report.figures
    assert (figure.unit, figure.rounds) == ("x", 1)
