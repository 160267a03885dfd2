"""Training recipes of image-to-image translation: differences from `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

FACADES = Options(
    image_size=(128, 128), batch_size=8, steps=600, minutes=5.0, lr=1e-3, optimizer="adam", momentum=0.5,
    weight_decay=0.0, schedule="linear", backbone_levels=4, eval_every=300, eval_samples=100,
)  # fmt: skip
"""The synthetic dataset, from scratch."""

ISOLA = Options(
    model="unet256", image_size=(256, 256), batch_size=1, epochs=200, lr=2e-4, optimizer="adam", momentum=0.5,
    weight_decay=0.0, schedule="linear", resize_short_side=(286, 286),
)  # fmt: skip
"""Isola et al. 2017 (arXiv:1611.07004), section 6.2, with the PyTorch code's schedule: Adam 2e-4 with beta 1 0.5, 100
epochs at a constant learning rate and 100 falling to zero, batch size 1, crops of 256 from a short side of 286 (theirs
stretch the image to 286x286), flips."""

RECIPES: dict[str, Options] = {"synthetic-facades": FACADES, "isola": ISOLA}
