"""Fréchet inception distance (FID): the distance of two sets of images in the feature space of a network.

Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs Trained by a Two Time-Scale Update Rule. NeurIPS 2017,
arXiv:1706.08500. For the means and covariances of the images' 2048 features,

    d² = |m1 - m2|² + Tr(S1 + S2 - 2 (S1 S2)^(1/2)).

It is called FID only with the features of the TensorFlow Inception of 2015, and its bilinear resize without a filter;
both come with torchmetrics. With fewer than 2,048 images the covariances lack rank and the distance is too large:
compare only values of equal numbers of images.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from ...errors import UserError

FEATURES = 2048
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"

FeatureExtractor = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB to (2048,) float32 features."""


@cache
def inception() -> FeatureExtractor:
    """The Inception network of 2015 with its weights, which are downloaded on the first call.

    Raises:
        UserError: a library is not installed, or the weights cannot be downloaded.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance  # pyright: ignore[reportMissingImports] - optional

        network = FrechetInceptionDistance(feature=FEATURES, antialias=False).inception
    except ImportError as missing:
        raise UserError(
            'The protocol fid needs torchmetrics and torch-fidelity: pip install "torchmetrics[image]".'
        ) from missing
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"The protocol fid needs the Inception weights of 2015, which cannot be downloaded ({error}): put the file "
            f"{WEIGHTS} of torch-fidelity's release 0.2.0 into {torch.hub.get_dir()}/checkpoints."
        ) from error

    @torch.inference_mode()
    def extract(image: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(image.copy()).movedim(-1, 0)[None])[0].numpy()

    return extract


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """d² between two sets of features, (n, d) and (m, d); nan if one has fewer than two rows.

    With S1 = X'X and S2 = Y'Y for the centered and scaled features X and Y, Tr (S1 S2)^(1/2) is the sum of the singular
    values of XY': exact without full rank, and without the root of a matrix.
    """
    if min(len(first), len(second)) < 2:
        return float("nan")
    first, second = first.astype(np.float64), second.astype(np.float64)
    difference = first.mean(axis=0) - second.mean(axis=0)
    x, y = _covariance_factor(first), _covariance_factor(second)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max(0.0, difference @ difference + (x**2).sum() + (y**2).sum() - 2 * cross))


def _covariance_factor(features: np.ndarray) -> np.ndarray:
    """A matrix X of at most d rows with X'X = the covariance."""
    scaled = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(scaled, mode="r")) if len(scaled) > scaled.shape[1] else scaled
