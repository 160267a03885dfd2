"""Malicious arrays: NPY, NPZ, PFM, FLO, IDX and MSRA15, whose headers state other sizes than the files have."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .harness import Case
from .layouts import Layouts

BOMB = 3 * 2**30
"""Bytes of zeros that a few megabytes unpack to."""


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An NPY file with any header."""
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def npy_header(shape: str, descr: str = "'<f4'", order: str = "False") -> str:
    """The header of an NPY file, each value as Python text."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def deflated_zeros(count: int, first: bytes = b"") -> bytes:
    """Raw deflate data that unpack to some first bytes and so many zeros, in no time."""
    stream = zlib.compressobj(9, wbits=-15)
    start = stream.compress(first) + stream.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, blocks do not depend on those before them.
    block = stream.compress(bytes(2**24)) + stream.flush(zlib.Z_FULL_FLUSH)
    return start + block * (count // 2**24) + stream.flush()


def gzip_bomb(count: int, first: bytes = b"") -> bytes:
    """A gzip file that unpacks to some first bytes and so many zeros; its checksum is wrong."""
    return b"\x1f\x8b\x08" + bytes(7) + deflated_zeros(count, first) + bytes(8)


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return file.getvalue()


def zip_bomb(size: int, stated: int | None = None) -> bytes:
    """An archive whose member `flow.npy` unpacks to a size, and states another one."""
    header = npy(npy_header(f"({size // 8}, 1, 2)"))
    packed = deflated_zeros(size, header)
    stated = len(header) + size if stated is None else stated
    sizes = struct.pack("<III", 0, len(packed), stated)
    fields = struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes + struct.pack("<HH", 8, 0)
    local = b"PK\3\4" + fields + b"flow.npy" + packed
    directory = b"PK\1\2" + struct.pack("<H", 20) + fields + bytes(6) + bytes(8) + b"flow.npy"
    return local + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(directory), len(local), 0)


def generate_arrays(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `data validate` on depth maps, flow, MNIST and hands."""
    layouts = Layouts(folder, rng)
    yield from _npy(layouts)
    yield from _npz(layouts)
    yield from _pfm(layouts)
    yield from _flo(layouts)
    yield from _idx(layouts)
    yield from _depth_bin(layouts)
    yield from _hand_table(layouts)


def _npy(layouts: Layouts) -> Iterator[Case]:
    root = layouts.root("depth-folders")
    file = next(file.relative_to(root).as_posix() for file in sorted(root.glob("depths/*.npy")))
    huge = int(layouts.rng.integers(10**11, 10**13))
    deep = int(layouts.rng.integers(400, 4000))
    contents = {
        "10^12 values": npy(npy_header(f"({huge}, 4)")),
        "10^12 values of no bytes": npy(npy_header(f"({huge}, 0)")),
        "overflowing shape": npy(npy_header(f"({2**62}, {2**62}, 4)")),
        "negative shape": npy(npy_header(f"(-{huge}, -4)"), bytes(64)),
        "shape of floats": npy(npy_header("(4.0, 4e9)"), bytes(64)),
        "shape of 5,000 digits": npy(npy_header(f"({'9' * 5000},)")),
        "nested header": npy("(" * deep + ")" * deep),
        "signs": npy("-" * deep + "1"),
        "huge literal": npy("{" + "'a':1," * (10**6 // 6) + "}", version=2),
        "header of 4 GB": b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b"{" * 100,
        "text of 10^9 characters": npy(npy_header("(2, 2)", f"'<U{huge % 10**9}'")),
        "pickled objects": npy(npy_header("(4, 4)", "'|O'"), b"cos\nsystem\n(S'touch pwned'\ntR."),
        "nested type": npy(npy_header("(4, 4)", "[('a', " * 90 + "'<f4'" + ")]" * 90), bytes(64)),
        "type of 10^12 values": npy(npy_header("(1, 1)", f"('<f4', ({huge}, {huge}))"), bytes(64)),
        "three axes": npy(npy_header("(48, 64, 7)"), bytes(48 * 64 * 7 * 4)),
        "infinite depth": npy(npy_header("(48, 64)"), np.full((48, 64), np.inf, "<f4").tobytes()),
        "control characters": npy("\x1b[2J\x07" * 9),
        "version 9": b"\x93NUMPY\x09\0" + bytes(99),
    }
    yield from layouts.replaced("npy", "depth-folders", file, contents)
    yield from layouts.damaged("npy", "depth-folders", file)


def _npz(layouts: Layouts) -> Iterator[Case]:
    flow = "other-gt-flow/Venus/flow10"
    header = npy(npy_header("(48, 64, 2)"))
    directory = bytes(int(layouts.rng.integers(30)))
    contents = {
        "bomb": zip_bomb(BOMB),
        "bomb with a small size": zip_bomb(BOMB, stated=4096),
        "shape of 10^12": archive({"flow.npy": npy(npy_header(f"({10**12}, 3, 2)"))}),
        "20,000 members": archive({f"{number}": b"" for number in range(20_000)}, zipfile.ZIP_STORED),
        "lzma": archive({"flow.npy": header + bytes(48 * 64 * 8)}, zipfile.ZIP_LZMA),
        "bzip2 bomb": archive({"flow.npy": header + bytes(2**25)}, zipfile.ZIP_BZIP2),
        "directory beyond the file": b"PK\5\6" + directory + struct.pack("<IIIIH", 1, 2**32 - 1, 2**32 - 1, 9, 0),
        "other names": archive({"\x1b[31m.npy": header}),
        "pickled objects": archive({"flow.npy": npy(npy_header("(4,)", "'|O'"), b"cos\nsystem\n(S'id'\ntR.")}),
        "no array": archive({"flow.npy": b"\0" * 40}),
        "an NPZ in the NPZ": archive({"flow.npy": archive({"flow.npy": header})}),
    }
    yield from layouts.replaced("npz", "middlebury-flow", f"{flow}.npz", contents, old=f"{flow}.flo")


def _pfm(layouts: Layouts) -> Iterator[Case]:
    root = layouts.root("flying-things-clean")
    file = next(file.relative_to(root).as_posix() for file in sorted(root.rglob("*.pfm")))
    side = int(layouts.rng.integers(10**5, 10**9))
    contents = {
        "10^12 pixels": b"PF\n%d %d\n-1.0\n" % (side, 10**8) + bytes(64),
        "5,000 digits": b"PF\n%s 4\n-1.0\n" % (b"9" * 5000) + bytes(64),
        "scale with two points": b"PF\n4 4\n-1.0.0\n" + bytes(192),
        "scale of points": b"PF\n4 4\n...\n" + bytes(192),
        "scale 1e999": b"PF\n4 4\n-1e999\n" + bytes(192),
        "no pixels": b"PF\n0 0\n-1.0\n",
        "header of spaces": b"PF" + b" " * 10**7,
        "header of digits": b"PF\n" + b"1" * 10**7,
        "negative width": b"PF\n-4 -4\n-1.0\n" + bytes(192),
        "control characters": b"PF\x1b[2J\n" + bytes(64),
    }
    yield from layouts.replaced("pfm", "flying-things-clean", file, contents)
    yield from layouts.damaged("pfm", "flying-things-clean", file)


def _flo(layouts: Layouts) -> Iterator[Case]:
    file = "other-gt-flow/Venus/flow10.flo"
    width, height = layouts.rng.integers(30_000, 99_999, 2).tolist()
    contents = {
        "10^10 pixels": b"PIEH" + struct.pack("<2i", width, height) + bytes(640),
        "negative size": b"PIEH" + struct.pack("<2i", -width, -height) + bytes(640),
        "largest size": b"PIEH" + struct.pack("<2i", 2**31 - 1, 2**31 - 1) + bytes(640),
        "no pixels": b"PIEH" + bytes(8),
        "other byte order": b"HEIP" + struct.pack(">2i", 64, 48) + bytes(48 * 64 * 8),
        "header alone": b"PIEH",
        "another size": b"PIEH" + struct.pack("<2i", 1, 48 * 64) + bytes(48 * 64 * 8),
    }
    yield from layouts.replaced("flo", "middlebury-flow", file, contents)
    yield from layouts.damaged("flo", "middlebury-flow", file)


def _idx(layouts: Layouts) -> Iterator[Case]:
    file = "MNIST/raw/train-images-idx3-ubyte.gz"
    images = layouts.folder / "example-mnist"
    count = int(layouts.rng.integers(10**6, 4 * 10**9))
    axes = int(layouts.rng.integers(33, 255))
    layouts.root("mnist")
    valid = gzip.decompress((images / file).read_bytes())
    contents = {
        "gzip bomb": gzip_bomb(BOMB),
        "bomb behind a header": gzip_bomb(BOMB, valid),
        "bomb behind a file": gzip.compress(valid) + gzip_bomb(BOMB),
        "10^9 images": struct.pack(">IIII", 0x803, count, 28, 28) + bytes(784),
        "no images of 10^9 rows": struct.pack(">IIII", 0x803, 0, count, count),
        "many axes": bytes((0, 0, 8, axes)) + struct.pack(">I", 1) * axes + b"1",
        "axes of length 0": bytes((0, 0, 8, axes)) + bytes(4 * axes),
        "axes without lengths": bytes((0, 0, 8, 255)) + b"\1" * 30,
        "unknown type": struct.pack(">IIII", 0x0A03, 20, 28, 28) + bytes(20 * 784),
        "floats": struct.pack(">IIII", 0x0E03, 20, 28, 28) + bytes(8 * 20 * 784),
        "trailing garbage": gzip.compress(valid) + b"garbage" * 9,
        "flags of gzip": b"\x1f\x8b\x08\xff" + bytes(40),
    }
    yield from layouts.replaced("idx", "mnist", file, contents)
    yield from layouts.damaged("idx", "mnist", file)


def _depth_bin(layouts: Layouts) -> Iterator[Case]:
    file, side = "P0/1/000000_depth.bin", int(layouts.rng.integers(10**4, 2**31 - 1))
    pixels = np.full((4, 4), 400, "<f4")
    contents = {
        "image of 10^18 pixels": struct.pack("<6i", side, side, 0, 0, 4, 4) + pixels.tobytes(),
        "rectangle of 10^18 pixels": struct.pack("<6i", side, side, 0, 0, side, side) + pixels.tobytes(),
        "rectangle outside of its image": struct.pack("<6i", 4, 4, 2, 2, 6, 6) + pixels.tobytes(),
        "negative corner": struct.pack("<6i", 4, 4, -4, -4, 0, 0) + pixels.tobytes(),
        "right before left": struct.pack("<6i", 4, 4, 4, 4, 0, 0) + pixels.tobytes(),
        "pixels of nan": struct.pack("<6i", 4, 4, 0, 0, 4, 4) + (pixels * np.nan).tobytes(),
        "infinite pixels": struct.pack("<6i", 4, 4, 0, 0, 4, 4) + (pixels * np.inf).tobytes(),
        "all far": struct.pack("<6i", 4, 4, 0, 0, 4, 4) + (pixels * 1e30).tobytes(),
        "16 bytes too many": struct.pack("<6i", 4, 4, 0, 0, 4, 4) + pixels.tobytes() + bytes(16),
        "header alone": struct.pack("<6i", 4, 4, 0, 0, 4, 4),
        "no header": bytes(5),
        "empty": b"",
    }
    yield from layouts.replaced("depth-bin", "msra-hand-0", file, contents)
    yield from layouts.damaged("depth-bin", "msra-hand-0", file)
    poses = b"1 2 -300 " * 21 + b"\n"
    lists = {
        "10^12 frames": b"1000000000000\n" + poses,
        "infinite joints": b"1\n" + b"inf " * 63 + b"\n",
        "5,000 digits": b"1\n" + b"9" * 5000 + b" 1" * 62 + b"\n",
        "control characters": b"\x1b[2J\x07\n" + poses,
        "zeros": bytes(10**6),
    }
    yield from layouts.replaced("joints", "msra-hand-0", "P0/1/joint.txt", lists)


def _hand_table(layouts: Layouts) -> Iterator[Case]:
    row = b"hand-000.png,1,2,300\n"
    header = b"file,palm x,palm y,palm z\n"
    tables = {
        "10^6 joints": b"file" + b",a x,a y,a z" * 10**6 + b"\n",
        "a file outside": header + b"../../../etc/passwd,1,2,300\n",
        "infinite joints": header + b"hand-000.png,inf,1,300\n",
        "5,000 digits": header + b"hand-000.png,1,2," + b"9" * 5000 + b"\n",
        "behind the camera": header + b"hand-000.png,1,2,-300\n",
        "control characters": b"file,\x1b[2J x,\x1b[2J y,\x1b[2J z\n" + row,
        "one file twice": header + row + row,
        "no header": row,
        "zeros": bytes(10**6),
    }
    yield from layouts.replaced("hand-table", "hand-folders", "joints.csv", tables)
    for name, content in {"no camera": b"", "infinite camera": b"inf inf 0 0", "flat camera": b"0 0 0 0"}.items():
        yield from layouts.replaced("hand-camera", "hand-folders", "camera.txt", {name: content})
