"""Record of the predictions in an output folder (predictions.jsonl), by which an interrupted run is resumed.

One JSON line per prediction, written after its files: a digest of the configuration, and the input and output files
with size and modification time. With another checkpoint, other options, a changed input or a missing output the
prediction is made again. Each process of a group writes its own file and reads those of all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from .inputs import InferenceRequest

NAME = "predictions"

Stamp = list[int]
"""Size in bytes, and time of the last change in ns."""


class Manifest:
    """Predictions of one task in an output folder.

    Attributes:
        outdated: number of predictions found that were made with another checkpoint or other options.
        added: number of predictions added by this process.
    """

    def __init__(self, out: Path, task: str, config: dict[str, Any], rank: int = 0, processes: int = 1) -> None:
        """Read the existing records; nothing is written yet.

        Args:
            out: the output folder.
            task: name of the task.
            config: everything that a prediction depends on besides its images: weights, options, version.
            rank, processes: rank of this process, and number of processes.
        """
        self.out, self.task, self.config = out, task, config
        self.digest = hashlib.blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.path = out / (f"{NAME}.jsonl" if processes == 1 else f"{NAME}-{rank}.jsonl")
        self.outdated = self.added = 0
        self._lock = Lock()
        # One output may have several lines; the one whose files exist counts, the latest first.
        self._records: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(out.glob(f"{NAME}*.jsonl")):
            for line in reversed(_read_lines(file)):
                if line.get("task") == task:
                    self._records.setdefault(line["output"], []).append(line)

    def is_done(self, request: InferenceRequest) -> bool:
        """Whether the same prediction exists already. Call it once per request."""
        lines = self._records.pop(request.stem.as_posix(), [])
        inputs = _stamps(request.files)
        for line in lines:
            if line["config"] == self.digest and line["inputs"] == inputs and self._unchanged(line["files"]):
                return True
        self.outdated += bool(lines) and all(line["config"] != self.digest for line in lines)
        return False

    def add(self, request: InferenceRequest, files: Sequence[Path]) -> None:
        """Record that the files of a prediction were written. Thread-safe."""
        written = {file.relative_to(self.out).as_posix(): _stamp(file) for file in files}
        line = {
            "output": request.stem.as_posix(),
            "task": self.task,
            "config": self.digest,
            "inputs": _stamps(request.files),
            "files": written,
        }
        with self._lock:
            text = json.dumps(line) + "\n"
            if self.added == 0:
                # The values behind the digest; the empty line before it ends a line that a crash cut off.
                text = "\n" + json.dumps({"config": self.digest, "options": self.config}) + "\n" + text
            with open(self.path, "ab", buffering=0) as file:
                file.write(text.encode())
            self.added += 1

    def _unchanged(self, files: dict[str, Stamp]) -> bool:
        try:
            return all(_stamp(self.out / name) == stamp for name, stamp in files.items())
        except OSError:
            return False


def _stamps(files: Sequence[Path]) -> dict[str, Stamp]:
    """Absolute paths and their stamps; empty for a missing file, whose reader raises the error."""
    return {str(file.resolve()): _stamp(file) if file.exists() else [] for file in files}


def _stamp(file: Path) -> Stamp:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines that record a prediction; incomplete and unknown ones are skipped."""
    records = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"output", "task", "config", "inputs", "files"} <= record.keys():
            records.append(record)
    return records
