"""Record of the predictions in an output folder (predictions.jsonl), by which an interrupted run is resumed.

One JSON line per prediction, written after its files: a digest of the configuration, and the input and output files
with size and modification time. With another checkpoint, other options, a changed input or a missing output the
prediction is made again. Each process of a group writes its own file and reads those of all.

The record also says whose prediction an output is: other inputs never get the same output.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from ..atomic_io import append, json_text
from ..errors import UserError
from ..limits import LimitExceeded, read_file
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
        self.digest = hashlib.blake2b(json_text(config, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.path = out / (f"{NAME}.jsonl" if processes == 1 else f"{NAME}-{rank}.jsonl")
        self.outdated = self.added = 0
        self._lock = Lock()
        # One output may have several lines; the one whose files exist counts, the latest first.
        self._records: dict[str, list[dict[str, Any]]] = {}
        self._assigned: dict[str, tuple[str, ...]] = {}
        for file in sorted(out.glob(f"{NAME}*.jsonl")):
            for line in reversed(_read_lines(file)):
                if line.get("task") == task:
                    self._records.setdefault(_key(line["output"]), []).append(line)

    def with_own_outputs(self, requests: Iterable[InferenceRequest]) -> Iterator[InferenceRequest]:
        """The requests with output stems that belong to no other inputs, in this run or by the manifest.

        A stem that belongs to others is extended by the input's suffix, or by its folder if they have the same file
        names. A request that occurs twice is omitted the second time.

        Raises:
            UserError: at the request whose stem cannot be extended.
        """
        for request in requests:
            stem, inputs = request.stem, _absolute(request.files)
            while (owner := self._owner(stem)) not in (None, inputs):
                stem = _extended(stem, request, owner)
            key = _key(stem.as_posix())
            if key not in self._assigned:
                self._assigned[key] = inputs
                yield replace(request, stem=stem)

    def _owner(self, stem: Path) -> tuple[str, ...] | None:
        """Inputs of an existing or coming output."""
        key = _key(stem.as_posix())
        if key in self._assigned:
            return self._assigned[key]
        for line in self._records.get(key, []):
            if any(os.path.lexists(self.out / name) for name in line["files"]):
                return tuple(line["inputs"])
        return None

    def existing(self, request: InferenceRequest) -> dict[str, Any] | None:
        """The line of the same prediction if it exists already, else None. Call it once per request."""
        lines = self._records.pop(_key(request.stem.as_posix()), [])
        inputs = _stamps(request.files)
        for line in lines:
            if line["config"] == self.digest and line["inputs"] == inputs and self._unchanged(line["files"]):
                return line
        self.outdated += bool(lines) and all(line["config"] != self.digest for line in lines)
        return None

    def add(self, request: InferenceRequest, files: Sequence[Path], values: Mapping[str, Any] | None = None) -> None:
        """Record that the files of a prediction were written, with its values (`Prediction.record`). Thread-safe."""
        written = {file.relative_to(self.out).as_posix(): _stamp(file) for file in files}
        line = {
            "output": request.stem.as_posix(),
            "task": self.task,
            "config": self.digest,
            "inputs": _stamps(request.files),
            "files": written,
            "values": dict(values or {}),
        }
        with self._lock:
            text = json_text(line) + "\n"
            if self.added == 0:
                # The values behind the digest; the empty line before it ends a line that a crash cut off.
                text = "\n" + json_text({"config": self.digest, "options": self.config}) + "\n" + text
            append(self.path, text.encode())
            self.added += 1

    def _unchanged(self, files: dict[str, Stamp]) -> bool:
        try:
            return all(_stamp(self.out / name) == stamp for name, stamp in files.items())
        except (OSError, ValueError):  # ValueError: a NUL in a name
            return False


def _stamps(files: Sequence[Path]) -> dict[str, Stamp]:
    """Absolute paths and their stamps; empty for an unreadable file, whose reader raises the error."""
    stamps: dict[str, Stamp] = {}
    for file in _absolute(files):
        try:
            stamps[file] = _stamp(file)
        except OSError:
            stamps[file] = []
    return stamps


def _stamp(file: str | Path) -> Stamp:
    stat = os.stat(file)
    return [stat.st_size, stat.st_mtime_ns]


def _absolute(files: Sequence[Path]) -> tuple[str, ...]:
    """Absolute paths, each once. Links are not resolved: whatever they point to, it is the same input."""
    return tuple(dict.fromkeys(os.path.abspath(file) for file in files))


def _key(stem: str) -> str:
    """Equal for stems that are the same file name on any file system: some ignore case and Unicode forms."""
    return unicodedata.normalize("NFC", stem).casefold()


def _extended(stem: Path, request: InferenceRequest, owner: Sequence[str]) -> Path:
    """A longer output stem for a request; see `Manifest.with_own_outputs`."""
    first, *others = request.files
    names = [file.name for file in request.files]
    suffixes = [first.suffix[1:], *(file.name.replace(".", "_") for file in others)]
    with_suffixes = "_".join(filter(None, [request.stem.name, *suffixes]))
    if stem.name != with_suffixes and names != [Path(file).name for file in owner]:
        return stem.with_name(with_suffixes)
    # The last folders of the input's path, one more than the stem has.
    folders = Path(os.path.abspath(first)).parts[1:-1][-len(stem.parts) :]
    if len(folders) < len(stem.parts):
        raise UserError(f"{request.name} would overwrite the prediction of {owner[0]}; give another folder with --out.")
    return Path(*folders, stem.name)


RECORD: dict[str, type] = {"output": str, "task": str, "config": str, "inputs": dict, "files": dict, "values": dict}
"""Keys of a line that records a prediction, and the types of their values. No pydantic: it refuses the surrogates that
stand for bytes of file names that are not UTF-8."""


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines that record a prediction; incomplete and unknown ones are skipped."""
    try:
        content = read_file(file)
    except (OSError, LimitExceeded) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{file} cannot be read ({reason}): delete it, or give another --out.") from error
    return [record for line in content.splitlines() if (record := parse_record(line)) is not None]


def parse_record(line: bytes) -> dict[str, Any] | None:
    """A line of predictions.jsonl that records a prediction; None for others."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in RECORD.items()):
        return record
    return None
