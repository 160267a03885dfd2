"""The learning rate as a function of the step, relative to the largest one."""

from __future__ import annotations

import math


def learning_rate(schedule: str, step: int, steps: int, warmup: int = 0) -> float:
    """The factor in (0, 1] for one step.

    Convention: steps count from 0. The warm-up rises linearly over `warmup` steps, whose first is above 0 and whose
    last is below 1 (Goyal et al. 2017); the schedule begins at 1 and runs over what is left.

    Args:
        schedule: constant; step (a tenth after one half, a hundredth after three quarters: He et al. 2015 on CIFAR);
            three-steps (a tenth at every quarter: AlexNet and VGG fell three times); halving (a half after one half,
            two thirds and five sixths: FlowNet's 300, 400 and 500 of 600 thousand steps); exponential (x 0.96 in thirty
            equal steps: GoogLeNet's every 8 epochs, of 240); poly (power 0.9, Chen et al. 2016); cosine (to zero,
            Loshchilov & Hutter 2017); linear (constant for half, then to zero, pix2pix).
        step: 0 <= step < steps.
        steps: of the whole run.
        warmup: steps of the rise.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    match schedule:
        case "constant":
            return 1.0
        case "step":
            return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
        case "three-steps":
            return 0.1 ** int(4 * done)
        case "halving":
            return 0.5 ** max(0, int(6 * done) - 2)
        case "exponential":
            return 0.96 ** int(30 * done)
        case "poly":
            return (1 - done) ** 0.9
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return min(1.0, 2 * (1 - done))
    raise ValueError(f"no schedule is named '{schedule}'")
