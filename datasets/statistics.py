"""Statistics of a dataset: sizes, ranges, classes, and samples that two splits share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from .core.problems import sample_errors
from .dataset import Dataset, map_sizes
from .field_types import ClassLabel, Depth, FieldType, Flow, Image, Keypoints, Scalar, SegmentationMask
from .hand.hand_fields import Joints

BINS = 10
"""Bars of a histogram."""
LISTED = 20
"""Classes that are listed; the others are summed."""
VALUES = 10_000
"""Values of a map that its histogram takes, spread evenly."""


@dataclass
class SplitStatistics:
    """Counts of a split.

    Attributes:
        split, samples, counted: its name, its number of samples, and how many were read.
        sizes: number of samples by (height, width).
        fields: values by field: class indices, or numbers in the unit of the field.
        kinds: field types.
        names: names of the samples by the hash of their first image.
    """

    split: str
    samples: str
    counted: int
    kinds: dict[str, FieldType]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    fields: dict[str, list[np.ndarray]] = field(default_factory=dict)
    names: dict[bytes, list[str]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The counts as lines of text."""
        yield f"{self.split}: {self.samples} samples" + (f", {self.counted} read" if self.counted else "")
        if self.sizes:
            heights, widths = zip(*self.sizes, strict=True)
            (height, width), count = self.sizes.most_common(1)[0]
            span = f"{min(heights)} to {max(heights)} x {min(widths)} to {max(widths)}, most often ({count}) "
            yield f"  size (height x width): {span if len(self.sizes) > 1 else ''}{height}x{width}"
        for name, values in self.fields.items():
            kind, joined = self.kinds[name], np.concatenate([np.ravel(each) for each in values])
            if isinstance(kind, (ClassLabel, SegmentationMask)):
                yield f"  {name}: {kind}"
                yield from _class_lines(joined, kind)
            elif joined.size:
                yield f"  {name}: {joined.min():.4g} to {joined.max():.4g}, median {np.median(joined):.4g}{_unit(kind)}"
                yield from _histogram_lines(joined)
        repeated = [names for names in self.names.values() if len(names) > 1]
        if repeated:
            examples = ", ".join(" and ".join(each[:2]) for each in repeated[:3])
            yield f"  {len(repeated)} image(s) more than once: {examples}"


def count_split(dataset: Dataset, samples: int) -> SplitStatistics:
    """Count at most so many samples of a split, spread evenly; of an infinite one the first."""
    indices = dataset.spread(samples)
    counts = SplitStatistics(
        dataset.split, "endless" if dataset.infinite else f"{len(dataset):,}", len(indices), dict(dataset.fields)
    )
    for index in indices:
        with sample_errors(dataset.sample_name(index)):
            sample = dataset.read(index)
        for _, size in list(map_sizes(sample, dataset.fields).values())[:1]:
            counts.sizes[size] += 1
        for name, kind in dataset.fields.items():
            if name in sample and (values := _values(sample[name], kind)) is not None:
                counts.fields.setdefault(name, []).append(values)
        image = next((sample[name] for name, kind in dataset.fields.items() if isinstance(kind, Image)), None)
        if image is not None:
            digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
            counts.names.setdefault(digest, []).append(dataset.sample_name(index))
    return counts


def shared_samples(splits: Mapping[str, SplitStatistics]) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Pairs of splits that have equal images, with the names of the samples."""
    for (first, one), (second, other) in combinations(splits.items(), 2):
        if shared := sorted((one.names[key][0], other.names[key][0]) for key in one.names.keys() & other.names.keys()):
            yield first, second, shared


def _values(value: np.ndarray, kind: FieldType) -> np.ndarray | None:
    """What is counted of a value: at most `VALUES` numbers that are known; None for types without a distribution."""
    value = np.asarray(value)
    if isinstance(kind, (Keypoints, Joints)):
        return np.array([np.count_nonzero(value[..., 2] > 0)]) if isinstance(kind, Keypoints) else None
    if isinstance(kind, Flow):
        value = np.hypot(value[..., 0], value[..., 1])
    elif isinstance(kind, Image):
        value = value[..., :1] if value.ndim < 3 else value.mean(axis=-1)
    elif not isinstance(kind, (Depth, ClassLabel, SegmentationMask, Scalar)):
        return None
    flat = value.ravel()
    flat = flat[:: max(1, flat.size // VALUES)]
    return flat if flat.dtype.kind in "iub" else flat[np.isfinite(flat)]


def _unit(kind: FieldType) -> str:
    units = {Depth: " m", Flow: " px (length)", Image: " (mean of the channels)", Keypoints: " labeled joints"}
    return units.get(type(kind), "")


def _class_lines(indices: np.ndarray, kind: ClassLabel | SegmentationMask) -> Iterator[str]:
    counts = Counter(indices.tolist())
    total = max(1, counts.total())
    listed = [(name, counts.pop(index, 0)) for index, name in enumerate(kind.names[:LISTED])]
    unlabeled = counts.pop(kind.ignore, 0) if isinstance(kind, SegmentationMask) else 0
    for name, count in (*listed, (f"{len(kind.names) - LISTED} others", counts.total()), ("unlabeled", unlabeled)):
        if count or name in kind.names:
            yield f"    {name:<24} {100 * count / total:5.1f} %"


def _histogram_lines(values: np.ndarray) -> Iterator[str]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return
    counts, edges = np.histogram(values, BINS, (low, high))
    for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * round(40 * count / counts.max())
        yield f"    {start:>9.4g} to {end:<9.4g} {100 * count / len(values):5.1f} % {bar}"
