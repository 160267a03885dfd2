"""Scores of restoration, each under a named protocol.

psnr and ssim as in `tasks.likeness`: for each picture and then the mean, not that of the mean MSE.

Convention: both pictures are uint8 RGB, restored ones clipped and rounded as a saved file would be. The order is
channel, border, error, in float64. Y is computed from the rounded RGB and, unless the protocol says so, not rounded
again (MATLAB's `rgb2ycbcr` of uint8 would).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.fields import Image
from ...errors import unknown_name
from ..likeness import mean_score, psnr, ssim
from ..task import Metrics, Prediction
from .restored import Restored

STUDIO_LUMA = np.array((65.481, 128.553, 24.966))
"""Of R, G, B in [0, 1] (BT.601), on top of 16: from 16 to 235, what published Y scores use."""
FULL_LUMA = np.array((0.299, 0.587, 0.114))
"""From 0 to 255, OpenCV's Y: the same error scores 20 log10(255 / 219) = 1.322 dB lower."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Attributes:
        name: printed with every score.
        channel: all three colours at once; Y of the studio range; Y of the full range, rounded to integers.
        border: pixels left out on every side (super-resolution leaves out its factor).
    """

    name: str
    channel: Literal["rgb", "y-studio", "y-full"]
    border: int = 0


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("rgb", "rgb"),
        Protocol("y-studio", "y-studio"),
        *(Protocol(f"y-studio-crop{border}", "y-studio", border) for border in (2, 3, 4)),
        Protocol("y-full", "y-full"),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        UserError: no such protocol; the nearest name is offered.
    """
    if name not in PROTOCOLS:
        raise unknown_name("restoration protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


class RestorationMetrics(Metrics):
    """psnr (dB), ssim and samples, under one protocol. A picture smaller than the window has no ssim."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._rows: list[tuple[float, float]] = []

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one picture. One of which the border leaves nothing is left out.

        Args:
            prediction: a `Restored`.
            truth: a sample whose "image" is the clean picture.

        Raises:
            ValueError: the two differ in size.
        """
        if not isinstance(prediction, Restored):
            raise TypeError(f"restoration is judged on a Restored, not on a {type(prediction).__name__}")
        clean = Image().draw(truth["image"])
        if prediction.pixels.shape != clean.shape:
            raise ValueError(f"a picture of {prediction.pixels.shape} cannot be compared with one of {clean.shape}")
        first, second = (compared_values(picture, self.protocol) for picture in (prediction.pixels, clean))
        if first.size:
            self._rows.append((psnr(first, second), ssim(first, second)))

    def state(self) -> list[tuple[float, float]]:
        """psnr and ssim of every picture."""
        return list(self._rows)

    def merge(self, states: Iterable[list[tuple[float, float]]]) -> None:
        """See `Metrics.merge`."""
        self._rows = [row for state in states for row in state]

    def compute(self) -> dict[str, float]:
        """The means over the pictures; `samples` is how many counted."""
        ratios, likenesses = ([row[place] for row in self._rows] for place in (0, 1))
        return {"psnr": mean_score(ratios), "ssim": mean_score(likenesses), "samples": float(len(self._rows))}


def compared_values(picture: np.ndarray, protocol: Protocol) -> np.ndarray:
    """What of a picture is compared: (h, w, channels) float64 in 0..255.

    Args:
        picture: (H, W, 3) uint8 RGB.
        protocol: which channel, without which border.
    """
    values = picture.astype(np.float64)
    if protocol.channel == "y-studio":
        values = 16 + values @ STUDIO_LUMA[:, None] / 255
    elif protocol.channel == "y-full":
        values = np.round(values @ FULL_LUMA[:, None])
    border = protocol.border
    return values[border : values.shape[0] - border, border : values.shape[1] - border]
