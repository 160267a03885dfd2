"""Published weights of pix2pix and CycleGAN: the generators and discriminators of their PyTorch code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...backbones.published import Converted, Layout, Tensors, build_converted, rename
from ...datasets.field_types import Image
from ...errors import UserError
from ..published import ConvertedModel
from .patchgan import PatchGAN, save_discriminator

U_NET = {7: "unet128", 8: "unet256"}
RESNET = {6: "resnet6", 9: "resnet9"}
SIZES = {"unet128": 128, "unet256": 256, "resnet6": 128, "resnet9": 256}
BEFORE_BLOCKS = 10
"""Layers of the ResNet generator before its blocks."""
STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")


def convert_unet(tensors: Tensors) -> Converted:
    """A U-Net: every block contains the next deeper one, so that names grow with the depth."""
    depth = max(name.count(".model.") for name in tensors)
    moved: Tensors = {}
    for name, tensor in tensors.items():
        level = name.count("model.") - 2
        index, part = name.split(".")[-2:]
        # Convolution and normalization of the way down, the inner block, then both of the way up.
        down, down_norm, up = (
            ("0", "", "3") if level == 0 else ("1", "", "3") if level == depth - 1 else ("1", "2", "5")
        )
        number = depth - 1 - level
        if index == down:
            place = f"downs.{level}.0"
        elif index == down_norm:
            place = f"downs.{level}.1"
        elif index == up:
            place = "predict" if level == 0 else f"ups.{number}.0"
        else:
            place = f"ups.{number}.1"
        moved[f"{place}.{part}"] = tensor
    if depth not in U_NET:
        raise UserError(f"The file has a U-Net of {depth} downsamplings; there are models of 7 and 8.")
    return _converted(U_NET[depth], moved, moved["downs.0.0.weight"].shape[1], moved["predict.weight"].shape[1], True)


def convert_resnet(tensors: Tensors) -> Converted:
    """A ResNet generator; CycleGAN's have no dropout in their blocks, so that numbers after it are one less."""
    names = [re.match(r"model\.(\d+)\.", name) for name in tensors]
    last = max(int(match[1]) for match in names if match)
    # Without dropout, the convolution is at 5, and perhaps a normalization at 6.
    dropout = f"model.{BEFORE_BLOCKS}.conv_block.5.weight" not in tensors
    rules = [(rf"model\.{last}\.", "predict.")]
    if not dropout:
        rules += [(rf"model\.(\d+)\.conv_block\.{n}\.", rf"body.\1.branch.{n + 1}.") for n in (5, 6)]
    rules += [(r"model\.(\d+)\.conv_block\.", r"body.\1.branch."), (r"model\.", "body.")]
    moved = rename(tensors, rules)
    blocks = len({name.split(".")[1] for name in tensors if ".conv_block." in name})
    if blocks not in RESNET:
        raise UserError(f"The file has a ResNet generator of {blocks} blocks; there are models of 6 and 9.")
    channels, out_channels = moved["body.1.weight"].shape[1], moved["predict.weight"].shape[0]
    return _converted(RESNET[blocks], moved, channels, out_channels, dropout)


def _converted(network: str, moved: Tensors, channels: int, out_channels: int, dropout: bool) -> Converted:
    first_norm = "downs.1.1" if network in U_NET.values() else "body.2"
    batch = f"{first_norm}.weight" in moved
    notes: tuple[str, ...] = ()
    norm = "instance"
    if batch and dropout:
        norm = "batch"
        notes = (
            "as in pix2pix, it predicts with the statistics of the image, and with dropout; running means are left out",
        )
    elif batch:
        norm = "frozen-batch"
        notes = ("it has no dropout, and predicts with the running means of the training",)
    kept = {
        f"generator.{name}": tensor
        for name, tensor in moved.items()
        if norm == "frozen-batch" or not name.endswith(STATISTICS)
    }
    fields = {"source": Image(channels), "target": Image(out_channels)}
    size = (SIZES[network], SIZES[network])
    return ConvertedModel(network, kept, "translation", {"norm": norm}, fields, size, notes=notes)


@dataclass(frozen=True)
class ConvertedDiscriminator(Converted):
    """Weights of a PatchGAN, which `load_discriminator` reads.

    Attributes:
        options: arguments of `PatchGAN`.
    """

    options: dict[str, Any]

    def build(self) -> PatchGAN:
        return build_converted(lambda: PatchGAN(**self.options), self.tensors, "PatchGAN").eval()

    def save(self, out: Path, source: str, terms: str) -> None:
        stated = {"origin": source, "licence": terms}
        save_discriminator(self.build(), out, self.options, **stated)


def convert_discriminator(tensors: Tensors) -> Converted:
    """A PatchGAN of n layers, "NLayerDiscriminator", or of 1x1 convolutions, "PixelDiscriminator"."""
    root = "net" if "net.0.weight" in tensors else "model"
    last = max(int(name.split(".")[1]) for name in tensors)
    moved = rename(tensors, [(rf"{root}\.{last}\.", "predict."), (rf"{root}\.", "body.")])
    batch = "body.3.weight" in moved and moved["body.3.weight"].ndim == 1
    if not batch:
        moved = {name: tensor for name, tensor in moved.items() if not name.endswith(STATISTICS)}
    first = moved["body.0.weight"]
    options = {
        "in_channels": first.shape[1],
        # Convolutions are at 0, 2, 5, 8, ..., of which the last two have no stride.
        "num_layers": 0 if first.shape[-1] == 1 else (last - 2) // 3,
        "norm": "batch" if batch else "instance",
        "use_bias": "body.2.bias" in moved,
        "width": first.shape[0],
    }
    return ConvertedDiscriminator("PatchGAN", moved, options)


AUTHORS = "pix2pix and CycleGAN in PyTorch (Zhu, Park)"
LAYOUTS = (
    Layout(
        f"{AUTHORS}, U-Net generator",
        tuple(U_NET.values()),
        {
            "model.model.0.weight": (64, None, 4, 4),
            "model.model.3.weight": (128, None, 4, 4),
            "model.model.3.bias": None,
        },
        convert_unet,
    ),
    Layout(
        f"{AUTHORS}, ResNet generator",
        tuple(RESNET.values()),
        {"model.1.weight": (64, None, 7, 7), "model.10.conv_block.1.weight": (256, 256, 3, 3)},
        convert_resnet,
    ),
    Layout(
        f"{AUTHORS}, discriminator",
        ("patchgan",),
        {"model.0.weight": (64, None, 4, 4), "model.0.bias": (64,), "model.2.weight": (None, 64, 4, 4)},
        convert_discriminator,
    ),
    Layout(
        f"{AUTHORS}, discriminator of pixels",
        ("patchgan",),
        {"net.0.weight": (64, None, 1, 1), "net.2.weight": (128, 64, 1, 1), "net.5.weight": (1, 128, 1, 1)},
        convert_discriminator,
    ),
)
