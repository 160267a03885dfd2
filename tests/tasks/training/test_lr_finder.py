from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from densevision.datasets.formats.image import read_image
from densevision.errors import UserError
from densevision.tasks.task import Phase
from densevision.tasks.training import lr_finder
from densevision.tasks.training.lr_finder import MAX_LR, MIN_LR, STEPS, WARMUP_STEPS, suggest_lr
from densevision.tasks.training.optimizers import create_optimizer

from .toys import Exploding, Relief, build_toy_trainer, train_toy

SGD: dict[str, Any] = {"model": "plain", "optimizer": "sgd", "batch_size": 4, "max_zoom": 1.0, "max_rotation": 0.0}


class Flat(Relief):
    """The loss is 1 at every learning rate and for all weights."""

    def phases(self, model, fields, loss):
        (phase,) = super().phases(model, fields, loss)
        flat = {"flat": torch.ones(())}
        return (Phase(phase.name, model, lambda batch, cache: {**flat, "no": 0 * phase.loss(batch, cache)["l1"]}),)


class NanLater(Relief):
    """The loss is nan after 100 steps."""

    def phases(self, model, fields, loss):
        (phase,) = super().phases(model, fields, loss)
        steps = iter([0.0] * 100)

        def explode(batch, cache):
            return {**phase.loss(batch, cache), "fuse": torch.tensor(next(steps, math.nan))}

        return (Phase(phase.name, model, explode),)


class Jumping(Relief):
    """Batches whose losses differ more than the first steps change them; only a good learning rate lowers the mean."""

    def phases(self, model, fields, loss):
        (phase,) = super().phases(model, fields, loss)
        jumps = iter([8.0, 0.0] + [4.0] * STEPS)

        def jump(batch, cache):
            return {**phase.loss(batch, cache), "jump": torch.tensor(next(jumps))}

        return (Phase(phase.name, model, jump),)


def test_the_suggestion_is_within_the_range_and_only_the_curve_is_written(tmp_path):
    result = train_toy(Relief(), tmp_path / "run", find_lr=True, **SGD)
    assert 1e-4 < result["suggested"] < 10
    assert (
        MIN_LR
        == result["learning_rates"][0]
        < result["suggested"]
        <= result["learning_rates"][-1]
        <= MAX_LR * (1 + 1e-9)
    )
    assert (
        result["suggested"] in result["learning_rates"]
        and len(result["learning_rates"]) == len(result["losses"]) <= STEPS
    )
    assert json.loads((tmp_path / "run" / "find-lr.json").read_text()) == result
    assert min(read_image(tmp_path / "run" / "find-lr.png").shape[:2]) > 300
    assert not list((tmp_path / "run").rglob("*.safetensors")) and not (tmp_path / "run" / "last").exists()
    assert not (tmp_path / "run" / "result.json").exists()


def test_the_suggested_lr_trains_better_than_a_thousandth_of_it(tmp_path):
    suggested = train_toy(Relief(), tmp_path / "test", find_lr=True, **SGD)["suggested"]
    scores = []
    for number, rate in enumerate((suggested / 1000, suggested)):
        options = {**SGD, "lr": rate, "steps": 40}
        scores.append(train_toy(Relief(), tmp_path / f"run-{number}", **options)["monitor"]["value"])
    assert scores[1] < scores[0]


def test_learning_rates_grow_in_equal_factors(tmp_path):
    rates = train_toy(Relief(), tmp_path / "run", find_lr=True, **SGD)["learning_rates"]
    factors = np.divide(rates[1:], rates[:-1])
    np.testing.assert_allclose(factors, (MAX_LR / MIN_LR) ** (1 / (STEPS - 1)), rtol=1e-6)


def test_the_same_seed_gives_the_same_suggestion(tmp_path):
    one, other = (train_toy(Relief(), tmp_path / name, find_lr=True, **SGD) for name in ("one", "other"))
    assert one == other


def test_a_jump_in_the_first_batches_does_not_count_as_a_decrease(tmp_path):
    # At the start the running mean is of one or two batches: 8 to 4 is steeper than any later decrease.
    result = train_toy(Jumping(), tmp_path / "run", find_lr=True, **SGD)
    drops = -np.diff(result["losses"])
    assert np.argmax(drops) == 0
    assert result["suggested"] > result["learning_rates"][WARMUP_STEPS]


def test_a_loss_that_never_decreases_is_an_error(tmp_path):
    with pytest.raises(UserError, match="The loss decreased at no learning rate"):
        train_toy(Flat(), tmp_path / "run", find_lr=True, **SGD)


def test_nan_ends_the_test_instead_of_failing(tmp_path):
    result = train_toy(NanLater(), tmp_path / "run", find_lr=True, **SGD)
    assert len(result["losses"]) == 100 and all(map(math.isfinite, result["losses"]))
    assert result["diverged_at"] == pytest.approx(MIN_LR * (MAX_LR / MIN_LR) ** (100 / (STEPS - 1)))
    assert result["suggested"] < result["diverged_at"]


def test_nan_from_the_start_is_an_error(tmp_path):
    # From the third step on: all means are still ignored.
    with pytest.raises(UserError, match="The loss decreased at no learning rate"):
        train_toy(Exploding(), tmp_path / "run", find_lr=True, **SGD)


def test_a_diverging_loss_ends_the_test_before_the_maximum(tmp_path, monkeypatch):
    monkeypatch.setattr(lr_finder, "MAX_LR", 1e6)
    result = train_toy(Relief(), tmp_path / "run", find_lr=True, **{**SGD, "momentum": 0.99})
    assert result["diverged_at"] is not None and result["suggested"] < result["diverged_at"] < 1e6
    assert len(result["learning_rates"]) < STEPS and all(map(math.isfinite, result["losses"]))


def test_the_suggestion_precedes_the_minimum_by_the_lag_of_the_mean():
    rates = [10.0**n for n in range(WARMUP_STEPS + 5)]
    assert suggest_lr(rates, [9.0] * WARMUP_STEPS + [3.0, 2.6, 2.0, 7.0, 3.0]) == rates[2]


def test_noise_between_steps_does_not_count_as_a_decrease():
    # The curve of a real run: small jumps first, then a fall of a quarter, then a rise.
    losses = [2.98] * WARMUP_STEPS + [2.95, 2.90, 2.94, 2.92, 2.80, 2.66, 2.54, 2.45, 2.36, 2.29, 2.30, 2.73]
    rates = [2.0**n for n in range(len(losses))]
    assert suggest_lr(rates, losses) == rates[9]


@pytest.mark.parametrize("losses", [[], [3.0], [3.0, 3.0], [3.0, 3.5, 4.0], [3.0, 2.99, 3.1], [-1.0, -1.001, 0.0]])
def test_a_decrease_of_less_than_a_hundredth_does_not_count(losses):
    with pytest.raises(UserError, match="decreased at no learning rate"):
        suggest_lr([10.0**n for n in range(WARMUP_STEPS + len(losses))], [9.0] * WARMUP_STEPS + losses)


def test_sgd_caffe_can_be_tested_too(tmp_path):
    result = train_toy(Relief(), tmp_path / "run", find_lr=True, **{**SGD, "optimizer": "sgd-caffe"})
    assert MIN_LR < result["suggested"] < MAX_LR


def test_the_range_test_uses_the_optimizer_of_the_run(tmp_path):
    run = build_toy_trainer(Relief(), tmp_path / "run", find_lr=True, **SGD)
    assert type(run.optimizers[0].optimizer) is type(create_optimizer(run.model, run.options, 1.0))
    assert (tmp_path / "run" / "config.yaml").exists()
