"""Training recipes of optical flow: differences from `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

CHAIRS = Options(
    backbone_levels=4, image_size=(128, 192), batch_size=8, steps=600, minutes=5.0, lr=1e-3, warmup_steps=50,
    weight_decay=4e-4, ema_decay=0.98, clip_grad_norm=1.0, eval_every=300,
)  # fmt: skip
"""The synthetic dataset, from scratch."""

PHOTOS = Options(
    backbone_levels=4, image_size=(128, 192), batch_size=8, steps=3000, lr=1e-3, warmup_steps=100, weight_decay=4e-4,
    ema_decay=0.995, clip_grad_norm=1.0, backbone_lr_factor=0.3, color_jitter=0.5, eval_every=1000,
)  # fmt: skip
"""The synthetic dataset textured with a folder of photos (`--root`), with a pretrained backbone: the first training run
of the packaged checkpoint."""

FLOWNET = Options(
    model="flownets", image_size=(320, 448), batch_size=8, steps=600_000, lr=1e-4, optimizer="adam", weight_decay=4e-4,
    schedule="multistep", milestones=(1 / 2, 2 / 3, 5 / 6), gamma=0.5, max_zoom=2.0, max_rotation=17.0,
    color_jitter=1.0,
)  # fmt: skip
"""Dosovitskiy et al. 2015 (arXiv:1504.06852), section 5.1: Adam, batch size 8, learning rate 1e-4, 320 x 448 crops of
FlyingChairs, 600,000 steps, the learning rate halved every 100,000 steps after the first 300,000. The task's
`--relative-motion 1` adds the paper's motion between the frames."""

RECIPES: dict[str, Options] = {"synthetic-chairs": CHAIRS, "photos": PHOTOS, "flownet": FLOWNET}
