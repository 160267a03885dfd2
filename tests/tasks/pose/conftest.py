"""Fixtures of the pose tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def torch_hub(monkeypatch, tmp_path_factory) -> None:
    """An empty torch hub cache, so that no detector weights are installed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))


@pytest.fixture
def small_baseline(monkeypatch) -> None:
    """Use 3 samples instead of 300 for the baseline."""
    monkeypatch.setattr("densevision.tasks.pose.pose_prediction.BASELINE_SAMPLES", 3)
