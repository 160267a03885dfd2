"""The recipes of docs/python.md, run as they stand on the page."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
RECIPES = {section.partition("\n")[0]: BLOCK.findall(section) for section in SECTIONS[1:]}
SLOW = ("7.", "9.", "10.")
"""Recipes of several trainings, or of an export."""


def test_the_page_has_ten_recipes_each_with_code():
    assert [name.partition(" ")[0] for name in RECIPES] == [f"{number}." for number in range(1, 11)]
    assert all(RECIPES.values())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name.startswith(SLOW) else name for name in RECIPES],
)
def test_a_recipe_runs_as_it_stands(tmp_path, monkeypatch, name):
    needed = {alias.split(".")[0] for alias in re.findall(r"^(?:import|from) (\w+)", "".join(RECIPES[name]), re.M)}
    for module in needed & {"onnxruntime", "pycocotools"}:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "recipe"}
    for block in (*BLOCK.findall(SECTIONS[0]), *RECIPES[name]):
        exec(compile(ast.parse(block), f"{PAGE.name}: {name}", "exec"), namespace)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime is not installed (extra: export)")
def test_an_exported_file_is_read_without_this_package(tmp_path):
    """The second half of recipe 10 in a process that cannot import densevision."""
    first, _, second = RECIPES[next(name for name in RECIPES if name.startswith("10."))][0].partition("# From here on")
    code = "import json\n\nimport numpy as np\nimport onnxruntime\n\nrng = np.random.default_rng(0)\n# " + second
    namespace: dict = {}
    folder = str(tmp_path)
    exec(f"import os\nos.chdir({folder!r})\n{first}", namespace)
    done = subprocess.run(
        [sys.executable, "-S", "-c", _with_packages(code)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "meters" in done.stdout, done.stderr


def _with_packages(code: str) -> str:
    """Code that finds installed packages, but not this one."""
    paths = [path for path in sys.path if path.endswith("site-packages")]
    return f"import sys\nsys.path[:] = [*sys.path, *{paths!r}]\nsys.modules['densevision'] = None\n{code}"
