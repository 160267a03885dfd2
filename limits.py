"""Limits of input files: what a file is and states is checked before memory is allocated for it."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass
class Limits:
    """Sizes beyond which an input is refused, because a small file can state or unpack to any size."""

    max_megapixels: float = 100
    """Pixels of one image or map, in millions; `--max-megapixels` of the commands sets it."""
    max_file_mb: float = 4096
    """Size of a file that is read into memory as a whole, and of what it unpacks to, in MiB."""


LIMITS = Limits()
"""The limits of this process, as Pillow's `MAX_IMAGE_PIXELS`: assign to an attribute to change one."""


class LimitExceeded(ValueError):
    """An input beyond a limit. The message is a noun phrase, for "found" in a `DatasetError`."""


def check_pixels(width: int, height: int) -> None:
    """Check the size of an image, in pixels, that its header states.

    Raises:
        LimitExceeded: it has more pixels than `max_megapixels` millions.
    """
    if width * height > LIMITS.max_megapixels * 1e6:
        raise LimitExceeded(
            f"{width}x{height} pixels, more than {LIMITS.max_megapixels:g} megapixels (--max-megapixels allows more)"
        )


def check_bytes(count: int) -> None:
    """Check a size in bytes: of a file, of what it unpacks to, or of an array whose shape it states.

    Raises:
        LimitExceeded: it is more than `max_file_mb` MiB.
    """
    if count > LIMITS.max_file_mb * 2**20:
        raise LimitExceeded(f"{count / 2**20:.0f} MiB, more than {LIMITS.max_file_mb:g} MiB")


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
