"""`densevision weights`: what can start a trunk, what a file says of itself, whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cyclopts import App

app = App(name="weights", help="List, show, verify, shrink and adopt weights.")
STATED = ("network", "licence", "origin", "preprocessing", "scores")
UNSTATED = "unstated"
"""What stands where a file should say something and does not."""


@app.command(name="list")
def list_() -> None:
    """Published weights by trunk and the checkpoints that ship: score, protocol and licence of each, on one line."""
    from ..backbones.weights import list_weights, show_weights
    from ..tasks import list_tasks
    from ..tasks.inference import SHIPPED
    from ..tasks.training.checkpoint import read_header

    names = list_weights()
    for name in names:
        shown = show_weights(name)
        stated = f"{score(shown)} ({protocol(shown)}); {shown['licence']}"
        print(f"{name:{max(map(len, names))}}  {stated}")
    for task in list_tasks():
        for path in sorted((SHIPPED / task / "weights").glob("*.safetensors")):
            size = f"{path.stat().st_size / 2**20:.1f} MiB, ships with the package"
            print(f"{task}: {path.stem} ({size})  {checkpoint_line(task, read_header(path))}")


@app.command
def show(weights: str, /) -> None:
    """What weights say of themselves: network, preprocessing, origin, licence, score, protocol; a checkpoint's header.

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
    named = path if path.is_file() else weights
    shown = read_header(path) if is_checkpoint(path) else with_gaps(show_weights(named))
    print(json.dumps(shown, indent=2, default=str))


@app.command
def verify(weights: str, /, *, sha256: str | None = None) -> None:
    """Read every tensor of a file, see that it fits its network, and compare its digest where one is given.

    What was checked stands in the answer; the first thing wrong is a mistake and exits with 2.

    Args:
        weights: A weights file, a checkpoint, or a task's name for the checkpoint that ships.
        sha256: What its digest should be, or the start of it, in hexadecimal; default: not compared.
    """
    from ..backbones.weights import verify_weights
    from ..tasks.training.checkpoint import HEADER, load_checkpoint

    path = shipped_or(weights)
    shown = verify_weights(path, sha256)
    checked = [f"{shown['tensors']} tensors were read to their end and every value is finite"]
    if is_checkpoint(path):
        load_checkpoint(path)
        del shown[HEADER]  # long; `densevision weights show` prints it
        checked.append("the network that the header describes was built and takes every tensor")
    else:
        shown = with_gaps(shown)
        fits = f"every name and shape is one of {shown['network']}"
        checked.append("not whether it fits: the file names no network" if shown["network"] == UNSTATED else fits)
    checked.append("not its digest: none was given" if sha256 is None else f"the digest begins with {sha256.lower()}")
    print(json.dumps({**shown, "checked": checked}, indent=2, default=str))


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


@app.command
def adopt(
    task: str, network: str, weights: Path, out: Path, /, *, terms: str = "as the weights' authors state"
) -> None:
    """Turn published weights of a whole network into a checkpoint that every command takes.

    Args:
        task: Whose network it is (`densevision list networks`).
        network: The network's name, raft_small for one.
        weights: A .pth or .safetensors file of the published names.
        out: The checkpoint to write; must not exist yet.
        terms: What the data of the weights allow, for those who use the checkpoint; default: as their authors state.
    """
    from ..errors import UserError
    from ..tasks import create_task
    from ..tasks.training.checkpoint import adopt as adopted

    if out.exists():
        raise UserError(f"'{out}' exists already; give another name.")
    adopted(create_task(task), network, weights, out, terms)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


def with_gaps(shown: dict[str, Any]) -> dict[str, Any]:
    """What weights say of themselves, with `UNSTATED` where they should say something and do not."""
    return {key: shown.get(key, UNSTATED) for key in STATED} | shown | {"protocol": protocol(shown)}


def score(shown: dict[str, Any]) -> str:
    """The scores of `show_weights` in words: "top-1 69.758 %, top-5 89.078 % on ImageNet-1K"."""
    scores = shown.get("scores")
    if not isinstance(scores, dict):
        return f"score {scores or UNSTATED}"
    names = {"acc@1": "top-1", "acc@5": "top-5"}
    return "; ".join(
        ", ".join(f"{names.get(name, name)} {value} %" for name, value in values.items()) + f" on {data}"
        for data, values in scores.items()
    )


def protocol(shown: dict[str, Any]) -> str:
    """How the scores came about: torchvision's are all of one crop, cut as the weights' preprocessing says."""
    crop = shown.get("preprocessing")
    if not isinstance(shown.get("scores"), dict) or not isinstance(crop, dict):
        return UNSTATED if "protocol" not in shown else str(shown["protocol"])
    return f"one centre crop of {crop['crop']}, short side {crop['resize']}, {crop['interpolation']}"


def checkpoint_line(task: str, header: dict[str, Any]) -> str:
    """Score, protocol and terms of a checkpoint of a task."""
    from ..tasks import task_class

    watch, metrics = task_class(task).watch.name, header.get("metrics") or {}
    found = f"{watch} {metrics[watch]:.3f}" if watch in metrics else f"score {UNSTATED}"
    data, trunk = header.get("data") or {}, header.get("trunk") or {}
    where = f"{data.get('name', UNSTATED)} {metrics.get('split', '')}".strip()
    terms = f"data: {data.get('terms', UNSTATED)}"
    if trunk:
        terms += f"; trunk: {trunk.get('licence', UNSTATED)}"
    return f"{found} ({where}, {metrics.get('protocol', UNSTATED)}); {terms}"


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
