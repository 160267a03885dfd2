"""Which learning rates train: a short run at rates that grow, and the rate at which the loss falls fastest.

Smith: Cyclical Learning Rates for Training Neural Networks. WACV 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
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
"""Steps after which the running mean no longer follows every batch; what fell before them is not believed."""
FALL = 0.01
"""A loss that falls by no more than this share of itself falls nowhere."""
EXPLODED = 4.0
"""The test ends where the loss is this many times its least."""


def test_rates(run: Run) -> dict[str, Any]:
    """Train from `LEAST` to `LARGEST` in equal factors, and propose a rate.

    Writes find-lr.json and find-lr.png into the run folder; nothing else of the training is kept.

    Returns:
        rates and losses (smoothed) that were tried; proposed, the rate of the steepest fall; exploded, the rate at
        which the test ended early, or None.

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
    proposed = steepest(rates[SETTLED:], losses[SETTLED:])
    found = {"rates": rates, "losses": losses, "proposed": proposed, "exploded": exploded}
    if run.main:
        write_text(run.folder / "find-lr.json", json.dumps(found) + "\n")
        draw(found, run.folder / "find-lr.png")
    end = f"the loss explodes at {exploded:.1e}" if exploded else f"the loss explodes nowhere up to {LARGEST:g}"
    run.log.say(
        f"Proposed: --lr {found['proposed']:.1e}, where the loss falls fastest; {end}. "
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


def steepest(rates: list[float], losses: list[float]) -> float:
    """The rate at which the smoothed loss falls fastest over the logarithm of the rate.

    Only up to its least: what falls later has risen before.

    Raises:
        UserError: it falls nowhere.
    """
    least = min(losses, default=math.inf)
    if not losses or least > losses[0] - FALL * abs(losses[0]):
        raise UserError(
            "The loss fell at no learning rate: look at the data (--overfit), or at --weights and --freeze."
        )
    end = losses.index(least) + 1
    slopes = [
        (after - before) / math.log(larger / smaller)
        for (smaller, larger), (before, after) in zip(pairwise(rates[:end]), pairwise(losses[:end]), strict=True)
    ]
    return rates[slopes.index(min(slopes)) + 1]


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
