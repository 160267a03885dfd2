"""`densevision evaluate`: scores with their protocol, beside the trivial answer."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

ON_CPU = ("--device", "cpu", "--amp", "off")


def test_evaluate_prints_scores_with_protocol_beside_the_trivial_answer(run, tmp_path, checkpoint, scenes):
    said = run("evaluate", checkpoint, "--root", scenes, *ON_CPU, "--worst", "2", "--out", "scores")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert result == json.loads((tmp_path / "scores" / "result.json").read_text())
    assert (result["data"], result["split"], result["protocol"]) == ("seven-scenes", "test", "all-pixels")
    assert result["metrics"].keys() == result["baseline"].keys() > {"abs_rel", "rms", "delta1"}
    assert result["watch"]["value"] == result["metrics"]["abs_rel"]
    # Whoever reads the file alone knows which network it was, and what it learned from.
    assert (result["backbone"], result["head"], result["network"]) == ("resnet18", "unet", None)
    assert (result["trained_on"], result["steps"]) == ("seven-scenes", 2)
    assert Image.open(tmp_path / "scores" / "worst.png").mode == "RGB"
    worst = [float(score) for score in re.findall(r"abs_rel (\d\.\d+)", said.err)]
    assert len(worst) == 2 and worst == sorted(worst, reverse=True)


def test_evaluate_takes_another_set_a_part_of_it_and_the_mirrored_picture(run, checkpoint):
    straight = json.loads(run("evaluate", checkpoint, "--data", "rooms", "--samples", "2", *ON_CPU).out)
    both = json.loads(run("evaluate", checkpoint, "--data", "rooms", "--samples", "2", "--flip", *ON_CPU).out)
    assert (straight["data"], straight["samples"]) == ("rooms", 2)
    assert both["flip"] and both["metrics"]["abs_rel"] != straight["metrics"]["abs_rel"]
    assert both["baseline"] == straight["baseline"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--protocol nyu-laena", "no protocol of the task depth named 'nyu-laena'; did you mean 'nyu-laina'"),
        ("--split val", "has the splits train, test; there is no 'val'"),
        ("--data nyu", "no data set named 'nyu'; did you mean 'nyu-raw'|did you mean 'nyu-depth'"),
        ("--amp b16", 'Did you mean "bf16"'),
        ("--device gpu", "no device 'gpu'"),
    ],
)
def test_evaluate_answers_a_mistake_before_it_computes(run, checkpoint, scenes, words, answer):
    assert re.search(answer, run("evaluate", checkpoint, "--root", scenes, *words.split()).mistake)


def test_a_set_without_training_samples_is_scored_without_a_trivial_answer(run, tmp_path, checkpoint):
    assert run("data", "write-miniature", "depth-folders", "mine").code == 0
    (tmp_path / "mine" / "test").mkdir()
    for folder in ("images", "depths"):
        (tmp_path / "mine" / folder).rename(tmp_path / "mine" / "test" / folder)
    said = run("evaluate", checkpoint, "--data", "depth-folders", "--root", "mine", *ON_CPU)
    assert said.code == 0, said.err
    assert json.loads(said.out)["baseline"] is None
    assert "No trivial baseline" in said.err
