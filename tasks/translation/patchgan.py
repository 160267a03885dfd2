"""PatchGAN: a discriminator that classifies every patch of an image separately.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004,
section 3.2.2 and appendix 6.1.2. 4x4 convolutions with one pixel of padding: n of stride 2, then two of stride 1. For
six channels (a source beside an image) and batch normalization:

| n | patch, pixels | map of 256 | parameters | with biases |
| - | ------------- | ---------- | ---------- | ----------- |
| 0 | 1             | 256        | 9,024      | 9,153       |
| 1 | 16            | 126        | 139,585    | 139,713     |
| 2 | 34            | 62         | 666,433    | 666,817     |
| 3 | 70            | 30         | 2,768,705  | 2,769,601   |
| 4 | 142           | 14         | 6,964,033  | 6,965,441   |
| 5 | 286           | 6          | 11,159,361 | 11,161,281  |
| 6 | 574           | 2          | 15,354,689 | 15,357,121  |

Convolutions before a batch normalization have no bias, as in the authors' PyTorch port, or all have one (`use_bias`),
as in their Torch code. With n = 0 all three convolutions are 1x1, and the port leaves out the last one's bias too,
although no normalization follows it. The output is logits: the sigmoid is part of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from ...atomic_io import atomic_path, json_text
from ...backbones.backbone import Backbone, Level
from ...backbones.published import build_converted
from ...backbones.receptive_field import receptive_fields
from ...backbones.weights import open_file
from ...errors import UserError
from ...schema import MAX_CHANNELS, Closed, validate_json
from .layers import MAX_WIDTH_FACTOR, SLOPE, WIDTH, Norm, init_weights, needs_bias, normalization

MAX_LAYERS = 6


class PatchGAN(nn.Module):
    """A source beside an image in, a logit for every patch out: above 0 for real images.

    Args:
        in_channels: of the source and the image together; of the image alone for an unconditional discriminator.
        num_layers: n, number of strided layers, 0 to 6.
        norm: "batch" or "instance".
        use_bias: a bias in every convolution.
        width: channels of the first map.

    Attributes:
        min_size: minimum height and width of an image.

    Raises:
        UserError: another number of layers, or no such normalization.
    """

    def __init__(
        self, in_channels: int, num_layers: int = 3, norm: Norm = "batch", use_bias: bool = False, width: int = WIDTH
    ) -> None:
        super().__init__()
        if not 0 <= num_layers <= MAX_LAYERS:
            raise UserError(f"A PatchGAN has 0 to {MAX_LAYERS} strided layers, not {num_layers}.")
        self.in_channels, self.num_layers = in_channels, num_layers
        # After the strided layers a map needs three cells: each of the last two convolutions removes one.
        self.min_size = 3 * 2**num_layers if num_layers else 1
        bias = needs_bias(norm, use_bias)
        kernel, padding = (4, 1) if num_layers else (1, 0)
        self.body = nn.Sequential()
        channels = in_channels
        for level in range(max(num_layers, 1) + 1):
            out_channels = width * min(2**level, MAX_WIDTH_FACTOR)
            stride = 2 if level < num_layers else 1
            self.body.append(nn.Conv2d(channels, out_channels, kernel, stride, padding, bias=bias or level == 0))
            if level:
                self.body.append(normalization(norm, out_channels))
            self.body.append(nn.LeakyReLU(SLOPE))
            channels = out_channels
        self.predict = nn.Conv2d(channels, 1, kernel, 1, padding, bias=bias or num_layers > 0)
        init_weights(self)

    @property
    def receptive_field(self) -> int:
        """Height and width of a logit's patch, pixels, computed from the layers."""
        return int(receptive_fields(_DiscriminatorBackbone(self))["patches"].size)

    def forward(self, pair: Tensor) -> Tensor:
        """(B, in_channels, H, W) in [-1, 1] to logits (B, 1, h, w), h = ⌊H / 2^n⌋ - 2; with n = 0, h = H.

        The source's channels come first; H and W are at least `min_size`.

        Raises:
            UserError: an image that is too small for a single patch.
        """
        height, width = pair.shape[-2:]
        if min(height, width) < self.min_size:
            raise UserError(
                f"A PatchGAN of {self.num_layers} layers needs images of {self.min_size} pixels or more, and this one "
                f"is {width} wide and {height} high; train with a larger --image-size or fewer --discriminator-layers."
            )
        return self.predict(self.body(pair))


def save_discriminator(discriminator: PatchGAN, path: str | Path, options: Mapping[str, Any], **metadata: str) -> None:
    """Write a discriminator as a `.safetensors` file that `load_discriminator` reads.

    Args:
        discriminator: any.
        path: the file; written atomically.
        options: the arguments from which it was built.
        metadata: further entries: `origin`, `licence`.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in discriminator.state_dict().items()}
    with atomic_path(path) as aside:
        save_file(tensors, aside, {"network": "patchgan", "options": json_text(dict(options)), **metadata})


class Arguments(Closed):
    """Arguments of a `PatchGAN` in a file."""

    in_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    num_layers: int
    norm: Norm
    use_bias: bool
    width: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]


def load_discriminator(path: str | Path) -> PatchGAN:
    """The discriminator of a file that `save_discriminator` or `densevision weights import` wrote.

    Raises:
        UserError: there is no such file, or it is none of a discriminator, or damaged.
    """
    opened = open_file(Path(path))
    if opened.metadata.get("network") != "patchgan":
        raise UserError(f"{path} is no discriminator of `densevision weights import`: import the published file first.")
    where = f"'options' of {path}"
    arguments = validate_json(Arguments, opened.metadata.get("options", ""), where, "import the published file again")
    tensors = {name: opened.read(name) for name in opened.shapes}
    return build_converted(lambda: PatchGAN(**arguments.model_dump()), tensors, str(path))


class _DiscriminatorBackbone(Backbone):
    """A discriminator as a backbone with one level, for `receptive_fields`."""

    def __init__(self, discriminator: PatchGAN) -> None:
        super().__init__()
        self.discriminator = discriminator
        level = Level("patches", 2**discriminator.num_layers, 1)
        self._set_metadata("patchgan", [level], num_classes=0, in_channels=discriminator.in_channels, built=None)

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.discriminator(image)]
