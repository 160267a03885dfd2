"""Atomic file writing: a temporary file that is renamed when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block succeeds and deleted when it fails.

    The suffix stays last ("a.part-123.png"), because writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.stem}.part-{os.getpid()}{path.suffix}")
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
