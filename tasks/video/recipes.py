"""Recipes for video prediction: options that differ from the defaults in `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

MOVING = Options(
    backbone_levels=3, image_size=(64, 64), batch_size=8, steps=1500, minutes=5.0, lr=3e-3, warmup_steps=50,
    weight_decay=1e-3, ema_decay=0.98, clip_grad_norm=1.0, eval_every=500, eval_samples=60,
)  # fmt: skip
"""The synthetic dataset, from scratch: the next frames from four."""

VIDEOS = Options(
    backbone_levels=3, image_size=(96, 96), batch_size=12, steps=3000, lr=1e-3, warmup_steps=100, weight_decay=1e-3,
    ema_decay=0.995, clip_grad_norm=1.0, eval_every=1000, eval_samples=200,
)  # fmt: skip
"""Folders of videos, from scratch or from a checkpoint of the synthetic dataset (`--init-from`)."""

VGAN_2016 = Options(
    model="vgan", loss="adversarial", image_size=(64, 64), batch_size=64, epochs=100, lr=2e-4, optimizer="adam",
    momentum=0.5, weight_decay=0.0, schedule="constant", warmup_steps=0, hflip=0.0,
)  # fmt: skip
"""Vondrick et al. 2016, their code: Adam 2e-4 with beta 1 0.5. Clips from noise with --context 0 --frames 32; from a
frame with --context 1 --frames 31 --batch-size 32."""

VGAN_NARROW = Options(
    model="vgan-narrow", loss="adversarial", image_size=(64, 64), batch_size=8, steps=600, lr=2e-4, optimizer="adam",
    momentum=0.5, weight_decay=0.0, schedule="constant", warmup_steps=0, hflip=0.0, ema_decay=0.98, eval_every=100,
    eval_samples=64,
)  # fmt: skip
"""A quarter of the width for CPUs, with a moving average of the weights: --context 0 --frames 32 --data boats-32."""

RECIPES: dict[str, Options] = {
    "moving-photos": MOVING,
    "videos": VIDEOS,
    "vgan-2016": VGAN_2016,
    "vgan-narrow": VGAN_NARROW,
}
