"""Pose: what to type, what to expect. A recipe states only what differs from `training.options.Settled`."""

from __future__ import annotations

from ..training.options import Options

FIGURES = Options(
    levels=4, size=(96, 96), batch=32, steps=560, lr=2e-3, warmup=50, ema=0.98, zoom=1.1, evaluate_every=280,
    eval_samples=200,
)  # fmt: skip
"""The embedded world, from scratch, within 6 minutes on two CPU cores with bf16."""

SPORTS = Options(
    levels=4, size=(192, 192), batch=16, steps=1500, lr=1e-3, warmup=50, ema=0.995, rotate=40.0,
    zoom=1.3, colour=0.5,
)  # fmt: skip
"""A thousand real pictures (LSP) with a pretrained trunk, or from the figures (`--init`)."""

XIAO = Options(
    size=(256, 192), batch=32, epochs=140, lr=1e-3, optimizer="adam", weight_decay=0.0, schedule="step",
    loss="heatmaps-rounded", rotate=40.0, zoom=1.3,
)  # fmt: skip
"""Xiao, Wu, Wei 2018 (arXiv:1804.06208), section 3.1: Adam, rate 1e-3 falling tenfold, 140 epochs, scale 30 %, 40
degrees. The paper's rate falls at 90 and 120 epochs, ours at one half and three quarters."""

BELAGIANNIS = Options(
    network="belagiannis", size=(120, 80), batch=230, epochs=70, lr=1e-2, optimizer="sgd", weight_decay=5e-4,
    schedule="constant", loss="tukey-authors", rotate=20.0, colour=0.0,
)  # fmt: skip
"""Belagiannis et al. 2015 (arXiv:1505.06606), with the released code's numbers: SGD with momentum 0.9, rate 1e-2, batch
230, 70 epochs, 20 degrees, the gradient of Tukey's loss as they have it. Add the task's `--stretch --patches 0`."""

RECIPES: dict[str, Options] = {"figures": FIGURES, "sports": SPORTS, "xiao": XIAO, "belagiannis": BELAGIANNIS}
