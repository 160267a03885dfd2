"""Benchmark of incremental occlusion maps against captum's, which runs every occluded image through the complete model.

Model, image, gray patches and grid are the same. captum gets its fastest number of patches per batch, and only some
rows of the grid to save time: its time per patch is constant, so rates are comparable. On these rows the two maps are
compared. captum is part of the extra `test`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..backbones import create_backbone
from ..visualize.attribution.occlusion import occlusion
from ..visualize.core.model import InspectedModel, inspect_backbone
from ..visualize.core.objectives import Objective
from ..visualize.core.targets import parse_target
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads, peer

PATCH, STRIDE, IMAGE_SIZE = 16, 8, 224
ROUNDS = 1
ROW_STRIDE = 16
"""Vertical stride of captum in pixels, which gives 14 of the 27 rows: captum does not accept more than the patch size,
and a number that does not divide 224 - 16 would add a row."""
BATCH_SIZES = (1, 8, 32)
"""Numbers of patches per batch to try for captum."""


@dataclass(frozen=True)
class Case:
    """A backbone with random weights, and the required ratio."""

    backbone: str
    required: float


CASES = (Case("vgg16", 3.0), Case("resnet50", 1.3))


def measure(
    setting: Setting,
    *,
    cases: tuple[Case, ...] = CASES,
    size: int = IMAGE_SIZE,
    row_stride: int = ROW_STRIDE,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
    rounds: int = ROUNDS,
) -> Report:
    """Measure the occlusion map of one class; a pair of rounds takes minutes on a CPU."""
    columns, rows = (size - PATCH) // STRIDE + 1, (size - PATCH) // row_stride + 1
    with fixed_threads(setting.threads):
        results = [
            compare_case(setting, case, size, row_stride, batch_sizes, setting.rounds or rounds) for case in cases
        ]
    remarks = [
        f"{figure.what}: the map takes {fact['seconds']:.1f} s, and differs from captum's by at most "
        f"{fact['difference']:.1e} of its maximum (required: 1e-4)."
        for figure, fact in results
    ]
    remarks.append(
        f"captum ran on {rows} of the {columns} rows, and its time is multiplied by {columns / rows:.3g}. Rates are "
        "occluded images per second."
    )
    figures, facts = tuple(figure for figure, _ in results), {figure.what: fact for figure, fact in results}
    title, device = "An occlusion map, random weights", device_name(setting.device)
    return Report("occlusion", title, device, setting.threads, figures, facts, tuple(remarks))


def compare_case(
    setting: Setting, case: Case, size: int, row_stride: int, batch_sizes: tuple[int, ...], rounds: int
) -> tuple[Figure, dict[str, float]]:
    """Compare one backbone; returns the figure, and the difference of the maps among other facts."""
    model, image = random_model(case.backbone, size, setting.device)
    objective = parse_target(f"class:{model.classes[0]}", model)
    watch, attribute = Stopwatch(setting.device), captum_occlusion(model, image)
    batch_size = fastest_batch(watch, model, image, batch_sizes)
    share = ((size - PATCH) // row_stride + 1) / ((size - PATCH) // STRIDE + 1)

    def ours() -> float:
        return watch(lambda: occlusion(model, image, objective, patch=PATCH, stride=STRIDE))

    maps: list[Tensor] = []

    def theirs() -> float:
        return watch(lambda: maps.append(attribute(row_stride, batch_size))) / share

    pairs = alternate(ours, theirs, rounds, warm_up=0)
    patches = ((size - PATCH) // STRIDE + 1) ** 2
    shapes = f"{size}x{size}, {patches} patches of {PATCH}x{PATCH}, stride {STRIDE}"
    names = ("incremental", f"captum, {batch_size} patches per batch")
    figure = Figure.from_pairs(case.backbone, shapes, *names, pairs, patches, required=case.required)
    facts = {
        "seconds": statistics.median(pairs.ours),
        "difference": difference(model, image, objective, maps[0], row_stride),
        "captum_batch_size": batch_size,
    }
    return figure, facts


def fastest_batch(watch: Stopwatch, model: InspectedModel, image: Tensor, batch_sizes: tuple[int, ...]) -> int:
    """The batch size with the smallest forward time per image."""

    def seconds(number: int) -> float:
        images = image.repeat(number, 1, 1, 1)
        with torch.inference_mode():
            return min(watch(lambda: model.module(images)) for _ in range(2)) / number

    model.module.eval()
    return min(batch_sizes, key=seconds)


def random_model(name: str, size: int, device: torch.device) -> tuple[InspectedModel, Tensor]:
    """A backbone with random weights, and a smooth random image, on which a gray patch has more effect than on noise.

    Both have a fixed seed.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = create_backbone(name).to(device)
        blotches = torch.rand(1, backbone.in_channels, 7, 7)
        image = functional.interpolate(blotches, (size, size), mode="bilinear").to(device)
    # Calibrated batch normalization keeps activations, and with them rounding errors, from growing with depth.
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        backbone.train().features(backbone.preprocessing(image))
    return inspect_backbone(backbone.eval()), image


def captum_occlusion(model: InspectedModel, image: Tensor) -> Callable[[int, int], Tensor]:
    """captum's occlusion: a function of the vertical stride and the patches per batch that returns the map (H, W).

    Raises:
        MissingPeer: captum is not installed.
    """
    method = peer("captum.attr", "captum").Occlusion(model.module.eval())
    gray = image.new_tensor(model.neutral_color).view(1, -1, 1, 1).expand_as(image)

    def attribute(row_stride: int, batch_size: int) -> Tensor:
        with torch.inference_mode():
            attribution = method.attribute(
                image,
                sliding_window_shapes=(image.shape[1], PATCH, PATCH),
                strides=(image.shape[1], row_stride, STRIDE),
                target=0,
                baselines=gray,
                perturbations_per_eval=batch_size,
            )
        return attribution[0, 0]

    return attribute


def difference(model: InspectedModel, image: Tensor, objective: Objective, theirs: Tensor, row_stride: int) -> float:
    """Maximum difference of the two maps, relative to the maximum value."""
    ours = occlusion(model, image, objective, patch=PATCH, stride=(row_stride, STRIDE)).pixels[0]
    expected = theirs.cpu().numpy()
    return float(np.abs(ours - expected).max() / np.abs(expected).max())
