"""Malicious files of published weights for `weights import`: Caffe's protocol buffers, tables in `.npy`, layouts."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..caffe import blob, caffe_bytes, field, varint
from ..torch7 import Module, sequence, torch7_bytes
from .harness import Case

KIND = "published weights"


def generate_published(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `weights import`."""
    contents = {f"{name}.caffemodel": data for name, data in _caffe(rng).items()}
    contents |= {f"{name}.t7": data for name, data in _torch7(rng).items()}
    contents |= {f"{name}.npy": data for name, data in _npy(rng).items()}
    for name, data in contents.items():
        path = folder / name
        path.write_bytes(data)
        yield Case(KIND, name, ("weights", "import", str(path), str(folder / f"{name}.safetensors")))
    for name, state in _layouts(rng).items():
        path = folder / f"{name}.pth"
        torch.save(state, path)
        yield Case(KIND, f"{name}.pth", ("weights", "import", str(path), str(folder / f"{name}.safetensors")))


def _caffe(rng: np.random.Generator) -> dict[str, bytes]:
    weights = torch.rand(2, 3, 4, 4)
    whole = caffe_bytes([("conv1", [weights, torch.rand(2)])])
    layer = field(1, b"conv1")
    huge = field(7, field(1, b"".join(map(varint, (2**31, 2**31)))))
    cut = int(rng.integers(10, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[int(rng.integers(5, 30))] ^= 0xFF
    return {
        "empty": b"",
        "zeros": bytes(10_000),
        "random": rng.bytes(10_000),
        "cut": whole[:cut],
        "flipped": bytes(flipped),
        "no layers": field(1, b"net"),
        "no weights": caffe_bytes([("data", []), ("relu", [])]),
        "other shape": field(100, layer + field(7, field(7, field(1, varint(5))) + field(5, bytes(16)))),
        "huge shape": field(100, layer + field(7, huge)),
        "huge old shape": field(2, field(4, b"conv1") + field(6, b"".join(field(n, 2**31 - 1) for n in range(1, 5)))),
        "many sides": field(100, layer + field(7, field(7, field(1, varint(1) * 100_000)) + field(5, bytes(4)))),
        "length beyond the end": varint(100 << 3 | 2) + varint(2**60) + layer,
        "number without end": varint(100 << 3 | 2) + b"\xff" * 1000,
        "unknown type": bytes([100 << 3 & 127 | 3, 6]) * 1000,
        "ten million fields": field(100, layer + field(3, 1) * 10_000_000),
        "ten million blobs": field(100, layer + field(7, b"") * 10_000_000),
        "name of escapes": field(100, field(1, b"\x1b[31m\x07" * 50) + field(7, blob(weights, False))),
        "not finite": caffe_bytes([("conv1_1", [torch.full((64, 3, 3, 3), float("nan"))])]),
    }


class _Calls:
    def __reduce__(self) -> tuple:
        return (print, ("called",))


def _npy(rng: np.random.Generator) -> dict[str, bytes]:
    def npy(value: object, protocol: int = 2) -> bytes:
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        return stream.getvalue() + pickle.dumps(np.array(value, object), protocol)

    plain = io.BytesIO()
    np.save(plain, np.zeros((3, 3)))
    table = npy({"conv1": {"weights": np.zeros((3, 3, 3, 4), np.float32)}})
    huge = pickle.dumps({"conv1": {"weights": np.zeros((2, 3), np.float32)}}, 2).replace(
        b"K\x02K\x03", b"J\xff\xff\xff\x7fK\x03"
    )
    header = npy({})[: -len(pickle.dumps(np.array({}, object), 2))]
    return {
        "empty array file": b"\x93NUMPY",
        "plain array": plain.getvalue(),
        "empty table": npy({}),
        "cut table": table[: int(rng.integers(140, len(table) - 1))],
        "call": npy({"conv1": {"weights": _Calls()}}),
        "huge array": header + huge,
        "object number": header + b"\x80\x02}r\xff\xff\xff\x7f.",
        "long number": header + b"\x80\x02\x8a\xff" + bytes(10),
        "text": header + b"hello",
        "no layout": table,
    }


def _torch7(rng: np.random.Generator) -> dict[str, bytes]:
    layer = Module("nn.Linear", weight=torch.rand(4, 3), bias=torch.rand(4))
    whole = torch7_bytes(sequence("nn.Sequential", layer))
    tensor = struct.pack("<ii", 4, 7) + struct.pack("<i", 17) + b"torch.FloatTensor"
    storage = struct.pack("<ii", 4, 8) + struct.pack("<i", 18) + b"torch.FloatStorage"
    one = storage + struct.pack("<qf", 1, 1.0)
    depth = b"".join(struct.pack("<iii", 3, n, 1) + struct.pack("<id", 1, 1.0) for n in range(1, 5000))
    cut = int(rng.integers(20, len(whole) - 1))
    weight = struct.pack("<ii", 4, 1) + struct.pack("<i", 9) + b"nn.Linear" + struct.pack("<iii", 3, 2, 1)
    weight += struct.pack("<ii", 2, 6) + b"weight"
    itself = struct.pack("<iii", 4, 1, 13) + b"nn.Sequential" + struct.pack("<iiiii", 3, 2, 1, 2, 7) + b"modules"
    itself += struct.pack("<iiiid", 3, 3, 1, 1, 1.0) + struct.pack("<ii", 4, 1)
    return {
        "empty t7": b"",
        "random t7": rng.bytes(10_000),
        "cut t7": whole[:cut],
        "no layout": whole,
        "deep table": depth,
        "table of itself": struct.pack("<iii", 3, 1, 1) + struct.pack("<id", 1, 1.0) + struct.pack("<ii", 3, 1),
        "modules in itself": itself,
        "billion numbers": weight + tensor + struct.pack("<iqqq", 1, 2**40, 0, 1) + one,
        "repeated number": weight + tensor + struct.pack("<iqqq", 1, 10**9, 0, 1) + one,
        "before the storage": weight + tensor + struct.pack("<iqqq", 1, 1, 1, -5) + one,
        "long text": struct.pack("<ii", 2, 2**31 - 1),
        "negative text": struct.pack("<ii", 2, -1),
        "huge table": struct.pack("<iii", 3, 1, 2**31 - 1),
        "huge storage": weight + storage + struct.pack("<q", 2**62),
        "function": struct.pack("<iii", 8, 1, -4),
    }  # fmt: skip


def _layouts(rng: np.random.Generator) -> dict[str, dict]:
    number = int(rng.integers(10**6, 10**9))
    return {
        "discriminator of many layers": {
            "model.0.weight": torch.rand(64, 3, 4, 4),
            "model.0.bias": torch.rand(64),
            "model.2.weight": torch.rand(2, 64, 4, 4),
            f"model.{number}.weight": torch.rand(1),
        },
        "generator without blocks": {
            "model.1.weight": torch.rand(64, 3, 7, 7),
            "model.10.conv_block.1.weight": torch.rand(256, 256, 3, 3),
        },
        "deep generator": {
            "model.model.0.weight": torch.rand(64, 3, 4, 4),
            "model.model.3.weight": torch.rand(128, 3, 4, 4),
            "model.model.3.bias": torch.rand(3),
            f"model.{'model.' * 5000}0.weight": torch.rand(1),
        },
        "resnet of many units": {
            "conv1.weight": torch.rand(16, 3, 3, 3),
            "layer3.0.conv1.weight": torch.rand(64, 32, 3, 3),
            "linear.weight": torch.rand(10, 64),
            **{f"layer1.{n}.conv1.weight": torch.rand(1) for n in range(200)},
        },
    }
