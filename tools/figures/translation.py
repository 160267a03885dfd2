"""Tables and figures of docs/translation.md.

python tools/figures/translation.py discriminators            receptive fields and parameters of PatchGANs, as Markdown
python tools/figures/translation.py images CHECKPOINT OUT [COUNT [DATA ROOT]]
                                                              source, prediction, ground truth of test samples
python tools/figures/translation.py street CHECKPOINT OUT     a label map of a street and the image generated from it
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from densevision import load
from densevision.apps.web.examples import street_labels
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.drawing import hstack_images, vstack_images
from densevision.datasets.field_types import SegmentationMask
from densevision.datasets.formats.image import write_image
from densevision.tasks.training.optimizers import count_parameters
from densevision.tasks.translation.patchgan import MAX_LAYERS, PatchGAN

COLUMNS = 4
"""Samples per row."""


def discriminators() -> None:
    """Print the table of discriminators; the receptive fields are computed from the graph of each network."""
    columns = ("`--discriminator-layers`", "receptive field, pixels", "parameters, 6 channels", "with all biases")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for layers in range(MAX_LAYERS + 1):
        usual, biased = PatchGAN(6, layers), PatchGAN(6, layers, use_bias=True)
        parameters = f"{count_parameters(usual):,} | {count_parameters(biased):,}"
        print(f"| {layers} | {usual.receptive_field} | {parameters} |")


def images(checkpoint: str, out: str, count: str = "8", data: str | None = None, root: str | None = None) -> None:
    """Write rows of `COLUMNS` samples, evenly spaced over the test split: source, prediction, ground truth."""
    predictor = load(checkpoint)
    name = data or predictor.header["data"]["name"]
    test = open_dataset(name, root, dataset_class(name).splits[-1]).with_size(predictor.size)
    (source, field_type), *_ = predictor.task.inputs(test.fields).items()
    parts: list[np.ndarray] = []
    for number in range(int(count)):
        sample = test.read(number * len(test) // int(count))
        ground_truth = predictor.task.ground_truth(sample, test.fields)
        prediction = predictor.predict_sample(sample)
        parts += [field_type.colorize(sample[source]), prediction.to_image(), ground_truth.to_image()]
    width = 3 * COLUMNS
    rows = [hstack_images(parts[start : start + width]) for start in range(0, len(parts), width)]
    write_image(Path(out), vstack_images(rows))


def street(checkpoint: str, out: str) -> None:
    """Write a label map beside the generated image. The labels are drawn here: no frame of a dataset appears."""
    predictor = load(checkpoint)
    (field_type,) = predictor.task.inputs(predictor.fields).values()
    assert isinstance(field_type, SegmentationMask)
    labels = street_labels(field_type, (360, 480))
    write_image(Path(out), hstack_images([field_type.colorize(labels), predictor.predict(labels).to_image()]))


if __name__ == "__main__":
    commands = {"discriminators": discriminators, "images": images, "street": street}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
