"""The documentation site: its navigation, its links between files, and a strict build where MkDocs is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def pages(entries: list) -> list[str]:
    """Files of a navigation, in order."""
    files = []
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        files += pages(value) if isinstance(value, list) else [value]
    return files


def navigation() -> list[str]:
    return pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])


def test_every_page_is_in_the_navigation():
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} <= set(navigation())


def test_every_model_card_is_in_the_navigation():
    cards = {f"model-cards/{card.parent.parent.name}-{card.name}" for card in ROOT.glob("tasks/*/weights/*.md")}
    assert cards and cards <= set(navigation())


def test_nothing_is_fetched_from_elsewhere():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config and "://" not in config


def test_glossary_is_alphabetical():
    words = re.findall(r"^- \*\*(.+?)\*\*:", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert words == sorted(words, key=str.casefold) and len(words) == len(set(words)) > 40


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="MkDocs is not installed (extra: docs)")
def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "site" / "api" / "tasks.html").is_file()
