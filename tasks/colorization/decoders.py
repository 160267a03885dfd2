"""Decoders of the network output: classification into 313 color bins, or regression of a and b."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...datasets.dataset import Dataset
from ..heads.head import init_prediction
from .encoding import BINS, color_bins, measured_prior
from .lab import AB_RANGE

TEMPERATURE = 0.38
"""Temperature of the annealed mean: Zhang et al. 2016, section 2.3, between mode (0, vivid and speckled) and mean (1,
dull). The released network multiplies its logits by 2.606, a temperature of 0.3837."""

CHROMA_SCALE = 30.0
"""Scale of the initial prior: a bin of chroma c starts exp(-c / 30) times as likely as gray."""


class BinClassification(nn.Module):
    """Decoder of logits over the 313 color bins.

    Attributes:
        channels: output channels of the network.
        bins: (313, 2) a and b; derived, not in the state dict.
        prior: (313,) frequencies of the bins in the training set; uniform before training.
    """

    channels = BINS
    bins: Tensor
    prior: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bins", torch.tensor(color_bins(), dtype=torch.float32), persistent=False)
        self.register_buffer("prior", torch.full((BINS,), 1 / BINS))

    def forward(self, logits: Tensor) -> Tensor:
        """(B, 313, h, w) logits to (B, 3, h, w): a, b, and confidence from 0 (uniform) to 1 (a single bin).

        Confidence is 1 - entropy / ln 313 of the probabilities before annealing.
        """
        log = logits.log_softmax(1)
        entropy = -(log.exp() * log).sum(1, keepdim=True)
        return torch.cat([annealed_mean(logits, self.bins), 1 - entropy / math.log(BINS)], 1)

    def calibrate(self, dataset: Dataset) -> None:
        """Measure the color distribution of a training set, for class rebalancing."""
        self.prior.copy_(torch.from_numpy(measured_prior(dataset)))

    def init_last_layer(self, last: nn.Conv2d) -> None:
        """Initialize the last layer to a grayish color distribution everywhere, as in photos."""
        init_prediction(last, -self.bins.norm(dim=1) / CHROMA_SCALE)


class Regression(nn.Module):
    """Decoder of a and b in units of 110: the paper's baseline, which averages plausible colors to gray."""

    channels = 2

    def forward(self, raw: Tensor) -> Tensor:
        """(B, 2, h, w) to (B, 2, h, w) a and b, without confidence."""
        return raw * AB_RANGE

    def calibrate(self, dataset: Dataset) -> None:
        """Nothing is measured."""

    def init_last_layer(self, last: nn.Conv2d) -> None:
        """Initialize the last layer to gray everywhere."""
        init_prediction(last)


DECODERS: dict[str, type[BinClassification] | type[Regression]] = {"bins": BinClassification, "regression": Regression}


def annealed_mean(logits: Tensor, bins: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Annealed mean of the bins, under softmax(logits / T): the mean at T = 1, the mode as T goes to 0.

    Args:
        logits: (B, Q, h, w) logits or log probabilities.
        bins: (Q, 2).
        temperature: T, above 0.

    Returns:
        (B, 2, h, w) a and b.

    Source: Zhang et al. 2016, equation 5.
    """
    return functional.conv2d((logits / temperature).softmax(1), bins.T[..., None, None])
