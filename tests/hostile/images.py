"""Malicious images for `predict`: bombs, foreign formats, damage, files that are no files."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .harness import Case


def png(width: int, height: int, bits: int = 8, color_type: int = 2, data: bytes = b"") -> bytes:
    """A PNG whose header may state any size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def generate_images(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `predict depth FILE`."""

    def case(name: str, may_succeed: bool = False) -> Case:
        return Case("image", name, ("predict", "depth", str(folder / name)), may_succeed)

    side = int(rng.integers(20_000, 65_000))
    (folder / "large_header.png").write_bytes(png(side, side))
    yield case("large_header.png")
    os.mkfifo(folder / "pipe.png")
    yield case("pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    yield case("zero.png")
    (folder / "postscript.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    yield case("postscript.png")
