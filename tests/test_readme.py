"""Commands, imports and links of the README, the documentation and the model cards."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

import densevision
from densevision.apps.cli import app
from densevision.tasks.heads import list_heads

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
CARDS = sorted(ROOT.glob("tasks/*/weights/*.md"))
SET_UP = ("pip install -e . && densevision train depth", 'pip install -e ".[test]" && pytest')

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:torchrun [^`]*-m )?densevision [^`]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
ON_GITHUB = "../../actions/"
"""Beginning of links that lead from the README to the workflows of the repository, whatever its owner."""
PLACEHOLDERS = {"TASK": "depth", "METHOD": "saliency"}


def identity(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


def fences(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language, without the indentation of a list."""
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, named, text in blocks if named == language]


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


def test_the_image_of_docker_is_the_readmes_installation_and_its_test_command():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    install, test = SET_UP[1].split(" && ")
    words = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    steps = {instruction: rest for instruction, _, rest in words}
    assert steps["RUN"].replace("--no-cache-dir ", "") == install and steps["CMD"] == f'["{test}"]'
    of_ci = re.search(r"python(3\.\d+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert of_ci and steps["FROM"] == f"python:{of_ci[1]}-slim"
    # The packages of the system that CI installs are for the browser of a few tests, which skip without it.
    assert list(steps) == ["FROM", "COPY", "WORKDIR", "RUN", "CMD"] and steps["COPY"].split()[1] == steps["WORKDIR"]
    usage = [line.removeprefix("#").strip() for line in lines if line.startswith("#   docker")]
    assert all(line in (ROOT / "docs" / "install.md").read_text(encoding="utf-8") for line in usage) and len(usage) == 2


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in [*PAGES, *CARDS] for command in commands(page)], ids=identity
)
def test_every_command_of_the_pages_parses(page, command):
    words = shlex.split(command, comments=True)
    words = [PLACEHOLDERS.get(word, word) for word in words[words.index("densevision") + 1 :]]
    if words[-1:] == ["--help"]:
        words = words[:-1]
    if not words or words in (["train"], ["data"], ["weights"], ["visualize"], ["--version"]):
        return  # these alone print their help, or the version
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as mistake:
        # A page may name a command without its required arguments (`densevision list`), but never misname an option.
        assert "requires an argument" in str(mistake), f"{page.name}: {command}: {mistake}"


def test_the_readme_uses_every_command():
    used = {command.split()[1] for command in commands(ROOT / "README.md") if command.startswith("densevision")}
    commands_of_the_tool = {
        "train",
        "evaluate",
        "compare",
        "predict",
        "visualize",
        "webcam",
        "web",
        "export",
        "data",
        "weights",
        "list",
        "bench",
    }
    assert commands_of_the_tool <= used


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
        if "://" not in target and not target.startswith(("mailto:", ON_GITHUB)):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("card", CARDS, ids=identity)
def test_model_card_has_its_headings_in_order(card):
    headings = re.findall(r"^## (.+)$", card.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [
        "Model", "Intended use", "Training data and license", "Training command", "Metrics", "Limitations",
    ]  # fmt: skip


@pytest.mark.parametrize("card", CARDS, ids=identity)
def test_readme_and_model_zoo_list_every_packaged_checkpoint(card):
    for page in (ROOT / "README.md", ROOT / "docs" / "model-zoo.md"):
        assert card.relative_to(ROOT).as_posix() in page.read_text(encoding="utf-8"), f"{page.name} lacks {card.stem}"


def test_names_in_the_tables_of_the_readme_exist():
    """Expressions of the tables "Coming from another library" that call densevision name what it has."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for backbone in re.findall(r'create_backbone\("([\w]+)"', text):
        assert backbone in densevision.list_backbones()
    for head in re.findall(r'create_head\("([\w-]+)"', text):
        assert head in list_heads()
    for method in ("saliency", "integrated_gradients", "grad_cam", "occlusion"):
        assert f"`visualize.{method}(" in text and callable(getattr(densevision.visualize, method))
