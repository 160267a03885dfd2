"""Who reads labels in a picture, so that a made one can be judged by what it shows.

The idea of the FCN score (Isola et al. 2017, section 4.1): if a picture looks as it should, a network that was trained
on true pictures finds in it the labels from which it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...datasets.fields import Labels
from ...errors import UserError
from ..inference import Predictor, load
from .made import LabelMap


class Judge(NamedTuple):
    """Someone who reads labels.

    Attributes:
        field: of a sample, which holds the true labels.
        kind: which classes there are.
        read: (H, W, 3) uint8 RGB to (H, W) integers.
    """

    field: str
    kind: Labels
    read: Callable[[np.ndarray], np.ndarray]


def facades_judge(goal: str) -> Judge:
    """The decoder of the world of facades, in which every part of a building has colours of its own."""
    from ...datasets.worlds.facades import NAMES, read_labels

    return Judge("labels", Labels(NAMES), read_labels)


def trained_judge(checkpoint: str, goal: str) -> Judge:
    """A checkpoint of this task that was trained the other way: from the pictures to their labels.

    Args:
        checkpoint: as `tasks.inference.load` takes it; read once and kept.
        goal: the field of the pictures that are judged.

    Raises:
        UserError: a checkpoint of another task or direction.
    """
    predictor = _loaded(checkpoint)
    if predictor.task.name != "translation":
        raise UserError(
            f"The judge '{checkpoint}' is a checkpoint of the task {predictor.task.name}; it must be one of the task "
            f"translation that was trained with --from {goal} --to the set's labels."
        )
    (source,) = predictor.task.inputs(predictor.fields)
    ((field, kind),) = predictor.task.targets(predictor.fields).items()
    if source != goal or not isinstance(kind, Labels):
        raise UserError(
            f"The judge '{checkpoint}' translates '{source}' into '{field}' ({type(kind).__name__}); to judge '{goal}' "
            f"it must be trained with --from {goal} --to the set's labels."
        )

    def read(picture: np.ndarray) -> np.ndarray:
        labels = predictor.predict(picture)
        assert isinstance(labels, LabelMap)
        return labels.classes

    return Judge(field, kind, read)


@lru_cache(maxsize=1)
def _loaded(checkpoint: str) -> Predictor:
    return load(checkpoint)
