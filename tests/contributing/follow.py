"""Uses a copy of the package to which the toys were added, in the working directory: checks, list, train, predict, ...

Standard input is JSON: `checks`, code of the conformance checks; `pytest`, arguments of that of heads.
"""

from __future__ import annotations

import json
import sys

import pytest

import densevision
from densevision import visualize
from densevision.apps.cli import main

RUN, IMAGE, ON_CPU = "run/best.safetensors", "data/test/0.png", ("--device", "cpu")
TARGET = ("--model", RUN, "--image", IMAGE, "--target", "nearness@9,7", *ON_CPU)


def follow(steps: dict[str, list[str]]) -> None:
    """Run everything; any error ends the process."""
    print(f"package {densevision.__file__}")
    for check in steps["checks"]:
        exec(check, {})
    assert pytest.main(steps["pytest"]) == 0
    for kind in ("backbones", "heads", "datasets", "tasks"):
        main(["list", kind])
    main(["visualize", "--help"])
    main(["data", "make-example", "toyscenes", "data"])
    model = ("--backbone", "toynet", "--head", "toyhead")
    main(
        [
            "train",
            "nearness",
            *model,
            "--data",
            "toyscenes",
            "--root",
            "data",
            "--workers",
            "0",
            "--out",
            "run",
            *ON_CPU,
        ]
    )
    main(["evaluate", RUN, "--data", "toyscenes", "--root", "data", *ON_CPU])
    main(["predict", RUN, IMAGE, "--out", "predictions", *ON_CPU])
    main(["visualize", "saliency", *TARGET, "--out", "saliency.png"])
    main(["visualize", "toymap", *TARGET, "--power", "2", "--out", "toymap.png"])
    print("targets", *visualize.list_targets(densevision.load(RUN, "cpu")))


if __name__ == "__main__":
    follow(json.load(sys.stdin))
