"""`densevision weights`: what is listed, shown and verified, and the checkpoint that ships."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import torch

from densevision.backbones import create_backbone
from densevision.backbones.weights import TORCHVISION_LICENCE, list_weights, save_weights

ON_CPU = ("--device", "cpu", "--amp", "off")


def test_a_shipped_checkpoint_answers_to_its_tasks_name(run, tmp_path, monkeypatch, checkpoint, picture):
    folder = tmp_path / "shipped" / "depth" / "weights"
    folder.mkdir(parents=True)
    shutil.copy(checkpoint, folder / "small.safetensors")
    monkeypatch.setattr("densevision.tasks.inference.SHIPPED", tmp_path / "shipped")
    assert "depth: small (" in run("weights", "list").out
    assert json.loads(run("weights", "show", "depth").out)["task"] == "depth"
    assert run("weights", "verify", "depth").code == 0
    assert run("predict", "depth", picture(tmp_path / "a.png"), *ON_CPU).code == 0
    assert (tmp_path / "predictions" / "a_depth.npy").is_file()


def test_a_checkpoint_says_what_it_is(run, checkpoint):
    header = json.loads(run("weights", "show", checkpoint).out)
    assert (header["task"], header["backbone"], header["head"]) == ("depth", "resnet18", "unet")
    assert header["data"]["terms"] and header["metrics"]["protocol"] == "all-pixels"


def test_published_weights_are_listed_with_score_protocol_and_licence(run):
    listed = {line.split()[0]: line for line in run("weights", "list").out.splitlines() if "/" in line.split()[0]}
    assert list(listed) == list_weights()
    # facts 1.4, torchvision's metadata
    assert "top-1 69.758 %, top-5 89.078 % on ImageNet-1K" in listed["resnet18/imagenet"]
    assert "one centre crop of 224, short side 256" in listed["resnet18/imagenet"]
    assert "short side 232" in listed["resnet50/imagenet_v2"]
    for line in listed.values():
        assert "top-1 " in line and "one centre crop" in line and line.endswith(TORCHVISION_LICENCE)


def test_published_weights_show_everything_that_is_stated(run):
    shown = json.loads(run("weights", "show", "resnet50/imagenet_v2").out)
    assert shown["licence"] == TORCHVISION_LICENCE and shown["origin"].startswith("https://")
    assert (shown["preprocessing"]["resize"], shown["preprocessing"]["crop"]) == (232, 224)
    assert shown["scores"] == {"ImageNet-1K": {"acc@1": 80.858, "acc@5": 95.434}}
    assert shown["protocol"].startswith("one centre crop of 224, short side 232")


def test_a_checkpoint_that_ships_is_listed_with_score_protocol_and_terms(run):
    (line,) = [line for line in run("weights", "list").out.splitlines() if line.startswith("depth: ")]
    assert re.search(r"abs_rel 0\.\d{3} \(rooms test, all-pixels\); data: made by this package", line)
    assert "; trunk: " in line


def test_a_trunks_file_shows_what_it_states_and_names_what_it_does_not(run, tmp_path):
    trunk = create_backbone("resnet20_cifar", classes=0)
    save_weights(trunk, tmp_path / "stated.safetensors", licence="CC0-1.0", origin="drawn here", scores="91.2 % top-1")
    save_weights(trunk, tmp_path / "silent.safetensors")
    torch.save(trunk.state_dict(), tmp_path / "plain.pth")
    stated, silent, plain = (
        json.loads(run("weights", "show", name).out)
        for name in ("stated.safetensors", "silent.safetensors", "plain.pth")
    )
    assert (stated["licence"], stated["origin"], stated["scores"]) == ("CC0-1.0", "drawn here", "91.2 % top-1")
    assert stated["preprocessing"]["order"] == "RGB"
    assert (silent["network"], silent["licence"], silent["protocol"]) == ("resnet20_cifar", "unstated", "unstated")
    assert {plain[key] for key in ("network", "licence", "origin", "preprocessing", "scores")} == {"unstated"}


def test_verify_says_what_it_checked_and_what_it_could_not(run, tmp_path, checkpoint):
    trunk = create_backbone("resnet20_cifar", classes=0)
    save_weights(trunk, tmp_path / "trunk.safetensors")
    torch.save(trunk.state_dict(), tmp_path / "plain.pth")
    shown = json.loads(run("weights", "verify", "trunk.safetensors").out)
    values, fits, digest = shown["checked"]
    assert values == f"{shown['tensors']} tensors were read to their end and every value is finite"
    assert (fits, digest) == ("every name and shape is one of resnet20_cifar", "not its digest: none was given")
    _, fits, digest = json.loads(run("weights", "verify", "trunk.safetensors", "--sha256", shown["sha256"][:8]).out)[
        "checked"
    ]
    assert digest == f"the digest begins with {shown['sha256'][:8]}"
    _, fits, _ = json.loads(run("weights", "verify", "plain.pth").out)["checked"]
    assert fits.startswith("not whether it fits")
    _, fits, _ = json.loads(run("weights", "verify", checkpoint).out)["checked"]
    assert fits.startswith("the network that the header describes was built")


def test_verify_reads_a_file_to_its_end(run, tmp_path, checkpoint, picture):
    shown = json.loads(run("weights", "verify", checkpoint).out)
    assert run("weights", "verify", checkpoint, "--sha256", shown["sha256"]).code == 0
    assert "sha256" in run("weights", "verify", checkpoint, "--sha256", "00ff").mistake
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    assert "cut.safetensors" in run("weights", "verify", cut).mistake
    assert "cut.safetensors" in run("predict", cut, picture(tmp_path / "a.png")).mistake


def test_a_file_of_something_else_is_no_checkpoint(run, tmp_path, picture):
    assert "no readable safetensors file" in run("evaluate", picture(tmp_path / "a.png")).mistake


def test_a_shrunken_checkpoint_is_half_as_large_and_still_answers(run, tmp_path, checkpoint, picture):
    assert run("weights", "shrink", checkpoint, "small.safetensors").code == 0
    small = tmp_path / "small.safetensors"
    assert small.stat().st_size < 0.6 * checkpoint.stat().st_size
    assert "exists already" in run("weights", "shrink", checkpoint, small).mistake
    here = picture(tmp_path / "a.png")
    for file, out in ((checkpoint, "large"), (small, "small")):
        assert run("predict", file, here, "--out", out, *ON_CPU).code == 0
    large, halved = (np.load(tmp_path / out / "a_depth.npy") for out in ("large", "small"))
    np.testing.assert_allclose(halved, large, rtol=2e-2)


def test_published_weights_of_a_whole_network_become_a_checkpoint_that_answers(run, tmp_path, picture):
    from densevision.tasks.flow.raft import raft_small

    torch.manual_seed(0)
    torch.save(raft_small().network.state_dict(), tmp_path / "published.pth")
    for number in (1, 2):
        picture(tmp_path / f"{number}.png", 128, 136, number)
    line = ("weights", "adopt", "flow", "raft_small", "published.pth", "raft.safetensors", "--terms", "research-only")
    assert run(*line).code == 0
    said = run("predict", "raft.safetensors", "1.png", "2.png", *ON_CPU)
    assert said.code == 0 and "research-only" in said.err
    assert (tmp_path / "predictions" / "1_flow.flo").stat().st_size == 12 + 8 * 128 * 136
    assert "exists already" in run(*line).mistake
    assert "raft_smal" in run("weights", "adopt", "flow", "raft_smal", "published.pth", "other.safetensors").mistake
