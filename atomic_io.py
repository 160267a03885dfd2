"""Atomic file writing (a temporary file is renamed when it is complete), and strict JSON."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHORT_STEM = 40
"""Characters of a file name that are part of the temporary one: at most 160 bytes of the 255 that are common."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block succeeds and deleted when it fails.

    The suffix stays last ("a.part-123-5f0e1d2c.png"), because writers choose their format by it. A long name is
    shortened, so that every name that the file system allows can be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = f"{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}"
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
    finally:
        aside.unlink(missing_ok=True)


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
