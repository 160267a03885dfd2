"""Paths of a camera through a scene: a spiral around the middle of its cameras, or along them."""

from __future__ import annotations

import numpy as np

from .scene import Scene, View

RADIUS = 0.6
"""Radius of a spiral as a share of the distance of the outer cameras from the middle."""


def spiral(scene: Scene, frames: int) -> list[View]:
    """Cameras on one closed turn around the mean camera of a scene of forward-facing photos.

    All look at the point in front of the mean camera at the middle of the depths (in inverse depth).

    Args:
        scene: the scene.
        frames: number of cameras.
    """
    centers = np.array([view.center for view in scene.views])
    forward, down = (np.sum([view.pose[row, :3] for view in scene.views], axis=0) for row in (2, 1))
    axes = _rotation(forward, down)
    center = centers.mean(0)
    reach = RADIUS * np.percentile(np.abs((centers - center) @ axes.T), 90, axis=0)
    near, far = _depth_range(scene)
    focus = center + 2 / (1 / near + 1 / far) * axes[2]
    views = []
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, frames, endpoint=False), 1):
        position = center + (reach * (np.cos(angle), np.sin(angle), np.sin(2 * angle) / 2)) @ axes
        views.append(_view(scene, number, _rotation(focus - position, axes[1]), position))
    return views


def along(scene: Scene, frames: int) -> list[View]:
    """Cameras from the first photo to the last, evenly between those of all photos in their order.

    Args:
        scene: the scene.
        frames: number of cameras.
    """
    views = []
    for number, position in enumerate(np.linspace(0, len(scene) - 1, frames), 1):
        first = scene.views[min(int(position), len(scene) - 2)]
        second = scene.views[min(int(position), len(scene) - 2) + 1]
        share = position - min(int(position), len(scene) - 2)
        rows = (1 - share) * first.pose[:, :3] + share * second.pose[:, :3]
        center = (1 - share) * first.center + share * second.center
        views.append(_view(scene, number, _rotation(rows[2], rows[1]), center))
    return views


PATHS = {"spiral": spiral, "along": along}


def _depth_range(scene: Scene) -> tuple[float, float]:
    return min(view.depth_range[0] for view in scene.views), max(view.depth_range[1] for view in scene.views)


def _view(scene: Scene, number: int, rotation: np.ndarray, center: np.ndarray) -> View:
    """A view without a photo, with the camera of the first photo."""
    first, pose = scene.views[0], np.column_stack([rotation, -rotation @ center])
    return View(f"{number:03}", first.camera, first.size, pose, _depth_range(scene))


def _rotation(forward: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(3, 3) from the scene to a camera that looks along `forward`, with `down` pointing down."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(down, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])
