"""What several papers' backbones share. A layer that one paper alone uses stands in that paper's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..atomic_io import json_text
from ..errors import UserError
from ..schema import MAX_CHANNELS, Closed, Schema, create_dataclass, short, validate, validate_json
from .backbone import Backbone


@dataclass(frozen=True)
class LRN:
    """Constants of local response normalization; the default is the paper's, see `LocalResponseNorm`.

    Attributes:
        size: how many channels are added up; odd.
        alpha: factor of their sum of squares, not divided by `size`.
        beta: exponent.
        k: what is added to the sum.
    """

    size: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    @classmethod
    def parse(cls, value: LRN | Mapping[str, Any] | str) -> LRN:
        """Constants from an option or from the text in a weights file's metadata.

        Args:
            value: a table of the attributes, or its JSON. Older files name the size n, and state in `alpha_is` whether
                alpha is divided by it.

        Raises:
            UserError: another form.
        """
        if isinstance(value, LRN):
            return value
        text = value if isinstance(value, str) else json_text(value)
        remedy = f"use '{cls()}', with an odd size"
        stated = validate_json(Schema, text, "lrn", remedy).model_dump()
        if divided := stated.pop("alpha_is", None):
            old = validate(OldLRN, {**stated, "alpha_is": divided}, "lrn", remedy)
            stated = {"size": old.n, "alpha": old.alpha / (old.n if old.alpha_is == "divided by n" else 1)}
            stated |= {"beta": old.beta, "k": old.k}
        constants = create_dataclass(cls, stated, "lrn", remedy)
        if len(stated) < 4 or constants.size % 2 == 0:
            raise UserError(f"lrn='{short(value)}' is not understood; {remedy}.")
        return constants

    def __str__(self) -> str:
        return json_text(asdict(self))


class OldLRN(Closed):
    """The constants in older files, which name the size n and say whether alpha is divided by it."""

    n: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    alpha: float
    alpha_is: Literal["divided by n", "not divided"]
    beta: float
    k: float


class LocalResponseNorm(nn.Module):
    """Response normalization of Krizhevsky, Sutskever, Hinton 2012 (AlexNet), section 3.3, over neighboring channels:

        b_i = a_i / (k + alpha * SUM_j a_j²)^beta,    j from i - size/2 to i + size/2, rounded down

    The paper prints k = 2, n = 5 (our `size`), alpha = 1e-4 and beta = 0.75; channels beyond the first and the last do
    not exist. torch and Caffe divide alpha by the size, at the borders too: their alpha is 5 times the paper's, and
    Caffe's alpha of 1e-4 is 2e-5 here.
    """

    def __init__(self, constants: LRN = LRN()) -> None:
        super().__init__()
        self.constants = constants

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) of the same, in its dtype. Half precision is too coarse for squares: float32 inside."""
        precise = maps if maps.dtype == torch.float64 else maps.float()
        size, alpha, beta, k = astuple(self.constants)
        return functional.local_response_norm(precise, size, alpha * size, beta, k).to(maps.dtype)

    def extra_repr(self) -> str:
        return str(self.constants)


def linear_as_convolution(linear: nn.Linear, maps: Tensor, side: int = 1) -> Tensor:
    """A fully connected layer at every place of a map where its input fits: the dense evaluation of Simonyan and
    Zisserman 2014 (arXiv:1409.1556), section 3.2.

    Args:
        linear: of `channels * side * side` inputs, flattened channels first, as torch's `flatten(1)` does.
        maps: (B, channels, h, w).
        side: of the square of units that the layer sees.

    Returns:
        (B, linear.out_features, h - side + 1, w - side + 1).

    Raises:
        UserError: the map is smaller than the square.
    """
    height, width = maps.shape[-2:]
    if min(height, width) < side:
        raise UserError(
            f"The classifier sees {side} x {side} units at once, and this image has {height} x {width}; "
            "give a larger one."
        )
    return functional.conv2d(maps, linear.weight.unflatten(1, (-1, side, side)), linear.bias)


def classifier_as_convolutions(classifier: nn.Sequential, maps: Tensor, side: int) -> Tensor:
    """Linear layers and ReLUs of a classifier at every place of a map without its dropout, see `linear_as_convolution`.

    The first linear layer sees `side * side` units. Returns (B, num_classes, h - side + 1, w - side + 1).
    """
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            maps, side = linear_as_convolution(layer, maps, side), 1
        elif isinstance(layer, nn.ReLU):
            maps = layer(maps)
    return maps


class PooledBackbone(Backbone):
    """A backbone with global average pooling and one linear layer, `fc`, as classifier."""

    fc: nn.Linear

    def classify(self, coarsest: Tensor) -> Tensor:
        """(B, num_classes) logits of the last level, (B, channels, h, w)."""
        return self.fc(coarsest.mean((2, 3)))

    def forward(self, image: Tensor) -> Tensor:
        self.require_classifier()
        return self.classify(self.features(image)[-1])

    def forward_dense(self, image: Tensor) -> Tensor:
        self.require_classifier()
        return linear_as_convolution(self.fc, self.features(image)[-1])
