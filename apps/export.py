"""`densevision export`: ONNX and torch.export files, verified against PyTorch."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Literal

from ..errors import UserError, printable


def export(
    checkpoint: str,
    /,
    *,
    to: Literal["onnx", "torch-export"] = "onnx",
    out: Path | None = None,
) -> None:
    """Export a model to ONNX or torch.export; the file is only written if its outputs match PyTorch's to 1e-3.

    The file's JSON metadata contains the preprocessing, the output channels with their unit, and the license terms of
    the weights.

    Args:
        checkpoint: Checkpoint file, run folder, the name of a packaged checkpoint or its task, or published weights
            (resnet50/imagenet).
        to: Format: onnx (verified in onnxruntime), or torch-export (a .pt2 file for torch.export.load).
        out: File to write; the checkpoint's name with .onnx or .pt2, in the working directory, if not stated.
    """
    from ..tasks.export import SUFFIXES, check_export_options, export
    from ..tasks.inference import load
    from .predict import license_notes

    path = out or Path(default_name(checkpoint) + SUFFIXES[to])
    check_export_options(to, path)
    if path.is_dir():
        raise UserError(f"'{path}' is a folder; name the file to write with --out.")
    predictor = load(checkpoint, "cpu", "off")
    terms = license_notes(predictor.header)
    for line in terms:
        print(line, file=sys.stderr)
    started = time.monotonic()

    def progress(stage: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {stage} ...", file=sys.stderr, flush=True)

    print(f"Exporting {printable(str(checkpoint))} to {to} and verifying; this may take some minutes.", file=sys.stderr)
    result = export(predictor, path, to, terms, progress)
    metadata = result.metadata
    for one in result.comparisons:
        shape = f"{one.batch} of {one.size[0]}x{one.size[1]}"
        print(f"{shape}: differs from PyTorch by {one.difference:.1e} of the output's range")
    for reason in result.reasons:
        print(reason)
    if result.dynamic_axes.size:
        print(f"Height and width are dynamic, in multiples of {metadata['multiple']}.")
    inputs = ", ".join(f"{one['name']} ({len(one['channels'])} channels)" for one in metadata["inputs"])
    print(f"Input: {inputs}, float32 in [0, 1]. Output: {metadata['output']['unit']}.")
    print(f"{printable(str(path))}: {path.stat().st_size / 2**20:.1f} MiB")


def default_name(checkpoint: str) -> str:
    """File name without suffix: that of the task, the run folder or the checkpoint file, or "resnet50-imagenet"."""
    path = Path(checkpoint)
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.suffix else checkpoint.replace("/", "-")
