"""Recipes for memorability: options that differ from the defaults in `training.options.Options`."""

from __future__ import annotations

from ..training.options import Options

RECOGNITION_GAME = Options(
    image_size=(48, 48), batch_size=64, steps=700, minutes=5.0, lr=4e-3, warmup_steps=50, weight_decay=1e-2,
    ema_decay=0.99, eval_every=350,
)  # fmt: skip
"""`recognition-game`, from scratch. No crops and no color jitter: the score depends on the complete image and on its
colors."""

PHOTOS = Options(
    backbone="resnet18", image_size=(176, 176), batch_size=32, epochs=12, lr=1e-3, warmup_steps=50, weight_decay=1e-2,
    ema_decay=0.99, freeze_bn=True,
)  # fmt: skip
"""Thousands of photos with a pretrained backbone (LaMem, your own): --weights imagenet."""

RIDGE = Options(backbone="timm:tf_efficientnet_lite0", head="ridge", image_size=(224, 224), steps=0)
"""Hundreds of photos (LNSIM, your own): a ridge regression on a pretrained backbone, which stays as it is:
--weights FILE."""

MEMNET_2015 = Options(
    model="memnet", image_size=(227, 227), resize_short_side=(256, 256), batch_size=256, epochs=60, lr=1e-3,
    optimizer="sgd-caffe", weight_decay=5e-4, weight_decay_on="all", schedule="multistep", backbone_lr_factor=0.1,
)  # fmt: skip
"""MemNet (Khosla et al. 2015) on LaMem. As in the paper, the last layer learns ten times as fast as all others
(`--backbone-lr-factor 0.1`, see `MemNet.backbone_parameters`). Batch size, length and weight decay are not printed:
those of CaffeNet."""

RECIPES: dict[str, Options] = {
    "recognition-game": RECOGNITION_GAME,
    "photos": PHOTOS,
    "ridge": RIDGE,
    "memnet-2015": MEMNET_2015,
}
