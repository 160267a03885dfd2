"""`densevision data`: validation of dataset folders, and examples of their layout."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from ..errors import UserError, printable

app = App(name="data", help="Validate a dataset folder, or write an example of its layout.")


@app.command
def validate(name: str, root: Path | None = None, /) -> None:
    """Read every file of a dataset folder and list all problems, including files that the loader passes over and values
    that it repairs; exit code 1 if there are any.

    Args:
        name: Name of the dataset (`densevision list datasets`).
        root: Dataset folder; not needed for synthetic datasets.
    """
    from ..datasets import dataset_class
    from ..datasets.dataset import SyntheticDataset

    dataset = dataset_class(name)
    if not issubclass(dataset, SyntheticDataset):
        if root is None:
            raise UserError(f"'{name}' needs a dataset folder: densevision data validate {name} ROOT.")
        if not root.is_dir():
            raise UserError(f"There is no folder '{root}'.")
    problems = dataset.validate(root or Path())
    for problem in problems:
        print(problem)
    print(f"{name}: {len(problems)} problem(s)." if problems else f"{name}: no problems.")
    if problems:
        sys.exit(1)


@app.command
def make_example(name: str, root: Path, /) -> None:
    """Write a small generated dataset in the official folder layout, for trying out commands or comparing a layout.

    Args:
        name: Name of the dataset (`densevision list datasets`).
        root: Folder to write; must be new or empty.
    """
    from ..datasets import dataset_class

    dataset = dataset_class(name)
    if root.exists() and any(root.iterdir()):
        raise UserError(f"'{root}' is not empty; give a new folder: existing files are never overwritten.")
    dataset.write_example(root)
    print(printable(f"Wrote an example of {dataset.title} to {root}."))
