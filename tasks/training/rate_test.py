"""Which learning rates train: a short run at rates that grow, and the rate at which the loss falls fastest.

Smith: Cyclical Learning Rates for Training Neural Networks. WACV 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...writing import write_text, written_aside
from .run import Run
from .stepper import NotFinite, optimizer_step

STEPS = 120
LEAST, LARGEST = 1e-6, 10.0
SMOOTHING = 0.9
"""Decay of the running mean of the loss: single batches jump."""
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
        try:
            loss = float(sum(optimizer_step(run, step, batches, rate).values()))
        except NotFinite:
            exploded = rate
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        rates.append(rate)
        losses.append(mean / (1 - SMOOTHING ** (step + 1)))
        if losses[-1] > EXPLODED * min(losses) > 0:
            exploded = rate
            break
    found = {"rates": rates, "losses": losses, "proposed": steepest(rates, losses), "exploded": exploded}
    if run.main:
        write_text(run.folder / "find-lr.json", json.dumps(found) + "\n")
        draw(found, run.folder / "find-lr.png")
    end = f"the loss explodes at {exploded:.1e}" if exploded else f"the loss explodes nowhere up to {LARGEST:g}"
    run.log.say(
        f"Proposed: --lr {found['proposed']:.1e}, where the loss falls fastest; {end}. "
        f"Curve: {run.folder / 'find-lr.png'}"
    )
    return found


def steepest(rates: list[float], losses: list[float]) -> float:
    """The rate at which the smoothed loss falls fastest over the logarithm of the rate.

    Raises:
        UserError: it falls nowhere.
    """
    slopes = [
        (after - before) / math.log(larger / smaller)
        for (smaller, larger), (before, after) in zip(pairwise(rates), pairwise(losses), strict=True)
    ]
    if not slopes or min(slopes) >= 0:
        raise UserError(
            "The loss fell at no learning rate: look at the data (--overfit), or at --weights and --freeze."
        )
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
