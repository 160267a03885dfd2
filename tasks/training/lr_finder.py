"""Learning-rate range test: a short run with a growing learning rate.

Smith: Cyclical Learning Rates for Training Neural Networks. WACV 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ...atomic_io import atomic_path, write_text
from ...errors import UserError
from ..task import Batch
from .step import NonFiniteLoss, optimizer_step
from .trainer import Trainer

STEPS = 120
MIN_LR, MAX_LR = 1e-6, 10.0
SMOOTHING = 0.9
"""Decay of the running mean of the loss, which removes the noise of single batches."""
WARMUP_STEPS = 10
"""Steps by which the running mean lags; earlier means are too noisy and are ignored."""
MIN_DROP = 0.01
"""Minimum relative decrease of the loss; a smaller one does not count."""
DIVERGENCE_FACTOR = 4.0
"""The test ends when the loss is this many times its minimum."""


def find_lr(trainer: Trainer) -> dict[str, Any]:
    """Train with learning rates from `MIN_LR` to `MAX_LR` in equal factors, and suggest one.

    Writes find-lr.json and find-lr.png into the run folder; weights are not saved.

    Returns:
        learning_rates: the learning rates tried; losses: running means of the loss; suggested: the largest learning
        rate at which the loss still decreased; diverged_at: the learning rate at which the test ended early, or None.

    Raises:
        UserError: the loss decreased at no learning rate.
    """
    batches = iter(trainer.data_loader(STEPS))
    lrs: list[float] = []
    losses: list[float] = []
    mean, diverged_at = 0.0, None
    trainer.log.info(f"Trying {STEPS} learning rates from {MIN_LR:g} to {MAX_LR:g} ...")
    for step in range(STEPS):
        lr = MIN_LR * (MAX_LR / MIN_LR) ** (step / (STEPS - 1))
        loss = reduced_loss(trainer, step, batches, lr)
        if not math.isfinite(loss):
            diverged_at = lr
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        lrs.append(lr)
        losses.append(mean / (1 - SMOOTHING ** (step + 1)))
        if losses[-1] > DIVERGENCE_FACTOR * min(losses) > 0:
            diverged_at = lr
            break
    suggested = suggest_lr(lrs, losses)
    result = {"learning_rates": lrs, "losses": losses, "suggested": suggested, "diverged_at": diverged_at}
    if trainer.main:
        write_text(trainer.folder / "find-lr.json", json.dumps(result) + "\n")
        plot_lr_curve(result, trainer.folder / "find-lr.png")
    end = f"it diverges at {diverged_at:.1e}" if diverged_at else f"it does not diverge up to {MAX_LR:g}"
    trainer.log.info(
        f"Suggestion: --lr {suggested:.1e}, the largest at which the loss still decreased; {end}. "
        f"Curve: {trainer.folder / 'find-lr.png'}"
    )
    return result


def reduced_loss(trainer: Trainer, step: int, batches: Iterator[Batch], lr: float) -> float:
    """Loss of a step, averaged over all processes so that they stop together; inf if it is not finite."""
    try:
        loss = sum(optimizer_step(trainer, step, batches, lr).values(), torch.zeros((), device=trainer.device))
    except NonFiniteLoss:
        loss = torch.tensor(math.inf, device=trainer.device)
    return float(trainer.accelerator.reduce(loss, "mean"))


def suggest_lr(lrs: list[float], losses: list[float]) -> float:
    """The largest learning rate at which the loss still decreased.

    That is the learning rate of the minimum, `WARMUP_STEPS` earlier, since the running mean lags. The steepest slope
    would be the classic choice; on batches of a few dozen images it is noise.

    Args:
        lrs: learning rates tried.
        losses: running means of the loss.

    Raises:
        UserError: the loss decreased at no learning rate.
    """
    reliable = losses[WARMUP_STEPS:]
    minimum = min(reliable, default=math.inf)
    if not reliable or minimum > reliable[0] - MIN_DROP * abs(reliable[0]):
        raise UserError(
            "The loss decreased at no learning rate: check the data (--overfit-one-batch), --weights and "
            "--freeze-backbone."
        )
    return lrs[reliable.index(minimum)]


def plot_lr_curve(result: dict[str, Any], path: Path) -> None:
    """Plot the loss over the learning rate, with the suggested one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.semilogx(result["learning_rates"], result["losses"])
    axes.axvline(result["suggested"], color="gray", ls="--", lw=1, label=f"suggested: {result['suggested']:.1e}")
    axes.set(xlabel="learning rate", ylabel="loss, running mean", ylim=(None, result["losses"][0] * 1.5))
    axes.legend()
    with atomic_path(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
