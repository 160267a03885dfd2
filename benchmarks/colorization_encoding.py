"""Soft-encoding benchmark of colorization: a lookup table against the tree search of the authors' code, on one thread.

Both find the nearest bins of every pixel's a and b, and their Gaussian weights. The reference is scikit-learn's
`NearestNeighbors` with a ball tree, and numpy's exponential; scikit-learn is part of the extra `test`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..datasets.core.randomness import Purpose, generator
from ..datasets.rendering.rooms import render_room
from ..tasks.colorization.encoding import NEIGHBORS, SIGMA, bin_array, soft_targets
from ..tasks.colorization.lab import lab_of
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads, peer

IMAGES, TARGET_SIZE, ROUNDS = 40, 44, 5
"""The paper's batch: 40 crops of 176x176, with targets of 44x44."""
CALLS = 10
"""Calls per round of ours, as a single one is too short for precise timing."""
CODE_NEIGHBORS = 10
"""Number of neighbors in the authors' code."""


def measure(setting: Setting, *, num_images: int = IMAGES, size: int = TARGET_SIZE, rounds: int = ROUNDS) -> Report:
    """Measure the soft encoding of batches of synthetic rooms, on one thread, as the reference has no more."""
    cpu = torch.device("cpu")
    watch, figures, facts = Stopwatch(cpu), [], {}
    with fixed_threads(1):
        ab = colors(num_images, size)
        for neighbors in (NEIGHBORS, CODE_NEIGHBORS):
            theirs = ball_tree_targets(ab, neighbors)
            differences = difference(soft_targets(ab, neighbors), theirs(), ab)
            facts |= {f"{name}_{neighbors}": value for name, value in differences.items()}
            pairs = alternate(
                watch.as_round(lambda neighbors=neighbors: soft_targets(ab, neighbors), CALLS),
                watch.as_round(theirs),
                setting.rounds or rounds,
            )
            what, shapes = f"soft targets of {neighbors} bins", f"{num_images} of {size}x{size}"
            names = ("table", "scikit-learn's ball tree, numpy")
            required = 30.0 if neighbors == NEIGHBORS else None
            figures.append(Figure.from_pairs(what, shapes, *names, pairs, num_images, required=required))
        dense = alternate(
            watch.as_round(lambda: soft_targets(ab, CODE_NEIGHBORS), CALLS),
            watch.as_round(lambda: dense_target(*theirs())),
            setting.rounds or rounds,
        )
        names = ("sparse", "dense over all 313 bins, as in the authors' code")
        figures.append(Figure.from_pairs(f"targets of {CODE_NEIGHBORS} bins", shapes, *names, dense, num_images))
    share, distance = facts[f"same_bins_{NEIGHBORS}"], facts[f"farther_{NEIGHBORS}"]
    remarks = (
        f"{100 * share:.1f} % of the pixels have the same {NEIGHBORS} bins; in the others, a bin is farther than the "
        f"reference's by {distance:.2f} units of a and b at most. Weights of the same bins differ by "
        f"{facts[f'weight_difference_{NEIGHBORS}']:.3f} at most.",
    )
    title = "Soft targets of colorization, on one thread"
    return Report("colorization-encoding", title, device_name(cpu), 1, tuple(figures), facts, remarks)


def colors(images: int, size: int) -> Tensor:
    """The a and b channels of synthetic rooms, (images, 2, size, size)."""
    rooms = [
        render_room(generator(0, 0, number, Purpose.TEST_SYNTHESIS), size, size)["image"] for number in range(images)
    ]
    return torch.from_numpy(np.stack([lab_of(image)[..., 1:] for image in rooms])).movedim(-1, 1).contiguous()


def ball_tree_targets(ab: Tensor, neighbors: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """The reference: a function that returns the bins and weights of a batch, (pixels, K) each."""
    module = peer("sklearn.neighbors", "scikit-learn")
    tree = module.NearestNeighbors(n_neighbors=neighbors, algorithm="ball_tree").fit(bin_array())

    def encode() -> tuple[np.ndarray, np.ndarray]:
        points = ab.movedim(1, -1).reshape(-1, 2).numpy()
        distance, index = tree.kneighbors(points)
        weight = np.exp(-(distance**2) / (2 * SIGMA**2))
        return index, weight / weight.sum(1, keepdims=True)

    return encode


def dense_target(index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Scatter the weights into a dense array (pixels, 313)."""
    target = np.zeros((len(index), len(bin_array())), np.float32)
    np.put_along_axis(target, index, weight, 1)
    return target


def difference(ours: tuple[Tensor, Tensor], theirs: tuple[np.ndarray, np.ndarray], ab: Tensor) -> dict[str, float]:
    """Fraction of pixels with the same bins, maximum difference of their weights, and by how much our farthest bin is
    farther than theirs in the other pixels at most."""
    index, weight = (maps.movedim(1, -1).reshape(-1, maps.shape[1]).numpy() for maps in ours)
    points = ab.movedim(1, -1).reshape(-1, 1, 2).numpy()
    order, their_order = np.argsort(index, 1), np.argsort(theirs[0], 1)
    same = (np.take_along_axis(index, order, 1) == np.take_along_axis(theirs[0], their_order, 1)).all(1)
    weight_difference = np.take_along_axis(weight, order, 1) - np.take_along_axis(theirs[1], their_order, 1)
    farthest, their_farthest = (
        np.linalg.norm(bin_array()[bins] - points, axis=-1).max(1) for bins in (index, theirs[0])
    )
    return {
        "same_bins": float(same.mean()),
        "weight_difference": float(np.abs(weight_difference[same]).max(initial=0)),
        "farther": float((farthest - their_farthest).max()),
    }
