"""Checkpoints with headers of the old names: refused by `load`, converted by `convert_checkpoint`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from densevision.errors import UserError
from densevision.tasks.checkpoint import FORMAT, HEADER
from densevision.tasks.conversion import convert_checkpoint, convert_header
from densevision.tasks.inference import load
from densevision.tasks.model_spec import ModelSpec

PREPROCESSING = {
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "range": [0.0, 1.0], "order": "RGB", "resize": 256,
    "crop": 224, "interpolation": "bilinear",
}  # fmt: skip
OLD: dict[str, Any] = {
    "version": "0.1.0",
    "task": "depth",
    "task_options": {},
    "fields": {
        "image": {"kind": "Image", "frame": 0, "channels": 3},
        "depth": {"kind": "Depth", "frame": 0},
    },
    "backbone": "resnet20_cifar",
    "backbone_options": {"levels": 2},
    "head": "unet",
    "network": None,
    "preprocessing": json.dumps(PREPROCESSING),
    "size": [32, 48],
    "step": 7,
    "data": {"name": "rooms", "title": "Rooms (embedded world)", "terms": "drawn with photographs: cite"},
    "trunk": {"weights": "trunk.safetensors", "origin": "here", "licence": "MIT"},
    "init": {
        "file": "best.safetensors",
        "data": {"name": "photographs", "title": "Folders of photographs", "terms": "Flickr pictures"},
        "init": None,
    },
    "loss": "log-edges",
    "recipe": "rooms",
    "metrics": {"protocol": "all-pixels", "samples": 200.0, "split": "test", "abs_rel": 0.15, "rms": 0.6},
}


@pytest.fixture
def old_checkpoint(tmp_path) -> Path:
    """A checkpoint whose tensors fit its model, with the header in old names."""
    torch.manual_seed(0)
    tensors = ModelSpec.from_json(convert_header(OLD)).build().state_dict()
    path = tmp_path / "old.safetensors"
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, {HEADER: json.dumps(OLD)})
    return path


def test_load_refuses_an_old_header_with_the_command_to_convert_it(old_checkpoint):
    with pytest.raises(UserError, match=rf"densevision weights convert {old_checkpoint} NEW\.safetensors$") as caught:
        load(old_checkpoint)
    assert "\n" not in str(caught.value)


def test_a_converted_checkpoint_has_new_names_and_equal_tensors(old_checkpoint, tmp_path):
    new = tmp_path / "new.safetensors"
    convert_checkpoint(old_checkpoint, new)
    before, after = load_file(old_checkpoint), load_file(new)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) and value.dtype == after[name].dtype for name, value in before.items())
    with safe_open(new, "pt") as file:
        header = json.loads(file.metadata()[HEADER])
    assert header.pop("digest").startswith("sha256:")
    assert header == {
        **{name: OLD[name] for name in ("version", "task", "task_options", "backbone", "backbone_options", "head")},
        **{name: OLD[name] for name in ("preprocessing", "size", "step", "fields")},
        "format": FORMAT,
        "model": None,
        "data": {"name": "synthetic-rooms", "title": "Rooms (synthetic)", "terms": "rendered with photos: cite"},
        "backbone_weights": {"weights": "trunk.safetensors", "origin": "here", "license": "MIT"},
        "init_from": {
            "file": "best.safetensors",
            "data": {"name": "image-folders", "title": "Image folders", "terms": "Flickr images"},
            "init_from": None,
        },
        "loss": "log-l1+grad-strong",
        "recipe": "synthetic-rooms",
        "metrics": {"protocol": "all-pixels", "samples": 200.0, "split": "test", "abs_rel": 0.15, "rmse": 0.6},
    }
    predictor = load(new, device="cpu", amp="off")
    assert predictor.size == (32, 48) and predictor.task.name == "depth"


def test_a_checkpoint_with_current_names_is_not_converted_again(old_checkpoint, tmp_path):
    convert_checkpoint(old_checkpoint, tmp_path / "new.safetensors")
    with pytest.raises(UserError, match="already has the current names: it needs no conversion"):
        convert_checkpoint(tmp_path / "new.safetensors", tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


@pytest.mark.parametrize(
    ("task", "old", "new"),
    [
        ("classification", {}, {}),
        ("colorization", {"answer": "classes", "neighbours": 5}, {"output": "bins", "neighbors": 5}),
        ("flow", {"form": "stacked", "between": 0.5}, {"fusion": "early", "relative_motion": 0.5}),
        (
            "pose",
            {"stretch": False, "sigma": 2.0, "decoding": "dark", "start": "gaussian", "patches": 0.3},
            {"keep_aspect": True, "sigma": 2.0, "decoding": "dark", "init": "gaussian", "random_erase": 0.3},
        ),
        ("restoration", {"degrade": "dirt,holes"}, {"degradations": "dirt,masks"}),
        (
            "translation",
            {"from_": "labels", "to": None, "adversarial": None, "patches": 3, "fidelity": 50.0, "norm": "frozen"},
            {
                "source_field": "labels",
                "target_field": None,
                "adversarial": None,
                "discriminator_layers": 3,
                "lambda_l1": 50.0,
                "norm": "frozen-batch",
            },
        ),
    ],
)
def test_task_options_are_converted_to_options_of_the_task(task, old, new):
    fields = {"image": {"kind": "Image", "frame": 0, "channels": 3}}
    header = convert_header({**OLD, "task": task, "task_options": old, "fields": fields})
    assert header["task_options"] == new
    ModelSpec.from_json(header)


@pytest.mark.parametrize(
    ("task", "old", "new"),
    [
        ("classification", "centre-crop", "center-crop"),
        ("flow", "pictures", "image-mean"),
        ("restoration", "y-studio", "y-bt601"),
        ("translation", "judge=runs/a.safetensors", "fcn-score=runs/a.safetensors"),
    ],
)
def test_protocols_are_converted(task, old, new):
    metrics = {"protocol": old, "samples": 1.0}
    assert convert_header({**OLD, "task": task, "metrics": metrics})["metrics"] == {"protocol": new, "samples": 1.0}


def test_field_types_are_converted():
    fields = {"labels": {"kind": "Labels", "frame": 0, "names": ["a", "b"], "ignore": 2}}
    header = convert_header({**OLD, "fields": fields})
    assert header["fields"]["labels"] == {"kind": "SegmentationMask", "frame": 0, "names": ["a", "b"], "ignore": 2}
