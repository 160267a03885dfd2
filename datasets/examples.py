"""Generated contents of the example datasets that `Dataset.write_example` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .core.geometry import Size
from .core.randomness import Purpose, generator
from .formats.image import write_image
from .rendering.boats import draw_boats
from .rendering.hands import Hand, draw_hand
from .rendering.shapes import draw_shape
from .rendering.weather import degrade


def fake_jpeg(number: int, size: tuple[int, int] = (64, 80)) -> bytes:
    """Generate an image of a shape for example datasets, as the bytes of a JPEG file."""
    image = draw_shape(generator(0, 0, number, Purpose.EXAMPLE), *size).image
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def fake_clip(number: int, frames: int, side: int = 64) -> np.ndarray:
    """Generate a clip of boats for example datasets, (T, H, W, 3) uint8."""
    return draw_boats(generator(0, 0, number, Purpose.EXAMPLE), frames, side, side).frames


def fake_pair(number: int, size: Size = (48, 64)) -> tuple[np.ndarray, np.ndarray]:
    """Generate a degraded and a clean image for example datasets, each (H, W, 3) uint8."""
    rng = generator(0, 0, number, Purpose.EXAMPLE)
    clean = draw_shape(rng, *size).image
    return degrade(clean, rng, ["rain"]), clean


def fake_views(count: int, forward: bool = False) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Generate photos of a textured plane at 4 m for example datasets: (48, 64, 3) uint8, camera (3, 3), and [R t] from
    the scene to the camera, which moves to the right, or forward."""
    camera = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
    texture = cv2.GaussianBlur(fake_pair(0, (192, 256))[1], (0, 0), 2)
    views = []
    for number in range(count):
        center = (0.0, 0.0, 0.1 * number) if forward else (0.05 * number - 0.2, 0.02 * (number % 3), 0.0)
        pose = np.column_stack([np.eye(3), np.negative(center)])
        # From texture pixels, 1/30 m wide, to pixels of the photo.
        plane = np.array([[1 / 30, 0, -128 / 30], [0, 1 / 30, -96 / 30], [0, 0, 4.0]])
        plane[:, 2] += pose[:, 3]
        image = cv2.warpPerspective(texture, camera @ plane, (64, 48), borderMode=cv2.BORDER_REFLECT_101)
        views.append((image, camera, pose))
    return views


def write_pair(degraded: Path, clean: Path, number: int, factor: int = 1) -> None:
    """Write a generated pair, with the degraded image smaller by a factor."""
    degraded_image, clean_image = fake_pair(number)
    if factor > 1:
        degraded_image = cv2.resize(clean_image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    for path, image in ((degraded, degraded_image), (clean, clean_image)):
        write_image(path, image)


def fake_labels(number: int, ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """Generate a label map of the classes 0 and 1, (64, 80) uint8, and its image, for example datasets."""
    shape = draw_shape(generator(0, 0, number, Purpose.EXAMPLE), 64, 80)
    labels = shape.mask.astype(np.uint8)
    labels[:2] = ignore
    return labels, shape.image


def fake_depth_sample(
    rng: np.random.Generator, size: tuple[int, int], near: float, far: float
) -> tuple[np.ndarray, np.ndarray]:
    """Generate an image and its depth for example datasets: a receding floor with a box on it.

    Depth is from `near` at the lower edge to `far` at the upper one, in meters, known everywhere. Returns (H, W, 3)
    uint8 and (H, W) float32.
    """
    height, width = size
    share = np.linspace(0, 1, height)[:, None]
    # Inverse depth is linear over the image of a plane.
    depth = np.broadcast_to(1 / (share / near + (1 - share) / far), size).astype(np.float32)
    image = np.broadcast_to((depth[..., None] / far * rng.uniform(80, 220, 3)), (*size, 3)).copy()
    top, left = (int(rng.uniform(0.2, 0.5) * extent) for extent in size)
    box = np.s_[top : top + height // 4 + 1, left : left + width // 4 + 1]
    depth[box] = near + (far - near) * np.float32(rng.uniform(0.1, 0.4))
    image[box] = rng.uniform(0, 255, 3)
    image += rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), depth


class FakeSequence(NamedTuple):
    """Frames for example datasets: one texture, shifted by the same integer pixels from each frame to the next.

    Attributes:
        frames: (H, W, 3) uint8 each.
        flow: (H, W, 2) float32 pixels from each frame to the next; its negative is the backward flow.
        visible: (H, W) bool, False where a pixel leaves the image before the next frame.
    """

    frames: list[np.ndarray]
    flow: np.ndarray
    visible: np.ndarray


def fake_flow_sequence(number: int, frames: int = 2, size: Size = (48, 64)) -> FakeSequence:
    """Generate a `FakeSequence`, a different one for each number."""
    rng = generator(0, 0, number, Purpose.EXAMPLE)
    x, y = (int(rng.integers(1, 4) * rng.choice((-1, 1))) for _ in range(2))
    margin = 3 * frames
    canvas = rng.integers(0, 256, (size[0] + 2 * margin, size[1] + 2 * margin, 3)).astype(np.float32)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 2)
    canvas = np.clip(128 + 5 * (canvas - 128), 0, 255).astype(np.uint8)
    corners = [(margin - y * frame, margin - x * frame) for frame in range(frames)]
    flow = np.empty((*size, 2), np.float32)
    flow[:] = x, y
    rows, columns = np.mgrid[: size[0], : size[1]]
    visible = (rows + y >= 0) & (rows + y < size[0]) & (columns + x >= 0) & (columns + x < size[1])
    crops = [canvas[top : top + size[0], left : left + size[1]].copy() for top, left in corners]
    return FakeSequence(crops, flow, visible)


def fake_people(number: int, names: Sequence[str], people: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Generate an image for example datasets: a dot per joint on a dark background, red for names with "left".

    There are at most 20 names; people are side by side. Returns the image, (88, 72 * people, 3) uint8, and the joints,
    (people, J, 2) float64 x, y in integer pixels from 0.
    """
    rng = generator(0, 0, number, Purpose.EXAMPLE)
    image = cv2.GaussianBlur(rng.integers(0, 120, (88, 72 * people, 3), np.uint8), (0, 0), 2)
    cells = np.stack([rng.permutation(20)[: len(names)] for _ in range(people)])
    joints = np.stack([cells % 4 * 14 + 14, cells // 4 * 14 + 14], axis=-1) + rng.integers(-3, 4, (*cells.shape, 2))
    joints[..., 0] += 72 * np.arange(people)[:, None]
    for person in joints.tolist():
        for name, point in zip(names, person, strict=True):
            cv2.circle(image, point, 3, (255, 0, 0) if "left" in name else (255, 255, 255), -1)
    return image, joints.astype(np.float64)


def fake_hand(number: int, size: Size, camera: np.ndarray) -> Hand:
    """Render a hand for example datasets, a different one for each number; see `draw_hand`."""
    return draw_hand(generator(0, 0, number, Purpose.EXAMPLE), size, camera)
