"""Published weights of Zhang et al.: eccv16 and siggraph17 of their PyTorch release, and eccv16 of Caffe."""

from __future__ import annotations

import torch

from ...backbones.published import Converted, Layout, Tensors, caffe_parameters, rename
from ...errors import UserError
from ..published import ConvertedModel
from .decoders import TEMPERATURE
from .encoding import BINS, color_bins
from .lab import AB_RANGE
from .networks import ZHANG_TABLE

BIN_TOLERANCE = 0.1
"""Difference, in a and b, up to which the bins of a file are ours."""
SIZE = (256, 256)
UPSAMPLED = (
    "unit i of the output is placed on pixel 4 i, which it was trained for; the authors' code places it at 4 i + 1.5"
)


def zhang(tensors: Tensors, bins: torch.Tensor, network: str, notes: tuple[str, ...]) -> Converted:
    """The conversion of `ZhangNetwork`, after the check that its bins, (313, 2) a and b, are ours."""
    if bins.shape != (BINS, 2) or (bins - torch.tensor(color_bins())).abs().max() > BIN_TOLERANCE:
        raise UserError("The file has other bins of colors than the 313 of the release: they cannot be decoded.")
    moved = tensors | {"decoder.prior": torch.full((BINS,), 1 / BINS)}
    return ConvertedModel(network, moved, "colorization", size=SIZE, notes=(*notes, UPSAMPLED))


def convert_eccv16(tensors: Tensors) -> Converted:
    """The PyTorch release: (L - 50) / 100 in, and a mean over the bins without annealing."""
    moved = rename(tensors, [(r"model8\.6\.", "predict."), (r"model(\d)\.", r"blocks.conv\1.")])
    bins = moved.pop("model_out.weight").flatten(1).T * AB_RANGE
    moved["blocks.conv1.0.weight"] = moved["blocks.conv1.0.weight"] / 100
    for part in ("weight", "bias"):
        moved[f"predict.{part}"] = moved[f"predict.{part}"] * TEMPERATURE
    notes = (
        "conv1 is divided by 100, because the input here is L - 50",
        f"the last layer is multiplied by the temperature {TEMPERATURE} of our annealed mean, so that colors are equal",
    )
    return zhang(moved, bins, "zhang_affine", notes)


CAFFE_TEMPERATURE = 1 / 2.606
"""The released definition multiplies the logits by 2.606."""


def convert_caffe(tensors: Tensors) -> Converted:
    """The Caffe release of eccv16: L - 50 in, normalizations without scale and shift."""
    names = {"conv8_313": "predict"}
    norms: Tensors = {}
    for block, widths, *_ in ZHANG_TABLE:
        for n in range(1, len(widths) + 1):
            theirs = f"{block}_{n}"
            names[f"bw_{theirs}" if f"bw_{theirs}.0" in tensors else theirs] = f"blocks.{block}.{2 * n - 2}"
        layer = f"{block}_{len(widths)}norm"
        factor = tensors[f"{layer}.2"].flatten()[0]
        for index, part in enumerate(("running_mean", "running_var")):
            blob = tensors[f"{layer}.{index}"]
            norms[f"blocks.{block}.{2 * len(widths)}.{part}"] = blob / factor if factor else blob
    names |= {f"conv8_{n}": f"blocks.conv8.{2 * n - 2}" for n in (1, 2, 3)}
    moved = caffe_parameters(tensors, names) | norms
    for part in ("weight", "bias"):
        moved[f"predict.{part}"] = moved[f"predict.{part}"] * (TEMPERATURE / CAFFE_TEMPERATURE)
    note = f"the last layer is multiplied by {TEMPERATURE / CAFFE_TEMPERATURE:.4f}, the quotient of both temperatures"
    bins = tensors["class8_ab.0"].flatten(1).T if "class8_ab.0" in tensors else torch.tensor(color_bins()).float()
    # The authors' program fills the bins in, so that a file may have zeros in their place.
    return zhang(moved, bins if bins.any() else torch.tensor(color_bins()).float(), "zhang", (note,))


def convert_siggraph17(tensors: Tensors) -> Converted:
    """The names are ours; the classifier served training alone."""
    moved = {name: tensor for name, tensor in tensors.items() if not name.startswith("model_class.")}
    notes = ("left out model_class, the classifier of 529 bins, which training alone uses",)
    return ConvertedModel("siggraph17", moved, "colorization", {"output": "regression"}, size=SIZE, notes=notes)


RELEASE = "colorization (Zhang et al., PyTorch)"
LAYOUTS = (
    Layout(
        "colorization (Zhang et al., Caffe), eccv16",
        ("zhang",),
        {"conv1_2.0": (64, 64, 3, 3), "conv1_2norm.0": (64,), "conv8_313.0": (BINS, 256, 1, 1)},
        convert_caffe,
    ),
    Layout(
        f"{RELEASE}, eccv16",
        ("zhang_affine",),
        {"model1.0.weight": (64, 1, 3, 3), "model8.6.weight": (BINS, 256, 1, 1), "model_out.weight": (2, BINS, 1, 1)},
        convert_eccv16,
    ),
    Layout(
        f"{RELEASE}, siggraph17",
        ("siggraph17",),
        {"model1.0.weight": (64, 4, 3, 3), "model1short10.0.weight": (128, 64, 3, 3), "model_out.0.weight": None},
        convert_siggraph17,
    ),
)
