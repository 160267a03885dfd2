"""`densevision evaluate`: scores with their protocol and a baseline."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

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


def test_a_dataset_without_training_samples_has_no_baseline(run, tmp_path, checkpoint):
    assert run("data", "make-example", "depth-folders", "mine").code == 0
    (tmp_path / "mine" / "test").mkdir()
    for folder in ("images", "depths"):
        (tmp_path / "mine" / folder).rename(tmp_path / "mine" / "test" / folder)
    result = run("evaluate", checkpoint, "--data", "depth-folders", "--root", "mine", *ON_CPU)
    assert result.code == 0, result.err
    assert json.loads(result.out)["baseline"] is None
    assert "No baseline" in result.err
