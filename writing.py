"""Every file is written aside and renamed, so that a reader never meets half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not.

    The suffix is kept last ("a.part-123.png"), because writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.stem}.part-{os.getpid()}{path.suffix}")
    try:
        # safetensors lets nobody but its writer read a file; it gets the permissions that any new file gets here.
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
    """Write a text file in UTF-8, aside then renamed."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
