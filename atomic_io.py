"""Atomic file writing (a temporary file is renamed when it is complete), locks of folders, and strict JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import DISK_ERRORS, UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SHORT_STEM = 40
"""Characters of a file name that are part of the temporary one: at most 160 bytes of the 255 that are common."""
HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
"""This machine, in the names of temporary files: process ids are those of one machine."""
PART = re.compile(r"\.part-(?P<process>\d+)-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}(\.[^.]*)?$")
"""End of the name of a temporary file."""
ABANDONED_AFTER = 24 * 3600
"""Seconds without a change after which the temporary file of another machine counts as abandoned."""
TEST_BYTES = 2**20


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block succeeds and deleted when it fails.

    The suffix stays last ("a.part-123-0a1b2c3d-5f0e1d2c.png"), because writers choose their format by it. A long name
    is shortened, so that every name that the file system allows can be written.

    Raises:
        OSError: the disk is full or fails (`DISK_ERRORS`), whatever the writer raised; it names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = f"{os.getpid()}-{HOST}-{zlib.crc32(os.fsencode(path.name)):08x}"
    aside = path.with_name(f"{path.stem[:SHORT_STEM]}.part-{tag}{path.suffix}")
    try:
        # safetensors creates files that only their owner can read; use the permissions of any new file here.
        aside.touch()
        permissions = aside.stat().st_mode
        aside.unlink()
        yield aside
        aside.chmod(permissions)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except UserError:
        raise
    except Exception as error:
        if (number := _disk_error(error, aside)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _disk_error(error: Exception, aside: Path) -> int | None:
    """Number of the disk error behind a failed write; None if the disk takes more.

    The writers of torch, safetensors, NumPy and OpenCV raise errors without the system's number, or none at all: the
    file is written to once more.
    """
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return error.errno
    try:
        with aside.open("ab") as file:
            file.write(bytes(TEST_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as again:
        return again.errno if again.errno in DISK_ERRORS else None
    return None


def remove_abandoned_parts(folder: Path) -> None:
    """Remove the temporary files in a folder, not in those below it, whose process was killed.

    Call it before this process writes to the folder. Files of other machines are removed a day after their last change.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        part = PART.search(path.name)
        if part is None:
            continue
        if part["host"] == HOST and os.name == "posix":
            abandoned = not _runs(int(part["process"]))
        else:
            abandoned = time.time() - path.lstat().st_mtime > ABANDONED_AFTER
        if abandoned:
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether another process of this machine has that id. A restarted container gives the same ids again."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class FolderLock:
    """The lock of a folder that one process at a time may write to; the file `.lock` in it names that process.

    It is a POSIX record lock: the kernel releases it when the process ends, however it ends, and processes that were
    forked from it do not hold it, so that no lock is left behind by a run that was killed. NFS passes such locks on to
    its server, so that they hold between machines. Where there are none (Windows, some network file systems),
    everybody gets the lock.

    Raises:
        UserError: another process has the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        while True:
            self._file: IO[str] = self._path.open("a+", encoding="utf-8")
            try:
                if fcntl is not None:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                with self._file:
                    self._file.seek(0)
                    owner = self._file.read(200).strip()
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise UserError(
                        f"{folder} is in use by {owner or 'another process'}: wait until that has ended, give another "
                        "--out, or write there nevertheless with --force."
                    ) from None
                return
            if self._is_in_place():
                break
            self._file.close()
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def _is_in_place(self) -> bool:
        """Whether the locked file is not one that its last owner removed after it had been opened here."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        if not self._file.closed:
            if os.name == "posix":
                self._path.unlink(missing_ok=True)
            self._file.close()


def append(path: str | Path, data: bytes) -> None:
    """Append to a file.

    Raises:
        OSError: it cannot be written; the error names the file. A part of the data may have been written.
    """
    try:
        with open(path, "ab") as file:
            file.write(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")


def json_text(value: Any, **layout: Any) -> str:
    """Strict JSON (RFC 8259) of plain data, with null for numbers that are nan or infinite, which JSON cannot express.

    Args:
        value: dicts, lists, tuples, text, numbers, booleans and None.
        layout: options of `json.dumps` (`indent`, `ensure_ascii`, ...).
    """
    return json.dumps(_without_nan(value), allow_nan=False, **layout)


def write_json(path: str | Path, value: Any, **layout: Any) -> None:
    """Write a file of strict JSON, see `json_text`, atomically."""
    write_text(path, json_text(value, **layout) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
