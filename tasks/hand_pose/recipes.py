"""Recipes for hand pose: options that differ from the defaults in `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

HANDS = Options(
    model="deepprior", image_size=(128, 128), batch_size=64, steps=2000, minutes=5.0, lr=1e-3, optimizer="adam",
    weight_decay=0.0, warmup_steps=50, ema_decay=0.99, eval_every=1000, eval_samples=200,
)  # fmt: skip
"""`synthetic-hands`, from scratch."""

DEEPPRIOR_2015 = Options(
    model="deepprior", image_size=(128, 128), batch_size=128, epochs=100, lr=0.01, optimizer="rmsprop", momentum=0.9,
    weight_decay=0.0, schedule="constant",
)  # fmt: skip
"""DeepPrior (Oberweger et al. 2015) on ICVL, NYU or MSRA15, as released: RMSProp with a floor of 0.01 under the root
mean square, which clips large steps."""

RECIPES: dict[str, Options] = {"synthetic-hands": HANDS, "deepprior-2015": DEEPPRIOR_2015}
