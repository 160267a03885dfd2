"""The tables and pictures of docs/translation.md.

python docs/translation.py discriminators                     what every PatchGAN sees, and its parameters, as Markdown
python docs/translation.py pictures CHECKPOINT OUT [COUNT [DATA ROOT]]
                                                              source, answer and truth of unseen samples to OUT
python docs/translation.py street CHECKPOINT OUT              labels of a street drawn here, and its picture, to OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from densevision import load
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.fields import Labels
from densevision.datasets.formats.picture import write_picture
from densevision.tasks.sheet import GAP, tile
from densevision.tasks.training.run import count as parameters
from densevision.tasks.translation.patchgan import MOST_LAYERS, PatchGAN

COLUMNS = 4
"""Samples side by side."""


def discriminators() -> None:
    """Receptive fields come from the graph."""
    print("| `--patches` | sees, pixels | parameters, 6 channels | all biases |\n| --- | --- | --- | --- |")
    for layers in range(MOST_LAYERS + 1):
        usual, biased = PatchGAN(6, layers), PatchGAN(6, layers, biased=True)
        print(f"| {layers} | {usual.receptive_field} | {parameters(usual):,} | {parameters(biased):,} |")


def pictures(checkpoint: str, out: str, count: str = "8", data: str | None = None, root: str | None = None) -> None:
    """Rows of `COLUMNS` samples, evenly taken from the split: what went in, what was made of it, what was true."""
    predictor = load(checkpoint)
    name = data or predictor.header["data"]["name"]
    test = open_dataset(name, root, dataset_class(name).splits[-1]).at(predictor.size)
    (source, kind), *_ = predictor.task.inputs(test.fields).items()
    rows = []
    for number in range(int(count)):
        sample = test.read(number * len(test) // int(count))
        answer = predictor.answer(sample)
        rows.append([kind.draw(sample[source]), answer.picture(), predictor.task.truth(sample, test.fields).picture()])
    width = 3 * COLUMNS
    flat = [picture for row in rows for picture in row]
    lines = [tile(flat[start : start + width]) for start in range(0, len(flat), width)]
    write_picture(
        Path(out), np.concatenate([np.pad(line, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for line in lines])
    )


STREET = (
    # Class and polygon, x and y in shares of the picture, the farthest first.
    ("sky", ((0, 0), (1, 0), (1, 1), (0, 1))),
    ("building", ((0, 0.02), (0.2, 0.1), (0.43, 0.36), (0.43, 0.58), (0, 0.8))),
    ("building", ((1, 0), (0.84, 0.14), (0.84, 0.6), (1, 0.7))),
    (
        "tree",
        ((0.55, 0.5), (0.56, 0.34), (0.64, 0.2), (0.74, 0.1), (0.86, 0.12), (0.88, 0.4), (0.86, 0.6)),
    ),
    ("fence", ((0.6, 0.53), (0.9, 0.56), (0.9, 0.66), (0.6, 0.58))),
    ("road", ((0.44, 0.54), (0.58, 0.54), (1, 0.84), (1, 1), (0, 1), (0, 0.92))),
    ("pavement", ((0, 0.76), (0.43, 0.55), (0.45, 0.55), (0, 0.93))),
    ("pavement", ((0.58, 0.54), (1, 0.68), (1, 0.85))),
    ("pole", ((0.3, 0.2), (0.312, 0.2), (0.312, 0.68), (0.3, 0.68))),
    ("sign", ((0.28, 0.22), (0.33, 0.22), (0.33, 0.28), (0.28, 0.28))),
    ("pedestrian", ((0.2, 0.5), (0.235, 0.5), (0.24, 0.76), (0.195, 0.76))),
    ("car", ((0.48, 0.52), (0.54, 0.52), (0.55, 0.58), (0.47, 0.58))),
    ("car", ((0.62, 0.66), (0.66, 0.57), (0.78, 0.57), (0.83, 0.66), (0.84, 0.75), (0.61, 0.75))),
)
"""What a town may look like from behind a windscreen."""


def street(checkpoint: str, out: str) -> None:
    """The labels are this file's own, so that no frame of a set is shown."""
    predictor = load(checkpoint)
    (kind,) = predictor.task.inputs(predictor.fields).values()
    assert isinstance(kind, Labels)
    height, width = 360, 480
    labels = np.full((height, width), kind.ignore, np.uint8)
    for name, corners in STREET:
        polygon = np.round(np.array(corners) * (width - 1, height - 1)).astype(np.int32)
        cv2.fillPoly(labels, [polygon], kind.names.index(name))
    write_picture(Path(out), tile([kind.draw(labels), predictor.predict(labels).picture()]))


if __name__ == "__main__":
    {"discriminators": discriminators, "pictures": pictures, "street": street}[sys.argv[1]](*sys.argv[2:])
