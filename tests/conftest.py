"""What tests share: one thread each, a command run in an empty folder, the real samples where this machine has them."""

from __future__ import annotations

import os

# Before torch is imported anywhere: under xdist every worker would otherwise take all cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.apps.cli import main
from densevision.limits import LIMITS


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real samples beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real samples are not at {folder.name}/ beside the checkout")
    return folder


@dataclass
class CommandResult:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error message of a user error, which is the only output."""
        assert (self.code, self.out) == (2, ""), self
        (line,) = self.err.splitlines()
        assert line.startswith("densevision: ") and "Traceback" not in line
        return line.removeprefix("densevision: ")


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs a command in an empty folder and returns its output."""
    monkeypatch.chdir(tmp_path)
    # --max-megapixels is for the process.
    monkeypatch.setattr(LIMITS, "max_megapixels", LIMITS.max_megapixels)

    def call(*words: object) -> CommandResult:
        capfd.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return CommandResult(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def image() -> Callable[..., Path]:
    """Writes an image of noise and returns its path."""

    def write(path: Path, height: int = 37, width: int = 53, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    return write
