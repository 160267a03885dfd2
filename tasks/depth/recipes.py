"""Depth: what to type, what to expect. A recipe states only what differs from `training.options.Settled`."""

from __future__ import annotations

from ..training.options import Options

ROOMS = Options(
    levels=4, size=(96, 128), batch=16, steps=1200, lr=4e-3, warmup=50, loss="log-edges", ema=0.99,
    evaluate_every=400,
)  # fmt: skip
"""The embedded world, from scratch, within 6 minutes on two CPU cores with bf16. Four levels of a ResNet-18 already see
211 pixels, more than the picture has; the fifth would cost a third of the time."""

INDOOR = Options(
    size=(192, 256), batch=8, steps=350, lr=1e-3, warmup=30, loss="log", ema=0.98, rotate=5.0, zoom=1.5, colour=0.5,
    freeze_bn=True,
)  # fmt: skip
"""A few hundred to a few thousand real pictures with a pretrained trunk (7-Scenes, own folders)."""

LAINA = Options(
    network="fcrn", size=(228, 304), batch=16, epochs=20, lr=1e-2, optimizer="sgd", schedule="step", loss="berhu",
    rotate=5.0, zoom=1.5, colour=0.5,
)  # fmt: skip
"""Laina et al. 2016 (arXiv:1606.00373), section 4: SGD with momentum 0.9, rate 1e-2 falling, batch 16, berHu. The
paper halves the rate every 6 to 8 epochs; ours falls tenfold at one half and at three quarters."""

RECIPES: dict[str, Options] = {"rooms": ROOMS, "indoor": INDOOR, "laina": LAINA}
