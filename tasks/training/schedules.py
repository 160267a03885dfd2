"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence


def learning_rate(
    schedule: str,
    step: int,
    steps: int,
    warmup_steps: int = 0,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
) -> float:
    """Learning rate of one step as a factor in (0, 1] of the peak.

    Steps count from 0. The warm-up rises linearly over `warmup_steps` steps, from above 0 to below 1 (Goyal et al.
    2017); the schedule starts at 1 and runs over the remaining steps.

    Args:
        schedule: constant; multistep (times `gamma` at every milestone, as torch's MultiStepLR); poly (power 0.9,
            Chen et al. 2016); cosine (to zero, Loshchilov & Hutter 2017); linear (constant for half of the steps, then
            to zero, pix2pix).
        step: 0 <= step < steps.
        steps: number of steps of the run.
        warmup_steps: number of warm-up steps.
        milestones: for multistep, ascending fractions of the steps after the warm-up.
        gamma: for multistep, the factor at each milestone.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    match schedule:
        case "constant":
            return 1.0
        case "multistep":
            return gamma ** sum(progress >= milestone for milestone in milestones)
        case "poly":
            return (1 - progress) ** 0.9
        case "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        case "linear":
            return min(1.0, 2 * (1 - progress))
    raise ValueError(f"There is no schedule named '{schedule}'.")
