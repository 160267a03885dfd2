"""The tables and pictures of docs/translation.md.

python docs/translation.py discriminators                     what every PatchGAN sees, and its parameters, as Markdown
python docs/translation.py pictures CHECKPOINT OUT [COUNT [DATA ROOT]]
                                                              source, answer and truth of unseen samples to OUT
python docs/translation.py street CHECKPOINT OUT              labels of a street drawn here, and its picture, to OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from densevision import load
from densevision.apps.web.examples import street_labels
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


def street(checkpoint: str, out: str) -> None:
    """The labels are drawn by this package, so that no frame of a set is shown."""
    predictor = load(checkpoint)
    (kind,) = predictor.task.inputs(predictor.fields).values()
    assert isinstance(kind, Labels)
    labels = street_labels(kind, (360, 480))
    write_picture(Path(out), tile([kind.draw(labels), predictor.predict(labels).picture()]))


if __name__ == "__main__":
    {"discriminators": discriminators, "pictures": pictures, "street": street}[sys.argv[1]](*sys.argv[2:])
