"""From colours to soft targets, our table against the search of a tree that the authors' code does, on one thread.

Both sides turn a and b of every pixel into its nearest bins and their Gaussian weights. The peer is scikit-learn's
`NearestNeighbors` with a ball tree and numpy's exponential; it is part of the extra `test`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.randomness import Purpose, generator
from ..datasets.worlds.rooms import render_room
from ..errors import UserError
from ..tasks.colorization.bins import bin_array
from ..tasks.colorization.encoding import NEIGHBOURS, SIGMA, soft_targets
from ..tasks.colorization.lab import lab_of
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

PICTURES, SIDE, ROUNDS = 40, 44, 5
"""The paper's batch: 40 crops of 176, whose targets are 44 a side."""
TIMES = 10
"""How often a round of ours is repeated: once would be too short to be timed beside other work."""
RELEASED = 10
"""Neighbours in the authors' code."""


def measure(setting: Setting, *, pictures: int = PICTURES, side: int = SIDE, rounds: int = ROUNDS) -> Report:
    """Soft targets of batches of drawn rooms.

    Args:
        setting: its threads are not used: the peer has one.
        pictures: of a batch.
        side: height and width of the targets.
        rounds: pairs, where the setting says nothing.
    """
    cpu = torch.device("cpu")
    watch, figures, facts = Stopwatch(cpu), [], {}
    with fixed_threads(1):
        ab = colours(pictures, side)
        for neighbours in (NEIGHBOURS, RELEASED):
            theirs = searched(ab, neighbours)
            apart = difference(soft_targets(ab, neighbours), theirs(), ab)
            facts |= {f"{name}_{neighbours}": value for name, value in apart.items()}
            pairs = alternate(
                watch.rounds_of(lambda neighbours=neighbours: soft_targets(ab, neighbours), TIMES),
                watch.rounds_of(theirs),
                setting.rounds or rounds,
            )
            what, shapes = f"soft targets of {neighbours} bins", f"{pictures} of {side}x{side}"
            names = ("table", "scikit-learn's ball tree, numpy")
            least = 30.0 if neighbours == NEIGHBOURS else None
            figures.append(Figure.of_pairs(what, shapes, *names, pairs, pictures, least=least))
        dense = alternate(
            watch.rounds_of(lambda: soft_targets(ab, RELEASED), TIMES),
            watch.rounds_of(lambda: dense_target(*theirs())),
            setting.rounds or rounds,
        )
        names = ("sparse", "the same, laid out over all 313 bins as the authors' code does")
        figures.append(Figure.of_pairs(f"targets of {RELEASED} bins", shapes, *names, dense, pictures))
    share, distance = facts[f"same_bins_{NEIGHBOURS}"], facts[f"farther_{NEIGHBOURS}"]
    remarks = (
        f"{100 * share:.1f} % of the pixels have the same {NEIGHBOURS} bins; in the others a bin stands in for one "
        f"that is nearer by {distance:.2f} of a unit of a and b at most. Weights of the same bins differ by "
        f"{facts[f'weights_apart_{NEIGHBOURS}']:.3f} at most.",
    )
    title = "Soft targets of colorization, on one thread"
    return Report("colorization-encoding", title, device_name(cpu), 1, tuple(figures), facts, remarks)


def colours(pictures: int, side: int) -> Tensor:
    """(pictures, 2, side, side) a and b of rooms."""
    drawn = [
        render_room(generator(0, 0, number, Purpose.TEST_WORLD), side, side)["image"] for number in range(pictures)
    ]
    return torch.from_numpy(np.stack([lab_of(picture)[..., 1:] for picture in drawn])).movedim(-1, 1).contiguous()


def searched(ab: Tensor, neighbours: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """One batch a call: bins and weights, (pixels, K) each.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError:
        raise UserError("The peer of this benchmark is scikit-learn: pip install scikit-learn.") from None

    tree: Any = NearestNeighbors(n_neighbors=neighbours, algorithm="ball_tree").fit(bin_array())

    def make() -> tuple[np.ndarray, np.ndarray]:
        points = ab.movedim(1, -1).reshape(-1, 2).numpy()
        distance, index = tree.kneighbors(points)
        weight = np.exp(-(distance**2) / (2 * SIGMA**2))
        return index, weight / weight.sum(1, keepdims=True)

    return make


def dense_target(index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(pixels, 313): the weights among zeros."""
    target = np.zeros((len(index), len(bin_array())), np.float32)
    np.put_along_axis(target, index, weight, 1)
    return target


def difference(ours: tuple[Tensor, Tensor], theirs: tuple[np.ndarray, np.ndarray], ab: Tensor) -> dict[str, float]:
    """The share of pixels with the same bins, the largest difference of their weights, and by how much our farthest
    bin is farther than theirs in the other pixels."""
    index, weight = (maps.movedim(1, -1).reshape(-1, maps.shape[1]).numpy() for maps in ours)
    points = ab.movedim(1, -1).reshape(-1, 1, 2).numpy()
    order, their_order = np.argsort(index, 1), np.argsort(theirs[0], 1)
    same = (np.take_along_axis(index, order, 1) == np.take_along_axis(theirs[0], their_order, 1)).all(1)
    weights_apart = np.take_along_axis(weight, order, 1) - np.take_along_axis(theirs[1], their_order, 1)
    farthest, their_farthest = (
        np.linalg.norm(bin_array()[bins] - points, axis=-1).max(1) for bins in (index, theirs[0])
    )
    return {
        "same_bins": float(same.mean()),
        "weights_apart": float(np.abs(weights_apart[same]).max(initial=0)),
        "farther": float((farthest - their_farthest).max()),
    }
