"""Reading of files, with a `DatasetError` that names the file if it cannot be read."""

from __future__ import annotations

from pathlib import Path

from ..core.files import existing_path
from ..core.problems import DatasetError


def read_bytes(path: str | Path, expected: str) -> bytes:
    """Read all bytes of a file; its name may be stored in another Unicode form.

    Args:
        path: the file.
        expected: description of the file for the error message ("an image").

    Raises:
        DatasetError: the file is missing, cannot be opened, or is empty.
    """
    try:
        data = existing_path(Path(path)).read_bytes()
    except FileNotFoundError:
        raise DatasetError(path, expected, "no file") from None
    except OSError as error:
        raise DatasetError(path, expected, (error.strerror or str(error)).lower()) from None
    if not data:
        raise DatasetError(path, expected, "an empty file")
    return data


def read_lines(path: str | Path, expected: str) -> list[str]:
    """Read the lines of a text file, stripped, without empty ones.

    Raises:
        DatasetError: as in `read_bytes`, or the file is not UTF-8 text, or all lines are empty.
    """
    try:
        lines = [line.strip() for line in read_bytes(path, expected).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DatasetError(path, expected, "bytes that are not UTF-8 text") from None
    lines = [line for line in lines if line]
    if not lines:
        raise DatasetError(path, expected, "only empty lines")
    return lines


def data_offset(data: bytes, end: int, size: int) -> int:
    """Offset of the binary data after a text header whose last byte is a line end.

    Args:
        data: the bytes of the file.
        end: offset after the first byte of that line end.
        size: number of bytes of the binary data, by the header.

    Returns:
        The offset after both bytes of a Windows line end (CRLF), unless the second one is needed as data.
    """
    return end + (data[end - 1 : end + 1] == b"\r\n" and len(data) - end > size)
