"""`densevision export`: a trained network as a file for other runtimes, compared with PyTorch before it is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal


def export(
    checkpoint: str,
    /,
    *,
    to: Literal["onnx", "torch-export"] = "onnx",
    out: Path | None = None,
) -> None:
    """Write a network as a file that other runtimes read; it is kept when its answers are PyTorch's to 1e-3.

    How pictures go in, what comes out in which unit, and the weights' terms stand in the file, as JSON.

    Args:
        checkpoint: A task's name for the checkpoint that ships, a checkpoint's file, a run's folder, or published
            weights (resnet50/imagenet).
        to: onnx (compared in onnxruntime), or torch-export (a .pt2 that torch.export.load opens); default: onnx.
        out: The file to write; default: the checkpoint's name with .onnx or .pt2, here.
    """
    from ..errors import UserError
    from ..tasks.export import ENDINGS, export, require
    from ..tasks.inference import load
    from .predict import terms_of

    path = out or Path(name_of(checkpoint) + ENDINGS[to])
    require(to, path)
    if path.is_dir():
        raise UserError(f"'{path}' is a folder; name the file to write with --out.")
    predictor = load(checkpoint, "cpu", "off")
    terms = terms_of(predictor.header)
    for line in terms:
        print(line, file=sys.stderr)
    print(f"Translating {checkpoint} to {to} and comparing; this may take a minute.", file=sys.stderr)
    made = export(predictor, path, to, terms)
    facts = made.facts
    for one in made.compared:
        of = f"{one.batch} of {one.size[0]}x{one.size[1]}"
        print(f"{of}: differs from PyTorch by {one.difference:.1e} of the answer's range")
    for reason in made.reasons:
        print(reason)
    if made.freedom.sides:
        print(f"Height and width are free, in multiples of {facts['multiple']}.")
    inputs = ", ".join(f"{one['name']} ({len(one['channels'])} channels)" for one in facts["inputs"])
    print(f"In: {inputs}, float32 in [0, 1]. Out: {facts['answer']['unit']}.")
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


def name_of(checkpoint: str) -> str:
    """What a file made from a checkpoint is called: the task, the run's folder, the file, or "resnet50-imagenet"."""
    path = Path(checkpoint)
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.suffix else checkpoint.replace("/", "-")
