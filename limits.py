"""Limits of input files: what a file is and states is checked before memory is allocated for it."""

from __future__ import annotations

import errno
import math
import mmap
import os
import stat
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Literal

from .errors import UserError


def _limit(name: str, default: float) -> float:
    """The limit of an environment variable, else the default."""
    stated = os.environ.get(name, str(default))
    try:
        limit = float(stated)
    except ValueError:
        limit = 0.0
    if not 0 < limit < math.inf:
        raise UserError(f"The environment variable {name} is '{stated}'; it must be a finite number above 0.")
    return limit


@dataclass
class Limits:
    """Sizes beyond which an input is refused, because a small file can state or unpack to any size.

    The environment variables `DENSEVISION_MAX_MEGAPIXELS`, `..._FILE_MB`, `..._WEIGHTS_MB` and `..._ENTRIES` set them.
    """

    max_megapixels: float = _limit("DENSEVISION_MAX_MEGAPIXELS", 100)
    """Pixels of one image or map, in millions; `--max-megapixels` of some commands sets it too."""
    max_file_mb: float = _limit("DENSEVISION_MAX_FILE_MB", 640)
    """Size of a file that is read into memory as a whole, and of what it unpacks to, in MiB. Archives and MATLAB v7.3
    files are read in parts and may be larger."""
    max_weights_mb: float = _limit("DENSEVISION_MAX_WEIGHTS_MB", 4096)
    """Size of a torch file (weights, state of a training run), in MiB. Safetensors files are read in parts."""
    max_entries: float = _limit("DENSEVISION_MAX_ENTRIES", 3e6)
    """Lines of a list, rows of a table, members of an archive, lists and objects of a JSON file, arrays of a MATLAB
    file."""


LIMITS = Limits()
"""The limits of this process, as Pillow's `MAX_IMAGE_PIXELS`: assign to an attribute to change one."""


def allow_megapixels(megapixels: float) -> None:
    """Set the size up to which this process reads images, for `--max-megapixels`.

    Raises:
        UserError: not above 0, or infinite.
    """
    if not 0 < megapixels < math.inf:
        raise UserError(f"--max-megapixels is {megapixels:g}; it must be a finite number above 0.")
    LIMITS.max_megapixels = megapixels


class LimitExceeded(ValueError):
    """An input beyond a limit. The message is a noun phrase, for "found" in a `DatasetError`."""


def check_pixels(width: int, height: int) -> None:
    """Check the size of an image, in pixels, that its header states.

    Raises:
        LimitExceeded: it has more pixels than `max_megapixels` millions.
    """
    if width * height > LIMITS.max_megapixels * 1e6:
        raise LimitExceeded(
            f"{width}x{height} pixels, more than {LIMITS.max_megapixels:g} megapixels (--max-megapixels or "
            "DENSEVISION_MAX_MEGAPIXELS allows more)"
        )


def check_bytes(count: int, kind: Literal["file", "weights"] = "file") -> None:
    """Check a size in bytes: of a file, of what it unpacks to, or of an array whose shape it states.

    Raises:
        LimitExceeded: it is more than `max_file_mb` MiB, or `max_weights_mb`.
    """
    limit: float = getattr(LIMITS, f"max_{kind}_mb")
    if count > limit * 2**20:
        size = f"{count / 2**20:.0f} MiB" if count < 2**70 else "more than 2^70 bytes"
        raise LimitExceeded(f"{size}, more than {limit:g} MiB (DENSEVISION_MAX_{kind.upper()}_MB allows more)")


def check_entries(count: int) -> None:
    """Check the number of entries that a file has or states: each takes some hundred bytes of memory.

    Raises:
        LimitExceeded: it is more than `max_entries`.
    """
    if count > LIMITS.max_entries:
        found = f"{count} entries" if count < 2**70 else "more than 2^70 entries"
        raise LimitExceeded(f"{found}, more than {LIMITS.max_entries:,.0f} (DENSEVISION_MAX_ENTRIES allows more)")


MAX_JSON_DEPTH = 64
"""Lists and objects in each other. Code that follows a value down must not exhaust the stack."""
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEPS)
_BYTES_OF_JSON = {b"{": 200, b"[": 100, b",": 24, b":": 40, b'"': 30}
"""Bytes that Python needs for what a character begins or separates, as measured."""


def check_json(data: bytes) -> None:
    """Check JSON before it is parsed: 60 MB of `{}` take more than 2 GB, and deep nesting exhausts the stack.

    Raises:
        LimitExceeded: it has more lists and objects than `max_entries`, is nested deeper than `MAX_JSON_DEPTH`, or
            takes more than three times `max_file_mb`.
    """
    counts = {character: data.count(character) for character in _BYTES_OF_JSON}
    check_entries(counts[b"{"] + counts[b"["])
    if max(accumulate(map(_STEPS.__getitem__, data.translate(None, _NOT_BRACKETS))), default=0) > MAX_JSON_DEPTH:
        raise LimitExceeded(f"more than {MAX_JSON_DEPTH} lists and objects in each other")
    text = len(data) * (1 if data.isascii() else 4)
    check_bytes((text + sum(_BYTES_OF_JSON[character] * count for character, count in counts.items())) // 3)


def check_lines(text: str) -> None:
    """Check the number of lines of a text before it is split.

    Raises:
        LimitExceeded: it has more than `max_entries`.
    """
    check_entries(sum(text.count(end) for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"))


def read_stream(stream: BufferedIOBase) -> bytearray:
    """Read a stream that unpacks a file to its end.

    Raises:
        LimitExceeded: it unpacks to more than `max_file_mb` MiB.
    """
    data = bytearray()
    while chunk := stream.read(2**20):
        data += chunk
        check_bytes(len(data))
    return data


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading. A pipe, device or socket could block, or never end.

    Raises:
        OSError: the file cannot be opened, or is not a regular file; "not a regular file" is its `strerror` then.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer. It has no effect on regular files.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: str | Path) -> bytes:
    """Read a regular file as a whole.

    Raises:
        OSError: as in `open_file`.
        LimitExceeded: the file is larger than `max_file_mb` MiB.
    """
    with open_file(path) as file:
        check_bytes(os.fstat(file.fileno()).st_size)
        return file.read()


def map_file(path: str | Path) -> memoryview:
    """Map a regular file of weights into memory: what is read of it takes memory, not what it states.

    It may be written to, which changes nothing in the file, so that tensors may be views of it.

    Raises:
        OSError: as in `open_file`.
        LimitExceeded: the file is larger than `max_weights_mb` MiB.
        ValueError: it is empty.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_bytes(size, "weights")
        if not size:
            raise ValueError("an empty file")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
