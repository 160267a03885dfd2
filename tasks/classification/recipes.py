"""Classification: the recipes of the papers, as far as they are printed, and a short modern one.

A recipe states only what differs from `training.options.Settled`. What is changed in all the papers' recipes: rates
fall at fixed times where the papers wait for a plateau; means are subtracted per channel, not per pixel; crops of
AlexNet lie anywhere in the picture, not in its central square; beyond the picture its mirror image continues, not the
mean colour.
"""

from __future__ import annotations

from ..training.options import Options

SHAPES = Options(
    size=(48, 48), batch=64, steps=1000, lr=0.4, optimizer="sgd", weight_decay=5e-4, warmup=100, loss="smoothed",
    colour=1.0, ema=0.995, evaluate_every=500,
)  # fmt: skip
"""The embedded world, within minutes on two CPU cores. No crops: its stream never shows a picture twice."""

MODERN = Options(
    backbone="resnet18", size=(176, 176), area=(0.25, 1.0), batch=64, epochs=18, lr=0.03, optimizer="sgd",
    weight_decay=5e-5, warmup=500, loss="smoothed", colour=1.0, ema=0.9995,
)  # fmt: skip
"""Photographs in folders, with a budget: one cosine with a warm-up, crops smaller than those of the test, smoothed
truths, averaged weights. After torchvision's recipe of 2021, a thirtieth of its length. With --weights it
fine-tunes."""

LENET_1998 = Options(
    backbone="lenet5", size=(32, 32), scale=(28, 28), pad=2, flip=0.0, batch=64, epochs=16, lr=2e-3,
    optimizer="sgd-1986", weight_decay=0.0, schedule="linear", loss="map", amp="off", evaluate_every=0,
)  # fmt: skip
"""LeCun et al. 1998: the literal network, input range, initialisation and loss (equation 9). Deviation: mini-batches
with momentum 0.9, where the paper takes one picture at a time with stochastic diagonal Levenberg-Marquardt."""

ALEXNET_2012 = Options(
    backbone="alexnet", size=(227, 227), scale=(256, 256), batch=128, epochs=90, lr=0.01, optimizer="sgd-1986",
    weight_decay=5e-4, decay="all", schedule="three-steps", colour=1.0,
)  # fmt: skip
"""Krizhevsky et al. 2012, sections 4 and 5: 90 epochs, batch 128, rate 0.01 that fell three times, dropout in the
network, crops and flips, colour noise. Windows are of 227, which the network needs, where the paper prints 224."""

VGG_2014 = Options(
    backbone="vgg16", size=(224, 224), scale=(256, 512), batch=256, epochs=74, lr=0.01, optimizer="sgd-1986",
    weight_decay=5e-4, decay="all", schedule="three-steps", colour=1.0,
)  # fmt: skip
"""Simonyan and Zisserman 2014 (arXiv:1409.1556), section 3.1, with scale jitter S in [256, 512]."""

GOOGLENET_2014 = Options(
    backbone="googlenet", size=(224, 224), area=(0.08, 1.0), batch=32, epochs=240, lr=0.01, optimizer="sgd-1986",
    weight_decay=2e-4, decay="all", schedule="exponential", colour=1.0, ema=0.9999,
)  # fmt: skip
"""Szegedy et al. 2014 (arXiv:1409.4842), section 6: patches of 8 to 100 % of the area, rate x 0.96 every 8 epochs,
averaged weights, auxiliary losses x 0.3. Batch, rate and decay are not printed: those of Caffe's replication."""

RESNET_2015 = Options(
    backbone="resnet50", size=(224, 224), scale=(256, 480), batch=256, epochs=120, lr=0.1, optimizer="sgd",
    weight_decay=1e-4, decay="all", schedule="step", colour=1.0,
)  # fmt: skip
"""He et al. 2015 (arXiv:1512.03385), section 3.4, for ImageNet."""

RESNET_2015_CIFAR = Options(
    backbone="resnet20_cifar", size=(32, 32), scale=(32, 32), pad=4, batch=128, steps=64_000, lr=0.1, optimizer="sgd",
    weight_decay=1e-4, decay="all", schedule="step",
)  # fmt: skip
"""He et al. 2015, section 4.2: 64,000 steps, a tenth of the rate at 32,000 and 48,000, crops of the picture padded
by 4."""

PREACT_2016 = Options(
    backbone="preact164_cifar", size=(32, 32), scale=(32, 32), pad=4, batch=128, steps=64_000, lr=0.1, optimizer="sgd",
    weight_decay=1e-4, decay="all", schedule="step", warmup=400,
)  # fmt: skip
"""He et al. 2016 (arXiv:1603.05027), appendix: as above, with a warm-up over the first 400 steps (the paper: a tenth of
the rate; here it rises)."""

RECIPES: dict[str, Options] = {
    "shapes": SHAPES,
    "modern": MODERN,
    "lenet-1998": LENET_1998,
    "alexnet-2012": ALEXNET_2012,
    "vgg-2014": VGG_2014,
    "googlenet-2014": GOOGLENET_2014,
    "resnet-2015": RESNET_2015,
    "resnet-2015-cifar": RESNET_2015_CIFAR,
    "preact-2016": PREACT_2016,
}
