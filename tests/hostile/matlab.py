"""Malicious MATLAB files: v5 to v7 for scipy (`lsp`, `mpii`), v7.3 for HDF5 (`nyu-depth`)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from densevision.datasets.formats.mat5 import HEADER as HEADER_BYTES
from densevision.datasets.formats.mat5 import unpack_variables

from .arrays import BOMB, deflated_zeros
from .harness import Case
from .layouts import Layouts, case

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
CELL, STRUCTURE, OBJECT, TEXT, SPARSE, DOUBLE, UINT8, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 6, 9, 16, 17


def element(kind: int, data: bytes) -> bytes:
    """An element of a file, padded."""
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(kind: int, sizes: tuple[int, ...], content: bytes, name: bytes = b"", size: int | None = None) -> bytes:
    """An array with any kind, sizes, content and stated number of bytes."""
    start = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(sizes)}i", *sizes))
    body = start + element(1, name) + content
    return struct.pack("<II", 14, len(body) if size is None else size) + body


def packed(data: bytes) -> bytes:
    """A compressed variable."""
    content = zlib.compress(data)
    return struct.pack("<II", 15, len(content)) + content


def generate_matlab(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `data validate` on MATLAB files."""
    layouts = Layouts(folder, rng)
    yield from _v5(layouts)
    yield from _v73(layouts)


def _v5(layouts: Layouts) -> Iterator[Case]:
    depth = int(layouts.rng.integers(50_000, 200_000))
    cells = int(layouts.rng.integers(10**8, 2**31 - 1))
    nested = array(DOUBLE, (1, 1), element(9, bytes(8)))
    for _ in range(40):
        nested = array(CELL, (1, 1), nested)
    hidden = array(CELL, (1, 1), b"", size=2**31 - 1)
    name = b"joints"
    bomb = b"\x78\x9c" + deflated_zeros(BOMB, array(UINT8, (1024, BOMB // 1024), struct.pack("<II", 2, BOMB), name))
    fields = element(5, struct.pack("<i", 32)) + element(1, bytes(32 * 10**5))
    empty = struct.pack("<II", 14, 0)
    contents = {
        "billions of cells": array(CELL, (cells, 1), b"", name),
        "billions of structures": array(STRUCTURE, (cells, 1), element(5, b"\x20\0\0\0") + element(1, bytes(32)), name),
        "10^18 cells": array(CELL, (2**31 - 1, 2**31 - 1), b"", name),
        "negative cells": array(CELL, (-cells, -1), b"", name),
        "cells in cells": hidden * depth,
        "40 cells in cells": nested,
        "20 million empty cells": packed(array(CELL, (20 * 10**6, 1), empty * 20 * 10**6, name)),
        "100,000 fields": array(STRUCTURE, (1, 1), fields + empty * 10**5, name),
        "fields of no width": array(STRUCTURE, (1, 1), element(5, bytes(4)) + element(1, bytes(64)), name),
        "bomb": struct.pack("<II", 15, len(bomb)) + bomb,
        "truncated compression": packed(nested)[:-9],
        "compression in compression": packed(packed(nested)),
        "numbers beyond the end": array(DOUBLE, (3, 14), struct.pack("<II", 9, 2**31 - 8) + bytes(64), name),
        "more numbers than bytes": array(DOUBLE, (3, 14, 10**6), element(9, bytes(64)), name),
        "text of 200 MB": packed(array(TEXT, (1, 2 * 10**8), element(16, bytes(2 * 10**8)), name)),
        "sparse": array(SPARSE, (2**30, 2**30), element(5, bytes(8)) * 2 + element(9, bytes(8)), name),
        "object": array(OBJECT, (1, 1), element(1, b"name"), name),
        "function": array(FUNCTION, (1, 1), nested, name),
        "opaque": array(OPAQUE, (1, 1), nested, name),
        "no sizes": array(DOUBLE, (), element(9, bytes(8)), name),
        "1,000 sizes": array(DOUBLE, (1,) * 1000, element(9, bytes(8)), name),
        "infinite joints": array(DOUBLE, (3, 14, 24), element(9, np.full(1008, np.inf).tobytes()), name),
        "huge joints": array(DOUBLE, (3, 14, 24), element(9, np.full(1008, 1e300).tobytes()), name),
        "text as joints": array(TEXT, (3, 14, 24), element(16, b"1" * 1008), name),
        "control characters": array(DOUBLE, (1, 1), element(9, bytes(8)), b"\x1b[2J"),
        "nothing": b"",
    }
    yield from layouts.replaced("mat", "lsp", "joints.mat", {key: HEADER + data for key, data in contents.items()})
    versions = {
        "v4": bytes(20) + b"joints\0" + bytes(64),
        "v9": HEADER[:124] + b"\0\7IM" + nested,
        "text": b"text" * 99,
    }
    yield from layouts.replaced("mat", "lsp", "joints.mat", versions)
    file = "mpii_human_pose_v1_u12_1.mat"
    yield from layouts.damaged("mat", "mpii", file)
    plain = unpack_variables((layouts.root("mpii") / file).read_bytes())
    for number in range(9):
        # Without compression, whose checksum finds most of the damage.
        data = bytearray(plain)
        for position in layouts.rng.integers(HEADER_BYTES, len(data), 1 + 4 * number).tolist():
            data[position] = int(layouts.rng.choice([0, 1, 2, 14, 255, int(layouts.rng.integers(256))]))
        for each in layouts.replaced("mat", "mpii", file, {f"damage without compression {number}": bytes(data)}):
            yield Case(each.kind, each.name, each.command, may_succeed=True)


def _v73(layouts: Layouts) -> Iterator[Case]:
    frames = int(layouts.rng.integers(10**9, 10**11))
    secret = layouts.folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["depths"] = np.ones((4, 640, 480), np.float32)

    def external(file: h5py.File) -> None:
        file["depths"] = h5py.ExternalLink(str(secret), "depths")

    def circle(file: h5py.File) -> None:
        file["depths"] = h5py.SoftLink("/images2")
        file["images2"] = h5py.SoftLink("/depths")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4, 640, 480), np.float32)
        layout[:] = h5py.VirtualSource(str(secret), "depths", (4, 640, 480))
        file.create_virtual_dataset("depths", layout)

    def of_any_length(file: h5py.File) -> None:
        data = file.create_dataset("depths", (4, 640, 480), h5py.vlen_dtype(np.float32))
        data[0, 0, 0] = np.ones(100, np.float32)

    def bomb(file: h5py.File) -> None:
        chunk = (4, 640, 480)
        data = file.create_dataset("depths", chunk, np.float32, chunks=chunk, compression="gzip")
        data.id.write_direct_chunk((0, 0, 0), b"\x78\x9c" + deflated_zeros(BOMB) + bytes(4))

    def file_of(create: Callable[[h5py.File], object]) -> Callable[[h5py.File], object]:
        def write(file: h5py.File) -> None:
            del file["depths"]
            create(file)

        return write

    def depths(shape: tuple[int, ...], **options: object) -> Callable[[h5py.File], object]:
        return lambda file: file.create_dataset("depths", shape, np.float32, **options)

    images = {"shape": (frames, 3, 640, 480), "dtype": np.uint8, "chunks": (1, 3, 640, 480)}
    whole = (4, 640, 480)
    changes: dict[str, Callable[[h5py.File], object]] = {
        "external link": external,
        "links in a circle": circle,
        "virtual array": virtual,
        "vlen": of_any_length,
        "chunk that is a bomb": bomb,
        "a group": lambda file: file.create_group("depths"),
        "a circle of groups": lambda file: file.__setitem__("depths", file["/"]),
        "10^12 values": lambda file: file.create_dataset(
            "depths", (frames, 640, 480), np.float32, chunks=(1, 640, 480)
        ),
        "huge frames": depths((4, frames, frames), chunks=(1, 64, 64)),
        "chunks beyond the array": lambda file: file.create_dataset(
            "depths", whole, "f4", chunks=(9, 9999, 9999), maxshape=(None,) * 3
        ),
        "values in a file": depths(whole, external=[("/etc/passwd", 0, 4 * 640 * 480 * 4)]),
        "text": lambda file: file.create_dataset("depths", data="\x1b[2J"),
        "no values": lambda file: file.create_dataset("depths", data=h5py.Empty("f")),
        "one value": lambda file: file.create_dataset("depths", data=1.0),
        "infinite values": depths(whole, fillvalue=np.inf),
        "references": lambda file: file.create_dataset("depths", whole, h5py.ref_dtype),
    }
    for name, change in changes.items():
        root = layouts.root("nyu-depth")
        with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
            file_of(change)(file)
        yield case("hdf5", name, "nyu-depth", root, may_succeed=name == "infinite values")
    root = layouts.root("nyu-depth")
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
        for name in ("depths", "images", "rawDepths"):
            del file[name]
        file.create_dataset("images", **images)
        for name in ("depths", "rawDepths"):
            file.create_dataset(name, (frames, 640, 480), np.float32, chunks=(1, 640, 480))
    yield case("hdf5", "10^10 frames", "nyu-depth", root, may_succeed=True)
    yield from layouts.damaged("hdf5", "nyu-depth", "nyu_depth_v2_labeled.mat", 6)
    numbers = {
        "nan": array(DOUBLE, (1, 1), element(9, struct.pack("<d", np.nan)), b"trainNdxs"),
        "10^300": array(DOUBLE, (1, 1), element(9, struct.pack("<d", 1e300)), b"trainNdxs"),
        "cells": array(CELL, (1, 1), array(DOUBLE, (1, 1), element(9, bytes(8))), b"trainNdxs"),
    }
    test = array(DOUBLE, (1, 1), element(9, struct.pack("<d", 1)), b"testNdxs")
    contents = {f"frame numbers: {name}": HEADER + data + test for name, data in numbers.items()}
    yield from layouts.replaced("hdf5", "nyu-depth", "splits.mat", contents)
