"""Metrics of view synthesis: PSNR, SSIM and the mean absolute error of an image, and the error of its depth.

Images are compared as 8-bit values without a border, in which sources see nothing and windows are cut off: 4 pixels
under the protocol `border-4` (small synthetic images), 8 under `border-8`. If a sample has a mask, only its pixels
count. abs_rel is the mean of |depth - true depth| / true depth, where a dataset has the depth. Scores are means over
images.
"""

from __future__ import annotations

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.field_types import Image
from ...errors import UserError
from ..image_quality import mean_score
from ..prediction import Prediction
from ..task import RowMetrics
from .new_view import NewView, compare

BORDERS = {"border-4": 4, "border-8": 8}


class ViewMetrics(RowMetrics):
    """A row of psnr, ssim, error and abs_rel per image."""

    def __init__(self, protocol: str) -> None:
        super().__init__()
        if protocol not in BORDERS:
            raise UserError(
                f"The task view_synthesis has the protocols {', '.join(BORDERS)}; there is no '{protocol}'."
            )
        self.border = BORDERS[protocol]

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one image; the sample has `image`, and optionally `depth` and `mask`.

        Raises:
            ValueError: the sizes differ.
        """
        assert isinstance(prediction, NewView)
        photo, border = Image().colorize(ground_truth["image"]), self.border
        if prediction.pixels.shape != photo.shape:
            raise ValueError(f"an image of {prediction.pixels.shape} cannot be compared with one of {photo.shape}")
        if min(photo.shape[:2]) <= 2 * border:
            return
        scores = compare(prediction.pixels, photo, border, ground_truth.get("mask"))
        relative = float("nan")
        if prediction.depth is not None and "depth" in ground_truth:
            true = ground_truth["depth"][border:-border, border:-border].astype(np.float64)
            errors = np.abs(prediction.depth[border:-border, border:-border] - true) / true
            relative = float(errors[np.isfinite(errors)].mean()) if np.isfinite(errors).any() else relative
        self.rows.append((*scores.values(), relative))

    def compute(self) -> dict[str, float]:
        columns = zip(*self.rows, strict=True) if self.rows else [()] * 4
        return dict(zip(("psnr", "ssim", "error", "abs_rel"), map(mean_score, map(sorted, columns)), strict=True))
