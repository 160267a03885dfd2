"""What the tests of pose share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def torch_hub(monkeypatch, tmp_path_factory) -> None:
    """No weights of a detector are at hand, whatever this machine has fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))


@pytest.fixture
def few_for_the_mean(monkeypatch) -> None:
    """The trivial answer of these tests needs no three hundred figures."""
    monkeypatch.setattr("densevision.tasks.pose.BASELINE_SAMPLES", 3)
