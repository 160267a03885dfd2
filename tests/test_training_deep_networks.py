"""examples/training_deep_networks.py: gradient descent in a ravine, augmentation, hooks, thinned curves, tables."""

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

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "training_deep_networks.py"


@pytest.fixture(scope="module")
def experiments() -> ModuleType:
    spec = importlib.util.spec_from_file_location("training_deep_networks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a frozen dataclass looks up its module
    spec.loader.exec_module(module)
    return module


def test_without_momentum_every_coordinate_contracts_by_one_minus_lr_times_curvature(experiments):
    lr, steps = 0.019, 40
    path = experiments.ravine_path(lr, 0.0, steps)
    assert len(path) == steps + 1
    for step, point in enumerate(path):
        closed = [start * (1 - lr * c) ** step for start, c in zip(experiments.START, experiments.RAVINE, strict=True)]
        assert point == pytest.approx(closed, rel=1e-12, abs=1e-15)


def test_with_momentum_the_path_follows_the_recursion_of_two_steps(experiments):
    # w_{t+1} = w_t - lr c w_t + α (w_t - w_{t-1}), with the velocity eliminated
    lr, alpha = 0.019, 0.9
    path = experiments.ravine_path(lr, alpha, 60)
    for before, now, after in zip(path, path[1:], path[2:], strict=False):
        expected = [
            w - lr * c * w + alpha * (w - old) for w, old, c in zip(now, before, experiments.RAVINE, strict=True)
        ]
        assert after == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_at_a_constant_learning_rate_momentum_is_that_of_torch(experiments):
    # torch keeps the learning rate outside of the velocity: v = lr · b
    point = nn.Parameter(torch.tensor(experiments.START, dtype=torch.float64))
    curvatures = torch.tensor(experiments.RAVINE, dtype=torch.float64)
    optimizer = torch.optim.SGD([point], 0.019, momentum=0.9)
    for _ in range(50):
        optimizer.zero_grad()
        (curvatures * point**2).sum().div(2).backward()
        optimizer.step()
    assert point.tolist() == pytest.approx(experiments.ravine_path(0.019, 0.9, 50)[-1], abs=1e-12)


def test_the_four_paths_converge_and_diverge_as_the_page_says(experiments):
    # |1 - lr c| and, for complex roots, √α per step
    slow, fast, diverging, stable = experiments.momentum(None, 100)
    assert slow["distance"][-1] == pytest.approx(0.981**100, rel=1e-3)
    assert fast["distance"][-1] < slow["distance"][-1] / 10
    assert diverging["distance"][-1] == pytest.approx(0.3 * 2.0**100, rel=1e-6)
    assert stable["distance"][-1] < 2 * math.sqrt(0.9) ** 100


def test_augmented_images_are_crops_of_the_padded_ones_each_with_its_own_offset(experiments):
    images = torch.rand(64, 3, 12, 12) + 1
    augmented = experiments.augment(images, torch.Generator().manual_seed(0))
    assert augmented.shape == images.shape
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    crops = padded.unfold(2, 12, 1).unfold(3, 12, 1)  # (64, 3, 9, 9, 12, 12)
    offsets = set()
    for index, image in enumerate(augmented):
        for flipped, candidate in ((False, image), (True, image.flip(2))):
            same = (crops[index] == candidate[:, None, None]).flatten(3).all(3).all(0)
            offsets |= {(flipped, *offset) for offset in same.nonzero().tolist()}
    assert {flipped for flipped, *_ in offsets} == {False, True}
    assert len({tuple(offset) for _, *offset in offsets}) > 20
    again = experiments.augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(augmented, again)


def test_every_run_gets_the_same_batches_and_every_image_once_per_epoch(experiments):
    images = torch.zeros(3 * experiments.BATCH, 3, 8, 8)
    classes = torch.arange(len(images))
    once = [labels for _, labels in experiments.batches((images, classes), 6)]
    again = [labels for _, labels in experiments.batches((images, classes), 6)]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert torch.equal(torch.cat(once[:3]).sort().values, classes)
    assert not torch.equal(torch.cat(once[:3]), torch.cat(once[3:]))


def test_the_signal_is_measured_after_every_relu_in_order_and_leaves_no_hook(experiments):
    doubling = nn.Linear(4, 4, bias=False)
    doubling.weight.data = 2 * torch.eye(4)
    network = nn.Sequential(nn.Identity(), nn.ReLU(), doubling, nn.ReLU())
    images = torch.randn(50, 4)
    stds = experiments.signal(network, images)
    assert stds == pytest.approx([images.relu().std().item(), 2 * images.relu().std().item()])
    assert not any(layer._forward_hooks for layer in network)


def test_he_preserves_the_signal_of_20_layers_and_the_other_initializations_lose_it(experiments):
    # 19 ReLUs; N(0, .01²) shrinks a 16-channel layer of 9 taps by √(144 · 1e-4 / 2) = .085
    images = torch.randn(16, 3, 32, 32)
    signals = {
        run.init: experiments.signal(experiments.build(run, torch.device("cpu")), images)
        for run in experiments.RUNS["initialization"]
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


def test_a_training_records_its_losses_and_an_impossible_learning_rate_diverges(experiments, monkeypatch):
    monkeypatch.setattr(experiments, "BATCH", 8)
    images = experiments.load_images(torch.device("cpu"), training=24, test=6)
    assert images.train[0].mean((0, 2, 3)).abs().max() < 1e-4
    run = experiments.Run("tiny", "plain20_cifar", 0.01)
    trained = experiments.train(run, images, 4, evaluations=2)
    assert [step for step, _ in trained["test_error"]] == [2, 4]
    assert len(trained["loss"]) == 4 and trained["diverged"] is None
    assert trained["final_loss"] == pytest.approx(sum(loss for _, loss in trained["loss"]) / 4, abs=1e-4)
    wild = experiments.train(experiments.Run("wild", "plain20_cifar", 1e30, norm=False), images, 6)
    assert len(trained["signal_after"]) == 19 and min(trained["signal_after"]) > 0
    assert wild["diverged"] is not None and wild["final_loss"] is None and wild["signal_after"] is None
    assert experiments.loss_of(wild).startswith("diverged")


def test_tables_are_replaced_between_their_marks_and_nothing_else_changes(experiments, tmp_path):
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
    diverged = {**run, "label": "plain-56", "final_loss": None, "final_test_error": None, "diverged": 7}
    (tmp_path / "depth.json").write_text(json.dumps({"how": "Made here.", "runs": [run, diverged]}))
    expected = (
        "Before.\n<!-- table depth -->\n"
        "| network | parameters | final loss | test error, % | seconds |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| plain-20 | 269,722 | 0.512 | 12.3 | 61 |\n"
        "| plain-56 | 269,722 | diverged at step 7 | – | 61 |\n"
        "\n*Made here.*\n<!-- end -->\nBetween.\n<!-- table momentum -->\nTODO\n<!-- end -->\n"
    )
    for _ in range(2):  # writing a second time changes nothing
        experiments.write_tables(page, tmp_path)
        assert page.read_text() == expected


def test_the_page_has_every_table_figure_and_command(experiments):
    text = experiments.PAGE.read_text(encoding="utf-8")
    for name in experiments.COLUMNS:
        assert text.count(f"<!-- table {name} -->\n") == 1
        assert f"../examples/training_deep_networks/{name}.png" in text
        assert f"python examples/training_deep_networks.py {name}" in text
    assert text.count("<!-- end -->") == len(experiments.COLUMNS)
