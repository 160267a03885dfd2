"""The pieces of docs/experiments.py: the walk down the ravine, augmentation, hooks, thinned curves, tables."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

SCRIPT = Path(__file__).resolve().parent.parent / "docs" / "experiments.py"


@pytest.fixture(scope="module")
def experiments() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_experiments", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a frozen dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def test_without_momentum_every_coordinate_of_the_ravine_contracts_by_one_minus_rate_times_curvature(experiments):
    rate, steps = 0.019, 40
    path = experiments.ravine_path(rate, 0.0, steps)
    assert len(path) == steps + 1
    for step, point in enumerate(path):
        closed = [
            start * (1 - rate * c) ** step for start, c in zip(experiments.START, experiments.RAVINE, strict=True)
        ]
        assert point == pytest.approx(closed, rel=1e-12, abs=1e-15)


def test_with_momentum_the_path_follows_the_recursion_of_two_steps(experiments):
    # w_{t+1} = w_t - rate c w_t + α (w_t - w_{t-1}), the velocity eliminated
    rate, alpha = 0.019, 0.9
    path = experiments.ravine_path(rate, alpha, 60)
    for before, now, after in zip(path, path[1:], path[2:], strict=False):
        expected = [
            w - rate * c * w + alpha * (w - old) for w, old, c in zip(now, before, experiments.RAVINE, strict=True)
        ]
        assert after == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_at_a_constant_rate_the_lectures_momentum_is_torchs(experiments):
    # facts 2.2: v = rate · b
    at = nn.Parameter(torch.tensor(experiments.START, dtype=torch.float64))
    curvatures = torch.tensor(experiments.RAVINE, dtype=torch.float64)
    optimizer = torch.optim.SGD([at], 0.019, momentum=0.9)
    for _ in range(50):
        optimizer.zero_grad()
        (curvatures * at**2).sum().div(2).backward()
        optimizer.step()
    assert at.tolist() == pytest.approx(experiments.ravine_path(0.019, 0.9, 50)[-1], abs=1e-12)


def test_the_walks_of_the_page_do_what_the_page_says_of_them(experiments):
    # |1 - rate c| and, for complex roots, √α per step
    slow, fast, lost, held = experiments.momentum(None, 100)
    assert slow["distance"][-1] == pytest.approx(0.981**100, rel=1e-3)
    assert fast["distance"][-1] < slow["distance"][-1] / 10
    assert lost["distance"][-1] == pytest.approx(0.3 * 2.0**100, rel=1e-6)
    assert held["distance"][-1] < 2 * math.sqrt(0.9) ** 100


def test_the_seen_pictures_are_parts_of_the_padded_ones_and_each_has_its_own(experiments):
    images = torch.rand(64, 3, 12, 12) + 1
    seen = experiments.augment(images, torch.Generator().manual_seed(0))
    assert seen.shape == images.shape
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    parts = padded.unfold(2, 12, 1).unfold(3, 12, 1)  # (64, 3, 9, 9, 12, 12)
    found = set()
    for index, picture in enumerate(seen):
        for mirrored, candidate in ((False, picture), (True, picture.flip(2))):
            same = (parts[index] == candidate[:, None, None]).flatten(3).all(3).all(0)
            found |= {(mirrored, *place) for place in same.nonzero().tolist()}
    assert {mirrored for mirrored, *_ in found} == {False, True}
    assert len({tuple(place) for _, *place in found}) > 20
    same = experiments.augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(seen, same)


def test_every_run_sees_the_same_batches_and_every_picture_once_an_epoch(experiments):
    images = torch.zeros(3 * experiments.BATCH, 3, 8, 8)
    classes = torch.arange(len(images))
    once = [seen for _, seen in experiments.batches((images, classes), 6)]
    again = [seen for _, seen in experiments.batches((images, classes), 6)]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert torch.equal(torch.cat(once[:3]).sort().values, classes)
    assert not torch.equal(torch.cat(once[:3]), torch.cat(once[3:]))


def test_the_signal_is_read_behind_every_relu_in_order_and_leaves_no_hook(experiments):
    twice = nn.Linear(4, 4, bias=False)
    twice.weight.data = 2 * torch.eye(4)
    network = nn.Sequential(nn.Identity(), nn.ReLU(), twice, nn.ReLU())
    images = torch.randn(50, 4)
    stds = experiments.signal(network, images)
    assert stds == pytest.approx([images.relu().std().item(), 2 * images.relu().std().item()])
    assert not any(layer._forward_hooks for layer in network)


def test_he_holds_the_signal_of_20_layers_and_the_other_two_rules_lose_it(experiments):
    # 19 ReLUs; facts 2.1: N(0, .01²) shrinks a 16-channel layer of 9 taps by √(144 · 1e-4 / 2) = .085
    images = torch.randn(16, 3, 32, 32)
    signals = {
        run.init: experiments.signal(experiments.build(run, torch.device("cpu")), images)
        for run in experiments.RUNS["initialisation"]
    }
    assert all(len(stds) == 19 for stds in signals.values())
    first, last = {init: stds[0] for init, stds in signals.items()}, {init: stds[-1] for init, stds in signals.items()}
    assert 0.1 < last["he_fan_in"] / first["he_fan_in"] < 10
    assert last["glorot_normal"] / first["glorot_normal"] < 1e-2
    assert last["gaussian"] / first["gaussian"] < 1e-12
    assert signals["gaussian"][1] / signals["gaussian"][0] == pytest.approx(0.085, rel=0.3)


def test_a_thinned_curve_keeps_the_mean_and_ends_at_the_last_step(experiments):
    values = [float(value) for value in range(150)]
    points = experiments.thin(values)
    assert len(points) <= experiments.POINTS and points[-1][0] == 150
    assert points[0] == [3, 1.0]
    assert experiments.thin([]) == []


def test_a_training_records_its_losses_and_an_impossible_rate_is_said_to_diverge(experiments, monkeypatch):
    monkeypatch.setattr(experiments, "BATCH", 8)
    pictures = experiments.draw_pictures(torch.device("cpu"), training=24, test=6)
    assert pictures.train[0].mean((0, 2, 3)).abs().max() < 1e-4
    run = experiments.Run("tiny", "plain20_cifar", 0.01)
    trained = experiments.train(run, pictures, 4, watched=2)
    assert [step for step, _ in trained["test_error"]] == [2, 4]
    assert len(trained["loss"]) == 4 and trained["diverged"] is None
    assert trained["final_loss"] == pytest.approx(sum(loss for _, loss in trained["loss"]) / 4, abs=1e-4)
    wild = experiments.train(experiments.Run("wild", "plain20_cifar", 1e30, norm=False), pictures, 6)
    assert len(trained["signal_after"]) == 19 and min(trained["signal_after"]) > 0
    assert wild["diverged"] is not None and wild["final_loss"] is None and wild["signal_after"] is None
    assert experiments.loss_of(wild).startswith("diverged")


def test_the_tables_are_written_between_their_marks_and_nothing_else_changes(experiments, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- table depth -->\nTODO\n<!-- end -->\nBetween.\n<!-- table momentum -->\nTODO\n<!-- end -->\n"
    )
    run = {
        "label": "plain-20",
        "parameters": 269722,
        "final_loss": 0.51249,
        "final_test_error": 0.1234,
        "seconds": 61.4,
        "diverged": None,
    }
    lost = {**run, "label": "plain-56", "final_loss": None, "final_test_error": None, "diverged": 7}
    (tmp_path / "depth.json").write_text(json.dumps({"how": "Made at home.", "runs": [run, lost]}))
    expected = (
        "Before.\n<!-- table depth -->\n"
        "| network | parameters | final loss | test error, % | seconds |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| plain-20 | 269,722 | 0.512 | 12.3 | 61 |\n"
        "| plain-56 | 269,722 | diverged at step 7 | – | 61 |\n"
        "\n*Made at home.*\n<!-- end -->\nBetween.\n<!-- table momentum -->\nTODO\n<!-- end -->\n"
    )
    for _ in range(2):  # a second writing changes nothing
        experiments.write_tables(page, tmp_path)
        assert page.read_text() == expected


def test_the_page_has_a_place_for_every_table(experiments):
    text = experiments.PAGE.read_text(encoding="utf-8")
    for name in experiments.COLUMNS:
        assert text.count(f"<!-- table {name} -->\n") == 1
        assert f"experiments/{name}.png" in text
        assert f"python docs/experiments.py {name}" in text
    assert text.count("<!-- end -->") == len(experiments.COLUMNS)
