"""Recipes for depth estimation: options that differ from the defaults in `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

ROOMS = Options(
    backbone_levels=4, image_size=(96, 128), batch_size=16, steps=1200, minutes=5.0, lr=4e-3, warmup_steps=50,
    loss="log-l1+grad-strong", ema_decay=0.99, eval_every=400,
)  # fmt: skip
"""`synthetic-rooms`, from scratch. The receptive field of four levels of a ResNet-18 is 211 pixels, more than the
image; a fifth level would take a third of the time."""

INDOOR = Options(
    image_size=(192, 256), batch_size=8, steps=350, lr=1e-3, warmup_steps=30, loss="log-l1+grad", ema_decay=0.98,
    max_rotation=5.0, max_zoom=1.5, color_jitter=0.5, freeze_bn=True,
)  # fmt: skip
"""A few hundred to a few thousand real images with a pretrained backbone (7-Scenes, your own folders)."""

LAINA = Options(
    model="fcrn", image_size=(228, 304), batch_size=16, epochs=20, lr=1e-2, optimizer="sgd", schedule="multistep",
    loss="berhu", max_rotation=5.0, max_zoom=1.5, color_jitter=0.5,
)  # fmt: skip
"""Laina et al. 2016 (arXiv:1606.00373), section 4: SGD with momentum 0.9, decaying learning rate of 1e-2, batch size
16, berHu. The paper halves the learning rate every 6 to 8 epochs; here it is divided by 10 after one half and after
three quarters of the steps."""

RECIPES: dict[str, Options] = {"synthetic-rooms": ROOMS, "indoor": INDOOR, "laina": LAINA}
