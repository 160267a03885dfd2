"""Records of the results pages: a command, and the `result.json` that it wrote.

A command runs as it is printed, from a folder that contains what it names (`redkitchen`, the weights files). Its
`result.json` is committed under tools/reproduce/runs; the pages print the first digits of its SHA-256.
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

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RUNS = ROOT / "tools" / "reproduce" / "runs"


@dataclass(frozen=True)
class Record:
    """A command and its result.

    Attributes:
        name: path of the result under tools/reproduce/runs, without `.json`.
        command: what to type, without `--out`.
    """

    name: str
    command: str

    @property
    def file(self) -> Path:
        return RUNS / f"{self.name}.json"

    def result(self) -> dict[str, Any]:
        """The content of the `result.json`."""
        return json.loads(self.file.read_text(encoding="utf-8"))

    def digest(self) -> str:
        """The first eight hexadecimal digits of the SHA-256 of the result's file."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()[:8]

    def run(self) -> None:
        """Run the command unless its result is committed, and copy what it writes. An interrupted run is resumed."""
        if self.file.exists():
            return
        out = Path("runs") / self.name
        program, *words = shlex.split(self.command)
        arguments = ["-m", "densevision", *words] if program == "densevision" else [ROOT / words[0], *words[1:]]
        resume = ["--resume"] if (out / "last").exists() else []
        print(f"{self.name}: {self.command}", flush=True)
        subprocess.run([sys.executable, *map(str, arguments), *resume, "--out", str(out)], check=True)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / "result.json", self.file)
