"""What was answered already: one line per answer beside the answers, so that an interrupted run goes on.

A line is written when an answer's files have their names. It says what was asked, of which files and into which, each
with its size and time of change: another checkpoint, other options, a changed picture or a lost file, and the answer is
made again. Several processes write a file each and read those of all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from .sources import Question

NAME = "predictions"

Stamp = list[int]
"""Size in bytes, and time of the last change in ns."""


class Record:
    """The answers of an output folder.

    Attributes:
        anew: how many answers of this task were found that were made with another checkpoint or other options.
        made: how many were added here.
    """

    def __init__(self, out: Path, task: str, asked: dict[str, Any], rank: int = 0, processes: int = 1) -> None:
        """Read what is there; nothing is written yet.

        Args:
            out: the output folder.
            task: whose answers they are.
            asked: everything that an answer depends on beside its pictures: weights, options, version.
            rank, processes: of this one.
        """
        self.out, self.task, self.asked = out, task, asked
        self.digest = hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.path = out / (f"{NAME}.jsonl" if processes == 1 else f"{NAME}-{rank}.jsonl")
        self.anew = self.made = 0
        self._lock = Lock()
        # Of two lines about one answer the one counts whose files are there; later lines come first.
        self._known: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(out.glob(f"{NAME}*.jsonl")):
            for line in reversed(_lines(file)):
                if line.get("task") == task:
                    self._known.setdefault(line["answer"], []).append(line)

    def holds(self, question: Question) -> bool:
        """Whether the answer is there as it would be made now; each question is to be asked about once."""
        lines = self._known.pop(question.stem.as_posix(), [])
        inputs = _stamps(question.files)
        for line in lines:
            if line["asked"] == self.digest and line["inputs"] == inputs and self._unchanged(line["files"]):
                return True
        self.anew += bool(lines) and all(line["asked"] != self.digest for line in lines)
        return False

    def add(self, question: Question, files: Sequence[Path]) -> None:
        """Say that an answer's files are written; any thread may."""
        written = {file.relative_to(self.out).as_posix(): _stamp(file) for file in files}
        line = {
            "answer": question.stem.as_posix(),
            "task": self.task,
            "asked": self.digest,
            "inputs": _stamps(question.files),
            "files": written,
        }
        with self._lock:
            text = json.dumps(line) + "\n"
            if self.made == 0:
                # Says what the others were asked with; the empty line before it ends one that a crash tore.
                text = "\n" + json.dumps({"asked": self.digest, "with": self.asked}) + "\n" + text
            with open(self.path, "ab", buffering=0) as record:
                record.write(text.encode())
            self.made += 1

    def _unchanged(self, files: dict[str, Stamp]) -> bool:
        try:
            return all(_stamp(self.out / name) == stamp for name, stamp in files.items())
        except OSError:
            return False


def _stamps(files: Sequence[Path]) -> dict[str, Stamp]:
    """Where the files lie, with their stamps; a missing one is said so by whoever reads it."""
    return {str(file.resolve()): _stamp(file) if file.exists() else [] for file in files}


def _stamp(file: Path) -> Stamp:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


def _lines(file: Path) -> list[dict[str, Any]]:
    """The lines that hold an answer; what is torn or not ours is passed over."""
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and {"answer", "task", "asked", "inputs", "files"} <= said.keys():
            found.append(said)
    return found
