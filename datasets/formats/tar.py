"""Tar archives read in place: where each file inside begins and how long it is, so that nothing need be unpacked."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...writing import written_aside
from ..problems import DamagedData


class Member(NamedTuple):
    """A file inside an archive: its name, where its bytes begin in the archive, and how many they are."""

    name: str
    offset: int
    size: int


def list_members(path: str | Path, start: int = 0) -> list[Member]:
    """Every file inside an archive that is not compressed, in its order.

    Args:
        path: the archive.
        start: where it begins; of an archive inside this archive, that member's offset.

    Raises:
        DamagedData: no file, no tar archive, or one that is cut off.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                members = [Member(info.name, info.offset_data, info.size) for info in archive if info.isfile()]
                # Python takes an archive cut off between two files for a whole one; the format ends in zeros.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise DamagedData(path, "a whole tar archive", f"one cut off after {archive.offset} bytes")
    except FileNotFoundError:
        raise DamagedData(path, "a tar archive", "no file") from None
    except (tarfile.TarError, OSError) as error:
        raise DamagedData(path, "a whole tar archive", _reason(error)) from None
    return members


def read_member(path: str | Path, offset: int, size: int) -> bytes:
    """The bytes of one file inside an archive. Opened anew each time: no handle is shared between processes.

    Raises:
        DamagedData: no archive, or one that has become shorter.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        found = "no file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise DamagedData(path, "a tar archive", found) from None
    if len(data) != size:
        raise DamagedData(path, f"{size} bytes from byte {offset} on", f"{len(data)}")
    return data


def unpack_members(path: str | Path, folder: str) -> dict[str, bytes]:
    """The files of one folder of an archive, packed with gzip or not, by their names in that folder.

    Args:
        path: the archive.
        folder: the folder inside it ("cifar-10-batches-py").

    Raises:
        DamagedData: no file, no archive, or one that is cut off.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for info in archive:
                name = info.name.removeprefix("./")
                if info.isfile() and name.startswith(f"{folder}/") and (inside := archive.extractfile(info)):
                    files[name.removeprefix(f"{folder}/")] = inside.read()
    except FileNotFoundError:
        raise DamagedData(path, "an archive", "no file") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DamagedData(path, "a whole archive", _reason(error)) from None
    return files


def holds_folder(path: str | Path, folder: str) -> bool:
    """Whether the first entry of an archive, packed with gzip or not, is this folder or lies in it."""
    try:
        with tarfile.open(path) as archive:
            first = archive.next()
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        return False
    return first is not None and first.name.removeprefix("./").split("/")[0] == folder


def pack_members(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar archive, not compressed, of names and their bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def write_tar(path: str | Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write `pack_members` to a file, aside then renamed; packed with gzip where the name ends in `.gz`."""
    data = pack_members(files)
    with written_aside(path) as aside:
        aside.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)


def _reason(error: Exception) -> str:
    return f"one that does not read ({' '.join(str(error).split()).rstrip('.') or 'cut off'})"
