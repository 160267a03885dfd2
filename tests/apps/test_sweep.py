"""`densevision sweep`: the values that are tried, and the runs, their table and plot."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.apps import sweep as sweep_module
from densevision.apps.sweep import Dimension, plan, split_options


def test_ranges_and_alternatives_are_tried_and_everything_else_is_passed_on():
    text = "--lr 1e-4:1e-2 --backbone resnet18,vgg16 --image-size 32 32 --root s3://a:b/c --freeze-bn --head=unet"
    dimensions, fixed = split_options(text.split())
    assert dimensions == [
        Dimension("--lr", ("1e-4", "1e-2"), True),
        Dimension("--backbone", ("resnet18", "vgg16"), False),
    ]
    assert fixed == ["--image-size", "32", "32", "--root", "s3://a:b/c", "--freeze-bn", "--head", "unet"]


def test_values_cover_a_range_by_magnitude_and_alternatives_equally():
    trials = plan(["--lr", "1e-4:1e-2", "--head", "unet,fpn", "--batch-size", "8:9"], 32, Path("out"), seed=0)
    lrs = np.log10([float(trial.values["--lr"]) for trial in trials])
    assert np.all((lrs >= -4) & (lrs <= -2))
    # Eight equal parts of the range in orders of magnitude have four values each, give or take one.
    assert np.all(np.abs(np.histogram(lrs, 8, (-4, -2))[0] - 4) <= 1)
    heads = [trial.values["--head"] for trial in trials]
    assert heads.count("unet") == 16
    assert {trial.values["--batch-size"] for trial in trials} == {"8", "9"}
    assert plan(["--lr", "1:2"], 3, Path("out"), seed=0) == plan(["--lr", "1:2"], 3, Path("out"), seed=0)


def test_what_cannot_be_tried_is_one_sentence(run):
    assert "There is nothing to try" in run("sweep", "depth", "--steps", "3").error
    assert "cannot pass --resume on to its runs" in run("sweep", "depth", "--lr", "1:2", "--resume").error
    assert "give the lower end of a range first" in run("sweep", "depth", "--lr", "2:1").error
    assert "no task named 'dept'" in run("sweep", "dept", "--lr", "1:2").error
    assert "--trials is 0" in run("sweep", "depth", "--lr", "1:2", "--trials", "0").error


def test_the_best_run_is_first_in_table_and_plot_and_a_second_sweep_runs_only_what_is_missing(
    run, tmp_path, monkeypatch
):
    started = []

    def train(command, **_):
        started.append(command)
        folder, lr = Path(command[command.index("--out") + 1]), float(command[command.index("--lr") + 1])
        monitor = {"name": "abs_rel", "value": abs(lr - 0.004), "baseline": 0.005}
        if len(started) != 2:
            (folder / "result.json").write_text(json.dumps({"monitor": monitor, "seconds": 3.0}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(sweep_module.subprocess, "run", train)
    words = ("--lr", "1e-3:9e-3", "--head", "unet,fpn", "--steps", "5", "--trials", "6", "--engine", "serial")
    result = run("sweep", "depth", *words)
    assert result.code == 0 and "1 run(s) have no result" in result.err
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert len(rows) == 5 and [row["value"] for row in rows] == sorted(row["value"] for row in rows)
    best = rows[0]["options"]
    assert f"Best: densevision train depth --steps 5 --lr {best['--lr']} --head {best['--head']}" in result.out
    assert result.out.splitlines()[2].startswith(f"| {rows[0]['run']} | {best['--lr']} | {best['--head']} |")
    assert np.asarray(Image.open(tmp_path / "sweep" / "sweep.png")).shape[1] > 600
    assert run("sweep", "depth", *words).code == 0
    assert len(started) == 7 and started[1] == started[6]


@pytest.mark.slow
def test_a_sweep_trains(run, tmp_path, light_options):
    words = light_options("--data", "synthetic-rooms", "--lr", "1e-4:1e-2")
    assert run("sweep", "depth", *words, "--trials", "2", "--engine", "serial").code == 0
    assert len(json.loads((tmp_path / "sweep" / "sweep.json").read_text())) == 2
