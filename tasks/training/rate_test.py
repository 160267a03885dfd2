"""Which learning rates train: a short run at rates that grow, and the largest at which the loss still falls.

Smith: Cyclical Learning Rates for Training Neural Networks. WACV 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ...errors import UserError
from ...writing import write_text, written_aside
from ..task import Batch
from .run import Run
from .stepper import NotFinite, optimizer_step

STEPS = 120
LEAST, LARGEST = 1e-6, 10.0
SMOOTHING = 0.9
"""Decay of the running mean of the loss: single batches jump."""
SETTLED = 10
"""Steps by which the running mean lags, and before which it follows every batch and is not believed."""
FALL = 0.01
"""A loss that falls by no more than this share of itself falls nowhere."""
EXPLODED = 4.0
"""The test ends where the loss is this many times its least."""


def test_rates(run: Run) -> dict[str, Any]:
    """Train from `LEAST` to `LARGEST` in equal factors, and propose a rate.

    Writes find-lr.json and find-lr.png into the run folder; nothing else of the training is kept.

    Returns:
        rates and losses (smoothed) that were tried; proposed, the largest rate at which the loss still fell; exploded,
        the rate at which the test ended early, or None.

    Raises:
        UserError: the loss fell nowhere.
    """
    batches = iter(run.batches(STEPS))
    rates: list[float] = []
    losses: list[float] = []
    mean, exploded = 0.0, None
    run.log.say(f"Trying {STEPS} learning rates from {LEAST:g} to {LARGEST:g} ...")
    for step in range(STEPS):
        rate = LEAST * (LARGEST / LEAST) ** (step / (STEPS - 1))
        loss = loss_of_all(run, step, batches, rate)
        if not math.isfinite(loss):
            exploded = rate
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        rates.append(rate)
        losses.append(mean / (1 - SMOOTHING ** (step + 1)))
        if losses[-1] > EXPLODED * min(losses) > 0:
            exploded = rate
            break
    proposed = still_falling(rates, losses)
    found = {"rates": rates, "losses": losses, "proposed": proposed, "exploded": exploded}
    if run.main:
        write_text(run.folder / "find-lr.json", json.dumps(found) + "\n")
        draw(found, run.folder / "find-lr.png")
    end = f"the loss explodes at {exploded:.1e}" if exploded else f"the loss explodes nowhere up to {LARGEST:g}"
    run.log.say(
        f"Proposed: --lr {found['proposed']:.1e}, the largest at which the loss still fell; {end}. "
        f"Curve: {run.folder / 'find-lr.png'}"
    )
    return found


def loss_of_all(run: Run, step: int, batches: Iterator[Batch], rate: float) -> float:
    """The loss of a step, its mean over all processes, so that all of them stop together; inf where it is none."""
    try:
        loss = sum(optimizer_step(run, step, batches, rate).values(), torch.zeros((), device=run.device))
    except NotFinite:
        loss = torch.tensor(math.inf, device=run.device)
    return float(run.accelerator.reduce(loss, "mean"))


def still_falling(rates: list[float], losses: list[float]) -> float:
    """The largest rate at which the loss still fell: that of its least, as many steps earlier as the mean lags behind.

    The slope between neighbours would be the classic choice; on batches of a few dozen pictures it is noise.

    Args:
        rates: that were tried.
        losses: their running means.

    Raises:
        UserError: the loss falls nowhere.
    """
    believed = losses[SETTLED:]
    least = min(believed, default=math.inf)
    if not believed or least > believed[0] - FALL * abs(believed[0]):
        raise UserError(
            "The loss fell at no learning rate: look at the data (--overfit), or at --weights and --freeze."
        )
    return rates[believed.index(least)]


def draw(found: dict[str, Any], path: Path) -> None:
    """The loss over the rate, and the proposal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.semilogx(found["rates"], found["losses"])
    axes.axvline(found["proposed"], color="grey", ls="--", lw=1, label=f"proposed: {found['proposed']:.1e}")
    axes.set(xlabel="learning rate", ylabel="loss, running mean", ylim=(None, found["losses"][0] * 1.5))
    axes.legend()
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
