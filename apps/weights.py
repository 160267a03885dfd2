"""`densevision weights`: list, inspect, verify, import, convert, push and pull weights files and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from ..errors import UserError, printable

app = App(name="weights", help="List, verify, import, convert, push and pull weights.")
STATED = ("network", "licence", "origin", "preprocessing", "scores")
UNSTATED = "unstated"
"""Value of missing metadata."""


@app.command(name="list")
def list_() -> None:
    """List the published weights of the backbones and the packaged checkpoints, with score, protocol and license."""
    from ..backbones.weights import list_weights, read_weights_info
    from ..tasks import list_tasks
    from ..tasks.checkpoint import read_header
    from ..tasks.inference import PACKAGED_CHECKPOINTS

    names = list_weights()
    for name in names:
        info = read_weights_info(name)
        print(f"{name:{max(map(len, names))}}  {score(info)} ({protocol(info)}); {info['licence']}")
    for task in list_tasks():
        for path in sorted((PACKAGED_CHECKPOINTS / task / "weights").glob("*.safetensors")):
            size = f"{path.stat().st_size / 2**20:.1f} MiB, packaged"
            print(f"{task}: {path.stem} ({size})  {checkpoint_line(task, read_header(path))}")


@app.command
def show(weights: str, /) -> None:
    """Print the metadata of weights (model, preprocessing, origin, license, score, protocol) or a checkpoint's header.

    Args:
        weights: Name of published weights (`densevision weights list`), weights file, checkpoint file, or the name of a
            packaged checkpoint or its task.
    """
    from ..atomic_io import json_text
    from ..backbones.weights import read_weights_info
    from ..tasks.checkpoint import is_checkpoint, read_header

    path = resolve_path(weights)
    if path.suffix and not path.is_file():
        raise UserError(f"There is no weights file '{path}'.")
    source = path if path.is_file() else weights
    info = read_header(path) if is_checkpoint(path) else fill_missing(read_weights_info(source))
    print(json_text(info, indent=2, default=str))


@app.command
def verify(weights: str, /, *, sha256: str | None = None) -> None:
    """Verify a weights file: read all tensors, check that they fit the model, and compare the SHA-256 digest.

    Prints what was checked. The first error ends the command with exit code 2.

    Args:
        weights: Weights file, checkpoint file, or the name of a packaged checkpoint or its task.
        sha256: Expected SHA-256 digest in hexadecimal, or its first digits; not compared if not stated.
    """
    from ..atomic_io import json_text
    from ..backbones.state_dict_matching import verify_weights
    from ..tasks.checkpoint import HEADER, is_checkpoint, load_checkpoint

    path = resolve_path(weights)
    info = verify_weights(path, sha256)
    checked = [f"{info['tensors']} tensors were read completely and all values are finite"]
    if is_checkpoint(path):
        load_checkpoint(path)
        del info[HEADER]  # long; `densevision weights show` prints it
        checked.append("all tensors fit the model described by the header")
    else:
        info = fill_missing(info)
        fits = f"all names and shapes match {info['network']}"
        checked.append("not checked: the model, which the file does not name" if info["network"] == UNSTATED else fits)
    checked.append("not checked: the digest" if sha256 is None else f"the digest begins with {sha256.lower()}")
    print(json_text({**info, "checked": checked}, indent=2, default=str))


@app.command
def to_fp16(checkpoint: Path, out: Path, /) -> None:
    """Convert a checkpoint to fp16, half the size; weights of a classifier become a checkpoint.

    Args:
        checkpoint: Checkpoint to read, or weights of a network with its classifier.
        out: File to write; must not exist yet.
    """
    from ..tasks.conversion import convert_to_fp16

    refuse_existing(out)
    convert_to_fp16(checkpoint, out)
    print(printable(f"{out}: {out.stat().st_size / 2**20:.1f} MiB"))


@app.command(name="import")
def import_(
    weights: Path,
    out: Path | None = None,
    /,
    *,
    network: Annotated[str | None, Parameter(name="--as")] = None,
    terms: str = "as the weights' authors state",
) -> None:
    """Import published weights: recognize their layout, and write a file that every command takes.

    A complete model becomes a checkpoint, a backbone a weights file for `--weights`. Prints what was recognized,
    stripped, left out and changed. docs/published-weights.md lists the layouts.

    Args:
        weights: Published weights: .pth, .pt, .tar, .safetensors, .caffemodel, .t7, .mat, .npy, or a checkpoint of
            TensorFlow by the name of its .index file.
        out: File to write; must not exist yet. If not stated, that of the weights with the ending .safetensors, in the
            current folder.
        network: Backbone or model that it shall become, where the layout allows several (`densevision list models`,
            `densevision list backbones`); without it, the usual one.
        terms: License terms of the weights and their training data, stored in the file.
    """
    from ..tasks.conversion import import_weights

    out = out or Path(weights.name).with_suffix(".safetensors")
    refuse_existing(out)
    for sentence in import_weights(weights, out, network, terms):
        print(printable(sentence))
    print(printable(f"Wrote {out}: {out.stat().st_size / 2**20:.1f} MiB."))


@app.command
def convert(checkpoint: Path, out: Path, /) -> None:
    """Convert a checkpoint written before the renaming of 0.1.0 to the present names.

    Args:
        checkpoint: Checkpoint to read.
        out: Checkpoint to write; must not exist yet.
    """
    from ..tasks.conversion import convert_checkpoint

    refuse_existing(out)
    convert_checkpoint(checkpoint, out)
    print(printable(f"Wrote {out}."))


@app.command
def push(checkpoint: str, repo: str, /, *, private: bool = False) -> None:
    """Upload a checkpoint with a model card to the Hugging Face Hub, as the account of `hf auth login` or HF_TOKEN.

    Args:
        checkpoint: Checkpoint file, run folder, or the name of a packaged checkpoint or its task.
        repo: Repository, USER/NAME; created if there is none.
        private: Create it as a private one.
    """
    from .hub import push

    path = resolve_path(checkpoint)
    path = path / "best.safetensors" if path.is_dir() else path
    print(printable(f"Uploaded {path} to {push(path, repo, private=private)}."))


@app.command
def pull(repo: str, out: Path | None = None, /, *, revision: str | None = None) -> None:
    """Download a checkpoint from the Hugging Face Hub, and verify it.

    Args:
        repo: Repository, USER/NAME.
        out: File to write; must not exist yet. If not stated, NAME.safetensors in the current folder.
        revision: Branch, tag or commit; the newest one if not stated.
    """
    from .hub import pull

    out = out or Path(f"{repo.rpartition('/')[2]}.safetensors")
    refuse_existing(out)
    pull(repo, out, revision=revision)
    print(printable(f"Wrote {out}: {out.stat().st_size / 2**20:.1f} MiB."))


def refuse_existing(out: Path) -> None:
    """Raise a UserError if an output file exists already."""

    if out.exists():
        raise UserError(f"'{out}' already exists; give another name.")


def fill_missing(info: dict[str, Any]) -> dict[str, Any]:
    """Metadata of weights with `UNSTATED` for missing values, and the protocol of the scores."""
    return {key: info.get(key, UNSTATED) for key in STATED} | info | {"protocol": protocol(info)}


def score(info: dict[str, Any]) -> str:
    """Scores of weights as text: "top-1 69.758 %, top-5 89.078 % on ImageNet-1K"."""
    scores = info.get("scores")
    if not isinstance(scores, dict):
        return f"score {scores or UNSTATED}"
    names = {"acc@1": "top-1", "acc@5": "top-5"}
    return "; ".join(
        ", ".join(f"{names.get(name, name)} {value} %" for name, value in values.items()) + f" on {data}"
        for data, values in scores.items()
    )


def protocol(info: dict[str, Any]) -> str:
    """Evaluation protocol of the scores; torchvision's are all of one center crop by the weights' preprocessing."""
    crop = info.get("preprocessing")
    if not isinstance(info.get("scores"), dict) or not isinstance(crop, dict):
        return UNSTATED if "protocol" not in info else str(info["protocol"])
    return f"one center crop of {crop['crop']}, short side {crop['resize']}, {crop['interpolation']}"


def checkpoint_line(task: str, header: dict[str, Any]) -> str:
    """Score, protocol and license terms of a task's checkpoint."""
    from ..datasets.mixture import evaluated_name
    from ..tasks import task_class

    monitor, metrics = task_class(task).monitor.name, header.get("metrics") or {}
    result = f"score {UNSTATED}" if metrics.get(monitor) is None else f"{monitor} {metrics[monitor]:.3f}"
    data, backbone = header.get("data") or {}, header.get("backbone_weights") or {}
    dataset = f"{evaluated_name(data.get('name', UNSTATED))} {metrics.get('split', '')}".strip()
    terms = f"data: {data.get('terms', UNSTATED)}"
    if backbone:
        terms += f"; backbone: {backbone.get('license', UNSTATED)}"
    return f"{result} ({dataset}, {metrics.get('protocol', UNSTATED)}); {terms}"


def resolve_path(weights: str) -> Path:
    """Path of weights: a packaged checkpoint by its name or that of its task, else the name itself as a path."""
    from ..tasks import TASKS
    from ..tasks.inference import packaged_checkpoint, packaged_checkpoints

    return packaged_checkpoint(weights) if weights in (*TASKS, *packaged_checkpoints()) else Path(weights)
