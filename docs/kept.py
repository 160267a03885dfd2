"""What `docs/results.md` and `docs/comparisons.md` stand on: a command, and the result.json that it wrote.

A command is run as it is printed, from a folder that holds what it names (`redkitchen`, the weights' files). Its
result.json is kept under docs/results, byte for byte; a page prints the first digits of its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS / "results"


@dataclass(frozen=True)
class Kept:
    """A command and its result.

    Attributes:
        name: of the result's file under docs/results, without ending; slashes make folders.
        command: as it is typed, without `--out`.
    """

    name: str
    command: str

    @property
    def file(self) -> Path:
        return RESULTS / f"{self.name}.json"

    def result(self) -> dict[str, Any]:
        """What the command wrote."""
        return json.loads(self.file.read_text(encoding="utf-8"))

    def digest(self) -> str:
        """The first eight hexadecimal digits of the result's SHA-256."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()[:8]

    def run(self) -> None:
        """Run the command where it has no result yet, and keep what it writes."""
        if self.file.exists():
            return
        out = Path("runs") / self.name
        program, *words = shlex.split(self.command)
        given = ["-m", "densevision", *words] if program == "densevision" else [DOCS.parent / words[0], *words[1:]]
        resume = ["--resume"] if (out / "last").exists() else []
        print(f"{self.name}: {self.command}", flush=True)
        subprocess.run([sys.executable, *map(str, given), *resume, "--out", str(out)], check=True)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / "result.json", self.file)
