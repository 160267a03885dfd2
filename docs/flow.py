"""The pictures of docs/flow.md.

python docs/flow.py scenes CHECKPOINT     scenes drawn with scikit-image's photographs: truth and answer
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from densevision import load
from densevision.datasets.formats.picture import write_picture
from densevision.datasets.randomness import Purpose, generator
from densevision.datasets.worlds.chairs import draw_chairs
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.sheet import GAP, tile

DOCS = Path(__file__).parent
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket")
SCENES = (3, 8, 11, 15)
SIZE = (240, 320)


def scenes(checkpoint: str = "flow") -> None:
    """Write docs/flow.png: both pictures, the true motion, the answer, and the answer as arrows."""
    from skimage import data

    predictor = load(checkpoint)
    pictures = [np.ascontiguousarray(getattr(data, name)()) for name in PHOTOGRAPHS]
    rows = []
    for number in SCENES:
        pair = draw_chairs(generator(0, 0, number, Purpose.TEST_WORLD), *SIZE, pictures)
        answer = predictor.predict(pair["first"], pair["second"])
        truth = FlowField(pair["flow"], pair["first"])
        assert isinstance(answer, FlowField)
        arrows = answer.arrows()
        assert arrows is not None
        rows.append(tile([pair["first"], pair["second"], truth.picture(), answer.picture(truth), arrows]))
        error = np.linalg.norm(answer.vectors - pair["flow"], axis=-1).mean()
        print(f"scene {number}: {truth.brief()}; mean error {error:.2f} px")
    sheet = np.concatenate([np.pad(row, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for row in rows])[:-GAP]
    write_picture(DOCS / "flow.jpg", sheet)


if __name__ == "__main__":
    {"scenes": scenes}[sys.argv[1]](*sys.argv[2:])
