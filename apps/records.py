"""Predictions as records, one per input: what `predict --format` prints and writes, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ..atomic_io import json_text
from ..errors import printable

Format = Literal["json", "csv"]


def format_records(records: Sequence[dict[str, Any]], format: Format) -> str:
    """Records as an array of JSON, or as CSV with a column for every value: `joints.nose.x`, `top.1.label`.

    Args:
        records: plain data by name; null in JSON, and an empty cell, where a number is nan or infinite.
        format: "json" or "csv".
    """
    if format == "json":
        return json_text(list(records), indent=2) + "\n"
    rows = [dict(flatten(record)) for record in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers and texts in dictionaries and lists, by the path to each, which counts from 1."""
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value, 1):
            yield from flatten(each, f"{name}.{key}" if name else str(key))
    else:
        unknown = isinstance(value, float) and value - value != 0  # nan or infinite
        yield name, printable(value) if isinstance(value, str) else None if unknown else value
