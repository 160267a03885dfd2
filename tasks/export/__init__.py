"""Export to ONNX and torch.export.

The exported network takes inputs as `FieldType.to_input` gives them (images in [0, 1]), includes the normalization of
the backbone, and returns the raw output, resized to the inputs if it is a map of them. The file also stores what
callers need for preprocessing and for reading the output, see `metadata.py`.

Every file is run by its own runtime and compared with PyTorch before it gets its final name.
"""

from __future__ import annotations

import copy
import logging
import math
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
from .convert import convert_model, save
from .export_module import DynamicAxes, ExportModule, example_inputs
from .metadata import build_metadata
from .verify import Comparison, compare, find_dynamic_axes, load_runtime

TOLERANCE = 1e-3
"""Maximum difference from PyTorch, relative to the range of the channel."""

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Attributes:
        metadata: metadata of the file, see `metadata.py`.
        dynamic_axes: axes of the inputs that may vary.
        reasons: why the other axes may not, one sentence each.
        comparisons: comparisons with PyTorch, at two sizes if the size may vary.
    """

    metadata: dict[str, Any]
    dynamic_axes: DynamicAxes
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


def export(
    predictor: Predictor,
    path: str | Path,
    format: str,
    terms: list[str] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> ExportResult:
    """Export a network to a file, and compare the file with PyTorch.

    Args:
        predictor: predictor on the CPU; it is not modified.
        path: output file, with the suffix of the format. A file that differs from PyTorch is not kept.
        format: "onnx" or "torch-export".
        terms: license terms of data and weights for the metadata, one sentence each.
        progress: called with a phrase at the start of each stage, some of which take a minute.

    Raises:
        UserError: an unknown format, a wrong suffix, a missing package, a network that is random at inference or cannot
            be converted, or a file whose output differs from PyTorch's.
    """
    path = Path(path)
    check_export_options(format, path)
    with silence_torch():
        policy, field_types = predictor.task.inference, predictor.preprocessor.inputs
        if policy.reads_scenes:
            raise UserError(
                f"A model of {predictor.task.name} takes photos with cameras, for which there is no export."
            )
        module = ExportModule(copy.deepcopy(policy.network(predictor.model, policy.modes[0])), predictor.size)
        progress("running the network at several sizes")
        dynamic_axes, reasons = find_dynamic_axes(module, field_types, TOLERANCE)
        converted = convert_model(module, field_types, format, dynamic_axes, progress)
        dynamic_axes, reasons = converted.dynamic_axes, (*reasons, *converted.reasons)
        metadata = build_metadata(predictor, module, field_types, dynamic_axes, terms or [])
        with atomic_path(path) as aside:
            progress("writing the file and comparing its outputs with PyTorch's")
            save(converted, aside, json_text(metadata, ensure_ascii=False))
            run = load_runtime(aside, format)
            shapes = (
                (1, module.training_size),
                (3 if dynamic_axes.batch else 1, module.other_size if dynamic_axes.size else module.training_size),
            )
            comparisons = tuple(
                compare(module, run, example_inputs(field_types, batch, size, seed))
                for seed, (batch, size) in enumerate(shapes)
            )
            check_agreement(comparisons, format)
    return ExportResult(metadata, dynamic_axes, reasons, comparisons)


def check_export_options(format: str, path: Path) -> None:
    """Check format, suffix and packages before a model is loaded.

    Raises:
        UserError: an unknown format, a wrong suffix, or a missing package.
    """
    if format not in SUFFIXES:
        raise unknown_name("export format", format, SUFFIXES)
    if path.suffix != SUFFIXES[format]:
        raise UserError(f"--out is '{path}'; the suffix for {format} is {SUFFIXES[format]}.")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None] if format == "onnx" else []
    if missing:
        raise UserError(f"ONNX export needs {', '.join(missing)}: pip install {' '.join(missing)}.")


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
