"""What a network may answer for a pixel's colour: a choice among 313 bins, or a and b themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .bins import BINS, colour_bins
from .lab import AB_RANGE

TEMPERATURE = 0.38
"""Zhang et al. 2016, section 2.3: between the mode (0), which is vivid and speckled, and the mean (1), which is dull.
The released network multiplies its logits by 2.606, a temperature of 0.3837."""

USUAL_CHROMA = 30.0
"""An untrained network takes the colour of chroma c for exp(-c / 30) as likely as grey."""

LAST_LAYER_STD = 0.01


class Classes(nn.Module):
    """Logits of the 313 bins, and from them a colour.

    Attributes:
        channels: of the network's answer.
        bins: (313, 2) a and b; derived, not stored.
        prior: (313,) how often each bin occurs in the training set; uniform until a training measured it.
    """

    channels = BINS
    bins: Tensor
    prior: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bins", torch.tensor(colour_bins(), dtype=torch.float32), persistent=False)
        self.register_buffer("prior", torch.full((BINS,), 1 / BINS))

    def forward(self, raw: Tensor) -> Tensor:
        """(B, 313, h, w) logits to (B, 3, h, w): a, b, and sureness from 0 (any colour) to 1 (this bin and no other).

        Sureness is 1 - entropy / ln 313 of the probabilities before they are annealed.
        """
        log = raw.log_softmax(1)
        entropy = -(log.exp() * log).sum(1, keepdim=True)
        return torch.cat([annealed_mean(raw, self.bins), 1 - entropy / math.log(BINS)], 1)

    def start(self, last: nn.Conv2d) -> None:
        """Let a last layer answer about the same everywhere: greyish, as photographs are."""
        _start(last, -self.bins.norm(dim=1) / USUAL_CHROMA)


class Regression(nn.Module):
    """a and b in units of 110: the paper's baseline, whose answer to several likely colours is the grey between."""

    channels = 2

    def forward(self, raw: Tensor) -> Tensor:
        """(B, 2, h, w) to (B, 2, h, w) a and b; nothing is said of sureness."""
        return raw * AB_RANGE

    def start(self, last: nn.Conv2d) -> None:
        """Let a last layer answer about grey."""
        _start(last, torch.zeros(2))


ANSWERS: dict[str, type[Classes] | type[Regression]] = {"classes": Classes, "regression": Regression}


def annealed_mean(logits: Tensor, bins: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The mean of the bins under softmax(logits / T): the mean at T = 1, the mode towards 0.

    Args:
        logits: (B, Q, h, w); log probabilities do as well.
        bins: (Q, 2).
        temperature: T, above 0.

    Returns:
        (B, 2, h, w) a and b.

    Source: Zhang et al. 2016, equation 5.
    """
    return functional.conv2d((logits / temperature).softmax(1), bins.T[..., None, None])


def _start(last: nn.Conv2d, bias: Tensor) -> None:
    assert last.bias is not None
    with torch.no_grad():
        nn.init.normal_(last.weight, 0.0, LAST_LAYER_STD)
        last.bias.copy_(bias)
