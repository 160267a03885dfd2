"""`densevision weights`: list, show, verify, convert, and the packaged checkpoint."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any, cast

import numpy as np
import torch

from densevision.backbones import create_backbone
from densevision.backbones.state_dict_matching import save_weights
from densevision.backbones.weights import TORCHVISION_LICENSE, list_weights
from densevision.tasks.inference import load

ON_CPU = ("--device", "cpu", "--amp", "off")


def test_a_packaged_checkpoint_is_found_by_its_tasks_name(run, tmp_path, monkeypatch, checkpoint, image):
    folder = tmp_path / "packaged" / "depth" / "weights"
    folder.mkdir(parents=True)
    shutil.copy(checkpoint, folder / "small.safetensors")
    monkeypatch.setattr("densevision.tasks.inference.PACKAGED_CHECKPOINTS", tmp_path / "packaged")
    assert "depth: small (" in run("weights", "list").out
    assert json.loads(run("weights", "show", "depth").out)["task"] == "depth"
    assert run("weights", "verify", "depth").code == 0
    assert run("predict", "depth", image(tmp_path / "a.png"), *ON_CPU).code == 0
    assert (tmp_path / "predictions" / "a_depth.npy").is_file()


def test_a_packaged_checkpoint_is_found_by_its_own_name(run, tmp_path, image):
    name = "resnet20_recognition_game"
    header = json.loads(run("weights", "show", name).out)
    assert (header["task"], header["data"]["name"]) == ("memorability", "recognition-game")
    assert run("weights", "verify", name).code == 0
    assert run("predict", name, image(tmp_path / "a.png"), *ON_CPU).code == 0
    assert (tmp_path / "predictions" / "a_memorability.json").is_file()


def test_memorability_is_predicted_by_the_checkpoint_of_real_photos_if_none_is_named(run):
    header = json.loads(run("weights", "show", "memorability").out)
    assert (header["head"], header["data"]["name"]) == ("ridge", "lnsim")


def test_show_prints_the_header_of_a_checkpoint(run, checkpoint):
    header = json.loads(run("weights", "show", checkpoint).out)
    assert (header["task"], header["backbone"], header["head"]) == ("depth", "resnet18", "unet")
    assert header["data"]["terms"] and header["metrics"]["protocol"] == "all-pixels"


def test_published_weights_are_listed_with_score_protocol_and_license(run):
    lines = {line.split()[0]: line for line in run("weights", "list").out.splitlines() if "/" in line.split()[0]}
    assert list(lines) == list_weights()
    # facts 1.4, torchvision's metadata
    assert "top-1 69.758 %, top-5 89.078 % on ImageNet-1K" in lines["resnet18/imagenet"]
    assert "one center crop of 224, short side 256" in lines["resnet18/imagenet"]
    assert "short side 232" in lines["resnet50/imagenet_v2"]
    for line in lines.values():
        assert "top-1 " in line and "one center crop" in line and line.endswith(TORCHVISION_LICENSE)


def test_show_prints_the_metadata_of_published_weights(run):
    info = json.loads(run("weights", "show", "resnet50/imagenet_v2").out)
    assert info["licence"] == TORCHVISION_LICENSE and info["origin"].startswith("https://")
    assert (info["preprocessing"]["resize"], info["preprocessing"]["crop"]) == (232, 224)
    assert info["scores"] == {"ImageNet-1K": {"acc@1": 80.858, "acc@5": 95.434}}
    assert info["protocol"].startswith("one center crop of 224, short side 232")


def test_a_packaged_checkpoint_is_listed_with_score_protocol_and_terms(run):
    (line,) = [line for line in run("weights", "list").out.splitlines() if line.startswith("depth: ")]
    assert re.search(r"abs_rel 0\.\d{3} \(nyu-raw test, all-pixels\); data: no explicit license", line)
    assert "; backbone: " in line


def test_show_marks_missing_metadata_of_a_backbones_file(run, tmp_path):
    backbone = create_backbone("resnet20_cifar", num_classes=0)
    metadata: dict[str, Any] = {"licence": "CC0-1.0", "origin": "made here", "scores": "91.2 % top-1"}
    save_weights(backbone, tmp_path / "stated.safetensors", **metadata)
    save_weights(backbone, tmp_path / "unstated.safetensors")
    torch.save(backbone.state_dict(), tmp_path / "plain.pth")
    stated, unstated, plain = (
        json.loads(run("weights", "show", name).out)
        for name in ("stated.safetensors", "unstated.safetensors", "plain.pth")
    )
    assert (stated["licence"], stated["origin"], stated["scores"]) == ("CC0-1.0", "made here", "91.2 % top-1")
    assert stated["preprocessing"]["order"] == "RGB"
    assert (unstated["network"], unstated["licence"], unstated["protocol"]) == (
        "resnet20_cifar",
        "unstated",
        "unstated",
    )
    assert {plain[key] for key in ("network", "licence", "origin", "preprocessing", "scores")} == {"unstated"}


def test_verify_prints_what_was_and_was_not_checked(run, tmp_path, checkpoint):
    backbone = create_backbone("resnet20_cifar", num_classes=0)
    save_weights(backbone, tmp_path / "backbone.safetensors")
    torch.save(backbone.state_dict(), tmp_path / "plain.pth")
    info = json.loads(run("weights", "verify", "backbone.safetensors").out)
    values, fits, digest = info["checked"]
    assert values == f"{info['tensors']} tensors were read completely and all values are finite"
    assert (fits, digest) == ("all names and shapes match resnet20_cifar", "not checked: the digest")
    _, fits, digest = json.loads(run("weights", "verify", "backbone.safetensors", "--sha256", info["sha256"][:8]).out)[
        "checked"
    ]
    assert digest == f"the digest begins with {info['sha256'][:8]}"
    _, fits, _ = json.loads(run("weights", "verify", "plain.pth").out)["checked"]
    assert fits.startswith("not checked: the model")
    _, fits, _ = json.loads(run("weights", "verify", checkpoint).out)["checked"]
    assert fits.startswith("all tensors fit the model")


def test_verify_reads_the_complete_file(run, tmp_path, checkpoint, image):
    info = json.loads(run("weights", "verify", checkpoint).out)
    assert run("weights", "verify", checkpoint, "--sha256", info["sha256"]).code == 0
    assert "sha256" in run("weights", "verify", checkpoint, "--sha256", "00ff").error
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    assert "cut.safetensors" in run("weights", "verify", cut).error
    assert "cut.safetensors" in run("predict", cut, image(tmp_path / "a.png")).error


def test_an_image_is_not_a_checkpoint(run, tmp_path, image):
    assert "is an image, not weights" in run("evaluate", image(tmp_path / "a.png")).error


def test_to_fp16_halves_a_checkpoint_and_keeps_its_predictions(run, tmp_path, checkpoint, image):
    assert run("weights", "to-fp16", checkpoint, "small.safetensors").code == 0
    small = tmp_path / "small.safetensors"
    assert small.stat().st_size < 0.6 * checkpoint.stat().st_size
    assert "already exists" in run("weights", "to-fp16", checkpoint, small).error
    photo = image(tmp_path / "a.png")
    for file, out in ((checkpoint, "large"), (small, "small")):
        assert run("predict", file, photo, "--out", out, *ON_CPU).code == 0
    large, half = (np.load(tmp_path / out / "a_depth.npy") for out in ("large", "small"))
    np.testing.assert_allclose(half, large, rtol=2e-2)


def test_to_fp16_makes_a_checkpoint_of_a_classifiers_weights(run, tmp_path, image):
    backbone = create_backbone("resnet20_cifar", num_classes=1000)
    save_weights(backbone, tmp_path / "weights.safetensors")
    assert run("weights", "to-fp16", "weights.safetensors", "named.safetensors").code == 0
    header = json.loads(run("weights", "show", "named.safetensors").out)
    assert (header["task"], header["fields"]["category"]["names"][281]) == ("classification", "tabby")
    assert header["backbone_weights"]["weights"] == "weights.safetensors"
    photo = image(tmp_path / "a.png", 40, 40)
    predictors = (load(tmp_path / f"{file}.safetensors", "cpu", "off") for file in ("weights", "named"))
    weights, named = (cast(Any, predictor.predict(photo)).probabilities for predictor in predictors)
    np.testing.assert_allclose(named, weights, atol=1e-2)  # weights with 11 significant bits
    save_weights(create_backbone("resnet20_cifar", num_classes=0), tmp_path / "levels.safetensors")
    assert "without a classifier" in run("weights", "to-fp16", "levels.safetensors", "none.safetensors").error


def test_import_converts_published_weights_to_a_checkpoint(run, tmp_path, image):
    from densevision.tasks.flow.networks import raft_small

    torch.manual_seed(0)
    torch.save(raft_small().network.state_dict(), tmp_path / "published.pth")
    for number in (1, 2):
        image(tmp_path / f"{number}.png", 128, 136, number)
    line = ("weights", "import", "published.pth", "raft.safetensors", "--terms", "research-only")
    imported = run(*line)
    assert imported.code == 0
    assert imported.out.startswith(
        "The layout is that of our raft_small.\nIt becomes raft_small.\nWrote raft.safetensors"
    )
    result = run("predict", "raft.safetensors", "1.png", "2.png", *ON_CPU)
    assert result.code == 0 and "research-only" in result.err
    assert (tmp_path / "predictions" / "1_flow.flo").stat().st_size == 12 + 8 * 128 * 136
    assert "already exists" in run(*line).error
    assert "raft_smal" in run("weights", "import", "published.pth", "other.safetensors", "--as", "raft_smal").error
