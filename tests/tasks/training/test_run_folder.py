from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from densevision.backbones.backbone import Preprocessing
from densevision.datasets.field_types import ClassLabel, Image, SegmentationMask
from densevision.datasets.mixture import registry_name
from densevision.datasets.synthetic import SyntheticRooms
from densevision.errors import UserError
from densevision.tasks.checkpoint import read_header, write_model
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.inference import load
from densevision.tasks.training.log import Meter
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import train
from densevision.tasks.training.state import load_state
from densevision.tasks.translation import Translation

from .toys import BACKBONE, TINY, Relief, Reliefs, build_toy_trainer, log_lines, resume_toy, stop_after, train_toy

# Design 4: keys of result.json.
RESULT_KEYS = {
    "task", "backbone", "head", "data", "split", "protocol", "samples", "metrics", "baseline", "steps", "seconds",
    "images_per_second", "device", "monitor",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict]:
    """A run of a backbone and a head on a synthetic dataset."""
    out = tmp_path_factory.mktemp("runs") / "depth"
    options = {**TINY, **BACKBONE, "steps": 4, "eval_every": 2, "log_every": 1, "ema_decay": 0.5, "loss": "log-l1+grad"}
    return out, train("depth", out=out, **options)


def test_a_run_folder_has_the_files_of_the_design(finished):
    folder, _ = finished
    for name in (
        "config.yaml", "log.jsonl", "curves.png", "images/step-2.png", "images/step-4.png", "last/state.pt",
        "last/checkpoint.safetensors", "best.safetensors", "result.json",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "events").glob("events.out.tfevents.*"))
    assert not list(folder.rglob("*.part-*"))


def test_result_json_equals_the_result_of_train(finished):
    folder, result = finished
    assert json.loads((folder / "result.json").read_text()) == result
    assert result.keys() >= RESULT_KEYS
    assert result["monitor"] == {
        "name": "abs_rel",
        "higher_is_better": False,
        "value": result["metrics"]["abs_rel"],
        "baseline": result["baseline"]["abs_rel"],
    }
    assert (result["data"], result["split"], result["samples"], result["steps"]) == ("synthetic-rooms", "test", 3, 4)
    assert result["metrics"].keys() == result["baseline"].keys()


def test_the_log_has_all_lines_and_loss_terms(finished):
    folder, _ = finished
    lines = log_lines(folder)
    assert [(line["step"], line["kind"]) for line in lines] == [
        (1, "train"), (2, "train"), (2, "eval"), (3, "train"), (4, "train"), (4, "eval"),
    ]  # fmt: skip
    assert all({"log_l1", "gradients", "lr"} < line.keys() for line in lines if line["kind"] == "train")


def test_tensorboard_has_the_values_of_the_log(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = finished
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    events_logged = [(event.step, event.value) for event in events.Scalars("train/log_l1")]
    logged = [(line["step"], line["log_l1"]) for line in log_lines(folder) if line["kind"] == "train"]
    assert [step for step, _ in events_logged] == [step for step, _ in logged]
    assert [value for _, value in events_logged] == pytest.approx([value for _, value in logged])


def test_images_of_a_run_are_comparison_grids(finished):
    folder, _ = finished
    image = cv2.imread(str(folder / "images" / "step-4.png"))
    assert image is not None
    # Three samples of 16 x 16, three images each, 4 pixels between them, enlarged by an integer factor.
    height, width = image.shape[:2]
    assert height == width and width % (3 * 16 + 2 * 4) == 0 and width > 3 * 16 + 2 * 4


def test_the_same_run_can_be_started_from_config_yaml(finished, tmp_path):
    folder, result = finished
    stored = Options.read(folder / "config.yaml")
    assert stored.backbone == "resnet20_cifar" and stored.recipe == "synthetic-rooms" and stored.steps == 4
    assert stored.resume is None and stored.out == folder
    again = train("depth", stored, out=tmp_path / "again")
    assert again["metrics"] == result["metrics"]


def test_the_best_checkpoint_is_that_of_the_best_evaluation(finished):
    folder, result = finished
    evaluations = {line["step"]: line["abs_rel"] for line in log_lines(folder) if line["kind"] == "eval"}
    step = min(evaluations, key=lambda step: evaluations[step])
    header = read_header(folder / "best.safetensors")
    assert header["step"] == step == result["best"]["step"]
    assert header["metrics"]["abs_rel"] == evaluations[step] == result["best"]["value"]
    assert header["metrics"]["protocol"] == "all-pixels"


def test_checkpoints_have_averaged_weights_and_the_state_the_others(finished):
    folder, _ = finished
    state = load_state(folder / "last" / "state.pt")
    model = load(folder / "last" / "checkpoint.safetensors", device="cpu").model.state_dict()
    assert all(torch.equal(model[name], value) for name, value in state["ema"]["average"].items())
    assert not torch.equal(model["head.predict.weight"], state["model"]["head.predict.weight"])


def test_a_header_has_the_dataset_and_its_terms(finished):
    folder, _ = finished
    data = read_header(folder / "best.safetensors")["data"]
    assert data == {"name": "synthetic-rooms", "title": SyntheticRooms.title, "terms": SyntheticRooms.terms}


def test_a_dataset_object_is_named_by_its_class(tmp_path):
    result = train_toy(Relief(), tmp_path / "run", model="plain", steps=1)
    assert (result["data"], result["trained_on"]) == ("Reliefs", "Reliefs")
    header = read_header(tmp_path / "run" / "best.safetensors")
    assert header["data"] == {"name": "Reliefs", "title": "Reliefs", "terms": "no terms"}
    assert Options.read(tmp_path / "run" / "config.yaml").data == "Reliefs"
    assert registry_name(SyntheticRooms()) == "synthetic-rooms"


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in folder.glob("*.safetensors"))


def test_the_best_checkpoints_and_those_of_every_n_steps_are_kept(tmp_path):
    options = {"model": "plain", "eval_every": 1, "keep_best": 2, "keep_every": 2, "ema_decay": 0.5, "steps": 5}
    saved: list[str] = []
    callback = SimpleNamespace(on_save=lambda run, path: saved.append(path.relative_to(run.folder).as_posix()))
    train_toy(Relief(), tmp_path / "run", callbacks=[callback], **options)
    scores = {line["step"]: line["abs_rel"] for line in log_lines(tmp_path / "run") if line["kind"] == "eval"}
    best = sorted(scores, key=lambda step: scores[step])[:2]
    assert steps_in(tmp_path / "run" / "best") == sorted(best)
    assert steps_in(tmp_path / "run" / "steps") == [2, 4] and "steps/step-4.safetensors" in saved
    for step in best:
        header = read_header(tmp_path / "run" / "best" / f"step-{step}.safetensors")
        assert (header["step"], header["metrics"]["abs_rel"]) == (step, scores[step])
    same = [load_file(tmp_path / "run" / name) for name in ("best.safetensors", f"best/step-{best[0]}.safetensors")]
    assert all(torch.equal(value, same[1][name]) for name, value in same[0].items())


@pytest.mark.slow
def test_a_resumed_run_keeps_the_best_as_an_uninterrupted_one(tmp_path):
    options = {"model": "plain", "eval_every": 1, "keep_best": 2, "steps": 6}
    train_toy(Relief(), tmp_path / "whole", **options)
    run = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), run, on_step=stop_after(2), **options)
    shutil.copytree(run / "last", tmp_path / "after 2 steps")
    resume_toy(Relief(), run)
    # As after a run that was killed: the state is older than the checkpoints.
    shutil.rmtree(run / "last")
    shutil.move(tmp_path / "after 2 steps", run / "last")
    resume_toy(Relief(), run)
    assert steps_in(run / "best") == steps_in(tmp_path / "whole" / "best")


def test_a_finished_run_is_extended(tmp_path):
    train_toy(Relief(), tmp_path / "run", model="plain", steps=3)
    result = resume_toy(Relief(), tmp_path / "run", steps=7)
    assert result["steps"] == 7 and json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 7
    assert Options.read(tmp_path / "run" / "config.yaml").steps == 7


def test_a_folder_with_a_run_is_refused(tmp_path):
    train_toy(Relief(), tmp_path / "run", model="plain", steps=1)
    before = (tmp_path / "run" / "result.json").read_bytes()
    with pytest.raises(UserError, match="already contains a run: add --resume to continue it, or give another --out"):
        train_toy(Relief(), tmp_path / "run", model="plain", steps=1)
    assert (tmp_path / "run" / "result.json").read_bytes() == before
    # A run that ended before its first save cannot be resumed, and the message must not suggest it.
    shutil.rmtree(tmp_path / "run" / "last")
    with pytest.raises(UserError, match="contains a run that was never saved: delete it, or give another --out"):
        train_toy(Relief(), tmp_path / "run", model="plain", steps=1)


def test_resuming_repairs_a_truncated_log(tmp_path):
    train_toy(Relief(), tmp_path / "uninterrupted", model="plain", log_every=1)
    train_toy(Relief(), tmp_path / "truncated", model="plain", log_every=1)
    log = tmp_path / "truncated" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 7, "kind": "tra')
    resume_toy(Relief(), tmp_path / "truncated")
    assert log_lines(tmp_path / "truncated") == log_lines(tmp_path / "uninterrupted")


def test_init_from_copies_weights_and_preprocessing(tmp_path):
    first = build_toy_trainer(Depth(), tmp_path / "first", **BACKBONE)
    first.model.backbone.preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), order="BGR")
    write_model(tmp_path / "first.safetensors", first.model, first.model_spec, first.checkpoint_metadata())
    second = build_toy_trainer(
        Depth(), tmp_path / "second", **BACKBONE, seed=7, init_from=tmp_path / "first.safetensors"
    )
    assert all(torch.equal(value, first.model.state_dict()[name]) for name, value in second.model.state_dict().items())
    assert second.model.backbone.preprocessing == first.model.backbone.preprocessing
    assert second.step == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "up-projection"}, "has the head unet, this model up-projection"),
        ({"backbone": "resnet32_cifar"}, "has the backbone resnet20_cifar, this model resnet32_cifar"),
        ({"backbone_levels": 2}, r"'head\.stages.*' of shape"),
    ],
)
def test_init_from_another_model_names_the_difference(tmp_path, options, message):
    first = build_toy_trainer(Depth(), tmp_path / "first", **BACKBONE)
    write_model(tmp_path / "first.safetensors", first.model, first.model_spec, first.checkpoint_metadata())
    with pytest.raises(UserError, match=f"--init-from .*{message}"):
        build_toy_trainer(
            Depth(), tmp_path / "second", **{**BACKBONE, **options}, init_from=tmp_path / "first.safetensors"
        )


def test_init_from_refuses_another_stride_in_with_equal_shapes(tmp_path):
    shape = {"backbone": "resnet50", "backbone_levels": 3, "head": "unet"}
    first = build_toy_trainer(Depth(), tmp_path / "first", **shape, stride_in="1x1")
    write_model(tmp_path / "first.safetensors", first.model, first.model_spec, first.checkpoint_metadata())
    with pytest.raises(UserError, match="has the stride_in 1x1, this model 3x3: use the same"):
        build_toy_trainer(Depth(), tmp_path / "second", **shape, init_from=tmp_path / "first.safetensors")


def test_a_missing_init_from_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint '.*nowhere\.safetensors'"):
        build_toy_trainer(Relief(), tmp_path / "run", model="plain", init_from=tmp_path / "nowhere.safetensors")


def test_the_provenance_of_weights_follows_them_from_run_to_run(tmp_path):
    out = tmp_path / "first"
    train_toy(Depth(), out, **BACKBONE, steps=1)
    header = read_header(out / "best.safetensors")
    assert header["backbone_weights"] is None and header["init_from"] is None
    for name, before in (("second", out), ("third", tmp_path / "second")):
        train_toy(Depth(), tmp_path / name, **BACKBONE, steps=1, init_from=before / "best.safetensors")
    origin = read_header(tmp_path / "third" / "best.safetensors")["init_from"]
    assert origin["data"]["terms"] == origin["init_from"]["data"]["terms"] == Reliefs.terms
    assert origin["init_from"]["init_from"] is None


def test_a_meter_averages_terms_and_counts_training_time_alone(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    meter = Meter()
    for now, loss in ((1.0, 1.0), (3.0, 2.0)):  # noqa: B007 - the clock reads it
        meter.add({"a": loss}, 4)
    with meter.paused():
        now = 50.0
    now = 51.0
    meter.add({"a": 6.0}, 4)
    # Three steps of 1, 2 and 1 seconds with 4 images each.
    assert meter.total == 4.0
    assert meter.flush() == ({"a": 3.0}, 3.0)


def test_a_meter_continues_from_its_state():
    meter, restored = Meter(), Meter()
    meter.add({"a": 5.0}, 4)
    restored.restore(meter.state())
    restored.add({"a": 7.0}, 4)
    assert restored.flush()[0] == {"a": 6.0}


class Labeled(Reliefs):
    """Images with a class and a label map of one value."""

    def __init__(self, names: tuple[str, ...], label: int = 0) -> None:
        super().__init__(5, "test")
        self.label = label
        self.fields = {"image": Image(), "category": ClassLabel(names), "labels": SegmentationMask(names)}

    def read(self, index: int):
        return {**super().read(index), "category": np.int64(0), "labels": np.full(self.size, self.label, np.uint8)}


IMAGES_TO_LABELS = Translation(source_field="image", target_field="labels")


def test_data_that_cannot_be_scored_is_refused_before_the_run_folder_exists(tmp_path):
    options = {**TINY, "loss": None, "out": tmp_path / "run"}
    unlabeled = Labeled(("sky", "wall"), label=255)
    with pytest.raises(UserError, match=r"No sample of the split 'test' of Reliefs \(3 read\) .* protocol labels"):
        train(IMAGES_TO_LABELS, data=Labeled(("sky", "wall")), eval_data=unlabeled, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", ["classification", IMAGES_TO_LABELS])
def test_a_single_class_is_refused(tmp_path, task):
    data = Labeled(("images",))
    with pytest.raises(UserError, match=r"nothing to learn: .* fewer than two classes \('images'\); check that --root"):
        train(task, data=data, eval_data=data, out=tmp_path / "run", device="cpu", steps=1)
    assert not (tmp_path / "run").exists()


@dataclass(frozen=True)
class Diverging(Relief):
    """A model whose predictions become nan after the first ones."""

    finite: int = 0
    predictions: ClassVar[int] = 0

    def decode(self, output, context):
        height, width = context.size
        Diverging.predictions += 1
        value = np.nan if Diverging.predictions > self.finite else 2.0
        return DepthMap(np.full((height, width), value, np.float32))


@pytest.mark.parametrize(("finite", "best"), [(0, "no step has one"), (3, "best.safetensors is that of step 3")])
def test_a_run_without_a_score_ends_with_a_sentence_and_strict_json(tmp_path, finite, best):
    Diverging.predictions = 0
    with pytest.raises(UserError, match=rf"no abs_rel, since the predictions are not finite \({best}\): .* --lr"):
        train_toy(Diverging(finite=finite), tmp_path / "run", model="dropout", eval_every=3)
    text = (tmp_path / "run" / "result.json").read_text()
    result = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert result["metrics"]["abs_rel"] is None and "not finite" in result["undefined"]["abs_rel"]
    log = (tmp_path / "run" / "log.jsonl").read_text() + json.dumps(
        read_header(tmp_path / "run" / "last" / "checkpoint.safetensors")
    )
    assert "NaN" not in log
