"""Recipes for image restoration: options that differ from the defaults in `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

WEATHER = Options(
    backbone="resnet20_cifar", image_size=(96, 128), batch_size=8, steps=1500, minutes=5.0, lr=2e-3, warmup_steps=50,
    ema_decay=0.99, eval_every=500,
)  # fmt: skip
"""`synthetic-weather`, from scratch. Dirt and rain are a pixel wide: the backbone needs a level of stride 1, which
ResNet-20 for CIFAR (strides 1, 2, 4) has, but ResNet-18 does not."""

PHOTOS = Options(
    backbone="vgg11", backbone_levels=3, image_size=(96, 128), batch_size=8, steps=2000, lr=1e-3, warmup_steps=50,
    ema_decay=0.99, resize_short_side=(160, 400), eval_every=500,
)  # fmt: skip
"""A folder of photos, with `--weights imagenet`: among the backbones with published weights, VGG has a level of stride
1. Images are resized to 160 to 400 pixels on their short side before the crop, so that textures are about as fine as in
the images at their original size, on which predictions are evaluated."""

EIGEN_2013 = Options(
    model="eigen", image_size=(64, 64), batch_size=128, steps=45_000, lr=1e-3, optimizer="sgd", momentum=0.0,
    weight_decay=0.0, schedule="constant", loss="l2", hflip=0.0,
)  # fmt: skip
"""Eigen, Krishnan, Fergus 2013, section 4: SGD without momentum or weight decay, 128 patches of 64x64 per step,
learning rate 0.001 / (1 + 5e-7 t), which decreases by 2 % in 45,000 steps and is constant here. The number of patches
is that of the paper's dataset for dirt, 5.8 million, one epoch. The paper excludes patches that are flat or hardly
degraded; here all are used. 1.4e12 operations per step: use a GPU."""

RECIPES: dict[str, Options] = {"synthetic-weather": WEATHER, "photos": PHOTOS, "eigen-2013": EIGEN_2013}
