"""Recipes for image classification: those of the papers, as far as they are printed, and a short modern one.

A recipe states only what differs from the defaults (`training.options.Options`). Deviations of all paper
recipes: the learning rate falls at fixed steps where the papers wait for a plateau; means are subtracted per channel,
not per pixel; AlexNet's crops are taken anywhere in the image, not in its central square; padding reflects the image
instead of using the mean color.
"""

from __future__ import annotations

from ..training.options import Options

SYNTHETIC_SHAPES = Options(
    image_size=(48, 48), batch_size=64, steps=1000, minutes=5.0, lr=0.4, optimizer="sgd", weight_decay=5e-4,
    warmup_steps=100, loss="label-smoothing", color_jitter=1.0, ema_decay=0.995, eval_every=500,
)  # fmt: skip
"""Synthetic shapes. No crops: the generated stream never repeats an image."""

MODERN = Options(
    backbone="resnet18", image_size=(176, 176), crop_area=(0.25, 1.0), batch_size=64, epochs=18, lr=0.03,
    optimizer="sgd", weight_decay=5e-5, warmup_steps=500, loss="label-smoothing", color_jitter=1.0, ema_decay=0.9995,
)  # fmt: skip
"""Photos in class folders on a budget: cosine schedule with warm-up, training crops smaller than test crops, label
smoothing, EMA. After torchvision's recipe of 2021, a thirtieth of its length. With --weights it fine-tunes."""

LENET_1998 = Options(
    backbone="lenet5", image_size=(32, 32), resize_short_side=(28, 28), crop_padding=2, hflip=0.0, batch_size=64,
    epochs=16, lr=2e-3, optimizer="sgd-caffe", weight_decay=0.0, schedule="linear", loss="map", amp="off",
    eval_every=0,
)  # fmt: skip
"""LeCun et al. 1998: the literal network, input range, initialization and loss (equation 9). Deviation: mini-batches
with momentum 0.9, where the paper takes one image at a time with stochastic diagonal Levenberg-Marquardt."""

ALEXNET_2012 = Options(
    backbone="alexnet", image_size=(227, 227), resize_short_side=(256, 256), batch_size=128, epochs=90, lr=0.01,
    optimizer="sgd-caffe", weight_decay=5e-4, weight_decay_on="all", schedule="multistep",
    milestones=(0.25, 0.5, 0.75), color_jitter=1.0,
)  # fmt: skip
"""Krizhevsky et al. 2012, sections 4 and 5: 90 epochs, batch 128, learning rate 0.01 divided by 10 three times, dropout
in the network, crops and flips, PCA color noise. Crops are of 227, which the network needs; the paper prints 224."""

VGG_2014 = Options(
    backbone="vgg16", image_size=(224, 224), resize_short_side=(256, 512), batch_size=256, epochs=74, lr=0.01,
    optimizer="sgd-caffe", weight_decay=5e-4, weight_decay_on="all", schedule="multistep",
    milestones=(0.25, 0.5, 0.75), color_jitter=1.0,
)  # fmt: skip
"""Simonyan and Zisserman 2014 (arXiv:1409.1556), section 3.1, with scale jitter S in [256, 512]."""

GOOGLENET_2014 = Options(
    backbone="googlenet", image_size=(224, 224), crop_area=(0.08, 1.0), batch_size=32, epochs=240, lr=0.01,
    optimizer="sgd-caffe", weight_decay=2e-4, weight_decay_on="all", schedule="multistep",
    milestones=tuple(part / 30 for part in range(1, 30)), gamma=0.96, color_jitter=1.0, ema_decay=0.9999,
)  # fmt: skip
"""Szegedy et al. 2014 (arXiv:1409.4842), section 6: crops of 8 to 100 % of the area, learning rate x 0.96 every 8
epochs, EMA, auxiliary losses x 0.3. Batch size, learning rate and weight decay are not printed: those of Caffe's
replication."""

RESNET_2015 = Options(
    backbone="resnet50", image_size=(224, 224), resize_short_side=(256, 480), batch_size=256, epochs=120, lr=0.1,
    optimizer="sgd", weight_decay=1e-4, weight_decay_on="all", schedule="multistep", color_jitter=1.0,
)  # fmt: skip
"""He et al. 2015 (arXiv:1512.03385), section 3.4, for ImageNet."""

RESNET_2015_CIFAR = Options(
    backbone="resnet20_cifar", image_size=(32, 32), resize_short_side=(32, 32), crop_padding=4, batch_size=128,
    steps=64_000, lr=0.1, optimizer="sgd", weight_decay=1e-4, weight_decay_on="all", schedule="multistep",
)  # fmt: skip
"""He et al. 2015, section 4.2: 64,000 steps, learning rate divided by 10 at 32,000 and 48,000, random crops with
padding 4."""

PREACT_2016 = Options(
    backbone="preact164_cifar", image_size=(32, 32), resize_short_side=(32, 32), crop_padding=4, batch_size=128,
    steps=64_000, lr=0.1, optimizer="sgd", weight_decay=1e-4, weight_decay_on="all", schedule="multistep",
    warmup_steps=400,
)  # fmt: skip
"""He et al. 2016 (arXiv:1603.05027), appendix: as above, with a warm-up over the first 400 steps (the paper: a tenth of
the learning rate; here a linear rise)."""

RECIPES: dict[str, Options] = {
    "synthetic-shapes": SYNTHETIC_SHAPES,
    "modern": MODERN,
    "lenet-1998": LENET_1998,
    "alexnet-2012": ALEXNET_2012,
    "vgg-2014": VGG_2014,
    "googlenet-2014": GOOGLENET_2014,
    "resnet-2015": RESNET_2015,
    "resnet-2015-cifar": RESNET_2015_CIFAR,
    "preact-2016": PREACT_2016,
}
