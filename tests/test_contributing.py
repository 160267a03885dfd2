"""CONTRIBUTING.md, followed to the letter: toys are added to a copy of the package where it says, and used."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
TOYS = Path(__file__).resolve().parent / "contributing"
SECTIONS = (
    "Set up", "A backbone", "A head", "A dataset", "A synthetic dataset", "A task", "A visualization method",
    "A packaged checkpoint", "A page", "A bug",
)  # fmt: skip
FEW = ("toynet", "lenet5", "vgg11", "resnet18")
FILE = re.compile(r"^1\. Write `([^`]+)`", re.MULTILINE)
LINE = re.compile(r"^\d+\. Add its line to `(\w+)` in `([^`]+)`: `([^`]+)`$", re.MULTILINE)
CODE = re.compile(r"^ +```(\w+)\n(.*?)^ +```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Addition:
    """A toy: its section, its source, and what stands for the placeholders."""

    section: str
    source: str
    name: str
    class_name: str = ""
    folder: str = ""

    def __str__(self) -> str:
        return self.name

    def filled(self, text: str) -> str:
        """Text of the section with the names of the toy."""
        return text.replace("NAME", self.name).replace("CLASS", self.class_name).replace("FOLDER", self.folder)

    @property
    def text(self) -> str:
        """The section."""
        return sections()[self.section]

    @property
    def file(self) -> str:
        """The file to write."""
        (file,) = FILE.findall(self.text)
        return self.filled(file)

    @property
    def line(self) -> tuple[str, str, str]:
        """Registry, its file, and the line to add."""
        ((registry, file, line),) = LINE.findall(self.text)
        return registry, file, self.filled(line)

    def code(self, language: str) -> str:
        """The only code block of a language."""
        (code,) = (code for found, code in CODE.findall(self.text) if found == language)
        return "\n".join(line.strip() for line in self.filled(code).splitlines())


ADDITIONS = (
    Addition("A backbone", "backbone.py", "toynet", "ToyNet"),
    Addition("A head", "head.py", "toyhead", "ToyHead"),
    Addition("A dataset", "dataset.py", "toyscenes", "ToyScenes", "depth"),
    Addition("A task", "task/__init__.py", "nearness", "Nearness"),
    Addition("A visualization method", "visualization.py", "toymap", folder="attribution"),
)


@cache
def sections() -> dict[str, str]:
    """Text of each section by heading."""
    parts = re.split(r"^## (\d+)\. (.+)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert parts[1::3] == [str(number) for number in range(1, len(parts) // 3 + 1)]
    return dict(zip(parts[2::3], parts[3::3], strict=True))


def sources(folder: Path) -> dict[str, str]:
    """The modules of the package, by path."""
    left_out = ("tests", "build", "dist", "docs", "tools", "examples")
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.py")}
    return {
        name: file.read_text(encoding="utf-8")
        for name, file in sorted(files.items())
        if name.split("/")[0] not in left_out and not name.startswith(".") and name != "setup.py"
    }


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the package with all toys."""
    package = tmp_path_factory.mktemp("copy") / "densevision"
    for name, text in sources(ROOT).items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    for addition in ADDITIONS:
        (package / addition.file).parent.mkdir(exist_ok=True)
        shutil.copy(TOYS / addition.source, package / addition.file)
        registry, file, line = addition.line
        before = (package / file).read_text(encoding="utf-8")
        start = re.search(rf"^{registry}: dict\[.*\] = {{\n", before, re.MULTILINE)
        assert start, f"{file} has no registry {registry}."
        (package / file).write_text(f"{before[: start.end()]}    {line}\n{before[start.end() :]}", encoding="utf-8")
    return package


@pytest.fixture(scope="module")
def followed(extended, tmp_path_factory) -> tuple[Path, str]:
    """The folder in which the copy was used, and what it printed."""
    checks = [addition.code("python") for addition in ADDITIONS if "```python" in addition.text]
    (heads,) = (addition for addition in ADDITIONS if "pytest " in addition.text)
    command = heads.code("bash").split()
    assert command[0] == "pytest"
    # A few backbones: on all of them, the check takes half a minute.
    settings = ["-c", str(ROOT / "pyproject.toml"), "-n0", "-q", "-p", "no:cacheprovider"]
    steps = {"checks": checks, "pytest": [*settings, *command[1:-1], f"{command[-1]} and ({' or '.join(FEW)})"]}
    folder = tmp_path_factory.mktemp("work")
    # The tests of the checkout, with the copy as the package.
    (folder / "tests").symlink_to(ROOT / "tests")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:densevision", str(TOYS / "follow.py")],
        input=json.dumps(steps), text=True, capture_output=True, cwd=folder, timeout=600,
        env={**os.environ, "PYTHONPATH": str(extended.parent), "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return folder, done.stdout


def test_the_page_has_ten_numbered_sections_whose_steps_are_lists():
    assert tuple(sections()) == SECTIONS
    for heading in ("A backbone", "A head", "A dataset", "A task", "A visualization method"):
        numbers = re.findall(r"^(\d+)\. ", sections()[heading], re.MULTILINE)
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)] and len(numbers) >= 5
        assert "conformance check" in sections()[heading]


@pytest.mark.parametrize("addition", ADDITIONS, ids=str)
def test_an_addition_is_one_new_file_and_one_new_line(extended, addition):
    before, after = sources(ROOT), sources(extended)
    assert after.keys() - before.keys() == {each.file for each in ADDITIONS}
    assert before.keys() <= after.keys()
    _, file, line = addition.line
    changes = [
        change for change in difflib.ndiff(before[file].splitlines(), after[file].splitlines()) if change[0] in "+-"
    ]
    assert changes == [f"+     {line}"]
    untouched = after.keys() - {each.file for each in ADDITIONS} - {each.line[1] for each in ADDITIONS}
    assert all(before[name] == after[name] for name in untouched)


@pytest.mark.slow
def test_the_copy_is_what_was_used(extended, followed):
    assert f"package {extended / '__init__.py'}" in followed[1]


@pytest.mark.slow
@pytest.mark.parametrize("addition", ADDITIONS, ids=str)
def test_an_addition_is_listed(followed, addition):
    assert re.search(rf"^\W*{addition.name}\b", followed[1], re.MULTILINE)


@pytest.mark.slow
def test_the_toys_train_together(followed):
    folder, _ = followed
    result = json.loads((folder / "run" / "result.json").read_text())
    assert (result["steps"], result["data"], result["monitor"]["name"]) == (2, "toyscenes", "error")
    assert np.load(folder / "predictions" / "0_nearness.npy").shape == (48, 64)


@pytest.mark.slow
def test_the_toy_task_is_visualizable_by_what_its_output_is(followed):
    folder, printed = followed
    (targets,) = re.findall("^targets .*", printed, re.MULTILINE)
    assert "nearness@X,Y" in targets and "coarse:CHANNEL" in targets
    saliency, toymap = np.load(folder / "saliency.npy"), np.load(folder / "toymap.npy")
    # An image of 48x64, fitted to the training size of 32x48.
    assert saliency.shape == toymap.shape == (1, 36, 48)
    # Three convolutions, with strides 2, 2 and 1, and the bilinear resize see about twenty pixels around the target.
    assert 0 < np.count_nonzero(toymap) <= np.count_nonzero(saliency) < 24**2
