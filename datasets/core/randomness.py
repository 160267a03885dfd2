"""Random generators by (seed, epoch, index, purpose): any sample of any run can be generated again.

A seed always has four words. numpy treats missing words as zero, so that (7, 3) and (7, 3, 0) would be the same stream;
a last word of at least 1 (the purpose) keeps all streams distinct.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Use of a random stream; the values are part of the seeds and must not change."""

    SHUFFLE = 1
    GEOMETRY = 2
    PHOTOMETRY = 3
    PREPARE = 4
    TRAINING_SYNTHESIS = 5
    TEST_SYNTHESIS = 6
    EXAMPLE = 7
    DROPOUT = 8
    MIXTURE = 9


def generator(seed: int, epoch: int, index: int, purpose: Purpose) -> np.random.Generator:
    """Random generator of one sample, in one epoch, for one purpose.

    It depends on these four numbers only: not on workers, processes or resuming.
    """
    return np.random.default_rng((seed, epoch, index, int(purpose)))
