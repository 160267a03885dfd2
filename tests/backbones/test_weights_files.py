"""Weights files as other tools write them: prefixes, nested tables, and files that are not weights."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from densevision.backbones import create_backbone
from densevision.backbones.state_dict_matching import load_weights
from densevision.backbones.weights import open_safetensors, weights_format
from densevision.errors import UserError
from densevision.tasks.inference import load

NAME = "resnet20_cifar"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return create_backbone(NAME, num_classes=10).state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def shifted(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


def assert_loads(path: Path, state: State) -> None:
    with pytest.warns(UserWarning, match="no metadata"):
        loaded = create_backbone(NAME, path, num_classes=10).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


PREFIXES = (
    "module.", "_orig_mod.", "model.", "backbone.", "module._orig_mod.", "_orig_mod.module.", "model.backbone.",
    "module.model._orig_mod.backbone.", "net.encoder_q.",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_prefix_of_a_wrapper_is_removed(tmp_path: Path, state: State, prefix: str) -> None:
    torch.save(prefixed(prefix, state), tmp_path / "a.pth")
    assert_loads(tmp_path / "a.pth", state)
    save_file(prefixed(prefix, state), tmp_path / "a.safetensors")
    assert_loads(tmp_path / "a.safetensors", state)


@pytest.mark.parametrize(
    "tables", ["state_dict", "model", "model_state", "ema", "state_dict_ema", "ema/module", "a/b/c"]
)
@pytest.mark.parametrize("prefix", ["", "module._orig_mod."])
def test_a_table_in_tables_is_found(tmp_path: Path, state: State, tables: str, prefix: str) -> None:
    content: dict[str, Any] = prefixed(prefix, state)
    for table in reversed(tables.split("/")):
        content = {table: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    torch.save(content, tmp_path / "a.pth")
    assert_loads(tmp_path / "a.pth", state)


def test_wrappers_within_names_are_removed(tmp_path: Path, state: State) -> None:
    # torch.compile of one stage, FSDP of another.
    names = {"stage1.": "stage1._orig_mod.", "stage2.0.": "stage2.0._fsdp_wrapped_module."}
    wrapped = {}
    for name, tensor in state.items():
        start = next((start for start in names if name.startswith(start)), "")
        wrapped[names.get(start, "") + name.removeprefix(start)] = tensor
    torch.save(wrapped, tmp_path / "a.pth")
    assert_loads(tmp_path / "a.pth", state)


def test_tensors_besides_the_backbone_are_left_out_with_a_warning(tmp_path: Path, state: State) -> None:
    head = {"decode_head.conv.weight": torch.zeros(2, 2), "decode_head.conv.bias": torch.zeros(2)}
    torch.save({"state_dict": prefixed("backbone.", state) | head}, tmp_path / "a.pth")
    with pytest.warns(UserWarning, match=r"named 'state_dict\.backbone\.\.\.\.' are taken, and 2 others are left out"):
        assert_loads(tmp_path / "a.pth", state)


def test_the_moving_average_is_taken_before_the_trained_weights(tmp_path: Path, state: State) -> None:
    torch.save({"state_dict": state, "state_dict_ema": prefixed("module.", shifted(state))}, tmp_path / "a.pth")
    with pytest.warns(UserWarning, match=r"named 'state_dict_ema\.module\.\.\.\.' are taken"):
        assert_loads(tmp_path / "a.pth", shifted(state))


def test_a_state_dict_in_memory_may_have_a_prefix(state: State) -> None:
    backbone = create_backbone(NAME, num_classes=10)
    with pytest.warns(UserWarning, match="no metadata"):
        load_weights(backbone, prefixed("module.", state))
    assert torch.equal(backbone.state_dict()["fc.bias"], state["fc.bias"])


def test_a_prefix_does_not_hide_missing_unexpected_or_foreign_tensors(tmp_path: Path, state: State) -> None:
    missing = {name: tensor for name, tensor in state.items() if not name.startswith("stage3.1.conv2")}
    torch.save(prefixed("module.", missing), tmp_path / "missing.pth")
    torch.save(prefixed("module.", state | {"extra": torch.zeros(1)}), tmp_path / "extra.pth")
    torch.save({"layer1.0.conv1.weight": torch.zeros(1), "layer1.0.bn1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name, message in (
        ("missing.pth", r"only up to its level stage2: 'stage3.1.conv2.weight' is missing"),
        ("extra.pth", r"'extra' is unexpected"),
        ("other.pth", r"does not contain the first level of resnet20_cifar"),
    ):
        with pytest.raises(UserError, match=message):
            create_backbone(NAME, tmp_path / name, num_classes=10)


def zip_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/model.pth", b"x")


POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 46827520\n"
)
FOREIGN = {
    "lfs": (POINTER.encode(), "a Git LFS pointer, .*`git lfs pull`"),
    "page": (b"\n  <!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page .* download the file itself"),
    "page-with-mark": (b"\xef\xbb\xbf<HTML></HTML>", "a web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "empty": (b"", "an empty file"),
    "blank": (b"\n\n", "an empty file"),
    "json": (b'{"metadata": {"total_size": 1}, "weight_map": {}}', "a JSON file, .* give the weights file"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "an image, not weights"),
    "text": (b"404: Not Found", r"a text file \('404: Not Found'\)"),
    "umlauts": ("Zugriff verweigert: ungültig".encode() * 60, "a text file"),
    "gzip": (gzip.compress(b"weights"), "a compressed archive, .* unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_not_weights_is_recognized(tmp_path: Path, kind: str, suffix: str) -> None:
    content, message = FOREIGN[kind]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    for read in (lambda: create_backbone("resnet18", path), lambda: load(path)):
        with pytest.raises(UserError, match=re.escape(str(path)) + f" is {message}") as error:
            read()
        assert len(str(error.value).splitlines()) == 1


def test_archives_and_arrays_are_recognized(tmp_path: Path) -> None:
    zip_archive(tmp_path / "a.pth")
    np.save(tmp_path / "b.npy", np.zeros(3))
    np.savez(tmp_path / "c.npz", np.zeros(3))
    for name, message in (
        ("a.pth", "a zip archive, .* unpack"),
        ("b.npy", "a NumPy array"),
        ("c.npz", "a zip archive"),
    ):
        with pytest.raises(UserError, match=f"{name} is {message}"):
            create_backbone("resnet18", tmp_path / name)


def test_the_format_follows_the_content_and_not_the_suffix(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "safe.pth")
    torch.save(state, tmp_path / "torch.safetensors")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name, kind in (("safe.pth", "safetensors"), ("torch.safetensors", "torch"), ("old.bin", "torch")):
        assert weights_format(tmp_path / name) == kind
        assert_loads(tmp_path / name, state)


def test_torch_weights_are_not_a_checkpoint_of_a_task(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"not a checkpoint of a task .*`densevision weights import`"):
        load(tmp_path / "a.pth")


def test_the_shards_of_an_index_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(UserError, match="a JSON file"):
        create_backbone("resnet18", tmp_path / "model.safetensors.index.json")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_opened(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    path = (tmp_path / "a.safetensors").rename(tmp_path / os.fsdecode(b"caf\xe9.safetensors"))
    assert open_safetensors(path).get_tensor("a").tolist() == [1, 1, 1]
