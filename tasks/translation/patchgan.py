"""PatchGAN: a discriminator that judges every patch of a picture for itself.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004,
section 3.2.2 and appendix 6.1.2. 4x4 convolutions with one pixel of padding: n of stride 2, then two of stride 1. For
six channels (a source beside a picture) and normalisation by batches:

| n | sees, pixels | map of 256 | parameters | biased     |
| - | ------------ | ---------- | ---------- | ---------- |
| 0 | 1            | 256        | 9,024      | 9,153      |
| 1 | 16           | 126        | 139,585    | 139,713    |
| 2 | 34           | 62         | 666,433    | 666,817    |
| 3 | 70           | 30         | 2,768,705  | 2,769,601  |
| 4 | 142          | 14         | 6,964,033  | 6,965,441  |
| 5 | 286          | 6          | 11,159,361 | 11,161,281 |
| 6 | 574          | 2          | 15,354,689 | 15,357,121 |

Convolutions in front of a normalisation by batches have no bias, as in the authors' PyTorch port, or all have one
(`biased`), as in their Torch code. With n = 0 all three convolutions are 1x1, and the port leaves out the last one's
bias too, although no normalisation follows it. The answer is a logit: the sigmoid belongs to the loss.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...backbones.backbone import Backbone, Level
from ...backbones.receptive_field import receptive_fields
from ...errors import UserError
from .layers import SLOPE, Norm, needs_bias, normalization, start

WIDTH = 64
WIDEST = 8
"""Times `WIDTH`."""
MOST_LAYERS = 6


class PatchGAN(nn.Module):
    """A source beside a picture in, a logit for every patch out: above 0 where it looks real.

    Args:
        channels: of what is judged: the source's and the picture's; the picture's alone for a judge that does not know
            the source.
        layers: n, how often the picture is halved, 0 to 6.
        norm: "batch" or "instance".
        biased: a bias in every convolution.
        width: of the first map.

    Attributes:
        smallest: the least sides of a picture.

    Raises:
        UserError: another number of layers, or no such normalisation.
    """

    def __init__(
        self, channels: int, layers: int = 3, norm: Norm = "batch", biased: bool = False, width: int = WIDTH
    ) -> None:
        super().__init__()
        if not 0 <= layers <= MOST_LAYERS:
            raise UserError(f"A PatchGAN has 0 to {MOST_LAYERS} layers that halve the picture, not {layers}.")
        self.channels, self.layers = channels, layers
        # Behind the halvings a map needs three places: each of the last two convolutions takes one away.
        self.smallest = 3 * 2**layers if layers else 1
        bias = needs_bias(norm, biased)
        kernel, padding = (4, 1) if layers else (1, 0)
        self.body = nn.Sequential()
        before = channels
        for level in range(max(layers, 1) + 1):
            made = width * min(2**level, WIDEST)
            stride = 2 if level < layers else 1
            self.body.append(nn.Conv2d(before, made, kernel, stride, padding, bias=bias or level == 0))
            if level:
                self.body.append(normalization(norm, made))
            self.body.append(nn.LeakyReLU(SLOPE))
            before = made
        self.predict = nn.Conv2d(before, 1, kernel, 1, padding, bias=bias or layers > 0)
        start(self)

    @property
    def receptive_field(self) -> int:
        """Sides of the patch that a logit judges, pixels, followed through the layers as they are."""
        return int(receptive_fields(_Followed(self))["patches"].size)

    def forward(self, pair: Tensor) -> Tensor:
        """What every patch looks like.

        Args:
            pair: (B, channels, H, W) in [-1, 1], the source's channels first; H and W at least `smallest`.

        Returns:
            (B, 1, h, w) logits, h = ⌊H / 2^n⌋ - 2, with n = 0 h = H.

        Raises:
            UserError: a picture that is too small for a single patch.
        """
        height, width = pair.shape[-2:]
        if min(height, width) < self.smallest:
            raise UserError(
                f"A PatchGAN of {self.layers} layers judges pictures of {self.smallest} pixels and more, and this one "
                f"is {width} wide and {height} high; train at a larger --size or with fewer layers."
            )
        return self.predict(self.body(pair))


class _Followed(Backbone):
    """A discriminator as a trunk of one level, which is what receptive fields are followed through."""

    def __init__(self, judge: PatchGAN) -> None:
        super().__init__()
        self.judge = judge
        level = Level("patches", 2**judge.layers, 1)
        self.describe("patchgan", [level], classes=0, in_channels=judge.channels, built=None)

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.judge(image)]
