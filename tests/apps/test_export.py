"""`densevision export`: files that other runtimes read, what they say of themselves, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from typing import cast

import numpy as np
import onnxruntime
import pytest
import torch

from densevision import list_tasks
from densevision.tasks import export as exporting
from densevision.tasks.export.asking import drawn
from densevision.tasks.inference import load

DIFFERS = re.compile(r"(\d+) of (\d+)x(\d+): differs from PyTorch by (\S+) of")


def facts_in(session: onnxruntime.InferenceSession) -> dict:
    return json.loads(session.get_modelmeta().custom_metadata_map["densevision"])


@pytest.fixture(scope="module")
def depth_file(checkpoint, tmp_path_factory):
    """A light depth network as ONNX, and what was printed of it."""
    path = tmp_path_factory.mktemp("exported") / "light.onnx"
    made = exporting.export(load(checkpoint, "cpu", "off"), path, "onnx", ["Mind the terms."])
    return path, made


def test_an_onnx_file_answers_as_the_network_does_at_sizes_it_was_not_compared_at(depth_file, checkpoint):
    path, made = depth_file
    assert {one.size for one in made.compared} == {(32, 32), (20, 44)}
    assert max(one.difference for one in made.compared) < 1e-5
    session = onnxruntime.InferenceSession(str(path))
    predictor = load(checkpoint, "cpu", "off")
    (picture,) = drawn(predictor.task.inputs(predictor.fields), 5, (60, 28), 9)
    with torch.inference_mode():
        wanted = predictor.model(picture).numpy()
    (answer,) = cast(list[np.ndarray], session.run(None, {"image": picture.numpy()}))
    np.testing.assert_allclose(answer, wanted, rtol=1e-4)


def test_an_onnx_file_says_what_to_do_before_and_after(depth_file):
    session = onnxruntime.InferenceSession(str(depth_file[0]))
    facts = facts_in(session)
    (taken,) = facts["inputs"]
    assert (taken["name"], taken["channels"], taken["range"]) == ("image", ["red", "green", "blue"], [0, 1])
    assert facts["answer"]["channels"] == ["depth"] and facts["answer"]["unit"].startswith("metres")
    assert facts["preprocessing"]["where"] == "in the file"
    assert facts["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert (facts["size"], facts["multiple"], facts["free"]) == ([32, 32], 4, {"batch": True, "sides": True})
    assert facts["terms"] == ["Mind the terms."]
    assert facts["shown"]["picture"] == [480, 640] and np.shape(facts["shown"]["matrix"]) == (3, 3)
    assert [one.shape for one in session.get_inputs()] == [["batch", 3, "4*h", "4*w"]]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [("answer", ["batch", 1, "4*h", "4*w"])]


def test_the_command_prints_how_far_the_file_is_from_pytorch_and_what_is_fixed(run, tmp_path):
    said = run("export", "classification", "--to", "onnx")
    assert said.code == 0
    found = DIFFERS.findall(said.out)
    assert [one[:3] for one in found] == [("1", "32", "32"), ("3", "32", "32")]
    assert all(float(one[3]) < 1e-3 for one in found)
    assert "Height and width are fixed: lenet5 classifies pictures of 32 x 32" in said.out
    assert "Out: probability." in said.out
    assert [path.name for path in tmp_path.iterdir()] == ["classification.onnx"]
    facts = facts_in(onnxruntime.InferenceSession("classification.onnx"))
    assert facts["answer"]["channels"] == [str(digit) for digit in range(10)]
    assert facts["inputs"][0]["channels"] == ["grey"]


def test_a_program_of_torch_export_opens_without_this_package(run, tmp_path, checkpoint):
    said = run("export", checkpoint, "--to", "torch-export", "--out", "net.pt2")
    assert said.code == 0 and "net.pt2: " in said.out
    alone = (
        "import json, sys, torch\n"
        "extra = {'densevision.json': ''}\n"
        "program = torch.export.load('net.pt2', extra_files=extra).module()\n"
        "print(tuple(program(torch.rand(3, 3, 12, 52)).shape), json.loads(extra['densevision.json'])['task'])\n"
        "print('densevision' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", alone], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["(3, 1, 12, 52) depth", "False"], done.stderr


def test_the_network_is_left_as_it_was(checkpoint, tmp_path):
    predictor = load(checkpoint, "cpu", "off")
    predictor.model.train()
    before = {name: value.clone() for name, value in predictor.model.state_dict().items()}
    exporting.export(predictor, tmp_path / "a.pt2", "torch-export")
    assert predictor.model.training
    assert all(parameter.requires_grad for parameter in predictor.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in predictor.model.state_dict().items())


@pytest.mark.parametrize(("to", "ending"), [("onnx", ".onnx"), ("torch-export", ".pt2")])
def test_a_file_that_disagrees_with_pytorch_is_not_kept(run, tmp_path, monkeypatch, to, ending):
    compare = exporting.compare

    def off(*given):
        return dataclasses.replace(compare(*given), difference=0.002)

    monkeypatch.setattr(exporting, "compare", off)
    said = run("export", "classification", "--to", to)
    assert said.code == 2
    assert "is 2.0e-03 of its range off, and 0.001 is the limit: it was not kept" in said.err
    assert list(tmp_path.iterdir()) == []


def test_what_torch_cannot_translate_is_a_sentence(run, tmp_path, monkeypatch):
    def refuse(*given, **named):
        raise RuntimeError("no such operator\nand a page of more")

    monkeypatch.setattr(torch.export, "export", refuse)
    said = run("export", "classification")
    assert said.code == 2
    assert said.err.splitlines()[-1].endswith("torch cannot translate this network to onnx: no such operator")
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_sentence_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxruntime" else object())
    assert run("export", "depth").mistake == ("ONNX needs onnxruntime, not installed here: pip install onnxruntime.")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("export dept", "no task named 'dept'; did you mean 'depth'"),
        ("export missing.safetensors", "no checkpoint 'missing.safetensors'"),
        ("export depth --to onxn", 'Did you mean "onnx"'),
        ("export depth --out net.pt2", "--out is 'net.pt2'; a file of onnx ends in .onnx"),
        ("export depth --to torch-export --out net.onnx", "a file of torch-export ends in .pt2"),
        ("export depth --out taken.onnx", "'taken.onnx' is a folder; name the file to write"),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, words, answer):
    (tmp_path / "taken.onnx").mkdir()
    assert re.search(answer, run(*words.split()).mistake)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torch-export"])
@pytest.mark.parametrize("task", list_tasks())
def test_every_checkpoint_that_ships_is_exported_and_agrees(run, task, to):
    said = run("export", task, "--to", to)
    assert said.code == 0, said.err
    found = DIFFERS.findall(said.out)
    assert len(found) == 2 and all(float(one[3]) <= 1e-3 for one in found)
    free = "Height and width are fixed" not in said.out
    assert free == (task != "classification"), "LeNet-5 alone classifies one size"
    assert (found[0][1:3] != found[1][1:3]) == free
