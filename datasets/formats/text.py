"""Text files of others with values in them: JSON, and tables of comma-separated cells (CSV)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from ...limits import check_json
from ..core.files import read_bytes, read_lines
from ..core.problems import DatasetError


def parse_json(data: bytes, path: str | Path) -> Any:
    """Parse JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    `NaN`, `Infinity` and `1e400` are floats that are not finite, as other programs write them: callers check numbers.

    Raises:
        DatasetError: it is damaged, has a number of thousands of digits, or is beyond `LIMITS`.
    """
    try:
        check_json(data)
        return json.loads(data.decode(json.detect_encoding(data)))
    except ValueError as error:
        # From the semicolon on, Python advises programmers on longer numbers.
        found = f"one that cannot be read ({str(error).split(';')[0]})"
        raise DatasetError(path, "a complete JSON file", found) from None


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        DatasetError: as in `parse_json`, or the file is missing or does not contain an object.
    """
    stored = parse_json(read_bytes(path, "a JSON file"), path)
    if not isinstance(stored, dict):
        raise DatasetError(path, "a JSON object", type(stored).__name__)
    return stored


def read_table(path: str | Path, expected: str) -> list[list[str]]:
    """Read the rows of a table, with their cells stripped; empty lines are omitted.

    Raises:
        DatasetError: as in `read_lines`, or a cell is longer than 131,072 characters or has no closing quote.
    """
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(read_lines(path, expected), strict=True)]
    except csv.Error as error:
        raise DatasetError(path, expected, f"a table that cannot be read ({error})") from None
