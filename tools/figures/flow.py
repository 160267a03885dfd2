"""Figures of docs/flow.md.

python tools/figures/flow.py scenes [CHECKPOINT]     scenes rendered from photos of scikit-image, to docs/flow.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from densevision import load
from densevision.datasets.core.drawing import hstack_images, vstack_images
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.formats.image import write_image
from densevision.datasets.rendering.chairs import draw_chairs
from densevision.tasks.flow.flow_field import FlowField

DOCS = Path(__file__).resolve().parents[2] / "docs"
PHOTOS = ("coffee", "astronaut", "chelsea", "rocket")
SCENES = (3, 8, 11, 15)
SIZE = (240, 320)


def scenes(checkpoint: str = "flow") -> None:
    """Write docs/flow.jpg, one row per scene: both images, ground truth, prediction, prediction as arrows."""
    from skimage import data

    predictor = load(checkpoint)
    photos = [np.ascontiguousarray(getattr(data, name)()) for name in PHOTOS]
    rows = []
    for number in SCENES:
        pair = draw_chairs(generator(0, 0, number, Purpose.TEST_SYNTHESIS), *SIZE, photos)
        prediction = predictor.predict(pair["first"], pair["second"])
        ground_truth = FlowField(pair["flow"], pair["first"])
        assert isinstance(prediction, FlowField)
        arrows = prediction.arrows()
        assert arrows is not None
        colored = [ground_truth.to_image(), prediction.to_image(ground_truth)]
        rows.append(hstack_images([pair["first"], pair["second"], *colored, arrows]))
        error = np.linalg.norm(prediction.vectors - pair["flow"], axis=-1).mean()
        print(f"scene {number}: {ground_truth.summary()}; mean error {error:.2f} px")
    figure = vstack_images(rows)
    write_image(DOCS / "flow.jpg", figure)


if __name__ == "__main__":
    if sys.argv[1:2] != ["scenes"]:
        sys.exit(__doc__)
    scenes(*sys.argv[2:])
