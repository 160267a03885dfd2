"""User errors of `train`: one sentence instead of a traceback."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from densevision.datasets.core.problems import SampleError
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import train
from densevision.tasks.training.state import load_state, save_state

from .toys import BACKBONE, TINY, Plain, Relief, Reliefs, log_lines, require_same_runs, resume_toy, train_toy

# Normalization


@pytest.mark.parametrize(
    ("norm", "options", "message"),
    [
        (nn.BatchNorm2d, {"batch_size": 1}, "use --batch-size 2 or more, or a larger --image-size"),
        (nn.BatchNorm2d, {"batch_size": 1, "micro_batches": 2}, "use --batch-size 2 or more"),
        (nn.InstanceNorm2d, {"batch_size": 2}, "use a larger --image-size"),
    ],
)
def test_a_normalization_with_one_value_per_channel_is_a_user_error(tmp_path, monkeypatch, norm, options, message):
    class Pooled(Plain):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            self.pooled = norm(3)

        def forward(self, image):
            return super().forward(image) + self.pooled(image.mean((2, 3), keepdim=True)).mean()

    monkeypatch.setattr("tests.tasks.training.toys.Plain", Pooled)
    with pytest.raises(UserError, match=message) as caught:
        train_toy(Relief(), tmp_path / "run", model="plain", **options)
    assert "\n" not in str(caught.value)


def test_out_of_memory_with_batch_norm_still_names_a_batch_size(tmp_path, monkeypatch):
    from densevision.tasks.training.optimizers import PhaseRunner

    forward = PhaseRunner.forward

    def limited_forward(self, phase, batch, cache):
        if len(batch["image"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        forward(self, phase, batch, cache)
        raise ValueError(
            "Expected more than 1 value per channel when training, got input size torch.Size([1, 3, 1, 1])"
        )

    monkeypatch.setattr(PhaseRunner, "forward", limited_forward)
    with pytest.raises(UserError, match="Memory ran out with --batch-size 2: even one image"):
        train_toy(Relief(), tmp_path / "run", model="plain")


# The run folder


@pytest.fixture
def finished(tmp_path):
    train_toy(Relief(), tmp_path / "run", model="plain", log_every=1)
    return tmp_path / "run"


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00\x81" * 9),
    "another": lambda path: path.write_text("[1, 2]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["task.json", "config.yaml", "last/state.pt"])
def test_a_damaged_file_of_the_run_folder_is_named_on_resume(finished, name, damage):
    DAMAGES[damage](finished / name)
    with pytest.raises(UserError, match=re.escape(name.rpartition("/")[2])) as caught:
        resume_toy(Relief(), finished)
    assert re.search("another --out", str(caught.value))


@pytest.mark.parametrize("line", ["lr: 0.01", "seed: 0", "batch_size: 2"])
def test_a_config_that_lacks_a_line_is_refused(finished, line):
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace(f"\n{line}\n", "\n"))
    with pytest.raises(UserError, match=rf"config\.yaml is missing or damaged \(it lacks '{line.split(':')[0]}'\)"):
        resume_toy(Relief(), finished)


def test_a_state_of_other_content_is_refused(finished):
    torch.save({"step": 3}, finished / "last" / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt is damaged or of another version: it lacks 'model'"):
        resume_toy(Relief(), finished)


@pytest.mark.parametrize("torn", [b'{"step": 2, "ki\n', b"\xff\xfe\n", b"7\n", b'{"kind": "train"}\n'])
def test_a_torn_line_of_the_log_does_not_cost_the_others(finished, torn):
    lines, log = log_lines(finished), finished / "log.jsonl"
    first, rest = log.read_bytes().split(b"\n", 1)
    log.write_bytes(first + b"\n" + torn + rest)
    resume_toy(Relief(), finished)
    assert log_lines(finished) == lines


@pytest.mark.parametrize("out", ["file", "file/run", "n" * 300, "/proc/run", "nul\0byte"])
def test_a_run_folder_that_cannot_be_created_is_refused(tmp_path, out):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be used as a run folder \(.+\): give another --out"):
        train_toy(Relief(), tmp_path / out, model="plain")


# Objects of the caller


class Own(Reliefs):
    """Reliefs whose samples are changed by a function."""

    def __init__(self, change, split="train") -> None:
        super().__init__(split=split)
        self.change = change

    def read(self, index):
        return self.change(super().read(index))


def chw(sample):
    return {**sample, "image": sample["image"].transpose(2, 0, 1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (chw, r"train/0 of Reliefs, field 'image': expected an image of shape HxWx3, found 3x20x24 uint8"),
        (
            lambda s: {**s, "depth": s["depth"][..., None]},
            r"field 'depth': expected 2 axes, found 20x24x1; .* \(H, W\)",
        ),
        (lambda s: {**s, "image": torch.from_numpy(s["image"])}, "expected a numpy array, found a torch.Tensor"),
        (lambda s: {**s, "image": s["image"].astype(np.float32)}, r"expected floats in \[0, 1\], found values"),
        (lambda s: {"image": s["image"]}, "field 'depth': expected a numpy array, found missing"),
        (lambda s: (s["image"], s["depth"]), "is a tuple; `read` must return a dictionary"),
    ],
)
@pytest.mark.parametrize("evaluated", [False, True])
def test_a_dataset_of_other_shapes_is_refused_before_training(tmp_path, change, message, evaluated):
    data, eval_data = (Reliefs(), Own(change, "test")) if evaluated else (Own(change), Reliefs(5, "test"))
    with pytest.raises(UserError, match=message.replace("train/0", "test/0") if evaluated else message):
        train(Relief(), data=data, eval_data=eval_data, out=tmp_path / "run", **{**TINY, "model": "plain"})
    assert not (tmp_path / "run").exists()


def test_an_error_in_the_code_of_a_dataset_names_the_sample_and_keeps_the_trace(tmp_path):
    def change(sample):
        return {**sample, "depth": sample["no such key"]}

    with pytest.raises(SampleError, match=r"Reading train/0 failed with KeyError: 'no such key'") as caught:
        train_toy(Relief(), tmp_path / "run", Own(change), model="plain")
    assert "in change" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"data": TensorDataset(torch.zeros(2, 3))}, r"data\[0\] is a tuple of 1; the task relief needs 'image'"),
        ({"options": {"lr": 1}}, r"options is a dict; it must be Options\(...\)"),
        (
            {"options": Options(loss=nn.L1Loss())},  # type: ignore[arg-type]
            r"'loss' .*a L1Loss; it must be a string; a loss of your own is passed as train\(..., loss=...\)",
        ),
        ({"lr": "fast"}, "'lr' .*'fast', a str; it must be a number"),
        ({"image_size": 64}, "'image_size' .*64, a int; it must be 2 integers"),
        ({"steps": 2.5}, "'steps' .*2.5, a float; it must be an integer"),
        ({"warmup_steps": 6}, "--warmup-steps is 6, but the run has 6 steps"),
    ],
)
def test_an_object_of_another_type_is_refused(tmp_path, objects, message):
    arguments = {"data": Reliefs(), "eval_data": Reliefs(5, "test"), **TINY, "model": "plain", "out": tmp_path / "run"}
    with pytest.raises(UserError, match=message):
        train(Relief(), **{**arguments, **objects})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", [Depth, nn.Linear(1, 1), None])
def test_a_task_of_another_type_is_refused(task):
    with pytest.raises(UserError, match="it must be the name of a task, or an instance of a subclass"):
        train(task)


def test_a_dataset_without_the_attributes_of_its_base_is_refused(tmp_path):
    class Bare(Reliefs):
        def __init__(self) -> None:
            pass

    with pytest.raises(UserError, match="The dataset Bare has no attribute fields: set `fields`"):
        train_toy(Relief(), tmp_path / "run", Bare(), model="plain")


# Extension


def test_an_extended_run_equals_a_longer_one_where_the_schedule_is_constant(tmp_path):
    options = {"model": "dropout", "schedule": "constant", "log_every": 3, "eval_every": 3, "ema_decay": 0.9}
    train_toy(Relief(), tmp_path / "longer", **options, steps=9)
    train_toy(Relief(), tmp_path / "extended", **options)
    assert resume_toy(Relief(), tmp_path / "extended", steps=9)["steps"] == 9
    require_same_runs(tmp_path / "longer", tmp_path / "extended")
    assert Options.read(tmp_path / "extended" / "config.yaml").steps == 9


def test_an_extended_run_has_the_learning_rates_of_the_longer_run(tmp_path, capsys):
    train_toy(Relief(), tmp_path / "run", model="plain", log_every=1)
    resume_toy(Relief(), tmp_path / "run", steps=9)
    expected = [
        0.005 * (1 + np.cos(np.pi * step / total)) for step, total in zip(range(9), [6] * 6 + [9] * 3, strict=True)
    ]
    assert [line["lr"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"] == pytest.approx(expected)
    assert "from step 6 on, the schedule 'cosine' is that of a run of 9 steps and continues at lr 2.50e-03" in (
        capsys.readouterr().err
    )
    with pytest.raises(UserError, match="has done 9 steps already, more than 8: resume it with --steps 9 or more"):
        resume_toy(Relief(), tmp_path / "run", steps=8)


def test_the_resolved_options_are_printed_before_training(tmp_path, capsys):
    train_toy(Depth(), tmp_path / "run", **{**BACKBONE, "steps": 1, "warmup_steps": None})
    before, _, _ = capsys.readouterr().err.partition("step ")
    for words in ("--lr 0.01", "--optimizer adamw", "--warmup-steps 0", "--image-size 16 16", "--workers 0"):
        assert words in before
    assert "warmup_steps: 0\n" in (tmp_path / "run" / "config.yaml").read_text()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 1


def test_a_state_whose_scores_lack_the_monitored_metric_is_refused(finished):
    path = finished / "last" / "state.pt"
    state = load_state(path)
    save_state(path, {**state, "baseline": {**state["baseline"], "metrics": {}}})
    with pytest.raises(UserError, match="has a baseline without abs_rel: it is damaged"):
        resume_toy(Relief(), finished)
