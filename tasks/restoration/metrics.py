"""Restored images, and metrics of image restoration (PSNR, SSIM) with their protocols.

psnr and ssim are those of `tasks.image_quality`: per image, then averaged (not the PSNR of the mean MSE).

Convention: both images are uint8 RGB; restored ones are clipped and rounded as in a saved file. The order is channel,
border, error, in float64. Y is computed from the rounded RGB and not rounded again unless the protocol says so
(`rgb2ycbcr` of MATLAB for uint8 would round).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.field_types import Image
from ..image_quality import mean_score, psnr, ssim
from ..prediction import ImagePrediction, Prediction, eight_bits
from ..task import RowMetrics


@dataclass(frozen=True, repr=False)
class RestoredImage(ImagePrediction):
    """A restored image, saved as STEM_restored.png."""

    suffix: ClassVar[str] = "restored"

    @classmethod
    def from_floats(cls, values: np.ndarray) -> RestoredImage:
        """Convert (H, W, 3) floats, clipped to [0, 1], to uint8."""
        return cls(eight_bits(values))


BT601_LUMA = np.array((65.481, 128.553, 24.966))
"""BT.601 weights of R, G, B in [0, 1], plus an offset of 16: Y is from 16 to 235, as in published Y scores."""
FULL_RANGE_LUMA = np.array((0.299, 0.587, 0.114))
"""Weights for Y from 0 to 255, as in OpenCV: PSNR is 20 log10(255 / 219) = 1.322 dB lower for the same error."""


@dataclass(frozen=True)
class Protocol:
    """Compared channel and crop.

    Attributes:
        name: name that is printed with every score.
        channel: "rgb" is all three channels; "y-bt601" is Y from 16 to 235; "y-full" is Y from 0 to 255, rounded to
            integers.
        border: width of the border in pixels that is not evaluated (the factor, for super-resolution).
    """

    name: str
    channel: Literal["rgb", "y-bt601", "y-full"]
    border: int = 0


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("rgb", "rgb"),
        Protocol("y-bt601", "y-bt601"),
        *(Protocol(f"y-bt601-crop{border}", "y-bt601", border) for border in (2, 3, 4)),
        Protocol("y-full", "y-full"),
    )
}


class RestorationMetrics(RowMetrics):
    """psnr (dB), ssim and samples, under one protocol. Images smaller than the SSIM window have no ssim."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__()
        self.protocol = protocol

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Add one image, of which "image" is the clean one; it does not count if it is not larger than the border.

        Raises:
            ValueError: the sizes differ.
        """
        if not isinstance(prediction, RestoredImage):
            raise TypeError(f"restoration metrics need a RestoredImage, not {type(prediction).__name__}")
        clean = Image().colorize(ground_truth["image"])
        if prediction.pixels.shape != clean.shape:
            raise ValueError(f"an image of {prediction.pixels.shape} cannot be compared with one of {clean.shape}")
        first, second = (protocol_values(image, self.protocol) for image in (prediction.pixels, clean))
        if first.size:
            self.rows.append((psnr(first, second), ssim(first, second)))

    def compute(self) -> dict[str, float]:
        means = {name: mean_score(row[column] for row in self.rows) for column, name in enumerate(("psnr", "ssim"))}
        return {**means, "samples": float(len(self.rows))}


def protocol_values(image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Compared values of an image, (h, w, channels) float64 in 0..255.

    Args:
        image: (H, W, 3) uint8 RGB.
        protocol: determines the channels and the border.
    """
    values = image.astype(np.float64)
    if protocol.channel == "y-bt601":
        values = 16 + values @ BT601_LUMA[:, None] / 255
    elif protocol.channel == "y-full":
        values = np.round(values @ FULL_RANGE_LUMA[:, None])
    border = protocol.border
    return values[border : values.shape[0] - border, border : values.shape[1] - border]
