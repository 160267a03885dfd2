"""Pointing game: is the maximum of a memorability map where the recognition game put what is remembered?

    python tools/reproduce/pointing.py [CHECKPOINT] [IMAGES]

Zhang et al. 2016 (arXiv:1608.00507): a map hits if its maximum is at most a few pixels away from the cause. The cause
of an unseen scene is exact: the part without which the simulated players would forget it most. Hits, with their 95 %
interval (Wilson), are beside chance (a random point) and a map whose maximum is always the center. Scenes without such
a part are left out; IMAGES (260 if not stated) are counted. CHECKPOINT is the packaged one of this game if not stated.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from scipy.stats import binomtest

from densevision import load, visualize
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.rendering.recognition_game import find_cause, inside_circle, random_scene, render_scene
from densevision.tasks.crops import DENSE_CROPS
from densevision.tasks.inference import Predictor

SIZE = (64, 64)
TOLERANCE = 3
"""Pixels of 64, as 15 of about 320 in the paper."""


def maps(predictor: Predictor, image: np.ndarray) -> dict[str, np.ndarray]:
    """(H, W) maps of an image by method; nan where a method says nothing."""
    found: dict[str, np.ndarray] = {}
    for mode in DENSE_CROPS:
        prediction: Any = predictor.predict(image, mode=mode)
        found[f"--input-mode {mode}"] = prediction.map
    for baseline in ("blurred", "gray"):
        (pixels,) = visualize.occlusion(predictor, image, "memorability", patch=12, stride=4, baseline=baseline).pixels
        found[f"occlusion, {baseline} patch"] = cv2.resize(pixels, SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    center = np.zeros(SIZE)
    center[SIZE[0] // 2, SIZE[1] // 2] = 1
    return {**found, "always the center": center}


def main(checkpoint: str = "resnet20_recognition_game", images: str = "260") -> None:
    predictor = load(checkpoint, "cpu", "off")
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    chance: dict[str, list[float]] = defaultdict(list)
    index = counted = 0
    while counted < int(images):
        scene = random_scene(generator(0, 0, index, Purpose.TEST_SYNTHESIS))
        index += 1
        cause = find_cause(scene)
        if cause is None:
            continue
        counted += 1
        grown = (*cause[:2], cause[2] + TOLERANCE / min(SIZE))
        inside = inside_circle(grown, SIZE)
        kinds = ("all", "figure" if cause == scene.figure else "object")
        for kind in kinds:
            chance[kind].append(float(inside.mean()))
        for name, values in maps(predictor, render_scene(scene, SIZE)).items():
            hit = bool(inside.flat[np.nanargmax(values)])
            for kind in kinds:
                hits[kind][name].append(hit)
    for kind in ("all", "figure", "object"):
        print(f"cause: {kind}, {len(chance[kind])} images, chance {np.mean(chance[kind]):.3f}")
        for name, each in hits[kind].items():
            interval = binomtest(sum(each), len(each)).proportion_ci(method="wilson")
            print(f"    {name:28} {np.mean(each):.3f} ({interval.low:.3f} to {interval.high:.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
