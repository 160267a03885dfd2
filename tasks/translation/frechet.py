"""Fréchet Inception Distance: how far apart two sets of pictures are, as a network sees them.

Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs Trained by a Two Time-Scale Update Rule. NeurIPS 2017,
arXiv:1706.08500. For the means and covariances of the pictures' 2048 features,

    d² = |m1 - m2|² + Tr(S1 + S2 - 2 (S1 S2)^(1/2)).

Only with the features of the TensorFlow Inception of 2015, and its bilinear resize without a filter, is it called FID;
both come with torchmetrics. Of fewer than 2,048 pictures the covariances lack rank and the distance is too large:
compare numbers of equally many pictures only.
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

Eye = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB to (2048,) float32 features."""


@cache
def inception() -> Eye:
    """The network that sees, with its weights; they are fetched at the first time.

    Raises:
        UserError: what it takes is not installed, or the weights cannot be had.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance  # pyright: ignore[reportMissingImports] - optional

        network = FrechetInceptionDistance(feature=FEATURES, antialias=False).inception
    except ImportError as missing:
        raise UserError(
            'The protocol fid takes torchmetrics and torch-fidelity: pip install "torchmetrics[image]".'
        ) from missing
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"The protocol fid takes the Inception of 2015, whose weights cannot be had ({error}): put the file "
            f"{WEIGHTS} of torch-fidelity's release 0.2.0 into {torch.hub.get_dir()}/checkpoints."
        ) from error

    @torch.inference_mode()
    def see(picture: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(picture.copy()).movedim(-1, 0)[None])[0].numpy()

    return see


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """d² between two sets of features, (n, d) and (m, d); nan where one has fewer than two rows.

    With S1 = X'X and S2 = Y'Y for the centred and scaled features X and Y, Tr (S1 S2)^(1/2) is the sum of the singular
    values of XY': exact without rank, and no root of a matrix is taken.
    """
    if min(len(first), len(second)) < 2:
        return float("nan")
    first, second = first.astype(np.float64), second.astype(np.float64)
    apart = first.mean(axis=0) - second.mean(axis=0)
    x, y = _spread(first), _spread(second)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max(0.0, apart @ apart + (x**2).sum() + (y**2).sum() - 2 * cross))


def _spread(features: np.ndarray) -> np.ndarray:
    """A matrix X of at most d rows with X'X = the covariance."""
    spread = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(spread, mode="r")) if len(spread) > spread.shape[1] else spread
