from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from densevision.tasks.training.optimizers import learning_rate
from densevision.tasks.training.options import Options

# By hand from each schedule's definition, for 8 steps without warm-up.
EIGHT_STEPS = {
    "constant": [1, 1, 1, 1, 1, 1, 1, 1],
    "multistep": [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01],
    "linear": [1, 1, 1, 1, 1, 0.75, 0.5, 0.25],
    # cos 22.5° = 0.92388, cos 45° = 0.70711, cos 67.5° = 0.38268
    "cosine": [1, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806],
    # (1 - n / 8) ** 0.9, Chen et al. 2016 (arXiv:1606.00915), section 4.1.2
    "poly": [1, 0.88677, 0.77189, 0.65507, 0.53589, 0.41365, 0.28717, 0.15389],
}


MILESTONES = [
    # A tenth at every quarter (Krizhevsky et al. 2012, section 5: three times before the end).
    ((0.25, 0.5, 0.75), 0.1, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
    ((1 / 2, 2 / 3, 5 / 6), 0.5, [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.125]),
    # 0.96 ** floor(30 n / 8), Szegedy et al. 2014: x 0.96 in equal steps.
    (
        tuple(part / 30 for part in range(1, 30)),
        0.96,
        [1, 0.88474, 0.75145, 0.63825, 0.54209, 0.47961, 0.40736, 0.34599],
    ),
]


@pytest.mark.parametrize(("milestones", "gamma", "expected"), MILESTONES)
def test_multistep_multiplies_by_gamma_at_every_milestone(milestones, gamma, expected):
    rates = [learning_rate("multistep", step, 8, milestones=milestones, gamma=gamma) for step in range(8)]
    assert rates == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("milestones", "gamma", "expected"), MILESTONES)
def test_milestones_are_fractions_of_the_steps_after_the_warm_up(milestones, gamma, expected):
    rates = [learning_rate("multistep", step, 12, 4, milestones, gamma) for step in range(12)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *expected], abs=2e-5)


@pytest.mark.parametrize("schedule", EIGHT_STEPS)
def test_a_schedule_equals_its_definition_by_hand(schedule):
    rates = [learning_rate(schedule, step, 8) for step in range(8)]
    assert rates == pytest.approx(EIGHT_STEPS[schedule], abs=2e-5)


@pytest.mark.parametrize("schedule", EIGHT_STEPS)
def test_a_linear_warm_up_precedes_the_complete_schedule(schedule):
    # Trap 29 of the facts on backbones: warm-up off by one. No step has the learning rate 0, and none is repeated at 1.
    rates = [learning_rate(schedule, step, 12, warmup_steps=4) for step in range(12)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *EIGHT_STEPS[schedule]], abs=2e-5)


def test_a_warm_up_as_long_as_the_run_never_reaches_the_schedule():
    assert [learning_rate("cosine", step, 3, warmup_steps=3) for step in range(3)] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("schedule", EIGHT_STEPS)
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_the_factor_is_above_0_and_at_most_1_at_every_step(schedule, steps):
    for warmup in (0, 1, steps // 2, steps, 2 * steps):
        assert all(0 < learning_rate(schedule, step, steps, warmup) <= 1 for step in range(steps))


def test_the_options_offer_all_schedules():
    assert set(get_args(get_type_hints(Options)["schedule"])) == set(EIGHT_STEPS)
    with pytest.raises(ValueError, match="no schedule named 'square'"):
        learning_rate("square", 0, 1)
