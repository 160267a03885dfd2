"""A style image for style transfer that is generated here and free of rights: strokes around lights in a night sky."""

from __future__ import annotations

import cv2
import numpy as np

NIGHT = ((18, 32, 92), (30, 62, 140), (52, 104, 176), (96, 150, 200), (20, 50, 70))
LIGHTS = ((245, 214, 86), (250, 236, 150), (232, 150, 40), (255, 250, 220))
WHIRLS = 7
STROKES = 9000


def painting(side: int = 512, seed: int = 0) -> np.ndarray:
    """The painting, (side, side, 3) uint8: strokes of one color each, along a flow that turns around every light."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    flow = np.stack([np.ones((side, side)), 0.35 * np.sin(columns / 60)])
    bright = np.zeros((side, side))
    for x, y in rng.uniform(0, side, (WHIRLS, 2)):
        across, down = columns - x, rows - y
        far = np.hypot(across, down)
        flow += 2.5 * np.exp(-((far / 70) ** 2)) * np.stack([-down, across]) / (far + 1)
        bright += np.exp(-((far / 45) ** 2))
    flow /= np.hypot(*flow)
    canvas = np.full((side, side, 3), (20, 36, 90), np.uint8)
    for _ in range(STROKES):
        place = rng.uniform(0, side, 2)
        colors = LIGHTS if rng.uniform() < bright[int(place[1]), int(place[0])] else NIGHT
        color = np.clip(colors[rng.integers(len(colors))] + rng.normal(0, 12, 3), 0, 255)
        points = []
        for _ in range(rng.integers(5, 10)):
            points.append(place)
            column, row = place.astype(int).clip(0, side - 1)
            place = place + 3 * flow[:, row, column]
        # OpenCV takes coordinates in sixteenths of a pixel.
        line = np.round(np.array(points) * 16).astype(np.int32)
        cv2.polylines(canvas, [line], False, color.tolist(), int(rng.integers(2, 5)), cv2.LINE_AA, 4)
    return canvas
