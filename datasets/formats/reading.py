"""Whole files into memory; a file that cannot be read becomes the sentence that names it."""

from __future__ import annotations

from pathlib import Path

from ..problems import DamagedData


def read_bytes(path: str | Path, expected: str) -> bytes:
    """Everything in a file.

    Args:
        path: the file.
        expected: what it should be, for the sentence ("a picture").

    Raises:
        DamagedData: there is no such file, it cannot be opened, or it is empty.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DamagedData(path, expected, "no file") from None
    except OSError as error:
        raise DamagedData(path, expected, (error.strerror or str(error)).lower()) from None
    if not data:
        raise DamagedData(path, expected, "an empty file")
    return data


def read_lines(path: str | Path, expected: str) -> list[str]:
    """The lines of a text file, stripped, without empty ones.

    Raises:
        DamagedData: as `read_bytes`, or the bytes are no UTF-8 text, or no line is left.
    """
    try:
        lines = [line.strip() for line in read_bytes(path, expected).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DamagedData(path, expected, "bytes that are not UTF-8 text") from None
    lines = [line for line in lines if line]
    if not lines:
        raise DamagedData(path, expected, "only empty lines")
    return lines
