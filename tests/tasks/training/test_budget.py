"""Time budget: the number of steps that fit, and runs that are those of --steps afterwards."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from densevision.datasets.synthetic import SyntheticRooms
from densevision.errors import UserError
from densevision.tasks.training import budget
from densevision.tasks.training.log import format_seconds
from densevision.tasks.training.options import MAX_STEPS, Options

from .toys import LINEAR, Relief, Rivals, build_toy_trainer, require_same_runs, resume_toy, stop_after, train_toy


@pytest.fixture
def measured(monkeypatch):
    """Replaces what is measured: 0.5 s a step, and so many seconds an evaluation."""

    def replace(evaluation_seconds: float = 2.0) -> None:
        monkeypatch.setattr(budget, "measure_step", lambda trainer: 0.5)
        monkeypatch.setattr("densevision.tasks.training.evaluator.Evaluator.measure", lambda *_: evaluation_seconds)

    return replace


def limit(trainer, seconds_ago: float = 0.0) -> tuple[int, int]:
    budget.limit_steps(trainer, budget.time.monotonic() - seconds_ago)
    return trainer.steps, trainer.eval_every


@pytest.mark.parametrize(
    "task, options",
    [
        (Relief(), {"model": "dropout", **LINEAR, "optimizer": "sgd-caffe"}),
        (Relief(), {"model": "normalized", "optimizer": "adamw", "workers": 1}),
        (Rivals(), {"model": "pair", "optimizer": "adam"}),
    ],
)
def test_the_measurement_leaves_no_trace(tmp_path, task, options):
    train_toy(task, tmp_path / "steps", eval_every=2, **options)
    train_toy(task, tmp_path / "minutes", eval_every=2, minutes=10, **options)
    require_same_runs(tmp_path / "steps", tmp_path / "minutes")


def test_a_budgeted_run_resumes_as_one_of_its_steps(tmp_path, measured):
    measured()
    options = {"model": "normalized", "steps": None, "minutes": 0.2, "eval_every": 5}
    train_toy(Relief(), tmp_path / "whole", **options)
    stored = Options.read(tmp_path / "whole" / "config.yaml")
    assert stored.minutes is None and stored.steps is not None and 5 < stored.steps < 24
    with pytest.raises(KeyboardInterrupt):
        train_toy(
            Relief(), tmp_path / "parts", on_step=stop_after(4), **{**options, "minutes": None, "steps": stored.steps}
        )
    resume_toy(Relief(), tmp_path / "parts")
    for name in ("whole", "parts"):
        assert (tmp_path / name / "result.json").exists()
    repeated = {**options, "minutes": None, "steps": stored.steps, "eval_every": stored.eval_every}
    train_toy(Relief(), tmp_path / "repeated", **repeated)
    require_same_runs(tmp_path / "whole", tmp_path / "repeated")


def test_steps_fill_what_start_and_evaluations_leave(tmp_path, measured):
    measured()
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", minutes=5, steps=1000, eval_every=250)
    steps, eval_every = limit(trainer, seconds_ago=29)
    # Four evaluations of 2 s, and 29 s of start.
    assert steps == pytest.approx((5 * 60 * budget.MARGIN - 29 - 8) / 0.5, abs=2)
    assert -(-steps // eval_every) == 4


def test_steps_bound_the_budget(tmp_path, measured):
    measured()
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", minutes=5, steps=100, eval_every=40)
    assert limit(trainer) == (100, 34)


def test_expensive_evaluations_are_fewer(tmp_path, measured):
    measured(evaluation_seconds=60)
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", minutes=5, steps=1000, eval_every=100)
    steps, eval_every = limit(trainer)
    assert steps == pytest.approx((5 * 60 * budget.MARGIN - 2 * 60) / 0.5, abs=2)
    assert -(-steps // eval_every) == 2


def test_the_warm_up_stays_a_part_of_a_shorter_run(tmp_path, measured):
    measured()
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", minutes=0.5, steps=900, warmup_steps=300)
    steps, _ = limit(trainer)
    assert trainer.options.warmup_steps == steps // 10 < 6


def test_a_budget_without_a_step_is_refused(tmp_path, measured):
    measured(evaluation_seconds=20)
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", minutes=0.1, steps=9)
    with pytest.raises(UserError, match=r"--minutes 0\.1 is too short: .* take 0:2[0-9]"):
        limit(trainer)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(value):
    with pytest.raises(UserError, match="--minutes"):
        Options(minutes=value).validate()


def test_minutes_replace_the_steps_of_a_recipe_and_steps_its_minutes():
    recipe = Options(minutes=5.0, steps=1200)
    assert (Options(minutes=60.0).over(recipe).steps, Options(minutes=60.0).total_steps(None, 16)) == (None, MAX_STEPS)
    assert Options(steps=300).over(recipe).minutes is None
    assert Options(epochs=2.0).over(recipe).minutes is None
    assert Options().over(recipe) == recipe


@pytest.mark.parametrize("seconds, words", [(7.4, "0:07"), (750, "12:30"), (5999, "99:59"), (11_100, "3 h 05")])
def test_durations_are_minutes_or_hours(seconds, words):
    assert format_seconds(seconds) == words


@pytest.mark.parametrize(
    "options, seconds, loading, cores, uses",
    [
        ({}, 0.9, (0.5, 0.2), (2, 2), budget.SAMPLE_USES),
        ({}, 0.9, (0.06, 0.05), (2, 2), None),
        ({}, 0.2, (0.1, 0.05), (1, 1), None),
        ({"workers": 2}, 0.9, (0.5, 0.2), (1, 2), None),
        ({"sample_uses": 1}, 0.9, (0.5, 0.2), (1, 1), 1),
    ],
)
def test_all_cores_train_and_load_where_generating_samples_holds_up_training(
    tmp_path, monkeypatch, options, seconds, loading, cores, uses
):
    monkeypatch.setattr(budget, "seconds_per_step", lambda *_: 0.2)
    monkeypatch.setattr(budget, "available_cores", lambda: 2)
    monkeypatch.setattr(budget, "load_repeatedly", lambda *_: ([], *loading))
    options = {"workers": 1, "threads": 1, "model": "plain", **options}
    trainer = build_toy_trainer(Relief(), tmp_path / "run", SyntheticRooms(size=(16, 16)), **options)
    threads = torch.get_num_threads()
    try:
        changed = budget.use_all_cores(trainer, seconds)
        assert (trainer.options.threads, trainer.options.workers) == cores
        assert trainer.options.sample_uses == uses
        assert (changed < seconds) == (cores == (2, 2))
    finally:
        torch.set_num_threads(threads)
        trainer.close()


class SlowRooms(SyntheticRooms):
    """A sample takes 50 ms of CPU time."""

    def generate(self, rng, size):
        begun = time.process_time()
        while time.process_time() < begun + 0.05:
            pass
        return super().generate(rng, size)


def test_samples_used_again_take_less_time(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", SlowRooms(size=(16, 16)), model="plain", sample_uses=4)
    # The trainer has its own, at the size of the images.
    dataset: Any = trainer.training_set.dataset
    batches, once, again = budget.load_repeatedly(trainer, dataset)
    trainer.close()
    assert len(batches) == trainer.micro_batches
    # A batch of two samples; used again, a quarter of it is generated.
    assert once >= 0.1 and 0.025 <= again < once
