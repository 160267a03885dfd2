"""Torch7's files: layers in the order of the network, and tensors as they are stored."""

from __future__ import annotations

import struct

import pytest
import torch

from densevision.backbones.torch7_files import read_torch7_file
from densevision.tests.torch7 import Module, convolution, normalization, sequence, torch7_bytes


def test_layers_are_read_in_the_order_of_the_network(tmp_path):
    state = {"a.weight": torch.rand(4, 3, 5, 5), "b.weight": torch.rand(2, 4, 1, 1), "b.bias": torch.rand(2)}
    state |= {f"n.{part}": torch.rand(4) for part in ("weight", "bias", "running_mean", "running_var")}
    branches = sequence("nn.ConcatTable", convolution(state, "b", 1), Module("nn.Identity"))
    linear = Module("nn.Linear", weight=torch.rand(3, 2), bias=torch.rand(3))
    network = sequence("nn.Sequential", convolution(state, "a", 2), normalization(state, "n"), branches, linear)
    (tmp_path / "net.t7").write_bytes(torch7_bytes(network))
    tensors = read_torch7_file(tmp_path / "net.t7")
    assert [name for name in tensors if name.endswith("weight")] == [
        "0.SpatialConvolution.weight", "1.SpatialBatchNormalization.weight", "2.SpatialConvolution.weight",
        "3.Linear.weight",
    ]  # fmt: skip
    assert torch.equal(tensors["0.SpatialConvolution.weight"], state["a.weight"])
    assert tensors["0.SpatialConvolution.stride"].tolist() == [2]
    assert torch.equal(tensors["1.SpatialBatchNormalization.running_var"], state["n.running_var"])
    assert torch.equal(tensors["3.Linear.weight"], linear["weight"])


def test_a_tensor_that_repeats_a_number_is_refused(tmp_path):
    whole = torch7_bytes(sequence("nn.Sequential", Module("nn.Linear", weight=torch.rand(1), bias=torch.rand(1))))
    shape = struct.pack("<iqq", 1, 1, 1)
    (tmp_path / "net.t7").write_bytes(whole.replace(shape, struct.pack("<iqq", 1, 10**9, 0), 1))
    with pytest.raises(ValueError, match="a tensor of 1000000000 numbers in a storage of 1"):
        read_torch7_file(tmp_path / "net.t7")
