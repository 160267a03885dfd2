"""`densevision export`: ONNX, OpenVINO and torch.export files, verified against PyTorch."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import UserError, printable
from .inputs import collect_inputs, iter_requests

if TYPE_CHECKING:
    from torch import Tensor

    from ..tasks.inference import Predictor


def export(
    checkpoint: str,
    /,
    *,
    to: Literal["onnx", "openvino", "torch-export"] = "onnx",
    int8: bool = False,
    calibration: Path | None = None,
    out: Path | None = None,
) -> None:
    """Export a model to ONNX, OpenVINO or torch.export; the file is only written if its outputs match PyTorch's to
    1e-3, and those of an int8 file to 5e-2 on average.

    The file's JSON metadata contains the preprocessing, the output channels with their unit, and the license terms of
    the weights.

    Args:
        checkpoint: Checkpoint file, run folder, the name of a packaged checkpoint or its task, or published weights
            (resnet50/imagenet).
        to: Format: onnx (verified in onnxruntime), openvino (a .xml and a .bin file), or torch-export (a .pt2 file for
            torch.export.load).
        int8: Quantize weights and activations to 8 bits, with the ranges that activations have for the images of
            --calibration.
        calibration: Folder of images of the kind that the model will see, for --int8; without it, the file is fp32. Up
            to 100, spread evenly, are used, every fifth for the comparison with PyTorch alone.
        out: File to write; the checkpoint's name with -int8, if it is, and .onnx, .xml or .pt2, in the working
            directory, if not stated.
    """
    from ..tasks.export import SUFFIXES, check_export_options, export
    from ..tasks.export.convert import weights_file
    from ..tasks.inference import load
    from .predict import license_notes

    path = out or Path(default_name(checkpoint) + ("-int8" if int8 else "") + SUFFIXES[to])
    check_export_options(to, path, int8)
    if path.is_dir():
        raise UserError(f"'{path}' is a folder; name the file to write with --out.")
    if int8 != (calibration is not None):
        raise UserError("--int8 and --calibration FOLDER, whose images give the ranges, belong together: state both.")
    predictor = load(checkpoint, "cpu", "off")
    images = None if calibration is None else calibration_images(predictor, calibration, path)
    terms = license_notes(predictor.header)
    for line in terms:
        print(line, file=sys.stderr)
    started = time.monotonic()

    def progress(stage: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {stage} ...", file=sys.stderr, flush=True)

    print(f"Exporting {printable(str(checkpoint))} to {to} and verifying; this may take some minutes.", file=sys.stderr)
    result = export(predictor, path, to, terms, progress, images)
    metadata = result.metadata
    for one in result.comparisons:
        shape = f"{one.batch} of {one.size[0]}x{one.size[1]}"
        what = "in fp32, differs" if result.int8 else "differs"
        print(f"{shape}: {what} from PyTorch by {one.difference:.1e} of the output's range")
    if result.int8:
        same = "" if result.int8.same_class is None else f"; {result.int8.same_class:.1%} have the same class"
        print(
            f"int8: differs from PyTorch by {result.int8.mean:.1e} of the output's range on average, on "
            f"{result.int8.images} images without a part in the calibration{same}"
        )
    for reason in result.reasons:
        print(reason)
    if result.dynamic_axes.size:
        print(f"Height and width are dynamic, in multiples of {metadata['multiple']}.")
    inputs = ", ".join(f"{one['name']} ({len(one['channels'])} channels)" for one in metadata["inputs"])
    print(f"Input: {inputs}, float32 in [0, 1]. Output: {metadata['output']['unit']}.")
    for file in (path, *([weights_file(path)] if to == "openvino" else [])):
        print(f"{printable(str(file))}: {file.stat().st_size / 2**20:.1f} MiB")


def calibration_images(predictor: Predictor, folder: Path, out: Path) -> list[list[Tensor]]:
    """Images of a folder, or as many as the task takes at a time, as inputs of the network exported to `out`."""
    from ..tasks.export.quantize import MAX_IMAGES, calibration_input

    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}' of calibration images.")
    policy, preprocessor = predictor.task.inference, predictor.preprocessor
    needed = policy.inputs_per_prediction(preprocessor.inputs)
    if policy.reads_scenes or needed == 0:
        raise UserError(f"The task {predictor.task.name} takes no images of a folder to calibrate with.")
    sources = collect_inputs([folder], out)
    requests = list(iter_requests(sources, needed, tuple(preprocessor.inputs), policy.last_frames))
    requests = requests[:: -(-len(requests) // MAX_IMAGES)]
    return [calibration_input(predictor, preprocessor.load(request.images(), None)) for request in requests]


def default_name(checkpoint: str) -> str:
    """File name without suffix: that of the task, the run folder or the checkpoint file, or "resnet50-imagenet"."""
    path = Path(checkpoint)
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.suffix else checkpoint.replace("/", "-")
