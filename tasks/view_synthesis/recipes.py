"""Recipes for view synthesis: options that differ from the defaults in `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

ROOMS = Options(
    model="deepstereo-light", image_size=(64, 80), batch_size=2, steps=2000, minutes=5.0, lr=2e-3, optimizer="adam",
    weight_decay=0.0, warmup_steps=20, clip_grad_norm=1.0, eval_every=1000, eval_samples=50,
)  # fmt: skip
"""`room-views`, from the classical plane sweep on."""

SCENES = Options(
    model="deepstereo-light", image_size=(189, 252), batch_size=2, steps=300, lr=1e-3, optimizer="adam",
    weight_decay=0.0, warmup_steps=20, clip_grad_norm=1.0, eval_every=0,
)  # fmt: skip
"""Photos of one or more scenes, each photo from the others."""

RECIPES: dict[str, Options] = {"room-views": ROOMS, "scenes": SCENES}
