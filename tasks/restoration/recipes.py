"""Restoration: what to type, what to expect. A recipe states only what differs from `training.options.Settled`."""

from __future__ import annotations

from ..training.options import Options

WEATHER = Options(
    backbone="resnet20_cifar", size=(96, 128), batch=8, steps=1500, lr=2e-3, warmup=50, ema=0.99, evaluate_every=500,
)  # fmt: skip
"""The embedded world, from scratch, about 5 minutes on two CPU cores with bf16. Dirt and rain are a pixel wide: the
trunk has to have a level of stride 1, which ResNet-20 for CIFAR (strides 1, 2, 4) has and ResNet-18 has not."""

PHOTOGRAPHS = Options(
    backbone="vgg11", levels=3, size=(96, 128), batch=8, steps=2000, lr=1e-3, warmup=50, ema=0.99, scale=(160, 400),
    evaluate_every=500,
)  # fmt: skip
"""A folder of photographs, with `--weights imagenet`: of the trunks with published weights, VGG's have a level of
stride 1. Crops are cut out of pictures brought to 160 to 400 pixels on their short side, so that texture is about as
fine as in the pictures at their own size, on which answers are scored."""

EIGEN_2013 = Options(
    network="eigen", size=(64, 64), batch=128, steps=45_000, lr=1e-3, optimizer="sgd", momentum=0.0, weight_decay=0.0,
    schedule="constant", loss="l2", flip=0.0,
)  # fmt: skip
"""Eigen, Krishnan, Fergus 2013, section 4: SGD without momentum or decay, 128 patches of 64x64 a step, rate
0.001 / (1 + 5e-7 t), which 45,000 steps lower by 2 % and is constant here. As many patches as the paper's set for dirt
has, 5.8 million, once. The paper leaves out patches that are flat or hardly dirty; here none is. 1.4e12 operations a
step: for a GPU."""

RECIPES: dict[str, Options] = {"weather": WEATHER, "photographs": PHOTOGRAPHS, "eigen-2013": EIGEN_2013}
