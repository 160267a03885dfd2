"""Learning-rate range test: a short run with a growing learning rate.

Smith: Cyclical Learning Rates for Training Neural Networks. WACV 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ...atomic_io import atomic_path, write_json
from ...errors import UserError
from ..network import Batch
from .interruption import NonFiniteLoss
from .loss_scaling import MAX_SKIPPED
from .trainer import Trainer

STEPS = 120
MIN_LR, MAX_LR = 1e-6, 10.0
SMOOTHING_STEPS = 8
"""Standard deviation of the Gaussian that smooths the loss, in steps: half a decade of the learning rate."""
MIN_DROP = 0.01
"""Minimum relative decrease of the smoothed loss; a smaller one does not count."""
MAX_RISE = 0.1
"""Maximum rise of the smoothed loss above its minimum so far, relative to it."""
DIVERGENCE_RISE = 0.5
"""Rise of the smoothed loss above its minimum so far, relative to its total decrease, that is not noise any more."""
REMAINING_DROP = 0.1
"""Assumed decrease that is still possible at the minimum of the curve, relative to the decrease so far."""
DIVERGENCE_FACTOR = 4.0
"""The test ends when the loss is this many times the minimum of its running mean."""


def find_lr(trainer: Trainer) -> dict[str, Any]:
    """Train with learning rates from `MIN_LR` to `MAX_LR` in equal factors, and suggest one.

    Writes find-lr.json and find-lr.png into the run folder; weights are not saved.

    Returns:
        learning_rates: the learning rates tried; losses: the loss at each of them; smoothed: the smoothed loss;
        suggested: see `suggest_lr`; diverged_at: the learning rate at which the test ended early, or None.

    Raises:
        UserError: the loss decreased at no learning rate.
    """
    batches = iter(trainer.data_loader(STEPS * MAX_SKIPPED))
    lrs: list[float] = []
    losses: list[float] = []
    diverged_at = None
    trainer.log.info(f"Trying {STEPS} learning rates from {MIN_LR:g} to {MAX_LR:g} ...")
    for step in range(STEPS):
        lr = MIN_LR * (MAX_LR / MIN_LR) ** (step / (STEPS - 1))
        loss = loss_of_step(trainer, step, batches, lr)
        # The loss explodes by powers of ten and would hide the curve before it; inf and nan are not JSON either.
        ceiling = 2 * DIVERGENCE_FACTOR * max((abs(first) for first in losses[:SMOOTHING_STEPS]), default=math.inf)
        trainer.log.progress(step + 1, STEPS)
        lrs.append(lr)
        losses.append(min(loss, ceiling))
        smoothed = smooth(losses)
        if not math.isfinite(loss) or smoothed[-1] > DIVERGENCE_FACTOR * min(smoothed) > 0:
            diverged_at = lr
            break
    suggested = suggest_lr(lrs, losses)
    result = {
        "learning_rates": lrs,
        "losses": losses,
        "smoothed": smooth(losses).tolist(),
        "suggested": suggested,
        "diverged_at": diverged_at,
    }
    if trainer.main:
        write_json(trainer.folder / "find-lr.json", result)
        plot_lr_curve(result, trainer.folder / "find-lr.png")
    end = f"it diverges at {diverged_at:.1e}" if diverged_at else f"it does not diverge up to {MAX_LR:g}"
    trainer.log.info(
        f"Suggestion: --lr {suggested:.1e}, at which the loss falls fastest relative to what is left to fall; {end}. "
        f"Curve: {trainer.folder / 'find-lr.png'}"
    )
    return result


def loss_of_step(trainer: Trainer, step: int, batches: Iterator[Batch], lr: float) -> float:
    """Loss of a step, the same in all processes; inf if it is not finite."""
    try:
        # In fp16, the first steps are skipped until the factor of the loss fits.
        while not (terms := trainer.optimizer_step(step, batches, lr)):
            pass
        return sum(terms.values())
    except NonFiniteLoss:
        return math.inf


def smooth(losses: list[float]) -> np.ndarray:
    """The losses (N,), smoothed by a Gaussian over the logarithm of the learning rate, which grows by equal factors."""
    return gaussian_filter1d(np.asarray(losses, np.float64), SMOOTHING_STEPS, mode="reflect")


def suggest_lr(lrs: list[float], losses: list[float]) -> float:
    """The learning rate at which the smoothed loss falls fastest, relative to what is left to fall.

    Later steps have less left to fall: the slope alone would favor the low learning rates of the first steps. Learning
    rates behind the minimum of the curve are not suggested, nor those at which it has risen by more than `MAX_RISE`,
    nor any after a rise by `DIVERGENCE_RISE` of the fall: what follows is the return from a divergence.
    """
    smoothed = smooth(losses)
    drop = smoothed[0] - smoothed.min()
    if len(losses) < 2 or not drop > MIN_DROP * abs(smoothed[0]):
        raise UserError(
            "The loss decreased at no learning rate: check the data (--overfit-one-batch), --weights and "
            "--freeze-backbone."
        )
    speed = -np.gradient(smoothed) / (smoothed - smoothed.min() + REMAINING_DROP * drop)
    running_minimum = np.minimum.accumulate(smoothed)
    risen = smoothed > running_minimum + MAX_RISE * np.abs(running_minimum)
    diverged = np.logical_or.accumulate(smoothed > running_minimum + DIVERGENCE_RISE * drop)
    speed[risen | diverged] = -math.inf
    return lrs[int(speed[: smoothed.argmin() + 1].argmax())]


def plot_lr_curve(result: dict[str, Any], path: Path) -> None:
    """Plot the loss over the learning rate, with the suggested one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.semilogx(result["learning_rates"], result["losses"], color="C0", alpha=0.3)
    axes.semilogx(result["learning_rates"], result["smoothed"], color="C0")
    axes.axvline(result["suggested"], color="gray", ls="--", lw=1, label=f"suggested: {result['suggested']:.1e}")
    axes.set(xlabel="learning rate", ylabel="loss", ylim=(None, max(result["losses"][:SMOOTHING_STEPS]) * 1.5))
    axes.legend()
    with atomic_path(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
