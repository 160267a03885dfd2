"""Occlusion sensitivity, the score lost when a patch of the image is covered.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901, section 4.2: a gray
square slides over the image. The map is S(I) - S(I with the patch covered), so that regions that support the target are
positive; the paper plots S of the covered image, in which they are low. The patch may show a blurred copy of the image
instead, which adds no edges.

The clean image runs once; for a patch, only what it changes is recomputed (`incremental.py`): the windows grow by a
kernel per layer, and once they are most of the map, maps are computed in full. The result equals that of running every
covered image through the entire model. This speeds up backbones of convolutions, pools, branches and residual blocks;
after a global operation, and in the heads of dense tasks, covered images run in full, in batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core.result import Visualization

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.objectives import Objective

OcclusionBaseline = Literal["gray", "blurred"]
PatchSize = tuple[int, int]

PATCH, STRIDE = 32, 8
"""The paper states neither; suitable for object parts in images of 224 x 224 pixels."""
BLUR = 0.25
"""Standard deviation of the blur, as a fraction of the patch's longer side."""
BATCH_PIXELS = 32 * 224 * 224
"""Pixels per batch of covered images, which bounds the memory."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Occlusion(Visualization):
    """Occlusion sensitivity: `array` is (P, rows, columns) float32, signed: S(I) - S(covered) of every patch.

    There is a map for each of the P inputs, of ⌈(H - height) / stride⌉ + 1 rows: the last patches may extend beyond the
    border, so that every pixel is covered unless the stride is larger than the patch.

    Attributes:
        pixels: (P, H, W) float32: mean over the patches that cover the pixel; nan if none does.
        full_from: first operation that ran on full maps although the patches' windows were small; "input" if the entire
            model did; None if none did.
    """

    pixels: np.ndarray
    full_from: str | None


class Patches(NamedTuple):
    """Grid of patches: their first rows and first columns, and the (height, width) of each, cut off at the border."""

    tops: range
    lefts: range
    size: PatchSize


def occlusion(
    model: Any,
    image: Any,
    target: Any,
    *,
    patch: int | PatchSize = PATCH,
    stride: int | PatchSize = STRIDE,
    baseline: OcclusionBaseline = "gray",
    incremental: bool = True,
) -> Occlusion:
    """Draw the score lost when a patch is covered: red where covering lowers the target score, blue where it raises it.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`; of two inputs, one is covered at a time.
        target: S, see `resolve_target`.
        patch: size of the patch, in pixels of the model input.
        stride: pixels between patches; or vertical and horizontal.
        baseline: content of the patch: gray, which the backbone's preprocessing maps to 0, or blurred, a blurred copy
            of the image.
        incremental: recompute only what a patch changes; otherwise run every covered image through the entire model.

    Raises:
        UserError: a patch larger than the image, a number below 1, or a score that no patch changes.
    """
    import numpy as np
    import torch

    from ...datasets.core.drawing import overlay_diverging
    from ..core.objectives import check_nonzero_gradient
    from ..core.targets import attribution_inputs

    inputs = attribution_inputs(model, image, target)
    model, pixels, objective = inputs.model, inputs.pixels, inputs.objective
    patch, stride, size = _pair(patch), _pair(stride), (pixels[0].shape[-2], pixels[0].shape[-1])
    _check(size, patch, stride)
    tops, lefts = (
        range(0, min(length, length - patch_length + step), step)
        for length, patch_length, step in zip(size, patch, stride, strict=True)
    )
    patches = Patches(tops, lefts, patch)
    pixels = tuple(each.detach().to(model.device) for each in pixels)
    with torch.no_grad():
        results = [
            _scores(
                model, pixels, number, objective, patches, baseline_image(model, each, patch, baseline), incremental
            )
            for number, each in enumerate(pixels)
        ]
    check_nonzero_gradient(model, pixels, objective, [scores for scores, _ in results])
    scores = np.stack([scores.float().cpu().numpy() for scores, _ in results])
    pixel_means = np.stack([mean_over_patches(each, patches, size) for each in scores])
    # An objective that needs no output ends the pass after its levels.
    full_from = (
        next((full_from for _, full_from in results if full_from), None)
        if objective.needs_output or not incremental
        else None
    )
    notes = ()
    if full_from is not None:
        notes = (
            f"All occluded images ran through {model.name} in full."
            if full_from == "input"
            else f"From operation '{full_from}' on, {model.name} ran in full for every patch.",
        )
    overlays = (overlay_diverging(photo, values) for photo, values in zip(inputs.photos, pixel_means, strict=True))
    return Occlusion(scores, inputs.draw(overlays), notes, pixels=pixel_means, full_from=full_from)


def baseline_image(model: InspectedModel, image: Tensor, patch: PatchSize, fill: OcclusionBaseline) -> Tensor:
    """The image with every pixel covered, (1, C, H, W)."""
    import cv2

    if fill == "gray":
        return image.new_tensor(model.neutral_color).view(1, -1, 1, 1).expand_as(image)
    array = image[0].movedim(0, -1).cpu().numpy()
    blurred = cv2.GaussianBlur(array, (0, 0), BLUR * max(patch)).reshape(array.shape)
    return image.new_tensor(blurred).movedim(-1, 0)[None]


def mean_over_patches(scores: np.ndarray, patches: Patches, size: PatchSize) -> np.ndarray:
    """Mean of the (rows, columns) scores of the patches that cover a pixel, (H, W) float32; nan if there is none."""
    import numpy as np

    total, count = np.zeros(size), np.zeros(size)
    height, width = patches.size
    for row, top in zip(scores, patches.tops, strict=True):
        for score, left in zip(row, patches.lefts, strict=True):
            window = np.s_[top : top + height, left : left + width]
            total[window] += score
            count[window] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _scores(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    number: int,
    objective: Objective,
    patches: Patches,
    cover: Tensor,
    incremental: bool,
) -> tuple[Tensor, str | None]:
    """Scores (rows, columns) for one of the inputs, and `Occlusion.full_from`."""
    import torch

    from ..core.objectives import evaluate_objective
    from .incremental import CleanRunCache, occluded_maps

    image, (height, width) = pixels[number], patches.size
    starts = (torch.tensor(list(one), device=image.device) for one in (patches.tops, patches.lefts))
    tops, lefts = (each.flatten() for each in torch.meshgrid(*starts, indexing="ij"))
    # If predictions depend on the other images of a batch, images run one by one, without a shared cache.
    one_by_one = model.max_batch == 1
    batch_size = 1 if one_by_one else max(1, min(len(tops), BATCH_PIXELS // image[0, 0].numel()))
    clean = evaluate_objective(model, pixels, objective)[0]

    def score_all(cover_patches: Callable[[Tensor], Tensor], batch_size: int) -> Tensor:
        scores = []
        for start in range(0, len(tops), batch_size):
            # All batches have the same size; the last one repeats its last patch.
            indices = torch.arange(start, start + batch_size, device=image.device).clamp_max(len(tops) - 1)
            inputs = [each.expand(batch_size, -1, -1, -1) for each in pixels]
            inputs[number] = cover_patches(indices)
            scores.append(evaluate_objective(model, tuple(inputs), objective)[0][: len(tops) - start])
        return (clean - torch.cat(scores)).view(len(patches.tops), len(patches.lefts))

    def occlude(indices: Tensor) -> Tensor:
        occluded = image.repeat(len(indices), 1, 1, 1)
        for each, top, left in zip(occluded, tops[indices].tolist(), lefts[indices].tolist(), strict=True):
            each[:, top : top + height, left : left + width] = cover[0, :, top : top + height, left : left + width]
        return occluded

    if one_by_one or not incremental:
        return score_all(occlude, batch_size), "input"
    cache = CleanRunCache()
    # At least two images per batch: with one, per-channel values and per-image values have the same shape.
    scores = score_all(occluded_maps(image, cover, (tops, lefts), patches.size, cache), max(2, batch_size))
    return scores, cache.full_from


def _check(size: PatchSize, patch: PatchSize, stride: PatchSize) -> None:
    from ...errors import UserError

    if min(patch) < 1 or min(stride) < 1:
        raise UserError(
            f"--patch {_format_size(patch)} --stride {_format_size(stride)}: both must be at least 1 pixel."
        )
    if patch[0] > size[0] or patch[1] > size[1]:
        raise UserError(
            f"--patch {_format_size(patch)} is larger than the model input of {size[0]}x{size[1]} (height x width); "
            "give a smaller patch."
        )


def _format_size(sides: PatchSize) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def _pair(sides: int | PatchSize) -> PatchSize:
    return (sides, sides) if isinstance(sides, int) else sides
