from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from densevision.datasets.formats.picture import read_picture
from densevision.errors import UserError
from densevision.tasks.task import Phase
from densevision.tasks.training import rate_test
from densevision.tasks.training.optimizers import create_optimizer
from densevision.tasks.training.rate_test import LARGEST, LEAST, SETTLED, STEPS, still_falling

from .toys import Exploding, Relief, follow, start

SGD: dict[str, Any] = {"network": "plain", "optimizer": "sgd", "batch": 4, "zoom": 1.0, "rotate": 0.0}


class Flat(Relief):
    """The loss is 1 at every rate, and no weight moves it."""

    def phases(self, model, fields, loss):
        (phase,) = super().phases(model, fields, loss)
        flat = {"flat": torch.ones(())}
        return (Phase(phase.name, model, lambda batch, made: {**flat, "no": 0 * phase.loss(batch, made)["l1"]}),)


class NanLater(Relief):
    """The loss is nan after 100 steps."""

    def phases(self, model, fields, loss):
        (phase,) = super().phases(model, fields, loss)
        steps = iter([0.0] * 100)

        def explode(batch, made):
            return {**phase.loss(batch, made), "fuse": torch.tensor(next(steps, math.nan))}

        return (Phase(phase.name, model, explode),)


class Jumping(Relief):
    """Batches whose losses differ by far more than the first steps change them; only a good rate lowers their mean."""

    def phases(self, model, fields, loss):
        (phase,) = super().phases(model, fields, loss)
        jumps = iter([8.0, 0.0] + [4.0] * STEPS)

        def jump(batch, made):
            return {**phase.loss(batch, made), "jump": torch.tensor(next(jumps))}

        return (Phase(phase.name, model, jump),)


def test_a_rate_between_the_extremes_is_proposed_and_nothing_but_the_curve_is_kept(tmp_path):
    found = follow(Relief(), tmp_path / "run", find_lr=True, **SGD)
    assert 1e-4 < found["proposed"] < 10
    assert LEAST == found["rates"][0] < found["proposed"] <= found["rates"][-1] <= LARGEST * (1 + 1e-9)
    assert found["proposed"] in found["rates"] and len(found["rates"]) == len(found["losses"]) <= STEPS
    assert json.loads((tmp_path / "run" / "find-lr.json").read_text()) == found
    assert min(read_picture(tmp_path / "run" / "find-lr.png").shape[:2]) > 300
    assert not list((tmp_path / "run").rglob("*.safetensors")) and not (tmp_path / "run" / "last").exists()
    assert not (tmp_path / "run" / "result.json").exists()


def test_the_proposed_rate_trains_better_than_one_a_thousandth_of_it(tmp_path):
    proposed = follow(Relief(), tmp_path / "test", find_lr=True, **SGD)["proposed"]
    scores = []
    for number, rate in enumerate((proposed / 1000, proposed)):
        options = {**SGD, "lr": rate, "steps": 40}
        scores.append(follow(Relief(), tmp_path / f"run-{number}", **options)["watch"]["value"])
    assert scores[1] < scores[0]


def test_rates_grow_in_equal_factors(tmp_path):
    rates = follow(Relief(), tmp_path / "run", find_lr=True, **SGD)["rates"]
    factors = np.divide(rates[1:], rates[:-1])
    np.testing.assert_allclose(factors, (LARGEST / LEAST) ** (1 / (STEPS - 1)), rtol=1e-6)


def test_the_same_seed_proposes_the_same(tmp_path):
    one, other = (follow(Relief(), tmp_path / name, find_lr=True, **SGD) for name in ("one", "other"))
    assert one == other


def test_a_jump_of_the_first_batches_is_not_taken_for_a_fall(tmp_path):
    # At the start the running mean is of one or two batches: 8 to 4 is steeper than anything that a rate does.
    found = follow(Jumping(), tmp_path / "run", find_lr=True, **SGD)
    drops = -np.diff(found["losses"])
    assert np.argmax(drops) == 0
    assert found["proposed"] > found["rates"][SETTLED]


def test_a_loss_that_never_falls_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="The loss fell at no learning rate"):
        follow(Flat(), tmp_path / "run", find_lr=True, **SGD)


def test_nan_ends_the_test_instead_of_failing(tmp_path):
    found = follow(NanLater(), tmp_path / "run", find_lr=True, **SGD)
    assert len(found["losses"]) == 100 and all(map(math.isfinite, found["losses"]))
    assert found["exploded"] == pytest.approx(LEAST * (LARGEST / LEAST) ** (100 / (STEPS - 1)))
    assert found["proposed"] < found["exploded"]


def test_nan_from_the_start_proposes_nothing(tmp_path):
    # From the third step on: nothing has settled by then.
    with pytest.raises(UserError, match="The loss fell at no learning rate"):
        follow(Exploding(), tmp_path / "run", find_lr=True, **SGD)


def test_a_loss_that_explodes_ends_the_test_before_the_largest_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(rate_test, "LARGEST", 1e6)
    found = follow(Relief(), tmp_path / "run", find_lr=True, **{**SGD, "momentum": 0.99})
    assert found["exploded"] is not None and found["proposed"] < found["exploded"] < 1e6
    assert len(found["rates"]) < STEPS and all(map(math.isfinite, found["losses"]))


def test_the_proposal_is_the_least_losss_rate_as_many_steps_earlier_as_the_mean_lags():
    rates = [10.0**n for n in range(SETTLED + 5)]
    assert still_falling(rates, [9.0] * SETTLED + [3.0, 2.6, 2.0, 7.0, 3.0]) == rates[2]


def test_noise_between_neighbours_is_not_taken_for_a_fall():
    # The curve of a real run: small jumps first, then a fall of a quarter, then a rise.
    losses = [2.98] * SETTLED + [2.95, 2.90, 2.94, 2.92, 2.80, 2.66, 2.54, 2.45, 2.36, 2.29, 2.30, 2.73]
    rates = [2.0**n for n in range(len(losses))]
    assert still_falling(rates, losses) == rates[9]


@pytest.mark.parametrize("losses", [[], [3.0], [3.0, 3.0], [3.0, 3.5, 4.0], [3.0, 2.99, 3.1], [-1.0, -1.001, 0.0]])
def test_what_falls_by_less_than_a_hundredth_falls_nowhere(losses):
    with pytest.raises(UserError, match="fell at no learning rate"):
        still_falling([10.0**n for n in range(SETTLED + len(losses))], [9.0] * SETTLED + losses)


def test_the_papers_momentum_can_be_tested_too(tmp_path):
    found = follow(Relief(), tmp_path / "run", find_lr=True, **{**SGD, "optimizer": "sgd-1986"})
    assert LEAST < found["proposed"] < LARGEST


def test_the_test_is_one_of_the_run_as_it_will_be(tmp_path):
    run = start(Relief(), tmp_path / "run", find_lr=True, **SGD)
    assert type(run.optimizers[0].optimizer) is type(create_optimizer(run.model, run.options, 1.0))
    assert (tmp_path / "run" / "config.yaml").exists()
