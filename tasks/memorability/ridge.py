"""Ridge regression on frozen features, in closed form: what hundreds of rated photos allow.

The features are those of a complete image: for every channel of every level of a backbone, the mean and the standard
deviation over the positions. They are standardized over the training images. The penalty is chosen by cross-validation
inside the training set, so that no other image decides anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Level
from .metrics import spearman

PENALTIES = tuple(float(penalty) for penalty in np.logspace(0, 5, 11))
"""Penalties of the squared coefficients of standardized features, beside the sum of squared errors."""

FOLDS = 5
"""Parts of the training set, each of which is predicted by a fit to the others; sample i belongs to part i mod 5."""

EPSILON = 1e-12
"""Added to variances: the gradient of the square root of 0 is infinite."""


@dataclass(frozen=True)
class RidgeFit:
    """Coefficients of a ridge regression, and how it predicts samples that it was not fitted to.

    Attributes:
        weight: (F,), for features that are not standardized.
        bias: the prediction is `features @ weight + bias`.
        penalty: one of `PENALTIES`.
        rho, mse: Spearman's rank correlation (nan if undefined) and mean squared error in cross-validation.
    """

    weight: np.ndarray
    bias: float
    penalty: float
    rho: float
    mse: float


def fit_ridge(features: np.ndarray, scores: np.ndarray) -> RidgeFit:
    """Fit scores (N,), with the penalty of the least squared error in cross-validation, to features (N, F)."""
    part = np.arange(len(scores)) % FOLDS
    predicted = np.full((len(PENALTIES), len(scores)), scores.mean())
    for fold in range(min(FOLDS, len(scores))):
        if (rest := part != fold).any():
            weights, biases = _solutions(features[rest], scores[rest])
            predicted[:, ~rest] = weights @ features[~rest].T + biases[:, None]
    errors = ((predicted - scores) ** 2).mean(1)
    best = int(errors.argmin())
    weights, biases = _solutions(features, scores)
    rho = float(spearman(predicted[best], scores))
    return RidgeFit(weights[best], float(biases[best]), PENALTIES[best], rho, float(errors[best]))


def _solutions(features: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (P, F) and biases (P,) for all `PENALTIES`, from one singular value decomposition."""
    mean, deviation = features.mean(0), features.std(0)
    # A constant feature, up to rounding, says nothing: its weight is 0.
    deviation[deviation <= 1e-6 * np.abs(mean)] = np.inf
    left, singular, right = np.linalg.svd((features - mean) / deviation, full_matrices=False)
    shrinkage = singular / (singular**2 + np.array(PENALTIES)[:, None])
    # Of equal values, the differences to their mean are rounding errors.
    centered = scores - scores.mean() if np.ptp(scores) else np.zeros_like(scores)
    weights = (shrinkage * (left.T @ centered)) @ right / deviation
    return weights, scores.mean() - weights @ mean


class Ridge(nn.Module):
    """The score as a linear function of means and standard deviations, fitted in closed form and not trained.

    Its coefficients are therefore buffers: no step changes them.

    Args:
        levels: the levels of the backbone.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(2 * sum(level.channels for level in levels)))
        self.register_buffer("bias", torch.zeros(()))

    def fit(self, features: np.ndarray, scores: np.ndarray) -> RidgeFit:
        """Fit the coefficients to features (N, F) of `statistics` and scores (N,)."""
        fit = fit_ridge(features.astype(np.float64), scores)
        self.weight.copy_(torch.from_numpy(fit.weight))
        self.bias.fill_(fit.bias)
        return fit

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, h, w) of all levels to (B, 1) scores, float32."""
        # Not as a matrix product, which mixed precision would round.
        return (statistics(features) * self.weight).sum(1, keepdim=True) + self.bias

    def forward_dense(self, features: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, h, w) of all levels to the shares of the positions in the score, (B, 1, h, w) of the last level.

        Means are sums over positions, and so are standard deviations, of squares divided by them. Shares of finer
        levels are averaged. The mean of the shares is the score where sizes are multiples of each other.
        """
        size = features[-1].shape[-2], features[-1].shape[-1]
        total, start = self.bias, 0
        for feature_map in features:
            maps = feature_map.float()
            mean, deviation = (each[..., None, None] for each in _moments(maps))
            channels = maps.shape[1]
            weights = self.weight[start : start + 2 * channels].view(2, channels, 1, 1)
            share = weights[0] * maps + weights[1] * (maps - mean) ** 2 / deviation
            total = total + functional.adaptive_avg_pool2d(share.sum(1, keepdim=True), size)
            start += 2 * channels
        return total


def statistics(features: Sequence[Tensor]) -> Tensor:
    """Mean and standard deviation over the positions of maps (B, C, h, w), as (B, F) float32, level by level."""
    return torch.cat([moment for maps in features for moment in _moments(maps.float())], 1)


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (B, C) each, over the positions of (B, C, h, w)."""
    variance, mean = torch.var_mean(maps, (2, 3), correction=0)
    return mean, (variance + EPSILON).sqrt()
