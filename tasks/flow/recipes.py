"""Flow: what to type, what to expect. A recipe states only what differs from `training.options.Settled`."""

from __future__ import annotations

from ..training.options import Options

CHAIRS = Options(
    levels=4, size=(128, 192), batch=8, steps=600, lr=1e-3, warmup=50, weight_decay=4e-4, ema=0.98, clip=1.0,
    evaluate_every=300,
)  # fmt: skip
"""The embedded world, from scratch, within 6 minutes on two CPU cores with bf16."""

PHOTOGRAPHS = Options(
    levels=4, size=(128, 192), batch=8, steps=3000, lr=1e-3, warmup=100, weight_decay=4e-4, ema=0.995, clip=1.0,
    trunk_lr=0.3, colour=0.5, evaluate_every=1000,
)  # fmt: skip
"""The same world drawn with a folder of photographs (`--root`), with a pretrained trunk: what ships began with it."""

FLOWNET = Options(
    network="flownets", size=(320, 448), batch=8, steps=600_000, lr=1e-4, optimizer="adam", weight_decay=4e-4,
    schedule="halving", zoom=2.0, rotate=17.0, colour=1.0,
)  # fmt: skip
"""Dosovitskiy et al. 2015 (arXiv:1504.06852), section 5.1: Adam, batch 8, rate 1e-4 on 320 x 448 crops of FlyingChairs,
600,000 steps, the rate halved every 100,000 of them after the first 300,000. The task's `--between 1` adds the paper's
motion between the frames."""

RECIPES: dict[str, Options] = {"chairs": CHAIRS, "photographs": PHOTOGRAPHS, "flownet": FLOWNET}
