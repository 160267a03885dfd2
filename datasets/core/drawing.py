"""Drawing, as (H, W, 3) uint8 RGB: depth, flow, labels and skeletons, called by the field types; signed maps; rows,
columns, cells and grids of images, with captions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import cv2
import numpy as np

from .geometry import row_strips

Pairs = Collection[tuple[int, int]]

RANGE_SAMPLES = 1_000_000
"""Maximum number of pixels from which the range of the depths is computed."""
PERCENTILE = 99.0
"""As in Smilkov et al. 2017, section 3.2."""


DEPTH_COLORS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1].copy()
"""(256, 3) uint8 RGB: colors of the levels of `depth_levels`."""


def draw_depth(depth: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Visualize depth: its logarithm in the inferno colormap, near is bright, unknown pixels are black.

    Args:
        depth: (H, W) meters, nan where unknown.
        reference: depth map whose range (percentiles 1 to 99) sets the colors: the ground truth, if there is one.
    """
    levels = depth_levels(depth, reference)
    image = np.empty((*depth.shape, 3), np.uint8)
    for rows in row_strips(depth):
        image[rows] = cv2.applyColorMap(levels[rows], DEPTH_COLORS.reshape(256, 1, 3))
        unknown = ~np.isfinite(depth[rows])
        if unknown.any():
            image[rows][unknown] = 0
    return image


def depth_levels(depth: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Indices of `DEPTH_COLORS` for depth, (H, W) uint8; without meaning where it is unknown. Arguments as above."""
    # A million values suffice for the range; images of phones have twelve million pixels.
    step = max(1, math.isqrt(reference.size // RANGE_SAMPLES))
    sample = reference[::step, ::step]
    known = sample[np.isfinite(sample) & (sample > 0)]
    near, far = np.log(np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)
    levels = np.empty(depth.shape, np.uint8)
    for rows in row_strips(depth):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.log(depth[rows], dtype=np.float32)
            np.subtract(np.float32(far), share, out=share)
            share *= np.float32(255 / max(far - near, 1e-3))
            # fmax and fmin return the number if the other operand is nan.
            np.fmin(np.fmax(share, 0, out=share), 255, out=share)
            levels[rows] = np.rint(share, out=share)
    return levels


def draw_flow(flow: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Visualize flow with the color wheel of Baker et al. (IJCV 2011); unknown pixels are black.

    Args:
        flow: (H, W, 2) pixels, nan where unknown.
        reference: flow whose largest known motion sets the scale: the ground truth, if there is one.
    """
    known = np.isfinite(flow).all(axis=-1, keepdims=True)
    radius = np.hypot(reference[..., 0], reference[..., 1])
    largest = np.nanmax(np.where(np.isfinite(radius), radius, 0)) + 1e-6
    u, v = np.moveaxis(np.where(known, flow, 0) / largest, -1, 0)
    length, wheel = np.hypot(u, v), _color_wheel()
    position = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    lower = np.floor(position).astype(int)
    share = (position - lower)[..., None]
    color = (1 - share) * wheel[lower] + share * wheel[(lower + 1) % len(wheel)]
    inside = length[..., None] <= 1
    color = np.where(inside, 1 - length[..., None] * (1 - color), color * 0.75)
    return np.where(known, np.floor(255 * color), 0).astype(np.uint8)


def draw_arrows(image: np.ndarray, flow: np.ndarray, step: int) -> np.ndarray:
    """Draw flow as arrows on a grid over a darkened copy of an image, in true length and the colors of `draw_flow`.

    An arrow starts at a pixel and ends where the pixel moves to, possibly outside the image. Motion below one pixel is
    drawn as a dot, unknown motion not at all.

    Args:
        image: (H, W, 3) uint8.
        flow: (H, W, 2) pixels, nan where unknown.
        step: pixels between arrows, at least 1.
    """
    height, width = flow.shape[:2]
    canvas, colors = image // 3, draw_flow(flow, flow)
    thickness = max(1, round(min(height, width) / 300))
    for y in range(step // 2, height, step):
        for x in range(step // 2, width, step):
            vector, color = flow[y, x].astype(float), colors[y, x].tolist()
            length = float(np.hypot(*vector))
            if not np.isfinite(length):
                continue
            if length < 1:
                cv2.circle(canvas, (x, y), thickness, color, -1, cv2.LINE_AA)
                continue
            # Arrows that end far outside are shortened, since OpenCV's coordinates are limited.
            vector *= min(1.0, 2 * (height + width) / length)
            start, end = ((round(16 * px), round(16 * py)) for px, py in ((x, y), (x + vector[0], y + vector[1])))
            tip = min(0.4, (2 + 2 * thickness) / length)
            cv2.arrowedLine(canvas, start, end, color, thickness, cv2.LINE_AA, shift=4, tipLength=tip)
    return canvas


def _color_wheel() -> np.ndarray:
    """Color wheel, (55, 3) in [0, 1]: the six ramps RY 15, YG 6, GC 4, CB 11, BM 13, MR 6."""
    ramps = ((15, 0, 1, 1), (6, 1, 0, -1), (4, 1, 2, 1), (11, 2, 1, -1), (13, 2, 0, 1), (6, 0, 2, -1))
    parts = []
    for steps, full, changing, direction in ramps:
        part = np.zeros((steps, 3))
        ramp = np.floor(255 * np.arange(steps) / steps) / 255
        part[:, full], part[:, changing] = 1, ramp if direction > 0 else 1 - ramp
        parts.append(part)
    return np.concatenate(parts)


def color_scale(values: np.ndarray) -> float:
    """Value of full color: a percentile of the absolute values, or their maximum if the percentile is 0.

    A few extreme pixels do not hide the others.
    """
    magnitude = np.abs(values[np.isfinite(values)])
    if not magnitude.size:
        return 1.0
    return float(np.percentile(magnitude, PERCENTILE)) or float(magnitude.max()) or 1.0


def diverging_map(values: np.ndarray) -> np.ndarray:
    """Signed (H, W) map: white at 0, red above, blue below."""
    relative = np.clip(np.nan_to_num(values) / color_scale(values), -1, 1)[..., None]
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    color = np.where(relative > 0, red, blue)
    return np.round(255 + np.abs(relative) * (color - 255)).astype(np.uint8)


def overlay_diverging(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`diverging_map` over a pale gray copy of the image, for maps that are coarser than the image."""
    pale = 128 + cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32) / 2
    alpha = np.clip(np.abs(np.nan_to_num(values)) / color_scale(values), 0, 1)[..., None]
    return np.round((1 - 0.8 * alpha) * pale + 0.8 * alpha * diverging_map(values)).astype(np.uint8)


def draw_labels(labels: np.ndarray, classes: int, ignore: int) -> np.ndarray:
    """Visualize (H, W) integer labels: hues at multiples of the golden angle, so that consecutive labels differ.

    Pixels with the label `ignore` are black.
    """
    indices = np.arange(max(classes, int(labels.max()) + 1, ignore + 1))
    hsv = np.stack([indices * 137.508 % 180, np.full_like(indices, 170), 130 + indices * 57 % 120], -1)
    palette = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]
    palette[ignore] = 0
    return palette[labels]


LEFT, RIGHT, MIDDLE, JOINT, RIM = (255, 140, 0), (0, 160, 255), (255, 255, 255), (255, 255, 0), (20, 20, 20)
"""RGB colors of a skeleton's left, right and middle limbs, of its joints, and of the rim around all of them."""


def draw_skeleton(image: np.ndarray, joints: np.ndarray, edges: Pairs, pairs: Pairs) -> np.ndarray:
    """Draw a skeleton on a copy of an image: left limbs orange, right limbs blue, the middle white, joints yellow.

    Occluded joints and the limbs that end in them are half transparent. A dark rim separates it from any background.

    Args:
        image: (H, W, 3) uint8.
        joints: (J, 3): x, y in pixels, and a flag: 0 unlabeled, 1 occluded, 2 visible.
        edges: pairs of joint indices that a limb connects.
        pairs: (left, right) joint indices.
    """
    lefts, rights = ({pair[index] for pair in pairs} for index in (0, 1))
    # In sixteenths of a pixel (shift=4), within the coordinates that OpenCV supports.
    points = np.round(16 * np.nan_to_num(joints[:, :2]).clip(-1e6, 1e6)).astype(int).tolist()
    width = max(1, round(min(image.shape[:2]) / 120))
    strokes = []
    for a, b in edges:
        left, right = bool({a, b} & lefts), bool({a, b} & rights)
        color = MIDDLE if left == right else LEFT if left else RIGHT
        strokes.append((min(joints[a, 2], joints[b, 2]), points[a], points[b], color, width))
    strokes += [(flag, point, point, JOINT, 2 * width + 1) for flag, point in zip(joints[:, 2], points, strict=True)]
    canvas = image.copy()
    for flag in (1, 2):
        background, flag_strokes = canvas.copy(), [stroke[1:] for stroke in strokes if stroke[0] == flag]
        for start, end, _, thickness in flag_strokes:
            cv2.line(canvas, start, end, RIM, thickness + 2, cv2.LINE_AA, shift=4)
        for start, end, color, thickness in flag_strokes:
            cv2.line(canvas, start, end, color, thickness, cv2.LINE_AA, shift=4)
        if flag == 1:
            canvas = cv2.addWeighted(background, 0.5, canvas, 0.5, 0)
    return canvas


GAP = 4
"""Pixels between images."""
CAPTION_HEIGHT = 18
"""Height of a caption line in pixels."""


def hstack_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images in a row, all resized to the height of the tallest one, so that text in it stays readable."""
    height = max(image.shape[0] for image in images)
    row = []
    for image in images:
        if image.shape[0] != height:
            width = max(1, round(image.shape[1] * height / image.shape[0]))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
        row.append(np.pad(image, ((0, 0), (0, GAP), (0, 0)), constant_values=255))
    return np.concatenate(row, axis=1)[:, :-GAP]


def vstack_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images below each other, padded with white to the width of the widest one."""
    widest = max(image.shape[1] for image in images)
    padded = [np.pad(image, ((0, GAP), (0, widest - image.shape[1]), (0, 0)), constant_values=255) for image in images]
    return np.concatenate(padded)[:-GAP]


def fit_to_cell(image: np.ndarray, cell: tuple[int, int], background: int = 255) -> np.ndarray:
    """Resize an image to fit into a cell of (height, width), centered, keeping its aspect ratio."""
    if image.shape[:2] == cell:
        return image
    factor = min(cell[0] / image.shape[0], cell[1] / image.shape[1])
    size = [max(1, min(limit, round(length * factor))) for length, limit in zip(image.shape[:2], cell, strict=True)]
    # Pixels of strongly enlarged maps stay squares, so that units can be counted.
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC if factor < 4 else cv2.INTER_NEAREST
    canvas = np.full((*cell, 3), background, np.uint8)
    top, left = ((limit - length) // 2 for length, limit in zip(size, cell, strict=True))
    resized = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
    canvas[top : top + size[0], left : left + size[1]] = resized
    return canvas


def add_caption(image: np.ndarray, caption: str) -> np.ndarray:
    """Add a line of text below an image, cut off at its width."""
    from PIL import Image, ImageDraw, ImageFont

    line = Image.new("RGB", (image.shape[1], CAPTION_HEIGHT), "white")
    ImageDraw.Draw(line).text((1, 1), caption, fill="black", font=ImageFont.load_default(13))
    return np.concatenate([image, np.asarray(line)])


def image_grid(images: Sequence[np.ndarray], columns: int, gap: int = GAP, background: int = 255) -> np.ndarray:
    """Arrange images of one size in rows of `columns`."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8)
    for index, image in enumerate(images):
        y, x = divmod(index, columns)
        top, left = y * (height + gap), x * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas
