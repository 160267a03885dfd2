"""The table "Which command does that" of docs/quickstart.md: its commands, run one after the other in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from densevision.apps.cli import main

PAGE = Path(__file__).resolve().parent.parent / "docs" / "quickstart.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("## Which command does that")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| ([^|]+) \| `(densevision [^`]+)`", SECTION, re.MULTILINE))
TINY = ["--steps", "2", "--image-size", "32", "32", "--batch-size", "2", "--eval-samples", "2", "--workers", "0"]
ELSEWHERE = {"weights", "export", "--install-completion"}
"""Commands whose tests are in `tests/apps`: the Hub, an export, a file of the shell."""
SHORTER = {"--steps 4000": "--steps 3", "--keep-every 500": "--keep-every 1"}


def test_every_row_of_the_table_is_a_command_or_python():
    rows = [line for line in SECTION.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) == len(ROWS) + 3 and len(ROWS) == 14


@pytest.mark.slow
def test_the_commands_of_the_table_run(tmp_path, monkeypatch, image):
    monkeypatch.chdir(tmp_path)
    main(["train", "depth", "--out", "runs/depth-1", *TINY])
    main(["data", "make-example", "depth-folders", "mine"])
    image(tmp_path / "photos" / "a.png")
    for row in ROWS.values():
        for long, short in SHORTER.items():
            row = row.replace(long, short)
        words = shlex.split(row)[1:]
        if words[0] in ELSEWHERE:
            continue
        if words[0] in ("evaluate", "compare"):
            words += ["--samples", "2"]
        if words[0] == "train" and not {"--config", "--resume"} & {*words}:
            words += TINY
        main(words)
    assert len(list((tmp_path / "runs" / "kept" / "best").iterdir())) in (1, 2, 3)
    for name in ("scores.csv", "worst.png", "runs/kept/steps/step-1.safetensors", "predictions/predictions.csv"):
        assert (tmp_path / name).is_file(), name
