"""`densevision visualize occlusion`: what the answer loses when a patch of the picture is covered.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901, section 4.2: a grey
square slides over the picture. Here the map is S(I) - S(I with the patch covered), so that what speaks for the answer
is positive; the paper prints S of the covered picture, whose low places are these. A patch may be a blurred copy of the
picture instead, which has no edges of its own.

The picture is run once, and for a patch only what it changes is computed again (`occlusion_maps.py`): the windows grow
by a kernel a layer, and from where they are most of the map, maps are computed in full. The result is that of running
every covered picture through the whole network. Trunks of convolutions and pools, branches and residual units gain;
behind an operation over all places, and in the heads of dense tasks, covered pictures are run in full, in batches.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter

from .asked import Asked

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from .measures import Probe
    from .subject import Subject

Fill = Literal["grey", "blurred"]
Sides = tuple[int, int]

PATCH, STRIDE = 32, 8
"""The paper prints neither; these show parts of things in pictures of 224."""
BLUR = 0.25
"""Standard deviation of the blur, as a share of the patch's longer side."""
BATCH_PIXELS = 32 * 224 * 224
"""Pixels of the covered pictures that are looked at together: a matter of memory."""


class Occlusion(NamedTuple):
    """What covering does.

    Attributes:
        scores: (P, rows, columns) float32 of either sign: S(I) - S(covered), for every patch on each of the P pictures
            that go in. There are ⌊(H - height) / stride⌋ + 1 rows.
        pixels: (P, H, W) float32: at every pixel the mean over the patches that cover it; nan where none does.
        in_full_from: the network's first operation that ran on whole covered pictures although the patches' share of
            its map was small; "input" where all did; None where none did.
    """

    scores: np.ndarray
    pixels: np.ndarray
    in_full_from: str | None


class Patches(NamedTuple):
    """The grid of patches.

    Attributes:
        tops, lefts: their first rows, and their first columns.
        sides: (height, width) of one.
    """

    tops: range
    lefts: range
    sides: Sides


def occlusion(
    subject: Subject,
    pixels: tuple[Tensor, ...],
    probe: Probe,
    patch: int | Sides = PATCH,
    stride: int | Sides = STRIDE,
    fill: Fill = "grey",
    incremental: bool = True,
) -> Occlusion:
    """S(I) - S(covered) for every patch of a grid that starts in the upper left corner.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each, as `subject.pixels` makes them; they are covered one after the other.
        probe: S.
        patch: side of the patch in pixels, or (height, width).
        stride: pixels between patches, or (down, to the right).
        fill: "grey", which the trunk's preprocessing makes 0, or "blurred".
        incremental: compute only what a patch changes; False: run every covered picture through the whole network.

    Raises:
        UserError: a patch larger than the picture, a number below 1, or no patch changes the probe.
    """
    import numpy as np
    import torch

    from .sensitivity import require_alive

    patch, stride = _pair(patch), _pair(stride)
    size = (pixels[0].shape[-2], pixels[0].shape[-1])
    _check(size, patch, stride)
    tops, lefts = (range(0, whole - side + 1, step) for whole, side, step in zip(size, patch, stride, strict=True))
    patches = Patches(tops, lefts, patch)
    pixels = tuple(each.detach().to(subject.device) for each in pixels)
    with torch.no_grad():
        found = [
            _scores(subject, pixels, number, probe, patches, filled(subject, each, patch, fill), incremental)
            for number, each in enumerate(pixels)
        ]
    require_alive(subject, pixels, probe, [scores for scores, _ in found])
    scores = np.stack([scores.float().cpu().numpy() for scores, _ in found])
    spread = np.stack([spread_over(each, patches, size) for each in scores])
    # Behind the levels that a probe reads nothing is computed.
    left = next((left for _, left in found if left), None) if probe.asks or not incremental else None
    return Occlusion(scores, spread, left)


def filled(subject: Subject, picture: Tensor, patch: Sides, fill: Fill) -> Tensor:
    """(1, C, H, W): the picture as it would be if it were covered everywhere."""
    import cv2

    if fill == "grey":
        return picture.new_tensor(subject.grey).view(1, -1, 1, 1).expand_as(picture)
    places = picture[0].movedim(0, -1).cpu().numpy()
    blurred = cv2.GaussianBlur(places, (0, 0), BLUR * max(patch)).reshape(places.shape)
    return picture.new_tensor(blurred).movedim(-1, 0)[None]


def spread_over(scores: np.ndarray, patches: Patches, size: Sides) -> np.ndarray:
    """(H, W) float32: at every pixel the mean of the scores of the patches over it; nan where there is none.

    Args:
        scores: (rows, columns).
        patches: theirs.
        size: (H, W).
    """
    import numpy as np

    total, count = np.zeros(size), np.zeros(size)
    height, width = patches.sides
    for row, top in zip(scores, patches.tops, strict=True):
        for score, left in zip(row, patches.lefts, strict=True):
            under = np.s_[top : top + height, left : left + width]
            total[under] += score
            count[under] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _scores(
    subject: Subject,
    pixels: tuple[Tensor, ...],
    number: int,
    probe: Probe,
    patches: Patches,
    cover: Tensor,
    incremental: bool,
) -> tuple[Tensor, str | None]:
    """(rows, columns) of one of the pictures, and where maps began to be computed in full."""
    import torch

    from .occlusion_maps import Trail, covered_maps
    from .sensitivity import score

    picture, (height, width) = pixels[number], patches.sides
    starts = (torch.tensor(list(one), device=picture.device) for one in (patches.tops, patches.lefts))
    tops, lefts = (each.flatten() for each in torch.meshgrid(*starts, indexing="ij"))
    # Pictures whose batch changes their answers are looked at alone; then nothing can be shared either.
    alone = subject.together == 1
    at_once = 1 if alone else max(1, min(len(tops), BATCH_PIXELS // picture[0, 0].numel()))
    clean = score(subject, pixels, probe)[0]

    def run(cover_some: Callable[[Tensor], Tensor], together: int) -> Tensor:
        measured = []
        for start in range(0, len(tops), together):
            # All batches have one size, and the last one repeats its last patch.
            chosen = torch.arange(start, start + together, device=picture.device).clamp_max(len(tops) - 1)
            shown = [each.expand(together, -1, -1, -1) for each in pixels]
            shown[number] = cover_some(chosen)
            measured.append(score(subject, tuple(shown), probe)[0][: len(tops) - start])
        return (clean - torch.cat(measured)).view(len(patches.tops), len(patches.lefts))

    def whole(chosen: Tensor) -> Tensor:
        made = picture.repeat(len(chosen), 1, 1, 1)
        for each, top, left in zip(made, tops[chosen].tolist(), lefts[chosen].tolist(), strict=True):
            each[:, top : top + height, left : left + width] = cover[0, :, top : top + height, left : left + width]
        return made

    if alone or not incremental:
        return run(whole, at_once), "input"
    trail = Trail()
    # Of one picture alone nobody could tell what is the same for all.
    made = run(covered_maps(picture, cover, (tops, lefts), patches.sides, trail), max(2, at_once))
    return made, trail.left_at


def _check(size: Sides, patch: Sides, stride: Sides) -> None:
    from ...errors import UserError

    if min(patch) < 1 or min(stride) < 1:
        raise UserError(f"--patch {_text(patch)} --stride {_text(stride)}: both are 1 pixel or more.")
    if patch[0] > size[0] or patch[1] > size[1]:
        raise UserError(
            f"--patch {_text(patch)} is larger than the picture, which the network sees at {size[0]}x{size[1]} "
            "(height x width); take a smaller one."
        )


def _text(sides: Sides) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def _pair(sides: int | Sides) -> Sides:
    return (sides, sides) if isinstance(sides, int) else sides


def show_occlusion(
    asked: Annotated[Asked, Parameter(name="*")], *, patch: int = PATCH, stride: int = STRIDE, fill: Fill = "grey"
) -> None:
    """Draw what the probe loses when a patch is covered: red where it speaks for it, blue where against.

    Args:
        patch: Side of the patch, in pixels of the shown picture; default: 32.
        stride: Pixels between patches; default: 8.
        fill: grey, or blurred: a blurred copy of the picture; default: grey.
    """
    import numpy as np

    from .drawing import photograph, signed_over

    opened = asked.opened()
    found = occlusion(opened.subject, opened.pixels, opened.probe, patch, stride, fill)
    if found.in_full_from == "input":
        print(f"Every covered picture ran through the whole of {opened.subject.name}.", file=sys.stderr)
    elif found.in_full_from is not None:
        said = f"From its operation '{found.in_full_from}' on, {opened.subject.name} ran in full for every patch."
        print(said, file=sys.stderr)
    drawn = [signed_over(photograph(shown), values) for shown, values in zip(opened.pixels, found.pixels, strict=True)]
    asked.write(np.concatenate(drawn, axis=1), found.scores)
