"""Caffe's weights files: what the reader returns for either form of layers, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from densevision.backbones.caffe_files import read_caffe_file
from densevision.backbones.protobuf import DamagedFile
from densevision.tests.caffe import caffe_bytes, field, packed, varint


@pytest.mark.parametrize("old", [False, True])
def test_blobs_are_read_in_the_order_of_their_layers(tmp_path, old):
    kernel, bias, matrix = torch.rand(4, 3, 1, 1), torch.rand(4), torch.rand(2, 5)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffe_bytes([("data", []), ("conv", [kernel, bias]), ("relu", []), ("fc", [matrix])], old))
    blobs = read_caffe_file(path)
    assert list(blobs) == ["data", "conv.0", "conv.1", "relu", "fc.0"]
    assert torch.equal(blobs["conv.0"], kernel) and torch.equal(blobs["conv.1"], bias)
    assert torch.equal(blobs["fc.0"], matrix) and blobs["relu"].shape == (0,)


def test_numbers_that_are_not_packed_are_read(tmp_path):
    numbers = b"".join(varint(5 << 3 | 5) + packed(value) for value in (1.5, -2.0))
    layer = field(1, b"fc") + field(7, field(7, field(1, 2)) + numbers)
    (tmp_path / "net.caffemodel").write_bytes(field(100, layer))
    assert read_caffe_file(tmp_path / "net.caffemodel")["fc.0"].tolist() == [1.5, -2.0]


def test_a_blob_of_another_size_than_its_shape_is_refused(tmp_path):
    layer = field(1, b"fc") + field(7, field(7, field(1, varint(3))) + field(5, packed(1.0, 2.0)))
    (tmp_path / "net.caffemodel").write_bytes(field(100, layer))
    with pytest.raises(DamagedFile, match="a blob of 8 bytes, which states the shape 3"):
        read_caffe_file(tmp_path / "net.caffemodel")
