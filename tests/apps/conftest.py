"""Fixtures of the command tests: a command run in an empty folder, and a checkpoint trained for two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.apps.cli import main

LIGHT = (
    *("--backbone", "resnet18", "--backbone-levels", "2", "--head", "unet", "--image-size", "32", "32", "--steps", "2"),
    *("--batch-size", "2", "--workers", "0", "--eval-samples", "2", "--amp", "off", "--device", "cpu"),
)


@pytest.fixture(scope="session")
def light_options() -> Callable[..., list[str]]:
    """The options of a training of two small steps, with those in the arguments replaced."""

    def options(*changes: str) -> list[str]:
        defaults = list(LIGHT)
        for option in {"--steps" if word == "--epochs" else word for word in changes} & set(defaults):
            if option.startswith("--"):
                start = defaults.index(option)
                del defaults[start : start + (3 if option == "--image-size" else 2)]
        return [*defaults, *changes]

    return options


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
def scenes(tmp_path_factory) -> Path:
    """An example of 7-Scenes, written by the command line."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    main(["data", "make-example", "seven-scenes", str(folder)])
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, scenes) -> Path:
    """The run folder of a training of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "two-steps"
    main(["train", "depth", "--data", "seven-scenes", "--root", str(scenes), *LIGHT, "--out", str(folder)])
    return folder


@pytest.fixture(scope="session")
def checkpoint(trained) -> Path:
    return trained / "best.safetensors"


@pytest.fixture(scope="session")
def image() -> Callable[..., Path]:
    """Writes an image of noise and returns its path."""

    def write(path: Path, height: int = 37, width: int = 53, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    return write
