"""Figure of docs/memorability.md: memorability maps of six unseen scenes.

python tools/figures/memorability.py [OUT]      image, occlusion and dense maps, to docs/memorability-maps.jpg

The first three scenes with a figure and the first three whose cause is an object; a circle marks the exact cause.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from densevision import load, visualize
from densevision.datasets.core.drawing import add_caption, hstack_images, overlay_diverging, vstack_images
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.formats.image import write_image
from densevision.datasets.rendering.recognition_game import find_cause, random_scene, render_scene
from densevision.tasks.crops import DENSE_CROPS
from densevision.tasks.memorability.memorability_score import MemorabilityScore

OUT = Path(__file__).resolve().parents[2] / "docs" / "memorability-maps.jpg"
SIDE = 176
EACH = 3


def column(index: int) -> tuple[bool, np.ndarray] | None:
    """Whether the cause of a test scene is a figure, and its image above its maps; None for a scene without a cause."""
    scene = random_scene(generator(0, 0, index, Purpose.TEST_SYNTHESIS))
    cause = find_cause(scene)
    if cause is None:
        return None
    predictor = load("resnet20_recognition_game", "cpu", "off")
    image = render_scene(scene, (SIDE, SIDE))
    covered = visualize.occlusion(predictor, image, "memorability", patch=12, stride=2, baseline="blurred").pixels[0]
    score, *dense = (predictor.predict(image, mode=mode) for mode in ("center-crop", *DENSE_CROPS))
    maps = {"occlusion": cv2.resize(covered, (SIDE, SIDE))}
    for mode, prediction in zip(DENSE_CROPS, dense, strict=True):
        assert isinstance(prediction, MemorabilityScore) and prediction.map is not None
        maps[mode] = prediction.map - prediction.map.mean()
    cells = {score.summary(): image, **{name: overlay_diverging(image, values) for name, values in maps.items()}}
    x, y, radius = cause
    center = (round((SIDE - 1) / 2 + SIDE * x), round((SIDE - 1) / 2 + SIDE * y))
    for cell in cells.values():
        cv2.circle(cell, center, round(SIDE * radius) + 3, (0, 0, 0), 1, cv2.LINE_AA)
    return cause == scene.figure, vstack_images([add_caption(cell, name) for name, cell in cells.items()])


def main(out: str = str(OUT)) -> None:
    """Write the figure, one column per scene."""
    found: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for index in count():
        made = column(index)
        if made is not None and len(found[made[0]]) < EACH:
            found[made[0]].append(made[1])
        if all(len(columns) == EACH for columns in found.values()):
            break
    write_image(Path(out), hstack_images(found[True] + found[False]))


if __name__ == "__main__":
    main(*sys.argv[1:])
