"""`densevision data`: is this folder sound, and what does a sound one look like?"""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

app = App(name="data", help="Check a data folder, or write a tiny one in its layout.")


@app.command
def check(name: str, root: Path | None = None, /) -> None:
    """Read a whole data folder and list every problem; exit code 1 if there is any.

    Args:
        name: Data set by name (`densevision list data`).
        root: Its folder; worlds need none.
    """
    from ..datasets import dataset_class
    from ..datasets.dataset import World
    from ..errors import UserError

    found = dataset_class(name)
    if not issubclass(found, World):
        if root is None:
            raise UserError(f"'{name}' lies in a folder: densevision data check {name} DIR.")
        if not root.is_dir():
            raise UserError(f"There is no folder '{root}'.")
    problems = found.check(root or Path())
    for problem in problems:
        print(problem)
    print(f"{name}: {len(problems)} problem(s)." if problems else f"{name}: sound.")
    if problems:
        sys.exit(1)


@app.command
def write_miniature(name: str, root: Path, /) -> None:
    """Write a tiny set in the official layout, to try a command on or to compare a folder with.

    Args:
        name: Data set by name (`densevision list data`).
        root: Folder to write; must not hold anything yet.
    """
    from ..datasets import dataset_class
    from ..errors import UserError

    found = dataset_class(name)
    if root.exists() and any(root.iterdir()):
        raise UserError(f"'{root}' is not empty; give a new folder, so that nothing of yours is written over.")
    found.write_miniature(root)
    print(f"Wrote a miniature of {found.title} to {root}.")
