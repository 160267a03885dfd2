"""`densevision export`: exported files, their metadata, and errors."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from typing import cast

import numpy as np
import onnxruntime
import pytest
import torch

from densevision import list_tasks
from densevision.tasks import export as module
from densevision.tasks.export import verify
from densevision.tasks.export.export_module import example_inputs
from densevision.tasks.inference import load

DIFFERS = re.compile(r"(\d+) of (\d+)x(\d+): differs from PyTorch by (\S+) of")


def read_metadata(session: onnxruntime.InferenceSession) -> dict:
    return json.loads(session.get_modelmeta().custom_metadata_map["densevision"])


@pytest.fixture(scope="module")
def depth_file(checkpoint, tmp_path_factory):
    """A small depth model as ONNX, and the result of the export."""
    path = tmp_path_factory.mktemp("exported") / "light.onnx"
    export_result = module.export(load(checkpoint, "cpu", "off"), path, "onnx", ["Mind the terms."])
    return path, export_result


def test_an_onnx_file_equals_the_model_at_other_sizes(depth_file, checkpoint):
    path, export_result = depth_file
    assert {one.size for one in export_result.comparisons} == {(32, 32), (20, 44)}
    assert max(one.difference for one in export_result.comparisons) < 1e-5
    session = onnxruntime.InferenceSession(str(path))
    predictor = load(checkpoint, "cpu", "off")
    (image,) = example_inputs(predictor.task.inputs(predictor.fields), 5, (60, 28), 9)
    with torch.inference_mode():
        expected = predictor.model(image).numpy()
    (output,) = cast(list[np.ndarray], session.run(None, {"image": image.numpy()}))
    np.testing.assert_allclose(output, expected, rtol=1e-4)


def test_the_metadata_states_preprocessing_and_output(depth_file):
    session = onnxruntime.InferenceSession(str(depth_file[0]))
    metadata = read_metadata(session)
    (spec,) = metadata["inputs"]
    assert (spec["name"], spec["channels"], spec["range"]) == ("image", ["red", "green", "blue"], [0, 1])
    assert metadata["output"]["channels"] == ["depth"] and metadata["output"]["unit"].startswith("meters")
    assert metadata["preprocessing"]["where"] == "in the file"
    assert metadata["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert (metadata["size"], metadata["multiple"], metadata["dynamic"]) == ([32, 32], 4, {"batch": True, "size": True})
    assert metadata["terms"] == ["Mind the terms."]
    assert metadata["example"]["image"] == [480, 640] and np.shape(metadata["example"]["matrix"]) == (3, 3)
    assert [one.shape for one in session.get_inputs()] == [["batch", 3, "4*h", "4*w"]]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [("output", ["batch", 1, "4*h", "4*w"])]


def test_the_command_prints_the_difference_from_pytorch_and_fixed_sizes(run, tmp_path):
    result = run("export", "lenet5_mnist", "--to", "onnx")
    assert result.code == 0
    stages = re.findall(r"^ +\d+ s  (\w+) .* \.\.\.$", result.err, re.MULTILINE)
    assert stages == ["running", "tracing", "converting", "writing"]
    differences = DIFFERS.findall(result.out)
    assert [one[:3] for one in differences] == [("1", "32", "32"), ("3", "32", "32")]
    assert all(float(one[3]) < 1e-3 for one in differences)
    assert "Height and width are fixed: lenet5 classifies images of 32 x 32" in result.out
    assert "Output: probability." in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["lenet5_mnist.onnx"]
    metadata = read_metadata(onnxruntime.InferenceSession("lenet5_mnist.onnx"))
    assert metadata["output"]["channels"] == [str(digit) for digit in range(10)]
    assert metadata["inputs"][0]["channels"] == ["gray"]


@pytest.mark.slow
def test_a_torch_export_program_loads_without_densevision(run, tmp_path, checkpoint):
    result = run("export", checkpoint, "--to", "torch-export", "--out", "net.pt2")
    assert result.code == 0 and "net.pt2: " in result.out
    script = (
        "import json, sys, torch\n"
        "extra = {'densevision.json': ''}\n"
        "program = torch.export.load('net.pt2', extra_files=extra).module()\n"
        "print(tuple(program(torch.rand(3, 3, 12, 52)).shape), json.loads(extra['densevision.json'])['task'])\n"
        "print('densevision' in sys.modules)\n"
    )
    process = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.stdout.splitlines() == ["(3, 1, 12, 52) depth", "False"], process.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("to", ["torch-export", "onnx"])
def test_a_name_that_is_not_utf8_is_written(run, checkpoint, to):
    name = os.fsdecode(b"caf\xe9") + module.SUFFIXES[to]
    result = run("export", checkpoint, "--to", to, "--out", name)
    assert result.code == 0 and "caf\\udce9" in result.out


def test_export_does_not_change_the_model(checkpoint, tmp_path):
    predictor = load(checkpoint, "cpu", "off")
    predictor.model.train()
    before = {name: value.clone() for name, value in predictor.model.state_dict().items()}
    module.export(predictor, tmp_path / "a.pt2", "torch-export")
    assert predictor.model.training
    assert all(parameter.requires_grad for parameter in predictor.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in predictor.model.state_dict().items())


@pytest.mark.parametrize(("to", "suffix"), [("onnx", ".onnx"), ("torch-export", ".pt2")])
def test_a_file_that_differs_from_pytorch_is_not_written(run, tmp_path, monkeypatch, to, suffix):
    compare = module.compare

    def wrong(*args):
        return dataclasses.replace(compare(*args), difference=0.002)

    monkeypatch.setattr(module, "compare", wrong)
    result = run("export", "lenet5_mnist", "--to", to)
    assert result.code == 2
    assert "by 2.0e-03 of its range, and 0.001 is the limit: the file was not kept" in result.err
    assert list(tmp_path.iterdir()) == []


def test_an_operator_without_an_export_is_an_error(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operator\nand a page of more")

    monkeypatch.setattr(torch.export, "export", fail)
    result = run("export", "lenet5_mnist")
    assert result.code == 2
    assert result.err.splitlines()[-1].endswith("this network to onnx: no such operator")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def photos(image, tmp_path_factory):
    """A folder of six images."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        image(folder / f"{number}.png", 40 + number, 50, number)
    return folder


def test_int8_is_compared_on_images_outside_the_calibration(run, tmp_path, checkpoint, photos):
    result = run("export", checkpoint, "--int8", "--calibration", photos, "--out", "small.onnx")
    assert result.code == 0, result.err
    found = re.search(r"int8: differs from PyTorch by (\S+) of the output's range on average, on (\d)", result.out)
    assert found and 0 < float(found[1]) < module.INT8_TOLERANCE and found[2] == "2"
    assert "quantizing with the ranges of 4 images" in result.err and "in fp32, differs" in result.out
    session = onnxruntime.InferenceSession("small.onnx")
    metadata = read_metadata(session)
    assert metadata["precision"] == "int8" and metadata["output"]["channels"] == ["depth"]
    run("export", checkpoint, "--out", "whole.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < 0.4 * (tmp_path / "whole.onnx").stat().st_size
    output = cast(list[np.ndarray], session.run(None, {"image": np.zeros((3, 3, 40, 24), np.float32)}))[0]
    assert output.shape == (3, 1, 40, 24)


def test_an_int8_file_that_differs_too_much_is_not_written(run, tmp_path, checkpoint, photos, monkeypatch):
    monkeypatch.setattr(module, "INT8_TOLERANCE", 1e-9)
    result = run("export", checkpoint, "--int8", "--calibration", photos, "--out", "small.onnx")
    assert result.code == 2 and "1e-09 is the limit: the file was not kept; calibrate with more images" in result.err
    assert list(tmp_path.iterdir()) == []


def test_openvino_is_an_xml_file_with_its_weights(run, tmp_path, checkpoint, photos):
    pytest.importorskip("openvino")
    result = run("export", checkpoint, "--to", "openvino", "--out", "net.xml")
    assert result.code == 0, result.err
    assert all(float(one[3]) < 1e-4 for one in DIFFERS.findall(result.out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    call, metadata = verify.open_exported(tmp_path / "net.xml", "openvino")
    assert call([torch.zeros(2, 3, 20, 44)]).shape == (2, 1, 20, 44)
    assert json.loads(metadata)["task"] == "depth"
    quantized = run("export", checkpoint, "--to", "openvino", "--int8", "--calibration", photos, "--out", "small.xml")
    assert quantized.code == 0, quantized.err
    assert (tmp_path / "small.bin").stat().st_size < 0.4 * (tmp_path / "net.bin").stat().st_size


def test_an_openvino_file_that_differs_leaves_nothing(run, tmp_path, checkpoint, monkeypatch):
    pytest.importorskip("openvino")
    compare, count = module.compare, iter(range(10))
    monkeypatch.setattr(
        module, "compare", lambda *args: dataclasses.replace(compare(*args), difference=0.0 if next(count) < 2 else 1.0)
    )
    result = run("export", checkpoint, "--to", "openvino", "--out", "net.xml")
    assert result.code == 2 and "the output of the openvino file differs" in result.err
    assert list(tmp_path.iterdir()) == []


def test_scores_of_an_exported_file_are_those_of_the_checkpoint(run, depth_file, checkpoint, scenes):
    words = ("evaluate", checkpoint, "--root", scenes, "--device", "cpu", "--amp", "off")
    plain, exported = (json.loads(run(*words, *more).out) for more in ((), ("--exported", depth_file[0])))
    assert (plain["exported"], exported["exported"]) == (None, "light.onnx")
    assert exported["metrics"] == pytest.approx(plain["metrics"], rel=1e-3)
    assert run("evaluate", "classification", "--exported", depth_file[0]).error == (
        f"{depth_file[0]} is a model of depth, not of classification."
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.tflite", "no suffix of an exported file named '.tflite'"),
        ("none.onnx", "There is no exported file 'none.onnx'"),
        ("text.onnx", "text.onnx is no file of `densevision export`, or damaged"),
    ],
)
def test_another_file_is_no_exported_one(run, tmp_path, checkpoint, scenes, name, message):
    (tmp_path / "text.onnx").write_text("no network")
    assert message in run("evaluate", checkpoint, "--root", scenes, "--exported", name).error


def test_without_onnx_the_error_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxruntime" else object())
    assert run("export", "depth").error == "ONNX export needs onnxruntime: pip install onnxruntime."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("export dept", "no task named 'dept'; did you mean 'depth'"),
        ("export missing.safetensors", "no checkpoint 'missing.safetensors'"),
        ("export depth --to onxn", 'Did you mean "onnx"'),
        ("export depth --out net.pt2", "--out is 'net.pt2'; the suffix for onnx is .onnx"),
        ("export depth --to torch-export --out net.onnx", "the suffix for torch-export is .pt2"),
        ("export depth --out folder.onnx", "'folder.onnx' is a folder; name the file to write"),
        ("export depth --int8", "--int8 and --calibration FOLDER, whose images give the ranges, belong together"),
        ("export depth --calibration folder.onnx", "belong together: state both"),
        ("export depth --int8 --calibration none", "There is no folder 'none' of calibration images"),
        ("export depth --int8 --calibration folder.onnx", "The folder 'folder.onnx' contains no image"),
        ("export depth --int8 --calibration folder.onnx --to torch-export", "Files of torch.export are fp32"),
    ],
)
def test_a_user_error_is_one_line(run, tmp_path, words, message):
    (tmp_path / "folder.onnx").mkdir()
    assert re.search(message, run(*words.split()).error)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torch-export"])
@pytest.mark.parametrize("task", [*(task for task in list_tasks() if task != "view_synthesis"), "lenet5_mnist"])
def test_every_packaged_checkpoint_can_be_exported(run, task, to):
    result = run("export", task, "--to", to)
    assert result.code == 0, result.err
    differences = DIFFERS.findall(result.out)
    assert len(differences) == 2 and all(float(one[3]) <= 1e-3 for one in differences)
    dynamic = "Height and width are fixed" not in result.out
    assert dynamic == (task != "lenet5_mnist"), "only LeNet-5 has a fixed size"
    assert (differences[0][1:3] != differences[1][1:3]) == dynamic


def test_models_of_photos_with_cameras_are_not_exported(run):
    result = run("export", "view_synthesis")
    assert result.code == 2 and "takes photos with cameras" in result.err
