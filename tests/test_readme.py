"""What the README and the pages of docs/ tell people to type exists, option by option; what they link to is there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from densevision.apps.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CARDS = sorted(ROOT.glob("tasks/*/weights/*.md"))
SET_UP = ("pip install -e . && densevision train depth", 'pip install -e ".[test]" && pytest')

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:torchrun [^`]*-m )?densevision [^`]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)\)")


def identity(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


def fences(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, without the list's indentation."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, named, text in found if named == language]


def commands(page: Path) -> list[str]:
    """Every call of densevision on a page: in shell blocks, continued lines joined, and inline."""
    lines = [line for block in fences(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    parts += [re.sub(r"\s+", " ", inline) for inline in INLINE.findall(prose)]
    return [part for part in parts if re.match(r"(torchrun .*-m )?densevision ", part)]


@pytest.mark.parametrize("command", SET_UP)
def test_the_readme_gives_this_command_on_a_line_of_its_own(command):
    assert command in [line for block in fences(ROOT / "README.md", "bash") for line in block.splitlines()]


def test_ci_runs_the_readmes_test_command():
    assert SET_UP[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in [*PAGES, *CARDS] for command in commands(page)], ids=identity
)
def test_every_command_of_the_pages_parses(page, command):
    words = shlex.split(command, comments=True)
    words = words[words.index("densevision") + 1 :]
    if words[-1:] == ["--help"]:
        words = words[:-1]
    if not words or words in (["train"], ["data"], ["weights"]):
        return  # these alone print their help
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as mistake:
        # A page may name a command without what it takes (`densevision list`), but never misname an option.
        assert "requires an argument" in str(mistake), f"{page.name}: {command}: {mistake}"


def test_the_pages_show_how_to_start_and_how_to_ask():
    shown = {command.split()[1] for command in commands(ROOT / "README.md") if command.startswith("densevision")}
    assert {"train", "predict", "evaluate", "data"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_the_python_of_the_pages_is_python_and_imports_what_exists(page):
    for block in fences(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("densevision"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page.name}: {alias.name} is not in {node.module}"


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=identity)
def test_every_link_between_files_leads_to_a_file(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
