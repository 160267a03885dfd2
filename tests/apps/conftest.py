"""What the verbs' tests share: a command in an empty folder, and a checkpoint trained for two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.apps.cli import main

LIGHT = (
    *("--backbone", "resnet18", "--levels", "2", "--head", "unet", "--size", "32", "32", "--steps", "2"),
    *("--batch", "2", "--workers", "0", "--eval-samples", "2", "--amp", "off", "--device", "cpu"),
)


@pytest.fixture(scope="session")
def light_but() -> Callable[..., list[str]]:
    """The options of a training of two small steps, with other words where the given ones say something else."""

    def options(*given: str) -> list[str]:
        kept = list(LIGHT)
        for option in {"--steps" if word == "--epochs" else word for word in given} & set(kept):
            if option.startswith("--"):
                at = kept.index(option)
                del kept[at : at + (3 if option == "--size" else 2)]
        return [*kept, *given]

    return options


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line that a user's mistake leaves."""
        assert (self.code, self.out) == (2, ""), self
        (line,) = self.err.splitlines()
        assert line.startswith("densevision: ") and "Traceback" not in line
        return line.removeprefix("densevision: ")


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """A command in an empty folder, and what it said; what was printed before it is dropped."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Said:
        capfd.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """A miniature of 7-Scenes, as the command line writes it."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    main(["data", "write-miniature", "seven-scenes", str(folder)])
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, scenes) -> Path:
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "two-steps"
    main(["train", "depth", "--data", "seven-scenes", "--root", str(scenes), *LIGHT, "--out", str(folder)])
    return folder


@pytest.fixture(scope="session")
def checkpoint(trained) -> Path:
    return trained / "best.safetensors"


@pytest.fixture(scope="session")
def picture() -> Callable[..., Path]:
    """Writes a picture of noise and says where."""

    def write(path: Path, height: int = 37, width: int = 53, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    return write
