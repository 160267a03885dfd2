"""Fixtures of the command tests: a checkpoint trained for two steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
