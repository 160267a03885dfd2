"""Statistics of splits: sizes, values, classes, and images that are in a split twice or in two."""

from __future__ import annotations

import numpy as np

from densevision.datasets.field_types import ClassLabel, Depth, FieldType, Image, SegmentationMask
from densevision.datasets.samples import Samples
from densevision.datasets.statistics import count_split, shared_samples

FIELDS: dict[str, FieldType] = {
    "image": Image(),
    "depth": Depth(),
    "category": ClassLabel(("cat", "dog")),
    "labels": SegmentationMask(("road", "sky")),
}


def sample(value: int, size: tuple[int, int] = (4, 6), category: int = 0):
    labels = np.zeros(size, np.uint8)
    labels[0], labels[1] = 1, 255
    depth = np.full(size, float(value), np.float32)
    depth[0, 0] = np.nan
    return {"image": np.full((*size, 3), value, np.uint8), "depth": depth, "category": category, "labels": labels}


def test_sizes_values_classes_and_repeated_images_are_counted():
    split = Samples([sample(1), sample(3, (8, 6), 1), sample(3, (8, 6), 1)], FIELDS)
    lines = list(count_split(split, 10).lines())
    text = "\n".join(lines)
    assert lines[0] == "train: 3 samples, 3 read"
    assert "size (height x width): 4 to 8 x 6 to 6, most often (2) 8x6" in text
    assert "depth: 1 to 3, median 3 m" in text
    assert "cat                       33.3 %" in text and "dog                       66.7 %" in text
    assert "sky                       15.0 %" in text and "unlabeled                 15.0 %" in text
    assert lines[-1] == "  1 image(s) more than once: train/1 and train/2"


def test_a_limit_spreads_over_the_split():
    assert list(count_split(Samples([sample(n + 1) for n in range(9)], FIELDS), 3).lines())[2].startswith(
        "  image: 1 to 7"
    )


def test_images_of_two_splits_are_found_whatever_their_names():
    splits = {
        "train": count_split(Samples([sample(1), sample(2)], FIELDS), 9),
        "test": count_split(Samples([sample(5), sample(2)], FIELDS, "test"), 9),
    }
    assert list(shared_samples(splits)) == [("train", "test", [("train/1", "test/1")])]
