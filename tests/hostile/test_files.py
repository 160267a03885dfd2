"""Malicious files: every command ends soon, in little memory, with one sentence."""

from __future__ import annotations

import pytest

# By their names in the package, under which the fork server can import them too; pytest uses others.
from densevision.tests.hostile.generators import GENERATORS
from densevision.tests.hostile.harness import generate, run_case, table

EVERY = 120
"""Of the cases, one in so many is run by default; `-m slow` runs all."""


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_sample_of_hostile_files(tmp_path, name):
    outcomes = [run_case(case) for case in generate({name: GENERATORS[name]}, tmp_path)[::EVERY]]
    assert not [outcome for outcome in outcomes if outcome.fault], table(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_all_hostile_files(tmp_path, name):
    outcomes = [run_case(case) for case in generate({name: GENERATORS[name]}, tmp_path)]
    assert not [outcome for outcome in outcomes if outcome.fault], table(outcomes)
