"""The packaged depth network: one network for the rooms of NYU Depth v2 and synthetic rooms together, in meters.

python tools/reproduce/depth.py NYU OUT

NYU is the root of `nyu-raw`. Three runs, each from the weights of the one before: OUT/small, OUT/large and OUT/long.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import densevision
from densevision.datasets.core.geometry import Size
from densevision.datasets.dataset import Sample
from densevision.datasets.depth.nyu_depth import KINECT_CAMERA, NYURaw
from densevision.datasets.synthetic import SyntheticRooms
from densevision.tasks.depth.losses import GRADIENT_WEIGHT, MIN_DEPTH, gradient_matching
from densevision.tasks.network import Batch, LossTerms

FOCAL_LENGTH = KINECT_CAMERA[0, 0] / 640
"""Of NYU's camera, in image widths."""
SHARES = 4, 1
"""Of NYU and of the synthetic rooms in a batch."""
OPTIONS: dict[str, Any] = {
    "backbone": "resnet50",
    "backbone_levels": 4,
    "stride_in": "1x1",
    "batch_size": 8,
    "freeze_bn": True,
    "backbone_lr_factor": 0.2,
    "weight_decay": 0.02,
    "max_rotation": 4.0,
    "max_zoom": 1.5,
    "color_jitter": 1.0,
    "warmup_steps": 50,
    "eval_every": 0,
    "save_every": 100,
    "threads": 1,
    "workers": 1,
}


class RoomsOfOneCamera(SyntheticRooms):
    """Synthetic rooms with depth as NYU's camera would see it: a longer focal length looks like a nearer room.

    The depth is divided by the magnification, as under `max_zoom`.
    """

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        sample = super().generate(rng, size)
        factor = FOCAL_LENGTH * max(size) / sample["camera"][0, 0]
        return {**sample, "depth": sample["depth"] * np.float32(factor)}


def relative_error(meters: Tensor, batch: Batch) -> LossTerms:
    """abs_rel itself, which prefers the nearer of two depths, and the gradients of `log-l1+grad`."""
    prediction, target, mask = meters[:, 0], batch["depth"], batch["depth_mask"]
    error = (prediction - target).abs() / target.clamp_min(MIN_DEPTH)
    return {
        "abs_rel": error[mask].mean(),
        "gradients": GRADIENT_WEIGHT * gradient_matching(prediction, target, mask),
    }


def error_and_shape(meters: Tensor, batch: Batch) -> LossTerms:
    """`relative_error` with twice its gradients, and the relative error that is left when the scale is right.

    The scale of an image is the geometric mean of the ratios, which the loss cannot lower by moving all depths.
    """
    terms = relative_error(meters, batch)
    known = batch["depth_mask"].flatten(1)
    ratio = (meters[:, 0].clamp_min(MIN_DEPTH) / batch["depth"].clamp_min(MIN_DEPTH)).log().flatten(1)
    ratio = torch.where(known, ratio, 0.0)
    count = known.sum(1, keepdim=True).clamp_min(1)
    aligned = (ratio - ratio.sum(1, keepdim=True) / count).expm1().abs()
    return {"abs_rel": terms["abs_rel"], "shape": aligned[known].mean(), "gradients": 2 * terms["gradients"]}


RUNS: dict[str, dict[str, Any]] = {
    "small": {
        "weights": "resnet50_imagenet_pruned8bit_fp16.safetensors", "image_size": (96, 128), "steps": 1835, "lr": 8e-4,
        "schedule": "constant", "ema_decay": 0.998, "loss": "log-l1+grad",
    },
    "large": {
        "image_size": (120, 160), "steps": 680, "lr": 6e-4, "schedule": "linear", "ema_decay": 0.99,
        "loss": relative_error,
    },
    "long": {
        "image_size": (120, 160), "steps": 1200, "lr": 6e-4, "schedule": "cosine", "ema_decay": 0.995, "seed": 1,
        "backbone_lr_factor": 0.3, "loss": error_and_shape,
    },
}  # fmt: skip
"""What each run changes; the second and third start from the weights of the one before."""


def train(nyu: str, out: str, name: str, before: str | None) -> None:
    """One of the runs, from the weights of the one before."""
    start = {"init_from": Path(out, before, "last", "checkpoint.safetensors")} if before else {}
    test = NYURaw(nyu, "test")
    test.default_protocol = "all-pixels"  # type: ignore[misc] - its own is of 480x640 pixels
    densevision.train(
        "depth",
        data=densevision.mix([NYURaw(nyu, "train"), RoomsOfOneCamera()], SHARES),
        eval_data=test,
        out=Path(out, name),
        **{**OPTIONS, **RUNS[name], **start},
    )


def main(nyu: str, out: str) -> None:
    """All runs, in order."""
    for before, name in pairwise((None, *RUNS)):
        train(nyu, out, str(name), before)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
