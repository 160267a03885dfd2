"""`densevision evaluate`: scores with their protocol and a baseline."""

from __future__ import annotations

import csv
import json
import re
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from densevision.apps.evaluate import open_split
from densevision.errors import UserError

ON_CPU = ("--device", "cpu", "--amp", "off")


def test_evaluate_prints_scores_with_protocol_and_baseline(run, tmp_path, checkpoint, scenes):
    result = run("evaluate", checkpoint, "--root", scenes, *ON_CPU, "--save-worst", "2", "--out", "scores")
    assert result.code == 0, result.err
    scores = json.loads(result.out)
    assert scores == json.loads((tmp_path / "scores" / "result.json").read_text())
    assert (scores["data"], scores["split"], scores["protocol"]) == ("seven-scenes", "test", "all-pixels")
    assert scores["metrics"].keys() == scores["baseline"].keys() > {"abs_rel", "rmse", "delta1"}
    assert scores["monitor"]["value"] == scores["metrics"]["abs_rel"]
    # The file states the model and its training data.
    assert (scores["backbone"], scores["head"], scores["model"]) == ("resnet18", "unet", None)
    assert (scores["trained_on"], scores["steps"]) == ("seven-scenes", 2)
    assert Image.open(tmp_path / "scores" / "worst.png").mode == "RGB"
    worst = [float(score) for score in re.findall(r"abs_rel (\d\.\d+)", result.err)]
    assert len(worst) == 2 and worst == sorted(worst, reverse=True)


def test_evaluate_on_another_dataset_a_part_of_it_and_with_tta_flip(run, checkpoint):
    plain = json.loads(run("evaluate", checkpoint, "--data", "synthetic-rooms", "--samples", "2", *ON_CPU).out)
    flipped = json.loads(
        run("evaluate", checkpoint, "--data", "synthetic-rooms", "--samples", "2", "--tta-flip", *ON_CPU).out
    )
    assert (plain["data"], plain["samples"]) == ("synthetic-rooms", 2)
    assert flipped["tta_flip"] and flipped["metrics"]["abs_rel"] != plain["metrics"]["abs_rel"]
    assert flipped["baseline"] == plain["baseline"]


def test_degradations_of_the_evaluation_replace_those_of_the_training(run):
    words = ("evaluate", "restoration", "--data", "synthetic-shapes", "--samples", "1", *ON_CPU, "--degradations")
    clean, noisy = (json.loads(run(*words, names).out) for names in ("none", "noise"))
    # An image equals itself: 100 dB.
    assert clean["baseline"]["psnr"] == 100 and noisy["baseline"]["psnr"] < 40
    assert noisy["options"]["degradations"] == "noise"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--protocol nyu-laena", "no protocol of the task depth named 'nyu-laena'; did you mean 'nyu-laina'"),
        ("--split val", "has the splits train, test; there is no 'val'"),
        ("--data nyu", "no dataset named 'nyu'; did you mean 'nyu-raw'|did you mean 'nyu-depth'"),
        ("--amp b16", 'Did you mean "bf16"'),
        ("--device gpu", "no device 'gpu'"),
    ],
)
def test_a_user_error_is_one_line(run, checkpoint, scenes, words, message):
    assert re.search(message, run("evaluate", checkpoint, "--root", scenes, *words.split()).error)


def test_a_run_on_own_data_says_that_it_needs_a_dataset():
    predictor: Any = SimpleNamespace(header={"data": {"name": "Samples"}})
    with pytest.raises(UserError, match=r"not a registered dataset \(Samples\): name one with --data, or evaluate in"):
        open_split("runs/mine", predictor, None, None, None)


def test_a_dataset_without_training_samples_has_no_baseline(run, tmp_path, checkpoint):
    assert run("data", "make-example", "depth-folders", "mine").code == 0
    (tmp_path / "mine" / "test").mkdir()
    for folder in ("images", "depths"):
        (tmp_path / "mine" / folder).rename(tmp_path / "mine" / "test" / folder)
    result = run("evaluate", checkpoint, "--data", "depth-folders", "--root", "mine", *ON_CPU)
    assert result.code == 0, result.err
    assert json.loads(result.out)["baseline"] is None
    assert "No baseline" in result.err


def test_a_run_folder_is_evaluated_on_the_data_of_the_run(run, tmp_path, trained, checkpoint, scenes):
    expected = json.loads(run("evaluate", checkpoint, "--root", scenes, *ON_CPU).out)["metrics"]
    for path in (trained, checkpoint, trained / "last" / "checkpoint.safetensors"):
        result = run("evaluate", path, *ON_CPU)
        assert result.code == 0, (path, result.err)
        scores = json.loads(result.out)
        assert (scores["data"], scores["split"], scores["metrics"]) == ("seven-scenes", "test", expected)
    assert json.loads(run("evaluate", trained, "--split", "train", *ON_CPU).out)["split"] == "train"


def test_the_evaluation_data_of_a_run_come_before_its_training_data(run, tmp_path, trained):
    copy = shutil.copytree(trained, tmp_path / "run")
    config = copy / "config.yaml"
    config.write_text(config.read_text() + "eval_data: synthetic-rooms\neval_split: test\n")
    assert json.loads(run("evaluate", copy, "--samples", "1", *ON_CPU).out)["data"] == "synthetic-rooms"
    # Other data on the command line do not get the root of the run.
    plain = json.loads(run("evaluate", trained, "--data", "synthetic-rooms", "--samples", "1", *ON_CPU).out)
    assert plain["data"] == "synthetic-rooms"
    # Without task.json, the config.yaml beside a checkpoint may be anybody's.
    (copy / "task.json").unlink()
    assert "seven-scenes" in run("evaluate", copy / "best.safetensors", *ON_CPU).error


def test_a_split_without_ground_truth_is_one_sentence(run, tmp_path, checkpoint):
    assert run("data", "make-example", "depth-folders", "mine").code == 0
    for file in (tmp_path / "mine" / "depths").iterdir():
        file.unlink()
        Image.fromarray(np.zeros((48, 64), np.uint16)).save(file.with_suffix(".png"))
    error = run("evaluate", checkpoint, "--data", "depth-folders", "--root", "mine", *ON_CPU, "--out", "scores").error
    assert re.search(r"No sample of the split 'test' of .* has ground truth .* protocol all-pixels", error)
    assert not (tmp_path / "scores").exists()


def test_a_model_whose_predictions_are_nan_has_no_score(run, tmp_path, checkpoint, scenes):
    with safe_open(checkpoint, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    broken = {
        name: torch.full_like(value, torch.nan) if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    header = {key: value for key, value in json.loads(metadata["densevision"]).items() if key != "digest"}
    save_file(broken, tmp_path / "broken.safetensors", {"densevision": json.dumps(header)})
    result = run("evaluate", "broken.safetensors", "--root", scenes, *ON_CPU)
    assert (result.code, result.out) == (2, "")
    assert "has no abs_rel on 'seven-scenes', since its predictions are not finite" in result.err


def test_scores_of_every_sample_and_tables_are_written_as_csv(run, tmp_path, checkpoint, scenes):
    result = run("evaluate", checkpoint, "--root", scenes, *ON_CPU, "--csv", "scores.csv")
    assert result.code == 0 and "Wrote scores.csv, scores-ranges.csv" in result.err
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == json.loads(result.out)["samples"] and rows[0]["sample"].endswith("color.png")


def test_two_checkpoints_are_compared_on_the_same_samples(run, checkpoint, scenes):
    result = run("compare", checkpoint, checkpoint, "--root", scenes, "--resamples", "20", *ON_CPU)
    assert result.code == 0 and "abs_rel (lower is better)" in result.out
    assert "difference +0.0000, 95 % interval +0.0000 to +0.0000 (the interval contains 0)" in result.out
    other = run("compare", checkpoint, "flow", "--root", scenes, *ON_CPU)
    assert re.search("is a model of 'depth', flow of 'flow': give one task", other.error)
