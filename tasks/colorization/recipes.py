"""Recipes for colorization. A recipe states only what differs from the defaults (`training.options`)."""

from __future__ import annotations

from ..training.options import Options

SYNTHETIC_SHAPES = Options(
    backbone_levels=4, image_size=(64, 64), batch_size=32, steps=1200, minutes=5.0, lr=3e-3, warmup_steps=50,
    ema_decay=0.99, eval_every=400, eval_samples=300,
)  # fmt: skip
"""Synthetic shapes, from scratch. Shapes have preferred hues and backgrounds have the colors of what they depict: the
gray image determines a part of the colors only."""

PHOTOS = Options(
    data="image-folders", backbone_levels=4, image_size=(128, 128), batch_size=16, steps=2400, lr=2e-3,
    warmup_steps=100, max_zoom=1.5, ema_decay=0.995, backbone_lr_factor=0.2, eval_every=600,
)  # fmt: skip
"""About a thousand photos (`--root DIR`, or `--data imagenet`) with a pretrained ResNet-18 (`--weights`), within
15 minutes on two CPU cores with bf16: 38,000 crops."""

ZHANG = Options(
    model="zhang", image_size=(176, 176), resize_short_side=(256, 256), batch_size=40, steps=450_000, lr=3e-5,
    optimizer="adam", weight_decay=1e-3, weight_decay_on="all", schedule="multistep",
)  # fmt: skip
"""Zhang et al. 2016 (arXiv:1603.08511), section 3: Adam, 450,000 steps of 40 crops of 176, weight decay 1e-3.
Deviations: beta 2 is 0.999 (theirs 0.99); the learning rate is divided by 10 at one half, as in the released code, and
again at three quarters (the paper waits for plateaus and goes to 1e-5 and 3e-6); the short side is resized to 256,
keeping the aspect ratio."""

RECIPES: dict[str, Options] = {"synthetic-shapes": SYNTHETIC_SHAPES, "photos": PHOTOS, "zhang-2016": ZHANG}
