"""TensorFlow's checkpoints: what the reader returns for either form, by which names, and what it refuses.

The writer of the present form was compared with TensorFlow 2.21 once: its `.index` and `.data` are equal to the byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densevision.backbones.tensorflow_files import find_table, masked_crc32c, read_tensorflow_checkpoint
from densevision.errors import UserError
from densevision.tasks.conversion import open_published
from densevision.tests.tensorflow_checkpoint import (
    bytes_of,
    shape_bytes,
    write_checkpoint,
    write_old_checkpoint,
)

VARIABLES = {
    "conv1/weights": torch.rand(3, 3, 2, 4),
    "conv1/biases": torch.rand(4),
    "conv2/weights": torch.rand(1, 1, 4, 5).double(),
    "scale": torch.tensor(3.5),
}
NARROW = {"conv3/weights": torch.rand(5).half(), "conv4/weights": torch.rand(5).bfloat16(), "none": torch.empty(0, 3)}
COUNTERS = {"x_0": torch.arange(7), "global_step": torch.tensor(100)}


@pytest.mark.parametrize(("shards", "block"), [(1, 1000), (2, 3)])
def test_the_floating_point_variables_are_read(tmp_path, shards, block):
    expected = VARIABLES | NARROW | {f"layer{number}/weights": torch.rand(2) for number in range(30)}
    table = write_checkpoint(tmp_path, "model.ckpt", expected | COUNTERS, shards, block)
    read = read_tensorflow_checkpoint(table)
    assert read.keys() == {name.replace("/", ".") for name in expected}
    for name, variable in expected.items():
        torch.testing.assert_close(read[name.replace("/", ".")], variable, rtol=0, atol=0)


def test_the_old_form_is_read(tmp_path):
    read = read_tensorflow_checkpoint(write_old_checkpoint(tmp_path / "model.ckpt", VARIABLES | COUNTERS))
    assert read.keys() == {name.replace("/", ".") for name in VARIABLES}
    for name, variable in VARIABLES.items():
        torch.testing.assert_close(read[name.replace("/", ".")], variable, rtol=0, atol=0)


def test_a_checkpoint_is_found_by_the_name_of_any_of_its_files(tmp_path):
    table = write_checkpoint(tmp_path, "model.ckpt-12", VARIABLES)
    (tmp_path / "model.ckpt-12.meta").write_bytes(b"graph")
    for ending in ("", ".index", ".meta", ".data-00000-of-00001"):
        assert find_table(tmp_path / f"model.ckpt-12{ending}") == table
    assert "conv1.weights" in open_published(tmp_path / "model.ckpt-12").shapes
    old = write_old_checkpoint(tmp_path / "old.ckpt", VARIABLES)
    (tmp_path / "old.ckpt.meta").write_bytes(b"graph")
    assert find_table(old) == find_table(tmp_path / "old.ckpt.meta") == old
    assert find_table(tmp_path / "missing.ckpt") is None
    # PyTorch's files have the same endings.
    torch.save({"weight": torch.rand(2)}, tmp_path / "lightning.ckpt")
    assert find_table(tmp_path / "lightning.ckpt") is None
    table.unlink()
    with pytest.raises(UserError, match=r"There is no .*model.ckpt-12.index, .*: copy all of its files there"):
        open_published(tmp_path / "model.ckpt-12.data-00000-of-00001")


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


DATA = "model.ckpt.data-00000-of-00001"


@pytest.mark.parametrize(
    ("stated", "damage", "sentence"),
    [
        ({}, lambda folder: cut(folder / "model.ckpt.index", 1), "without the end of a table"),
        ({}, lambda folder: flip(folder / "model.ckpt.index", 40), "a block at 0 of another checksum"),
        ({}, lambda folder: cut(folder / DATA, 1), "'scale' of 4 bytes at 464 in a data file of 467"),
        ({}, lambda folder: flip(folder / DATA, 300), "'conv1.weights' of another checksum|'conv2.weights' of another"),
        ({}, lambda folder: (folder / DATA).unlink(), f"There is no .*{DATA}, .*: copy all of its files there"),
        ({}, lambda folder: (folder / DATA).write_bytes(b""), "an empty file"),
        ({"offset": 10**12}, None, "'conv1.biases' of 16 bytes at 1000000000000 in a data file of 468"),
        ({"size": 10**12}, None, "'conv1.biases' of 1000000000000 bytes at 0"),
        ({"offset": 452, "size": 17}, None, "'conv1.biases' of 17 bytes"),
        ({"type": 2}, None, "'conv1.biases' of 16 bytes, which states the shape 4"),
        ({"type": 99}, None, "'conv1.biases' of type 99, which TensorFlow does not have"),
        ({"shape": b"\x12\x06\x08" + b"\xff" * 4 + b"\x7f"}, None, "impossible shape"),
        ({"shard": 1}, None, "'conv1.biases' in data file 1 of 1"),
        ({"slices": b""}, None, "'conv1.biases' in slices"),
        ({"offset": 16}, None, "'conv1.biases' of another checksum"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path, stated: dict[str, Any], damage, sentence):
    write_checkpoint(tmp_path, "model.ckpt", VARIABLES, **stated)
    if damage:
        damage(tmp_path)
    with pytest.raises(UserError, match=sentence) as caught:
        open_published(tmp_path / "model.ckpt")
    assert "\n" not in str(caught.value)


def test_variables_that_overlap_are_refused(tmp_path):
    variables = {"a": torch.rand(4), "b": torch.rand(2)}
    whole = torch.cat(list(variables.values()))
    stated = {"size": 24, "shape": shape_bytes(whole), "checksum": masked_crc32c(bytes_of(whole))}
    write_checkpoint(tmp_path, "model.ckpt", variables, **stated)
    with pytest.raises(UserError, match="'b' of 8 bytes at 16 in a data file of 24"):
        open_published(tmp_path / "model.ckpt")


def test_a_table_that_is_compressed_is_refused(tmp_path):
    table = write_checkpoint(tmp_path, "model.ckpt", {"a": torch.rand(4)})
    content = bytearray(table.read_bytes())
    # The footer begins with the place behind the first block, whose last five bytes say how it is stored.
    content[content[-48] - 5] = 1
    table.write_bytes(content)
    with pytest.raises(UserError, match="a compressed table"):
        open_published(table)


def test_checksums_are_those_of_crc32c():
    # RFC 3720, B.4, and the check value of the Rocksoft model.
    known = {b"123456789": 0xE3069283, bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43}
    for data, crc in known.items():
        assert masked_crc32c(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    # One long row or many short ones.
    content = bytes(range(256)) * 40
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    assert masked_crc32c(content) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
