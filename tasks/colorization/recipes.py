"""Colorization: what to type, what to expect. A recipe states only what differs from `training.options.Settled`."""

from __future__ import annotations

from ..training.options import Options

SHAPES = Options(
    levels=4, size=(64, 64), batch=32, steps=1200, lr=3e-3, warmup=50, ema=0.99, evaluate_every=400, eval_samples=300,
)  # fmt: skip
"""The embedded world, from scratch, within 5 minutes on two CPU cores with bf16. Shapes have hues that they prefer and
grounds have the colours of what they look like: part of the colour can be known from the grey picture, part cannot."""

PHOTOGRAPHS = Options(
    data="photographs", levels=4, size=(128, 128), batch=16, steps=2400, lr=2e-3, warmup=100, zoom=1.5, ema=0.995,
    trunk_lr=0.2, evaluate_every=600,
)  # fmt: skip
"""About a thousand photographs (`--root DIR`, or `--data imagenet`) with a pretrained ResNet-18 (`--weights`), within
15 minutes on two CPU cores with bf16: 38,000 crops."""

ZHANG = Options(
    network="zhang", size=(176, 176), scale=(256, 256), batch=40, steps=450_000, lr=3e-5, optimizer="adam",
    weight_decay=1e-3, decay="all", schedule="step",
)  # fmt: skip
"""Zhang et al. 2016 (arXiv:1603.08511), section 3: Adam, 450,000 steps of 40 crops of 176, decay 1e-3. Deviations: beta
2 is 0.999 (theirs 0.99); the rate falls tenfold at one half, as in the released code, and again at three quarters (the
paper waits for plateaus and goes to 1e-5 and 3e-6); the short side is made 256, the aspect kept."""

RECIPES: dict[str, Options] = {"shapes": SHAPES, "photographs": PHOTOGRAPHS, "zhang-2016": ZHANG}
