"""Translation: what to type, what to expect. A recipe states only what differs from `training.options.Settled`."""

from __future__ import annotations

from ..training.options import Options

FACADES = Options(
    size=(128, 128), batch=8, steps=600, lr=1e-3, optimizer="adam", momentum=0.5, weight_decay=0.0, schedule="linear",
    levels=4, evaluate_every=300, eval_samples=100,
)  # fmt: skip
"""The embedded world, from scratch, within 6 minutes on two CPU cores with bf16."""

ISOLA = Options(
    network="unet256", size=(256, 256), batch=1, epochs=200, lr=2e-4, optimizer="adam", momentum=0.5, weight_decay=0.0,
    schedule="linear", scale=(286, 286),
)  # fmt: skip
"""Isola et al. 2017 (arXiv:1611.07004), section 6.2, with the PyTorch code's schedule: Adam 2e-4 with beta 1 0.5, 100
passes at a constant rate and 100 falling to zero, batch 1, crops of 256 from a short side of 286 (theirs stretch the
picture to 286x286), mirroring."""

RECIPES: dict[str, Options] = {"facades": FACADES, "isola": ISOLA}
