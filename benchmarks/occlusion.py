"""Occlusion maps by what a patch changes, against captum's, which runs every covered picture through the whole network.

Same network, picture, grey patches and grid. captum is given as many patches at once as were fastest for it, and for
patience only some rows of the grid: its time is one per patch, whichever the patch, so rates compare. On those rows the
two maps are compared. captum is part of the extra `test`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..apps.visualize.occlusion import occlusion
from ..apps.visualize.probes import Probe, parse_probe
from ..apps.visualize.subject import Subject, subject_of_trunk
from ..backbones import create_backbone
from ..errors import UserError
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

PATCH, STRIDE, SIDE = 16, 8, 224
ROUNDS = 1
SKIPPED = 16
"""Pixels between the rows that captum covers, 14 of the 27: more than the patch's it does not take, and a number that
does not divide 224 - 16 would add a row."""
TOGETHER = (1, 8, 32)
"""Patches at once that captum may choose from."""


@dataclass(frozen=True)
class Case:
    """A trunk with random weights, and the ratio that is asked for."""

    network: str
    least: float


CASES = (Case("vgg16", 3.0), Case("resnet50", 1.3))


def measure(
    setting: Setting,
    *,
    cases: tuple[Case, ...] = CASES,
    side: int = SIDE,
    skipped: int = SKIPPED,
    together: tuple[int, ...] = TOGETHER,
    rounds: int = ROUNDS,
) -> Report:
    """A map of one class.

    Args:
        setting: device and threads.
        cases: trunks.
        side: height and width of the picture.
        skipped: pixels between captum's rows.
        together: patches at once that captum may choose from.
        rounds: pairs, where the setting says nothing. One takes minutes on a CPU.
    """
    columns, rows = (side - PATCH) // STRIDE + 1, (side - PATCH) // skipped + 1
    with fixed_threads(setting.threads):
        found = [compared(setting, case, side, skipped, together, setting.rounds or rounds) for case in cases]
    remarks = [
        f"{figure.what}: the map takes {fact['seconds']:.1f} s, and differs from captum's by {fact['apart']:.1e} of "
        f"its largest value at most (1e-4 is asked for)."
        for figure, fact in found
    ]
    remarks.append(
        f"captum covered {rows} of the {columns} rows, and its time is multiplied by {columns / rows:.3g}. Rates are "
        "those of covered pictures."
    )
    figures, facts = tuple(figure for figure, _ in found), {figure.what: fact for figure, fact in found}
    title, device = "An occlusion map, random weights", device_name(setting.device)
    return Report("occlusion", title, device, setting.threads, figures, facts, tuple(remarks))


def compared(
    setting: Setting, case: Case, side: int, skipped: int, together: tuple[int, ...], rounds: int
) -> tuple[Figure, dict[str, float]]:
    """One trunk: the ratio, and how far the maps are apart."""
    subject, picture = opened(case.network, side, setting.device)
    probe = parse_probe(f"class:{subject.classes[0]}", subject)
    watch, attribute = Stopwatch(setting.device), captums(subject, picture)
    best = fastest(watch, subject, picture, together)
    share = ((side - PATCH) // skipped + 1) / ((side - PATCH) // STRIDE + 1)

    def ours() -> float:
        return watch(lambda: occlusion(subject, (picture,), probe, PATCH, STRIDE))

    made: list[Tensor] = []

    def theirs() -> float:
        return watch(lambda: made.append(attribute(skipped, best))) / share

    pairs = alternate(ours, theirs, rounds, warm_up=0)
    patches = ((side - PATCH) // STRIDE + 1) ** 2
    shapes = f"{side}x{side}, {patches} patches of {PATCH}x{PATCH}, stride {STRIDE}"
    names = ("what a patch changes", f"captum, {best} patches at once")
    figure = Figure.of_pairs(case.network, shapes, *names, pairs, patches, least=case.least)
    apart = difference(subject, picture, probe, made[0], skipped)
    return figure, {"seconds": statistics.median(pairs.ours), "apart": apart, "captum_together": best}


def fastest(watch: Stopwatch, subject: Subject, picture: Tensor, together: tuple[int, ...]) -> int:
    """How many pictures at once the whole network runs fastest, per picture."""

    def seconds(number: int) -> float:
        pictures = picture.repeat(number, 1, 1, 1)
        with torch.inference_mode():
            return min(watch(lambda: subject.model(pictures)) for _ in range(2)) / number

    subject.model.eval()
    return min(together, key=seconds)


def opened(network: str, side: int, device: torch.device) -> tuple[Subject, Tensor]:
    """A trunk and a picture of soft blotches, always the same: grey on noise would change little."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = create_backbone(network).to(device)
        blotches = torch.rand(1, trunk.in_channels, 7, 7)
        picture = functional.interpolate(blotches, (side, side), mode="bilinear").to(device)
    # Normalisations that know their maps keep values from growing unit by unit, and rounding with them.
    for layer in trunk.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        trunk.train().features(trunk.preprocessing(picture))
    return subject_of_trunk(trunk.eval()), picture


def captums(subject: Subject, picture: Tensor) -> Callable[[int, int], Tensor]:
    """captum's map, (H, W), by the pixels between rows and the patches at once.

    Raises:
        UserError: captum is not installed.
    """
    try:
        from captum.attr import Occlusion
    except ImportError:
        raise UserError("The peer of this benchmark is captum: pip install captum.") from None

    method: Any = Occlusion(subject.model.eval())
    grey = picture.new_tensor(subject.grey).view(1, -1, 1, 1).expand_as(picture)

    def attribute(between_rows: int, together: int) -> Tensor:
        with torch.inference_mode():
            found = method.attribute(
                picture,
                sliding_window_shapes=(picture.shape[1], PATCH, PATCH),
                strides=(picture.shape[1], between_rows, STRIDE),
                target=0,
                baselines=grey,
                perturbations_per_eval=together,
            )
        return found[0, 0]

    return attribute


def difference(subject: Subject, picture: Tensor, probe: Probe, theirs: Tensor, between_rows: int) -> float:
    """The largest difference of the two maps, as a share of the largest value."""
    ours = occlusion(subject, (picture,), probe, PATCH, (between_rows, STRIDE)).pixels[0]
    expected = theirs.cpu().numpy()
    # Where no patch lies captum says 0, and we say nothing.
    apart = np.abs(np.nan_to_num(ours) - expected)
    return float(apart.max() / np.abs(expected).max())
