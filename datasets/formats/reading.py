"""Reading of files, with a `DatasetError` that names the file if it cannot be read."""

from __future__ import annotations

from pathlib import Path

from ..problems import DatasetError


def read_bytes(path: str | Path, expected: str) -> bytes:
    """Read all bytes of a file.

    Args:
        path: the file.
        expected: description of the file for the error message ("an image").

    Raises:
        DatasetError: the file is missing, cannot be opened, or is empty.
    """
    try:
        data = Path(path).read_bytes()
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
