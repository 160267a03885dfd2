"""Storage: files below a root, which is a folder or an address that fsspec opens (`s3://bucket/data`); and a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...atomic_io import atomic_path
from ...errors import UserError
from ...limits import check_bytes
from .files import list_files, read_bytes
from .problems import DatasetError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SHARE_FREE, BYTES_FREE = 0.1, 10 * 2**30
"""Share of a disk that a cache leaves free, and bytes that are enough on a large one: the files that were used least
recently make room."""


@dataclass(frozen=True)
class Storage:
    """Files below a root, by names with forward slashes. Folders are read and written without fsspec.

    It is opened at each call, and may be sent to other processes.

    Attributes:
        root: folder or address.
    """

    root: str

    def __init__(self, root: str | Path) -> None:
        text = str(root).removeprefix("file://")
        # A process that it is sent to may have another working directory.
        object.__setattr__(self, "root", text.rstrip("/") if "://" in text else os.path.abspath(text))

    @property
    def is_remote(self) -> bool:
        return "://" in self.root

    def path(self, name: str) -> str:
        """Path or address of a file."""
        return f"{self.root}/{name}" if name else self.root

    def exists(self, name: str) -> bool:
        if not self.is_remote:
            return os.path.isfile(self.path(name))
        with self._file_system(name, "an address that can be read") as (files, path):
            return bool(files.isfile(path))

    def stamp(self, name: str) -> list[Any]:
        """What changes with a file: its size and its ETag, or the time of its last change; empty if it is missing."""
        if not self.is_remote:
            with suppress(OSError):
                status = os.stat(self.path(name))
                return [status.st_size, status.st_mtime_ns]
            return []
        try:
            with self._file_system(name, "a file") as (files, path):
                # Listings may be old.
                files.invalidate_cache()
                found = files.info(path)
        except DatasetError:
            return []
        marks = (str(found[key]) for key in ("ETag", "etag", "mtime", "created") if key in found)
        return [found["size"], next(marks, "")]

    def list(self, suffixes: tuple[str, ...]) -> list[str]:
        """Sorted names of the files with these suffixes (in lower case), at any depth; none without the folder."""
        if not self.is_remote:
            return list_files(Path(self.root), suffixes, [])
        with self._file_system("", "a folder that can be listed") as (files, path):
            files.invalidate_cache()
            found = files.find(path)
            return sorted(
                name[len(path) :].strip("/") for name in found if os.path.splitext(name)[1].lower() in suffixes
            )

    def read(self, name: str, expected: str, start: int = 0, size: int | None = None) -> bytes:
        """Read a file, or so many of its bytes.

        Args:
            name: the file.
            expected: description of the file for the error message.
            start: offset of the first byte.
            size: number of bytes; None: up to the end.

        Raises:
            DatasetError: the file is missing, too short or cannot be read.
        """
        if not self.is_remote and size is None:
            return read_bytes(self.path(name), expected)[start:]
        check_bytes(size or 0)
        if self.is_remote:
            with self._file_system(name, expected) as (files, path):
                data = files.cat_file(path, start=start, end=None if size is None else start + size)
        else:
            with _file_errors(self.path(name), expected), open(self.path(name), "rb") as file:
                file.seek(start)
                data = file.read(size)
        if size is not None and len(data) != size:
            raise DatasetError(self.path(name), f"{size} bytes from byte {start} on", f"{len(data)}")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file; it appears under its name when it is complete, and replaces another."""
        if self.is_remote:
            with self._file_system(name, "an address that can be written") as (files, path):
                files.pipe_file(path, data)
        else:
            with atomic_path(self.path(name)) as aside:
                aside.write_bytes(data)

    def copy_from(self, name: str, source: Path) -> None:
        """Write a file with the contents of another one, as `write`."""
        if self.is_remote:
            with self._file_system(name, "an address that can be written") as (files, path):
                files.put_file(str(source), path)
        else:
            with atomic_path(self.path(name)) as aside:
                shutil.copyfile(source, aside)

    def copy_to(self, name: str, target: Path) -> None:
        """Copy a file to a local one, which appears when it is complete."""
        with atomic_path(target) as aside:
            if self.is_remote:
                with self._file_system(name, "a file") as (files, path):
                    files.get_file(path, str(aside))
            else:
                with _file_errors(self.path(name), "a file"):
                    shutil.copyfile(self.path(name), aside)

    @contextmanager
    def _file_system(self, name: str, expected: str) -> Iterator[tuple[Any, str]]:
        """The file system of fsspec and a path in it; its errors, which may be those of any library, name the file."""
        from fsspec.core import url_to_fs

        try:
            files, path = url_to_fs(self.path(name))
        except (ImportError, ValueError) as error:
            raise UserError(f"'{self.root}' cannot be opened: {' '.join(str(error).split()).rstrip('.')}.") from error
        with _file_errors(self.path(name), expected):
            yield files, path


@contextmanager
def _file_errors(path: str, expected: str) -> Iterator[None]:
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise DatasetError(path, expected, "no file") from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DatasetError(path, expected, f"one that cannot be read ({reason})") from error


class FileCache:
    """Copies of whole files in a local folder, fetched once by all processes of a machine.

    Files of another storage, or of another version of it, are others. Where the disk has little room, those that were
    used least recently are deleted.
    """

    def __init__(self, folder: str | Path, storage: Storage, version: bytes) -> None:
        """
        Args:
            folder: where copies are; also of other storages.
            storage: where the files are.
            version: what changes with the files.
        """
        digest = hashlib.blake2b(storage.root.encode() + b"\0" + version, digest_size=8).hexdigest()
        self.top, self.folder, self.storage = Path(folder), Path(folder) / digest, storage

    def path(self, name: str) -> Path:
        """The copy of a file, which is fetched if there is none."""
        path = self.folder / name
        with suppress(FileNotFoundError):
            os.utime(path)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{path}.lock", "w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                self._make_room()
                self.storage.copy_to(name, path)
        return path

    def _make_room(self) -> None:
        """Delete the copies that were used least recently while the disk is nearly full."""
        total, _, free = shutil.disk_usage(self.top)
        enough = min(SHARE_FREE * total, BYTES_FREE)
        if free >= enough:
            return
        copies = [(file.stat(), file) for file in self.top.rglob("*.tar")]
        for status, file in sorted(copies, key=lambda copy: copy[0].st_mtime_ns):
            file.unlink(missing_ok=True)
            free += status.st_size
            if free >= enough:
                return
