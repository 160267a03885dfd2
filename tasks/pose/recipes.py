"""Training recipes of human pose estimation: differences from `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

FIGURES = Options(
    backbone_levels=4, image_size=(96, 96), batch_size=32, steps=560, minutes=5.0, lr=2e-3, warmup_steps=50,
    ema_decay=0.98, max_zoom=1.1, eval_every=280, eval_samples=200,
)  # fmt: skip
"""The synthetic dataset, from scratch."""

SPORTS = Options(
    backbone_levels=4, image_size=(192, 192), batch_size=16, steps=1500, lr=1e-3, warmup_steps=50, ema_decay=0.995,
    max_rotation=40.0, max_zoom=1.3, color_jitter=0.5,
)  # fmt: skip
"""A thousand real images (LSP) with a pretrained backbone, or from a model of synthetic-figures (`--init-from`)."""

XIAO = Options(
    image_size=(256, 192), batch_size=32, epochs=140, lr=1e-3, optimizer="adam", weight_decay=0.0, schedule="multistep",
    loss="heatmaps-rounded", max_rotation=40.0, max_zoom=1.3,
)  # fmt: skip
"""Xiao, Wu, Wei 2018 (arXiv:1804.06208), section 3.1: Adam, learning rate 1e-3 falling tenfold, 140 epochs, scale
30 %, 40 degrees. The paper's learning rate falls at 90 and 120 epochs, ours at one half and three quarters."""

BELAGIANNIS = Options(
    model="belagiannis", image_size=(120, 80), batch_size=230, epochs=70, lr=1e-2, optimizer="sgd", weight_decay=5e-4,
    schedule="constant", loss="tukey-authors", max_rotation=20.0, color_jitter=0.0,
)  # fmt: skip
"""Belagiannis et al. 2015 (arXiv:1505.06606), with the released code's numbers: SGD with momentum 0.9, learning rate
1e-2, batch size 230, 70 epochs, 20 degrees, and the authors' gradient of Tukey's loss. Add the task options
`--no-keep-aspect --random-erase 0`."""

RECIPES: dict[str, Options] = {"synthetic-figures": FIGURES, "sports": SPORTS, "xiao": XIAO, "belagiannis": BELAGIANNIS}
