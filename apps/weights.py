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
        weights: a published name (`densevision weights list`), a weights file, or a checkpoint.
    """
    from ..backbones.weights import show_weights
    from ..errors import UserError
    from ..tasks.training.checkpoint import read_header

    path = Path(weights)
    if path.suffix == ".safetensors":
        try:
            print(json.dumps(read_header(path), indent=2))
            return
        except UserError:
            pass  # not a checkpoint of ours; as a trunk's weights it may still be sound, or name its own damage
    print(json.dumps(show_weights(weights), indent=2, default=str))


@app.command
def verify(path: Path, /, *, sha256: str | None = None) -> None:
    """Read every tensor of a file, and compare its digest where one is given.

    Args:
        path: the file.
        sha256: what its digest should be, in hexadecimal.
    """
    from ..backbones.weights import verify_weights

    print(json.dumps(verify_weights(path, sha256), indent=2, default=str))


@app.command
def shrink(checkpoint: Path, out: Path, /) -> None:
    """Store a checkpoint in fp16, half the size, for shipping.

    Args:
        checkpoint: the file to read.
        out: the file to write.
    """
    from ..errors import UserError
    from ..tasks.training.checkpoint import shrink_checkpoint

    if out.exists():
        raise UserError(f"'{out}' exists already; give another name.")
    shrink_checkpoint(checkpoint, out)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
