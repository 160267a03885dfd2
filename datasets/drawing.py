"""How values become pictures for eyes: (H, W, 3) uint8 RGB. The kinds of `fields` call these pens."""

from __future__ import annotations

import math
from collections.abc import Collection

import cv2
import numpy as np

Pairs = Collection[tuple[int, int]]

RANGE_SAMPLES = 1_000_000
"""Pixels that suffice for the range of a picture's depths."""


def draw_depth(depth: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Near is bright: the logarithm of depth through the inferno map, unknown pixels black.

    Args:
        depth: (H, W) metres, nan where unknown.
        reference: depths whose range is used, the truth's where there is one.
    """
    # A range of the logarithms needs no more than a million of them; a telephone's picture has twelve.
    step = max(1, math.isqrt(reference.size // RANGE_SAMPLES))
    sample = reference[::step, ::step]
    known = sample[np.isfinite(sample) & (sample > 0)]
    near, far = np.log(np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(depth, dtype=np.float32)
    np.subtract(np.float32(far), share, out=share)
    share *= np.float32(255 / max(far - near, 1e-3))
    # fmax and fmin take the number where the other is nan.
    np.fmin(np.fmax(share, 0, out=share), 255, out=share)
    picture = cv2.applyColorMap(np.rint(share, out=share).astype(np.uint8), cv2.COLORMAP_INFERNO)
    unknown = ~np.isfinite(depth)
    if unknown.any():
        picture[unknown] = 0
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def draw_flow(flow: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The colour wheel of Baker et al. (IJCV 2011), scaled by the reference's largest known motion, unknown black.

    Args:
        flow: (H, W, 2) pixels, nan where unknown.
        reference: motions whose range is used, the truth's where there is one.
    """
    known = np.isfinite(flow).all(axis=-1, keepdims=True)
    radius = np.hypot(reference[..., 0], reference[..., 1])
    largest = np.nanmax(np.where(np.isfinite(radius), radius, 0)) + 1e-6
    u, v = np.moveaxis(np.where(known, flow, 0) / largest, -1, 0)
    length, wheel = np.hypot(u, v), _colour_wheel()
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    lower = np.floor(place).astype(int)
    share = (place - lower)[..., None]
    colour = (1 - share) * wheel[lower] + share * wheel[(lower + 1) % len(wheel)]
    inside = length[..., None] <= 1
    colour = np.where(inside, 1 - length[..., None] * (1 - colour), colour * 0.75)
    return np.where(known, np.floor(255 * colour), 0).astype(np.uint8)


def draw_arrows(picture: np.ndarray, flow: np.ndarray, step: int) -> np.ndarray:
    """Motion as arrows on a grid over a dimmed copy of a picture, in true length and the colours of `draw_flow`.

    An arrow leads from a pixel to where it goes, perhaps out of the picture. A motion below one pixel is a dot; where
    it is unknown there is nothing.

    Args:
        picture: (H, W, 3) uint8.
        flow: (H, W, 2) pixels, nan where unknown.
        step: pixels between arrows, at least 1.
    """
    height, width = flow.shape[:2]
    canvas, colours = picture // 3, draw_flow(flow, flow)
    thickness = max(1, round(min(height, width) / 300))
    for y in range(step // 2, height, step):
        for x in range(step // 2, width, step):
            vector, colour = flow[y, x].astype(float), colours[y, x].tolist()
            length = float(np.hypot(*vector))
            if not np.isfinite(length):
                continue
            if length < 1:
                cv2.circle(canvas, (x, y), thickness, colour, -1, cv2.LINE_AA)
                continue
            # What ends far outside need not be drawn to its end, which may lie beyond OpenCV's coordinates.
            vector *= min(1.0, 2 * (height + width) / length)
            start, end = ((round(16 * px), round(16 * py)) for px, py in ((x, y), (x + vector[0], y + vector[1])))
            tip = min(0.4, (2 + 2 * thickness) / length)
            cv2.arrowedLine(canvas, start, end, colour, thickness, cv2.LINE_AA, shift=4, tipLength=tip)
    return canvas


def _colour_wheel() -> np.ndarray:
    """(55, 3) in [0, 1]: the six ramps RY 15, YG 6, GC 4, CB 11, BM 13, MR 6."""
    ramps = ((15, 0, 1, 1), (6, 1, 0, -1), (4, 1, 2, 1), (11, 2, 1, -1), (13, 2, 0, 1), (6, 0, 2, -1))
    parts = []
    for steps, full, changing, direction in ramps:
        part = np.zeros((steps, 3))
        ramp = np.floor(255 * np.arange(steps) / steps) / 255
        part[:, full], part[:, changing] = 1, ramp if direction > 0 else 1 - ramp
        parts.append(part)
    return np.concatenate(parts)


def draw_labels(labels: np.ndarray, classes: int, ignore: int) -> np.ndarray:
    """Hues by the golden angle, so that neighbouring labels differ; ignored pixels black.

    Args:
        labels: (H, W) integers.
        classes: how many there are.
        ignore: the label of pixels of which nothing is said.
    """
    every = np.arange(max(classes, int(labels.max()) + 1, ignore + 1))
    shade = np.stack([every * 137.508 % 180, np.full_like(every, 170), 130 + every * 57 % 120], -1)
    palette = cv2.cvtColor(shade[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]
    palette[ignore] = 0
    return palette[labels]


LEFT, RIGHT, MIDDLE, JOINT, RIM = (255, 140, 0), (0, 160, 255), (255, 255, 255), (255, 255, 0), (20, 20, 20)
"""Colours of a skeleton."""


def draw_skeleton(picture: np.ndarray, joints: np.ndarray, edges: Pairs, pairs: Pairs) -> np.ndarray:
    """A skeleton over a copy of a picture: left limbs warm, right limbs cold, the middle white, joints yellow.

    What is occluded, and every limb that leads to it, is half transparent. A dark rim sets all of it off any ground.

    Args:
        picture: (H, W, 3) uint8.
        joints: (J, 3): x, y in pixels, and 0 where unlabelled, 1 where occluded, 2 where visible.
        edges: the joints that a limb connects.
        pairs: left joints with their right ones.
    """
    lefts, rights = ({pair[side] for pair in pairs} for side in (0, 1))
    # A sixteenth of a pixel, and nothing beyond OpenCV's coordinates.
    places = np.round(16 * np.nan_to_num(joints[:, :2]).clip(-1e6, 1e6)).astype(int).tolist()
    width = max(1, round(min(picture.shape[:2]) / 120))
    strokes = []
    for a, b in edges:
        left, right = bool({a, b} & lefts), bool({a, b} & rights)
        colour = MIDDLE if left == right else LEFT if left else RIGHT
        strokes.append((min(joints[a, 2], joints[b, 2]), places[a], places[b], colour, width))
    strokes += [(flag, place, place, JOINT, 2 * width + 1) for flag, place in zip(joints[:, 2], places, strict=True)]
    drawn = picture.copy()
    for flag in (1, 2):
        ground, chosen = drawn.copy(), [stroke[1:] for stroke in strokes if stroke[0] == flag]
        for start, end, _, thickness in chosen:
            cv2.line(drawn, start, end, RIM, thickness + 2, cv2.LINE_AA, shift=4)
        for start, end, colour, thickness in chosen:
            cv2.line(drawn, start, end, colour, thickness, cv2.LINE_AA, shift=4)
        if flag == 1:
            drawn = cv2.addWeighted(ground, 0.5, drawn, 0.5, 0)
    return drawn
