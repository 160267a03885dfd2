"""The pictures and the classical scores of docs/flow.md.

python docs/flow.py scenes CHECKPOINT                 scenes drawn with scikit-image's photographs: truth and answer
python docs/flow.py classical DATA [ROOT [SPLIT]]     zero, Farnebäck and DIS on a set, as Markdown
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densevision import load
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.dataset import Sample
from densevision.datasets.formats.picture import write_picture
from densevision.datasets.randomness import Purpose, generator
from densevision.datasets.worlds.chairs import draw_chairs
from densevision.tasks import create_task
from densevision.tasks.evaluation import evaluate
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.sheet import GAP, tile

DOCS = Path(__file__).parent
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket")
SCENES = (3, 8, 11, 15)
SIZE = (240, 320)


def farneback(sample: Sample) -> np.ndarray:
    """OpenCV's Farnebäck (2003) with wide windows, for motion of tens of pixels."""
    first, second = _grey(sample)
    flow: Any = None
    return cv2.calcOpticalFlowFarneback(first, second, flow, 0.5, 5, 21, 5, 7, 1.5, 0)


def dis(sample: Sample) -> np.ndarray:
    """OpenCV's dense inverse search (Kroeger et al. 2016), preset medium."""
    flow: Any = None
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*_grey(sample), flow)


def _grey(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    first, second = (cv2.cvtColor(sample[name], cv2.COLOR_RGB2GRAY) for name in ("first", "second"))
    return first, second


METHODS: dict[str, Callable[[Sample], np.ndarray]] = {
    "zero": lambda sample: np.zeros_like(sample["flow"]),
    "Farnebäck": farneback,
    "DIS, medium": dis,
}


def classical(data: str, root: str | None = None, split: str | None = None) -> None:
    """Print what classical methods score under the set's protocol."""
    task = create_task("flow")
    dataset = open_dataset(data, root, split or dataset_class(data).splits[-1])
    protocol = task.default_protocol(data, {})
    print(f"{data}, split {dataset.split}, {len(dataset)} pairs, protocol {protocol}\n")
    print("| method | epe | fl_all |\n| --- | --- | --- |")
    for name, method in METHODS.items():
        scores = evaluate(
            task, lambda sample, method=method: FlowField(method(sample).astype(np.float32)), dataset, protocol
        ).metrics
        print(f"| {name} | {scores['epe']:.2f} px | {scores['fl_all']:.1f} % |")


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
    {"classical": classical, "scenes": scenes}[sys.argv[1]](*sys.argv[2:])
