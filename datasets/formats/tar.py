"""Tar archives, read in place by the offset and size of each member, without unpacking."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...atomic_io import atomic_path
from ..core.problems import DatasetError


class Member(NamedTuple):
    """A file in an archive: its name, the offset of its bytes in the archive, and their number."""

    name: str
    offset: int
    size: int


def list_members(path: str | Path, start: int = 0) -> list[Member]:
    """List the files of an uncompressed archive, in their order.

    Args:
        path: the archive.
        start: offset at which it begins: for a nested archive, the offset of that member.

    Raises:
        DatasetError: the file is missing, truncated, or not a tar archive.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                members = [Member(info.name, info.offset_data, info.size) for info in archive if info.isfile()]
                # tarfile accepts an archive that is truncated between two members; the format ends with zeros.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise DatasetError(path, "a complete tar archive", f"one truncated after {archive.offset} bytes")
    except FileNotFoundError:
        raise DatasetError(path, "a tar archive", "no file") from None
    except (tarfile.TarError, OSError) as error:
        raise DatasetError(path, "a complete tar archive", _reason(error)) from None
    return members


def read_member(path: str | Path, offset: int, size: int) -> bytes:
    """Read one file of an archive. The archive is opened at each call: no handle is shared between processes.

    Raises:
        DatasetError: the archive is missing or too short.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        found = "no file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise DatasetError(path, "a tar archive", found) from None
    if len(data) != size:
        raise DatasetError(path, f"{size} bytes from byte {offset} on", f"{len(data)}")
    return data


def unpack_members(path: str | Path, folder: str) -> dict[str, bytes]:
    """Read the files of one folder of an archive, compressed with gzip or not, by their names in that folder.

    Args:
        path: the archive.
        folder: a folder in the archive ("cifar-10-batches-py").

    Raises:
        DatasetError: the file is missing, truncated, or not an archive.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for info in archive:
                name = info.name.removeprefix("./")
                if info.isfile() and name.startswith(f"{folder}/") and (member := archive.extractfile(info)):
                    files[name.removeprefix(f"{folder}/")] = member.read()
    except FileNotFoundError:
        raise DatasetError(path, "an archive", "no file") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DatasetError(path, "a complete archive", _reason(error)) from None
    return files


def contains_folder(path: str | Path, folder: str) -> bool:
    """Whether the first entry of an archive, compressed with gzip or not, is this folder or in this folder."""
    try:
        with tarfile.open(path) as archive:
            first = archive.next()
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        return False
    return first is not None and first.name.removeprefix("./").split("/")[0] == folder


def pack_members(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Pack (name, bytes) pairs into an uncompressed tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def write_tar(path: str | Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar archive of (name, bytes) pairs atomically; compressed with gzip if the name ends in `.gz`."""
    data = pack_members(files)
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)


def _reason(error: Exception) -> str:
    return f"one that cannot be read ({' '.join(str(error).split()).rstrip('.') or 'truncated'})"
