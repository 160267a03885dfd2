"""Our backbones as encoders of segmentation-models-pytorch (Iakubovskii, qubvel/segmentation_models.pytorch).

>>> register_in_smp()
>>> model = smp.Unet("densevision-resnet50", encoder_weights="imagenet", classes=5)

The library knows encoders by name. Its table has no place for weights that do not lie on its hub, so the functions that
read the table are replaced, wherever the library uses them, by ones that look up ours first.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn
from torch.nn import functional

from ...errors import UserError
from .. import create_backbone, list_backbones
from ..dilation import dilate
from ..weights import WEIGHTS, read_weights_info

PREFIX = "densevision-"
THEIRS = (smp.encoders.get_encoder, smp.encoders.get_encoder_names, smp.encoders.get_preprocessing_params)
UNDILATED = 32
"""The library's word for an encoder that is not dilated."""
OUTPUT_STRIDES = (8, 16, UNDILATED)


class EncoderError(UserError, ValueError):
    """What the library reports as a ValueError, as a sentence for the user."""


class BackboneEncoder(nn.Module, EncoderMixin):
    """A backbone as the library's decoders want it: the image, then one map for each of the strides 2, 4, ... 2^depth.

    Every stride takes the backbone's deepest level of it. Where there is none (AlexNet has no stride 2), it takes the
    next coarser one. Maps that are not side / stride units large, rounded up, are interpolated to that: those, and the
    maps of backbones that pad less than they reach (AlexNet 2012, Inception-v4).

    With an output stride of 8 or 16, as DeepLabV3 and PAN want it, the backbone is dilated (`dilation.dilate`), and its
    coarser maps have that stride.

    Args:
        network: as `create_backbone`.
        depth: how many times the image is halved.
        weights: as `create_backbone`.
        in_channels: channels of the image.
        output_stride: 32 (not dilated), 16 or 8.
        options: the network's own (`stride_in="1x1"`).

    Raises:
        UserError: as `create_backbone`.
        EncoderError: a backbone that does not reach the depth, or that cannot be dilated.
    """

    _is_torch_scriptable = False

    def __init__(
        self,
        network: str,
        depth: int = 5,
        weights: str | Path | None = None,
        in_channels: int = 3,
        output_stride: int = UNDILATED,
        **options: Any,
    ) -> None:
        super().__init__()
        if output_stride not in OUTPUT_STRIDES:
            raise EncoderError(f"The output stride of '{network}' is 8, 16 or 32 (not dilated), not {output_stride}.")
        with torch.device("meta"):
            levels = create_backbone(network, num_classes=0, **options).levels
        reached = int(math.log2(levels[-1].stride))
        if not 1 <= depth <= reached:
            raise EncoderError(
                f"{network} halves an image {reached} times; give encoder_depth=1 to {reached} "
                f"(and as many decoder_channels), not {depth}."
            )
        self.chosen = [
            max(position for position, level in enumerate(levels) if level.stride == stride)
            for step in range(1, depth + 1)
            for stride in [min(level.stride for level in levels if level.stride >= 2**step)]
        ]
        built = self.chosen[-1] + 1
        self.backbone = create_backbone(
            network, weights, num_classes=0, in_channels=in_channels, levels=built, **options
        )
        self._in_channels = in_channels
        self._depth = depth
        self._out_channels = [in_channels, *(levels[position].channels for position in self.chosen)]
        self._output_stride = output_stride
        if levels[self.chosen[-1]].stride > output_stride:
            try:
                dilate(self.backbone, output_stride)
            except ValueError as error:
                raise EncoderError(f"{error}; use encoder_output_stride={UNDILATED}, or FPN or UPerNet.") from error

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) and behind it `depth` maps (B, out_channels[i], ⌈H / 2^i⌉, ⌈W / 2^i⌉).

        No map is coarser than the output stride.
        """
        maps = self.backbone.features(image)
        pyramid = [image]
        for step, position in enumerate(self.chosen, 1):
            size = [math.ceil(side / min(2**step, self._output_stride)) for side in image.shape[-2:]]
            made = maps[position]
            if list(made.shape[-2:]) != size:
                made = functional.interpolate(made, size, mode="bilinear", align_corners=False)
            pyramid.append(made)
        return pyramid


def register_in_smp() -> None:
    """Let segmentation-models-pytorch know every backbone of `list_backbones()` as "densevision-NAME".

    Then `smp.Unet("densevision-resnet50")` and all its other networks take them, with `encoder_weights` ("imagenet",
    another published name, a path, or None), `encoder_depth`, `in_channels`, and the backbone's options by their names
    (`stride_in="1x1"`). Doing it twice is doing it once.
    """
    ours_for_theirs = zip((get_encoder, get_encoder_names, get_preprocessing_params), THEIRS, strict=True)
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == smp.__name__]
    for ours, theirs in ours_for_theirs:
        for module in modules:
            if getattr(module, theirs.__name__, None) is theirs:
                setattr(module, theirs.__name__, ours)


def get_encoder(
    name: str,
    in_channels: int = 3,
    depth: int = 5,
    weights: str | Path | None = None,
    output_stride: int = UNDILATED,
    encoder_weights: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Replacement of the library's function that handles the names of this package.

    The weights may also be named `encoder_weights`, as everywhere else in the library.

    Raises:
        UserError: as `BackboneEncoder`.
    """
    if not name.startswith(PREFIX):
        return THEIRS[0](name, in_channels, depth, weights, output_stride, **options)
    given = encoder_weights if weights is None else weights
    return BackboneEncoder(name.removeprefix(PREFIX), depth, given, in_channels, output_stride, **options)


def get_encoder_names() -> list[str]:
    """The library's function of this name, with our names behind its own."""
    return [*THEIRS[1](), *(PREFIX + name for name in list_backbones())]


def get_preprocessing_params(encoder_name: str, pretrained: str = "imagenet") -> dict[str, Any]:
    """The library's function of this name: order, range, mean and std that some weights expect.

    Raises:
        EncoderError: no such weights.
    """
    if not encoder_name.startswith(PREFIX):
        return THEIRS[2](encoder_name, pretrained)
    published = f"{encoder_name.removeprefix(PREFIX)}/{pretrained}"
    try:
        stated = read_weights_info(published if published in WEIGHTS else str(pretrained))["preprocessing"]
    except (UserError, KeyError) as error:
        raise EncoderError(f"There is no preprocessing of '{encoder_name}' for the weights '{pretrained}'.") from error
    return {
        "input_space": stated["order"],
        "input_range": list(stated["range"]),
        "mean": list(stated["mean"]),
        "std": list(stated["std"]),
    }
