from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from densevision.tasks.training.options import Options
from densevision.tasks.training.schedules import learning_rate

# By hand from each schedule's definition, for 8 steps without warm-up.
EIGHT_STEPS = {
    "constant": [1, 1, 1, 1, 1, 1, 1, 1],
    "step": [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01],
    # A tenth at every quarter (Krizhevsky et al. 2012, section 5: three times before the end).
    "three-steps": [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001],
    "halving": [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.125],
    # 0.96 ** floor(30 n / 8), Szegedy et al. 2014: x 0.96 in equal steps.
    "exponential": [1, 0.88474, 0.75145, 0.63825, 0.54209, 0.47961, 0.40736, 0.34599],
    "linear": [1, 1, 1, 1, 1, 0.75, 0.5, 0.25],
    # cos 22.5° = 0.92388, cos 45° = 0.70711, cos 67.5° = 0.38268
    "cosine": [1, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806],
    # (1 - n / 8) ** 0.9, Chen et al. 2016 (arXiv:1606.00915), section 4.1.2
    "poly": [1, 0.88677, 0.77189, 0.65507, 0.53589, 0.41365, 0.28717, 0.15389],
}


@pytest.mark.parametrize("schedule", EIGHT_STEPS)
def test_a_schedule_is_what_its_definition_gives_by_hand(schedule):
    rates = [learning_rate(schedule, step, 8) for step in range(8)]
    assert rates == pytest.approx(EIGHT_STEPS[schedule], abs=2e-5)


@pytest.mark.parametrize("schedule", EIGHT_STEPS)
def test_the_warm_up_rises_in_equal_parts_before_the_whole_schedule_runs_over_what_is_left(schedule):
    # Trap 29 of the facts on trunks: warm-up off by one. No step has the rate 0, and none is spent twice at 1.
    rates = [learning_rate(schedule, step, 12, warmup=4) for step in range(12)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *EIGHT_STEPS[schedule]], abs=2e-5)


def test_a_warm_up_as_long_as_the_run_never_reaches_the_schedule():
    assert [learning_rate("cosine", step, 3, warmup=3) for step in range(3)] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("schedule", EIGHT_STEPS)
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_every_step_of_a_run_has_a_rate_above_0_and_at_most_1(schedule, steps):
    for warmup in (0, 1, steps // 2, steps, 2 * steps):
        assert all(0 < learning_rate(schedule, step, steps, warmup) <= 1 for step in range(steps))


def test_the_options_offer_the_schedules_there_are():
    (offered,) = [part for part in get_args(get_type_hints(Options)["schedule"]) if part is not type(None)]
    assert set(get_args(offered)) == set(EIGHT_STEPS)
    with pytest.raises(ValueError, match="no schedule is named 'square'"):
        learning_rate("square", 0, 1)
