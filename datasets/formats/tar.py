"""Tar archives, read in place by the offset and size of each member, without unpacking.

Headers are parsed here, because an archive can state what cannot be: sizes that are negative or beyond its end, files
with holes, links to other files, names without end. Such an archive is refused; `tarfile` follows some of them.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ...atomic_io import atomic_path
from ...limits import LimitExceeded, check_bytes, check_entries, open_file
from ..core.problems import DatasetError

BLOCK = 512
"""Bytes of a header; members begin at multiples of it."""
MAX_EXTENSION = 2**16
"""Bytes of a long name or of the additional values of a member."""


class Member(NamedTuple):
    """A file in an archive: its name, the offset of its bytes in the archive, and their number."""

    name: str
    offset: int
    size: int


class _Impossible(ValueError):
    """What an archive cannot contain. The message is a noun phrase, for "found" in a `DatasetError`."""


def list_members(path: str | Path, start: int = 0, size: int | None = None) -> list[Member]:
    """List the files of an uncompressed archive, in their order.

    Args:
        path: the archive.
        start, size: of a nested archive, the offset and size of that member.

    Raises:
        DatasetError: the file is missing, truncated, not a tar archive, or contains other than files and folders.
    """
    with _errors(path, "a complete tar archive"), open_file(path) as file:
        end = os.fstat(file.fileno()).st_size if size is None else start + size
        file.seek(start)
        return [member for member in _entries(file, start, end) if not member.name.endswith("/")]


def read_member(path: str | Path, offset: int, size: int) -> bytes:
    """Read one file of an archive. The archive is opened at each call: no handle is shared between processes.

    Raises:
        DatasetError: the archive is missing or too short, or the file is beyond `LIMITS`.
    """
    with _errors(path, "a tar archive"), open_file(path) as file:
        check_bytes(size)
        file.seek(offset)
        data = file.read(size)
    if len(data) != size:
        raise DatasetError(path, f"{size} bytes from byte {offset} on", f"{len(data)}")
    return data


def unpack_members(path: str | Path, folder: str) -> dict[str, bytes]:
    """Read the files of one folder of an archive, compressed with gzip or not, by their names in that folder.

    Args:
        path: the archive.
        folder: a folder in the archive ("cifar-10-batches-py").

    Raises:
        DatasetError: as in `list_members`, or the archive unpacks to more than `LIMITS` allow.
    """
    files: dict[str, bytes] = {}
    with _errors(path, "a complete archive"), open_file(path) as file:
        stream, end = _unpacked(file)
        for name, offset, size in _entries(stream, 0, end):
            check_bytes(offset + size)
            name = name.removeprefix("./")
            if not name.endswith("/") and name.startswith(f"{folder}/"):
                files[name.removeprefix(f"{folder}/")] = _read(stream, size)
    return files


def contains_folder(path: str | Path, folder: str) -> bool:
    """Whether the first entry of an archive, compressed with gzip or not, is this folder or in this folder."""
    try:
        with _errors(path, "an archive"), open_file(path) as file:
            stream, end = _unpacked(file)
            first = next(_entries(stream, 0, end), None)
    except DatasetError:
        return False
    return first is not None and first.name.removeprefix("./").split("/")[0] == folder


@contextmanager
def _errors(path: str | Path, expected: str) -> Iterator[None]:
    """Raise a `DatasetError` for what reading an archive raises."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(path, expected, "no file") from None
    except (_Impossible, LimitExceeded) as error:
        raise DatasetError(path, expected, str(error)) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".") or "truncated"
        raise DatasetError(path, expected, f"one that cannot be read ({reason.lower()})") from None


def _unpacked(file: BinaryIO) -> tuple[BinaryIO, int | None]:
    """Stream of an archive that may be compressed, and its length, which is not known then."""
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if is_packed:
        return cast(BinaryIO, gzip.GzipFile(fileobj=file)), None
    return file, os.fstat(file.fileno()).st_size


def _entries(stream: BinaryIO, position: int, end: int | None) -> Iterator[Member]:
    """Files and folders of an archive; the names of folders end in a slash. Between two, the caller may read the data.

    Args:
        stream: at the first header.
        position: its offset; the offsets of the members count from there.
        end: offset of the end, if it is known.
    """
    long_name, stated_size, count = None, None, 0
    while True:
        header = stream.read(BLOCK) if end is None or position + BLOCK <= end else b""
        if len(header) < BLOCK:
            # Archives end with zeros: one that is cut between two members has none.
            raise _Impossible(f"one truncated after {position} bytes")
        if header == bytes(BLOCK):
            return
        count += 1
        check_entries(count)
        name, size, kind = _parse(header, position)
        position += BLOCK
        is_extension = kind in "LKxg"
        if stated_size is not None and not is_extension:
            size = stated_size
        if end is not None and position + size > end:
            raise _Impossible(
                f"one truncated: the member '{name}' of {size} bytes at byte {position} extends beyond it"
            )
        following = position + -(-size // BLOCK) * BLOCK
        if is_extension:
            if size > MAX_EXTENSION:
                raise _Impossible(f"a name or values of {size} bytes at byte {position}")
            data = _read(stream, size)
            if kind == "L":
                long_name = _text(data)
            elif kind != "K":
                values = _pax_values(data, position)
                long_name = values.get("path", long_name)
                if "size" in values:
                    stated_size = _number(values["size"].encode(), 10, position)
        elif kind in "\x0007" or (kind == "5" and size == 0):
            name = name if long_name is None else long_name
            if kind == "5":
                name = f"{name.rstrip('/')}/"
            yield Member(name, position, size)
            long_name, stated_size = None, None
        else:
            raise _Impossible(f"a link, device or file with holes '{name}' at byte {position - BLOCK}")
        if end is None:
            # What is unpacked and passed over counts too: a bomb in front of a member would take hours.
            check_bytes(following)
        stream.seek(following)
        position = following


def _parse(header: bytes, position: int) -> tuple[str, int, str]:
    """Name, size and type of a header."""
    stated = _number(header[148:156], 8, position)
    rest = header[:148] + b" " * 8 + header[156:]
    # Old archives sum the bytes with a sign.
    if stated not in (sum(rest), sum(rest) - 256 * sum(byte > 127 for byte in rest)):
        raise _Impossible(f"no header of a member at byte {position}")
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        name = f"{prefix}/{name}"
    field = header[124:136]
    # Sizes of 8 GiB and more are binary; their first byte is 0x80, or 0xff for negative ones.
    size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else _number(field, 8, position)
    return name, size, chr(header[156])


def _number(field: bytes, base: int, position: int) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{0,12}" if base == 8 else rb"[0-9]{1,19}", digits):
        raise _Impossible(f"a number {digits[:20]!r} in the header of a member at byte {position}")
    return int(digits or b"0", base)


def _pax_values(data: bytes, position: int) -> dict[str, str]:
    """Additional values of a member: records `LENGTH KEY=VALUE\\n`, where the length is that of the record."""
    values, start = {}, 0
    while start < len(data):
        match = re.compile(rb"(\d{1,6}) ([^=]{1,200})=").match(data, start)
        end = start + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data):
            raise _Impossible(f"damaged values of a member at byte {position}")
        values[_text(match[2])] = _text(data[match.end() : end - 1])
        start = end
    if any(key.startswith("GNU.sparse") for key in values):
        raise _Impossible(f"a file with holes at byte {position}")
    return values


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("truncated")
    return data


def pack_members(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Pack (name, bytes) pairs into an uncompressed tar archive."""
    packed = io.BytesIO()
    _write_members(packed, files)
    return packed.getvalue()


def _write_members(stream: BinaryIO, files: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_tar(path: str | Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar archive of (name, bytes) pairs atomically; compressed with gzip if the name ends in `.gz`."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if Path(path).suffix == ".gz":
            file.write(gzip.compress(pack_members(files), mtime=0))
        else:
            _write_members(file, files)
