from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from densevision.datasets.formats.image import read_image
from densevision.errors import UserError
from densevision.tasks.network import Phase
from densevision.tasks.training import lr_finder
from densevision.tasks.training.lr_finder import MAX_LR, MAX_RISE, MIN_LR, STEPS, smooth, suggest_lr
from densevision.tasks.training.optimizers import create_optimizer

from .toys import Exploding, Relief, build_toy_trainer, train_toy

LRS = np.geomspace(MIN_LR, MAX_LR, STEPS)
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
    assert result["smoothed"] == smooth(result["losses"]).tolist()
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
    result = train_toy(Jumping(), tmp_path / "run", find_lr=True, **SGD)
    assert np.argmax(-np.diff(result["losses"])) == 0
    assert result["suggested"] > result["learning_rates"][10]


def test_a_loss_that_never_decreases_is_an_error(tmp_path):
    with pytest.raises(UserError, match="The loss decreased at no learning rate"):
        train_toy(Flat(), tmp_path / "run", find_lr=True, **SGD)


def test_nan_ends_the_test_instead_of_failing(tmp_path):
    result = train_toy(NanLater(), tmp_path / "run", find_lr=True, **SGD)
    assert len(result["losses"]) == 101 and all(map(math.isfinite, result["losses"]))
    assert result["diverged_at"] == pytest.approx(MIN_LR * (MAX_LR / MIN_LR) ** (100 / (STEPS - 1)))
    assert result["suggested"] < result["diverged_at"]


def test_nan_from_the_start_is_an_error(tmp_path):
    with pytest.raises(UserError, match="The loss decreased at no learning rate"):
        train_toy(Exploding(), tmp_path / "run", find_lr=True, **SGD)


def test_a_diverging_loss_ends_the_test_before_the_maximum(tmp_path, monkeypatch):
    monkeypatch.setattr(lr_finder, "MAX_LR", 1e6)
    result = train_toy(Relief(), tmp_path / "run", find_lr=True, **{**SGD, "momentum": 0.99})
    assert result["diverged_at"] is not None and result["suggested"] < result["diverged_at"] < 1e6
    assert len(result["learning_rates"]) < STEPS and all(map(math.isfinite, result["losses"]))


def fall(lr: float, decades: float) -> np.ndarray:
    """From 1 to 0 around a learning rate, over a number of decades."""
    return 1 / (1 + np.exp(4 / decades * np.log10(LRS / lr)))


def rise(lr: float) -> np.ndarray:
    """0 up to a learning rate, then a growing rise."""
    return np.maximum(0, np.log10(LRS / lr)) ** 2


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("lr", [1e-4, 4e-3, 0.05])
def test_the_suggestion_is_on_the_fall_and_not_at_the_minimum(lr, noise):
    losses = 1 + fall(lr, 2) + rise(30 * lr) + noise * np.random.default_rng(3).standard_normal(STEPS)
    assert 0.3 * lr < suggest_lr(list(LRS), list(losses)) < 10 * lr


def test_a_curve_that_has_turned_is_not_followed_to_its_later_fall():
    # AdamW in a real run: 4e-3 is right, the loss rises from 1e-2 on, and a little less again at 0.1.
    losses = 2 + fall(2e-3, 2) + 4 * (fall(0.3, 0.2) - fall(0.02, 0.2))
    assert 5e-4 < suggest_lr(list(LRS), list(losses)) < 1e-2


def test_a_fall_deeper_than_the_first_is_not_suggested_where_the_curve_is_above_it():
    losses = 2 + fall(1e-3, 1.5) + 3 * (fall(0.3, 0.3) - fall(0.03, 0.3)) - 0.2 * (1 - fall(1, 0.3))
    smoothed, suggested = smooth(list(losses)), suggest_lr(list(LRS), list(losses))
    index = int(np.argmin(np.abs(LRS - suggested)))
    assert smoothed[index] <= (1 + MAX_RISE) * smoothed[: index + 1].min()


@pytest.mark.parametrize("seed", range(20))
def test_a_suggestion_is_never_where_the_loss_is_a_tenth_above_its_minimum(seed):
    rng = np.random.default_rng(seed)
    losses = list(3 + np.cumsum(rng.standard_normal(STEPS)) / 10 - np.linspace(0, 1, STEPS))
    smoothed, index = smooth(losses), int(np.argmin(np.abs(LRS - suggest_lr(list(LRS), losses))))
    assert smoothed[index] <= smoothed[: index + 1].min() + MAX_RISE * abs(smoothed[: index + 1].min())


def test_an_easy_start_of_the_loss_does_not_decide():
    # The output's bias is learned at 1e-5 already: a steep fall, after which most is still to be learned.
    losses = 1 + fall(1e-5, 0.7) + 1.5 * fall(2e-3, 2) + rise(0.03)
    assert 1e-3 < suggest_lr(list(LRS), list(losses)) < 2e-2


def test_a_sudden_explosion_at_the_end_is_not_approached():
    losses = [*(1 + fall(1e-3, 2))[:80], 12.0]
    assert suggest_lr(list(LRS[:81]), losses) < LRS[80] / 3


@pytest.mark.parametrize(
    "losses", [[3.0], [3.0] * STEPS, list(np.linspace(3, 4, STEPS)), list(np.linspace(-1, -1.009, STEPS))]
)
def test_a_decrease_of_less_than_a_hundredth_does_not_count(losses):
    with pytest.raises(UserError, match="decreased at no learning rate"):
        suggest_lr(list(LRS[: len(losses)]), losses)


def test_negative_losses_are_supported():
    losses = -4 + 2 * fall(1e-3, 2) + rise(0.03)
    assert 3e-4 < suggest_lr(list(LRS), list(losses)) < 1e-2


def test_sgd_caffe_can_be_tested_too(tmp_path):
    result = train_toy(Relief(), tmp_path / "run", find_lr=True, **{**SGD, "optimizer": "sgd-caffe"})
    assert MIN_LR < result["suggested"] < MAX_LR


def test_the_range_test_uses_the_optimizer_of_the_run(tmp_path):
    run = build_toy_trainer(Relief(), tmp_path / "run", find_lr=True, **SGD)
    assert type(run.optimizers[0].optimizer) is type(create_optimizer(run.model, run.options, 1.0))
    assert (tmp_path / "run" / "config.yaml").exists()
