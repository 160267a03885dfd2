"""The one place where generators are made: any sample of any run can be drawn again from four numbers.

Always four words. numpy treats missing words as zero, so that (7, 3) and (7, 3, 0) would be the same stream;
a purpose of at least 1 in the last place keeps every use apart.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream of random numbers is for."""

    SHUFFLE = 1
    GEOMETRY = 2
    PHOTOMETRY = 3
    PREPARE = 4
    TRAINING_WORLD = 5
    TEST_WORLD = 6
    MINIATURE = 7
    DROPOUT = 8


def generator(seed: int, epoch: int, index: int, purpose: Purpose) -> np.random.Generator:
    """The stream of one sample, of one epoch, for one purpose.

    Workers, processes and resuming change nothing: the four numbers are all it depends on.
    """
    return np.random.default_rng((seed, epoch, index, int(purpose)))
