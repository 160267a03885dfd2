from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import cv2
import pytest
import torch

from densevision.backbones.backbone import Preprocessing
from densevision.datasets.rooms import Rooms
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.inference import load
from densevision.tasks.training.assembly import name_of
from densevision.tasks.training.checkpoint import load_state, read_header, save_checkpoint
from densevision.tasks.training.loop import train
from densevision.tasks.training.meter import Meter
from densevision.tasks.training.options import Options

from .toys import TINY, TRUNK, Relief, Reliefs, follow, go_on, log_lines, start

# Design 4: what result.json holds.
RESULT_KEYS = {
    "task", "backbone", "head", "data", "split", "protocol", "samples", "metrics", "baseline", "steps", "seconds",
    "images_per_second", "device", "watch",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict]:
    """A run of a trunk and a head on the embedded world."""
    out = tmp_path_factory.mktemp("runs") / "depth"
    options = {**TINY, **TRUNK, "steps": 4, "evaluate_every": 2, "log_every": 1, "ema": 0.5, "loss": "log"}
    return out, train("depth", out=out, **options)


def test_a_run_folder_holds_what_the_design_lists(finished):
    folder, _ = finished
    for name in (
        "config.yaml", "log.jsonl", "curves.png", "pictures/step-2.png", "pictures/step-4.png", "last/state.pt",
        "last/checkpoint.safetensors", "best.safetensors", "result.json",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "events").glob("events.out.tfevents.*"))
    assert not list(folder.rglob("*.part-*"))


def test_result_json_is_what_train_returns_and_has_the_keys_of_the_design(finished):
    folder, result = finished
    assert json.loads((folder / "result.json").read_text()) == result
    assert result.keys() >= RESULT_KEYS
    assert result["watch"] == {
        "name": "abs_rel",
        "higher_is_better": False,
        "value": result["metrics"]["abs_rel"],
        "baseline": result["baseline"]["abs_rel"],
    }
    assert (result["data"], result["split"], result["samples"], result["steps"]) == ("rooms", "test", 3, 4)
    assert result["metrics"].keys() == result["baseline"].keys()


def test_the_log_has_a_line_per_milestone_with_every_term(finished):
    folder, _ = finished
    lines = log_lines(folder)
    assert [(line["step"], line["kind"]) for line in lines] == [
        (1, "train"), (2, "train"), (2, "eval"), (3, "train"), (4, "train"), (4, "eval"),
    ]  # fmt: skip
    assert all({"log_l1", "gradients", "lr"} < line.keys() for line in lines if line["kind"] == "train")


def test_tensorboard_shows_the_numbers_of_the_log(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = finished
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/log_l1")]
    logged = [(line["step"], line["log_l1"]) for line in log_lines(folder) if line["kind"] == "train"]
    assert [step for step, _ in shown] == [step for step, _ in logged]
    assert [value for _, value in shown] == pytest.approx([value for _, value in logged])


def test_a_run_s_pictures_show_input_truth_and_answer_side_by_side(finished):
    folder, _ = finished
    picture = cv2.imread(str(folder / "pictures" / "step-4.png"))
    assert picture is not None
    # Three samples of 16 x 16, three pictures each, 4 pixels between them, enlarged by a whole factor.
    height, width = picture.shape[:2]
    assert height == width and width % (3 * 16 + 2 * 4) == 0 and width > 3 * 16 + 2 * 4


def test_the_config_is_all_of_the_options_so_that_the_same_run_can_be_started_from_it(finished, tmp_path):
    folder, result = finished
    stored = Options.read(folder / "config.yaml")
    assert stored.backbone == "resnet20_cifar" and stored.recipe == "rooms" and stored.steps == 4
    assert stored.resume is None and stored.out == folder
    again = train("depth", stored, out=tmp_path / "again")
    assert again["metrics"] == result["metrics"]


def test_the_best_checkpoint_is_the_one_of_the_best_evaluation(finished):
    folder, result = finished
    evaluations = {line["step"]: line["abs_rel"] for line in log_lines(folder) if line["kind"] == "eval"}
    step = min(evaluations, key=lambda step: evaluations[step])
    header = read_header(folder / "best.safetensors")
    assert header["step"] == step == result["best"]["step"]
    assert header["metrics"]["abs_rel"] == evaluations[step] == result["best"]["value"]
    assert header["metrics"]["protocol"] == "all-pixels"


def test_the_averaged_weights_are_saved_in_checkpoints_and_the_others_in_the_state(finished):
    folder, _ = finished
    state = load_state(folder / "last" / "state.pt")
    model = load(folder / "last" / "checkpoint.safetensors", device="cpu").model.state_dict()
    assert all(torch.equal(model[name], value) for name, value in state["ema"]["average"].items())
    assert not torch.equal(model["head.predict.weight"], state["model"]["head.predict.weight"])


def test_a_header_names_the_data_and_its_terms(finished):
    folder, _ = finished
    data = read_header(folder / "best.safetensors")["data"]
    assert data == {"name": "rooms", "title": Rooms.title, "terms": Rooms.terms}


def test_a_set_opened_in_python_is_not_called_by_the_tasks_default(tmp_path):
    result = follow(Relief(), tmp_path / "run", network="plain", steps=1)
    assert (result["data"], result["trained_on"]) == ("Reliefs", "Reliefs")
    header = read_header(tmp_path / "run" / "best.safetensors")
    assert header["data"] == {"name": "Reliefs", "title": "Reliefs", "terms": "no terms"}
    assert Options.read(tmp_path / "run" / "config.yaml").data == "Reliefs"
    assert name_of(Rooms()) == "rooms"


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    follow(Relief(), tmp_path / "run", network="plain", steps=1)
    before = (tmp_path / "run" / "result.json").read_bytes()
    with pytest.raises(UserError, match="holds a run already: add --resume to continue it, or give another --out"):
        follow(Relief(), tmp_path / "run", network="plain", steps=1)
    assert (tmp_path / "run" / "result.json").read_bytes() == before
    # A run that died before its first save cannot be continued, and must not be told to.
    shutil.rmtree(tmp_path / "run" / "last")
    with pytest.raises(UserError, match="holds a run that was never saved: delete it, or give another --out"):
        follow(Relief(), tmp_path / "run", network="plain", steps=1)


def test_a_log_cut_in_the_middle_of_a_line_is_mended_by_resuming(tmp_path):
    follow(Relief(), tmp_path / "whole", network="plain", log_every=1)
    follow(Relief(), tmp_path / "cut", network="plain", log_every=1)
    log = tmp_path / "cut" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 7, "kind": "tra')
    go_on(Relief(), tmp_path / "cut")
    assert log_lines(tmp_path / "cut") == log_lines(tmp_path / "whole")


def test_init_starts_from_another_runs_weights_and_preprocessing(tmp_path):
    first = start(Depth(), tmp_path / "first", **TRUNK)
    first.model.backbone.preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), order="BGR")
    save_checkpoint(tmp_path / "first.safetensors", first.model, first.blueprint, first.facts())
    second = start(Depth(), tmp_path / "second", **TRUNK, seed=7, init=tmp_path / "first.safetensors")
    assert all(torch.equal(value, first.model.state_dict()[name]) for name, value in second.model.state_dict().items())
    assert second.model.backbone.preprocessing == first.model.backbone.preprocessing
    assert second.step == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"head": "up-projection"}, "has the head unet, this network up-projection"),
        ({"backbone": "resnet32_cifar"}, "has the backbone resnet20_cifar, this network resnet32_cifar"),
        ({"levels": 2}, r"'head\.stages.*' of shape"),
    ],
)
def test_init_from_another_network_names_what_differs(tmp_path, options, sentence):
    first = start(Depth(), tmp_path / "first", **TRUNK)
    save_checkpoint(tmp_path / "first.safetensors", first.model, first.blueprint, first.facts())
    with pytest.raises(UserError, match=f"--init .*{sentence}"):
        start(Depth(), tmp_path / "second", **{**TRUNK, **options}, init=tmp_path / "first.safetensors")


def test_init_refuses_a_trunk_whose_stride_lies_elsewhere_though_every_tensor_fits(tmp_path):
    shape = {"backbone": "resnet50", "levels": 3, "head": "unet"}
    first = start(Depth(), tmp_path / "first", **shape, stride_in="1x1")
    save_checkpoint(tmp_path / "first.safetensors", first.model, first.blueprint, first.facts())
    with pytest.raises(UserError, match="has the stride_in 1x1, this network 3x3: give the same"):
        start(Depth(), tmp_path / "second", **shape, init=tmp_path / "first.safetensors")


def test_a_missing_init_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint '.*nowhere\.safetensors'"):
        start(Relief(), tmp_path / "run", network="plain", init=tmp_path / "nowhere.safetensors")


def test_what_a_network_began_from_follows_it_from_run_to_run(tmp_path):
    out = tmp_path / "first"
    follow(Depth(), out, **TRUNK, steps=1)
    header = read_header(out / "best.safetensors")
    assert header["trunk"] is None and header["init"] is None
    for name, before in (("second", out), ("third", tmp_path / "second")):
        follow(Depth(), tmp_path / name, **TRUNK, steps=1, init=before / "best.safetensors")
    init = read_header(tmp_path / "third" / "best.safetensors")["init"]
    assert init["data"]["terms"] == init["init"]["data"]["terms"] == Reliefs.terms
    assert init["init"]["init"] is None


def test_a_meter_counts_means_and_no_time_that_is_not_training(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    meter = Meter()
    for now, loss in ((1.0, 1.0), (3.0, 2.0)):  # noqa: B007 - the clock reads it
        meter.add({"a": loss}, 4)
    with meter.paused():
        now = 50.0
    now = 51.0
    meter.add({"a": 6.0}, 4)
    # Three steps of 1, 2 and 1 seconds with 4 pictures each.
    assert meter.total == 4.0
    assert meter.flush() == ({"a": 3.0}, 3.0)


def test_a_meter_goes_on_from_where_its_state_was_saved():
    meter, again = Meter(), Meter()
    meter.add({"a": 5.0}, 4)
    again.restore(meter.state())
    again.add({"a": 7.0}, 4)
    assert again.flush()[0] == {"a": 6.0}
