"""`densevision weights`: what can start a trunk, what a file says of itself, whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path

from cyclopts import App

app = App(name="weights", help="List, show, verify and shrink weights.")


@app.command(name="list")
def list_() -> None:
    """Published weights by trunk, and the checkpoints that ship."""
    from ..backbones.weights import list_weights
    from ..tasks import list_tasks
    from ..tasks.inference import SHIPPED

    for name in list_weights():
        print(name)
    for task in list_tasks():
        for path in sorted((SHIPPED / task / "weights").glob("*.safetensors")):
            print(f"{task}: {path.stem} ({path.stat().st_size / 2**20:.1f} MiB, ships with the package)")


@app.command
def show(weights: str, /) -> None:
    """What weights say of themselves: network, preprocessing, origin, licence; a checkpoint's whole header.

    Args:
        weights: A published name (`densevision weights list`), a task's name for the checkpoint that ships, a weights
            file, or a checkpoint.
    """
    from ..backbones.weights import show_weights
    from ..errors import UserError
    from ..tasks.training.checkpoint import read_header

    path = shipped_or(weights)
    if path.suffix and not path.is_file():
        raise UserError(f"There is no weights file '{path}'.")
    shown = read_header(path) if is_checkpoint(path) else show_weights(path if path.is_file() else weights)
    print(json.dumps(shown, indent=2, default=str))


@app.command
def verify(weights: str, /, *, sha256: str | None = None) -> None:
    """Read every tensor of a file, see that it fits its network, and compare its digest where one is given.

    Args:
        weights: A weights file, a checkpoint, or a task's name for the checkpoint that ships.
        sha256: What its digest should be, or the start of it, in hexadecimal; default: not compared.
    """
    from ..backbones.weights import verify_weights
    from ..tasks.training.checkpoint import HEADER, load_checkpoint

    path = shipped_or(weights)
    shown = verify_weights(path, sha256)
    if is_checkpoint(path):
        load_checkpoint(path)
        del shown[HEADER]  # long; `densevision weights show` prints it
    print(json.dumps(shown, indent=2, default=str))


@app.command
def shrink(checkpoint: Path, out: Path, /) -> None:
    """Store a checkpoint in fp16, half the size, for shipping.

    Args:
        checkpoint: The file to read.
        out: The file to write; must not exist yet.
    """
    from ..errors import UserError
    from ..tasks.training.checkpoint import shrink_checkpoint

    if out.exists():
        raise UserError(f"'{out}' exists already; give another name.")
    shrink_checkpoint(checkpoint, out)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


def shipped_or(weights: str) -> Path:
    """The path of what was named: the shipped checkpoint for a task's name, else the name itself as a path."""
    from ..tasks import TASKS
    from ..tasks.inference import shipped_checkpoint

    return shipped_checkpoint(weights) if weights in TASKS else Path(weights)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of a task, which a trunk's weights and damaged files are not."""
    from ..errors import UserError
    from ..tasks.training.checkpoint import read_header

    try:
        read_header(path)
    except UserError:
        return False
    return True
