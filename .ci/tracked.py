"""The files of the checkout, by git's word; by a walk where there is no git."""

import shutil
import subprocess
from pathlib import Path

MADE = ("build", "dist", "runs", "predictions", "__pycache__", ".git", ".venv")


def tracked() -> list[Path]:
    """Relative to the checkout, which is the working directory."""
    if shutil.which("git"):
        # The checkout may belong to another user than the one who runs this.
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
        listed = subprocess.run(command, capture_output=True, text=True)
        if listed.returncode == 0:
            return [path for path in map(Path, filter(None, listed.stdout.split("\0"))) if path.is_file()]
    return [path for path in Path().rglob("*") if path.is_file() and not any(map(made, path.parts))]


def made(part: str) -> bool:
    """Whether a folder's name says that a tool made it."""
    return part in MADE or part.endswith((".egg-info", "_cache"))
