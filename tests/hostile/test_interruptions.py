"""Disturbed trainings and predictions end with one sentence, leave no process, and lose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

# By its name in the package, under which the fork server can import it too; pytest uses another.
from densevision.tests.hostile.interruptions import Suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    return Suite(tmp_path_factory.mktemp("interruptions"))


def test_a_killed_training_resumes_bit_for_bit(suite: Suite):
    suite.kill(suite.root / "kill")


def test_a_full_disk_loses_nothing(suite: Suite):
    suite.fill_disk(suite.root / "disk", "state", 2)


def test_a_second_training_in_the_folder_is_refused(suite: Suite):
    suite.second_writer(suite.root / "writers")


@pytest.mark.slow
def test_all_interruptions(tmp_path: Path):
    suite = Suite(tmp_path)
    suite.run(kills=5, flips=5)
    assert not [fault for outcomes in suite.outcomes.values() for fault in outcomes if fault], suite.table()
