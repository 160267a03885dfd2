"""Export to ONNX, in fp32 or int8, OpenVINO and torch.export.

The exported network takes inputs as `FieldType.to_input` gives them (images in [0, 1]), includes the normalization of
the backbone, and returns the raw output, resized to the inputs if it is a map of them. The file also stores what
callers need for preprocessing and for reading the output, see `metadata.py`.

Every file is run by its own runtime and compared with PyTorch before it gets its final name. OpenVINO's is converted
from ONNX, and an int8 one from fp32.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...atomic_io import atomic_path, json_text
from ...errors import UserError, unknown_name
from ..inference import Predictor
from .convert import convert_model, save, save_openvino, weights_file
from .export_module import DynamicAxes, ExportModule, example_inputs
from .metadata import build_metadata
from .quantize import Calibration, quantize, split
from .verify import Comparison, QuantizationError, compare, compare_int8, find_dynamic_axes, open_exported

TOLERANCE = 1e-3
"""Maximum difference from PyTorch, relative to the range of the channel."""

INT8_TOLERANCE = 0.05
"""Maximum mean difference of an int8 file, in the same unit."""

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
PACKAGES = {"onnx": ONNX_PACKAGES, "openvino": (*ONNX_PACKAGES, "openvino"), "torch-export": ()}


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Attributes:
        metadata: metadata of the file, see `metadata.py`.
        dynamic_axes: axes of the inputs that may vary.
        reasons: why the other axes may not, one sentence each.
        comparisons: comparisons of the fp32 file with PyTorch, at two sizes if the size may vary.
        int8: what int8 changes; None for an fp32 file.
    """

    metadata: dict[str, Any]
    dynamic_axes: DynamicAxes
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    int8: QuantizationError | None = None


def export(
    predictor: Predictor,
    path: str | Path,
    format: str,
    terms: list[str] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
    calibration: Calibration | None = None,
) -> ExportResult:
    """Export a network to a file, and compare the file with PyTorch.

    Args:
        predictor: predictor on the CPU; it is not modified.
        path: output file, with the suffix of the format. A file that differs from PyTorch is not kept.
        format: "onnx", "openvino" (a .xml file, with a .bin file beside it) or "torch-export".
        terms: license terms of data and weights for the metadata, one sentence each.
        progress: called with a phrase at the start of each stage, some of which take a minute.
        calibration: write int8, with the ranges that activations have for these inputs, one image each; None: fp32.

    Raises:
        UserError: an unknown format, a wrong suffix, a missing package, a network that is random at inference or cannot
            be converted, or a file whose output differs from PyTorch's.
    """
    path = Path(path)
    check_export_options(format, path, bool(calibration))
    if calibration is not None and len(calibration) < 2:
        raise UserError(f"int8 needs two calibration images at least, one for the comparison, not {len(calibration)}.")
    with silence_torch():
        policy, field_types = predictor.task.inference, predictor.preprocessor.inputs
        if policy.reads_scenes:
            raise UserError(
                f"A model of {predictor.task.name} takes photos with cameras, for which there is no export."
            )
        module = ExportModule(copy.deepcopy(policy.network(predictor.model, policy.modes[0])), predictor.size)
        progress("running the network at several sizes")
        dynamic_axes, reasons = find_dynamic_axes(module, field_types, TOLERANCE)
        # OpenVINO's file is converted from ONNX's.
        first = "onnx" if format == "openvino" else format
        converted = convert_model(module, field_types, first, dynamic_axes, progress)
        dynamic_axes, reasons = converted.dynamic_axes, (*reasons, *converted.reasons)
        metadata = build_metadata(predictor, module, field_types, dynamic_axes, terms or [])
        shapes = (
            (1, module.training_size),
            (3 if dynamic_axes.batch else 1, module.other_size if dynamic_axes.size else module.training_size),
        )
        examples = [example_inputs(field_types, *shape, seed) for seed, shape in enumerate(shapes)]
        classes = metadata["output"]["layout"] in ("classes", "class-map")

        def compared(file: Path, format: str) -> tuple[Comparison, ...]:
            run = open_exported(file, format)[0]
            comparisons = tuple(compare(module, run, each) for each in examples)
            check_agreement(comparisons, format)
            return comparisons

        with atomic_path(path) as aside, tempfile.TemporaryDirectory() as folder:
            int8, file = None, aside if format == first and not calibration else Path(folder) / "fp32.onnx"
            progress("writing the file and comparing its outputs with PyTorch's")
            save(converted, file, json_text(metadata, ensure_ascii=False))
            comparisons = compared(file, first)
            seen, held_out = split(calibration or ())
            if calibration:
                progress(f"quantizing with the ranges of {len(seen)} images")
                metadata["precision"] = "int8"
                source, file = file, aside if format == "onnx" else Path(folder) / "int8.onnx"
                quantize(source, file, list(field_types), seen, json_text(metadata, ensure_ascii=False))
            if format == "openvino":
                progress("converting to OpenVINO and comparing again")
                save_openvino(file, aside, json_text(metadata, ensure_ascii=False))
            try:
                if calibration:
                    int8 = compare_int8(module, open_exported(aside, format)[0], held_out, classes)
                    check_int8(int8)
                elif format == "openvino":
                    comparisons = compared(aside, format)
                if format == "openvino":
                    os.replace(weights_file(aside), weights_file(path))
            finally:
                weights_file(aside).unlink(missing_ok=True)
    return ExportResult(metadata, dynamic_axes, reasons, comparisons, int8)


def check_export_options(format: str, path: Path, int8: bool = False) -> None:
    """Check format, suffix and packages before a model is loaded.

    Raises:
        UserError: an unknown format, a wrong suffix, a missing package, or a format without int8.
    """
    if format not in SUFFIXES:
        raise unknown_name("export format", format, SUFFIXES)
    if path.suffix != SUFFIXES[format]:
        raise UserError(f"--out is '{path}'; the suffix for {format} is {SUFFIXES[format]}.")
    missing = [name for name in PACKAGES[format] if find_spec(name) is None]
    if missing:
        title = "OpenVINO" if format == "openvino" else "ONNX"
        raise UserError(f"{title} export needs {', '.join(missing)}: pip install {' '.join(missing)}.")
    if int8 and format == "torch-export":
        raise UserError("Files of torch.export are fp32; write int8 with --to onnx or --to openvino.")


def check_agreement(comparisons: tuple[Comparison, ...], format: str) -> None:
    """Refuse a file whose output differs from PyTorch's.

    Raises:
        UserError: a difference above `TOLERANCE`.
    """
    worst = max(comparisons, key=lambda one: one.difference)
    if worst.difference > TOLERANCE:
        how = (
            "is nan or has another shape"
            if math.isinf(worst.difference)
            else f"differs from PyTorch's by {worst.difference:.1e} of its range"
        )
        other_format = next(one for one in SUFFIXES if one != format)
        raise UserError(
            f"At {worst.size[0]}x{worst.size[1]} the output of the {format} file {how}, and {TOLERANCE:g} is the "
            f"limit: the file was not kept; try --to {other_format}."
        )


def check_int8(error: QuantizationError) -> None:
    """Refuse an int8 file whose output differs too much from PyTorch's.

    Raises:
        UserError: a mean difference above `INT8_TOLERANCE`.
    """
    if not error.mean <= INT8_TOLERANCE:
        raise UserError(
            f"In int8 the output differs from PyTorch's by {error.mean:.1e} of its range on average, and "
            f"{INT8_TOLERANCE:g} is the limit: the file was not kept; calibrate with more images of the kind that the "
            "model was trained on, or leave out --int8."
        )


@contextmanager
def silence_torch() -> Iterator[None]:
    """Suppress logs and warnings of torch's exporters, and keep the state of the random generators."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng([]):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
