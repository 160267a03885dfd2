"""Benchmark of batched prediction: images/s of every packaged network at batch sizes 1, 4, 8 and 16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..datasets.dataset import Sample
from ..datasets.field_types import FieldType, SegmentationMask
from ..errors import UserError
from ..tasks import list_tasks
from ..tasks.inference import Predictor, load, packaged_checkpoint
from ..tasks.preprocessing import ImageInputs
from .measure import Figure, Setting, Stopwatch, alternate, fixed_threads, repeat

BATCH_SIZES = (4, 8, 16)
"""Batch sizes that are compared with one image at a time."""
IMAGES = 16
ROUNDS = 3


def batch_figures(setting: Setting) -> tuple[list[Figure], dict[str, float]]:
    """Measure all packaged networks on images of their training size, in fp32.

    Returns:
        A figure per network and batch size; and for each network the maximum difference between batched outputs and
        those one by one, relative to the largest output.
    """
    figures, differences = [], {}
    for task in list_tasks():
        try:
            checkpoint = packaged_checkpoint(task)
        except UserError:
            continue
        found, differences[task] = measure_network(load(checkpoint, str(setting.device), "off"), checkpoint, setting)
        figures += found
    return figures, differences


def measure_network(predictor: Predictor, checkpoint: Path, setting: Setting) -> tuple[list[Figure], float]:
    """Figures of one network, and the maximum difference of its outputs."""
    height, width = predictor.size
    preprocessor = predictor.preprocessor
    samples = [example_sample(preprocessor.inputs, seed, predictor.size) for seed in range(IMAGES)]
    inputs = [preprocessor.prepare(ImageInputs(sample), predictor.model) for sample in samples]
    watch, rounds = Stopwatch(setting.device), setting.rounds or ROUNDS
    shapes = f"{IMAGES} x {height}x{width}"

    def run(batch_size: int) -> list[Tensor]:
        return [
            output
            for start in range(0, IMAGES, batch_size)
            for output in predictor.forward(inputs[start : start + batch_size], batch_size)
        ]

    with fixed_threads(setting.threads):
        singly = run(1)
        if not predictor.model.batchable:
            seconds = repeat(watch.as_round(lambda: run(1)), rounds)
            return [Figure.from_rate(f"{checkpoint.stem}, not batchable", shapes, "batch 1", seconds, IMAGES)], 0.0
        figures, difference = [], 0.0
        for size in BATCH_SIZES:
            difference = max(difference, largest_difference(singly, run(size)))
            pairs = alternate(watch.as_round(lambda size=size: run(size)), watch.as_round(lambda: run(1)), rounds, 0)
            figures.append(Figure.from_pairs(checkpoint.stem, shapes, f"batch {size}", "batch 1", pairs, IMAGES))
    return figures, difference


def example_sample(fields: dict[str, FieldType], seed: int, size: tuple[int, int]) -> Sample:
    """Random images (H, W, C) uint8 and label maps (H, W) of a size."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, len(kind.names), size)
        if isinstance(kind, SegmentationMask)
        else rng.integers(0, 256, (*size, kind.input_channels), dtype=np.uint8)
        for name, kind in fields.items()
    }


def largest_difference(expected: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """Maximum absolute difference, relative to the largest absolute value of each output."""
    return max(
        float((one - other).abs().max() / other.abs().max().clamp_min(1e-12))
        for one, other in zip(outputs, expected, strict=True)
    )
