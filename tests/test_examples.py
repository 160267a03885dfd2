"""The notebooks in examples/ run from the first to the last cell, at a tiny size, and are committed without outputs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TINY: dict[str, dict[str, Any]] = {
    "01_train_depth": {
        "STEPS": 2, "IMAGE_SIZE": (32, 48), "BATCH_SIZE": 2, "EVAL_SAMPLES": 2, "OUT": "runs/notebook-depth",
    },
    "02_custom_dataset_and_head": {
        "STEPS": 2, "IMAGE_SIZE": (32, 48), "BATCH_SIZE": 2, "SAMPLES": 8, "EVAL_SAMPLES": 2,
        "OUT": "runs/notebook-planes",
    },
    "03_what_a_network_looks_at": {
        "IMAGE_SIZE": (60, 80), "SMOOTHGRAD_SAMPLES": 2, "STEPS": 2, "PATCH": 32, "STRIDE": 32,
    },
}  # fmt: skip
"""Notebook to the values that replace those of its parameter cell."""


def read(name: str) -> Any:
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def parameter_cell(notebook: Any) -> Any:
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


def assigned(source: str) -> set[str]:
    """Names that a cell assigns."""
    targets = [node.targets[0] for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    names = {one.id for target in targets for one in getattr(target, "elts", [target]) if isinstance(one, ast.Name)}
    return names


def test_every_notebook_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(TINY)


@pytest.mark.parametrize("name", TINY)
def test_notebook_is_committed_without_outputs(name):
    for cell in read(name).cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, f"clear the outputs of {name}.ipynb"


@pytest.mark.parametrize("name", TINY)
def test_parameter_cell_names_what_the_test_replaces(name):
    assert assigned(parameter_cell(read(name)).source) == set(TINY[name])


@pytest.mark.parametrize(
    "name", [name if name.startswith("01") else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
)
def test_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = read(name)
    parameter_cell(notebook).source = "\n".join(f"{key} = {value!r}" for key, value in TINY[name].items())
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no cell displays a figure"
