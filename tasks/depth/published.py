"""Published weights of FCRN: the authors' for NYU Depth v2, and those of PyTorch ports."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...backbones.backbone import Preprocessing
from ...backbones.published import Converted, Layout, Tensors, rename
from ...backbones.resnet import CAFFE_NAMES, from_caffe_name
from ...datasets.formats.pickled_arrays import StoredArray, load_pickled_arrays
from ...limits import read_file
from ..published import ConvertedModel


def read_npy(path: str | Path) -> Tensors:
    """The arrays of a `.npy` file with a dict of dicts of arrays, as "layer.part".

    Raises:
        OSError: it cannot be opened, or is no regular file.
        LimitExceeded: it is larger than `max_file_mb`.
        ValueError: it is not what numpy writes for such a dict.
    """
    stream = io.BytesIO(read_file(path))
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if shape != () or not dtype.hasobject:
        raise ValueError(f"an array of {dtype}, and not a table of arrays")
    loaded = load_pickled_arrays(stream.read())
    table = loaded.objects[0] if isinstance(loaded, StoredArray) and loaded.objects else loaded
    arrays: dict[str, np.ndarray] = {
        f"{_text(layer)}.{_text(part)}": stored.array
        for layer, parts in (table.items() if isinstance(table, dict) else ())
        for part, stored in (parts.items() if isinstance(parts, dict) else ())
        if isinstance(stored, StoredArray) and stored.array.dtype.kind in "fiu"
    }
    if not arrays:
        raise ValueError("no table of tables of arrays")
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}


def _text(name: Any) -> str:
    """A name, which is bytes in pickles of Python 2."""
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)


BLOCKS = {"2x": 0, "4x": 1, "8x": 2, "16x": 3}
PARTS = {"A": "k3x3", "B": "k2x3", "C": "k3x2", "D": "k2x2"}
TENSORFLOW_PARTS = {
    "weights": "weight", "biases": "bias", "mean": "running_mean", "variance": "running_var", "scale": "weight",
    "offset": "bias",
}  # fmt: skip
LEVELS = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), range=(0.0, 255.0))
"""Images of the authors and of XPFly1989 have values of 0 to 255."""


BN_EPS = 1e-4
"""Of both graphs of the authors."""


def convert_authors(tensors: Tensors, *notes: str) -> Converted:
    """The authors' graph, in Caffe's names of ResNet-50 and names such as `layer2x_br1_ConvA.weight`."""
    rules = [
        *((rf"layer{block}_br{branch}_Conv{part}\.", f"head.blocks.{n}.up{branch}.{ours}.")
          for block, n in BLOCKS.items() for branch in (1, 2) for part, ours in PARTS.items()),
        *((rf"layer{block}_{theirs}\.", f"head.blocks.{n}.{ours}.")
          for block, n in BLOCKS.items()
          for theirs, ours in (("br1_BN", "bn1"), ("br2_BN", "bn3"), ("Conv", "conv"), ("BN", "bn2"))),
        (r"layer1\.", "head.conv."), (r"layer1_BN\.", "head.bn."), (r"ConvPred\.", "head.predict."),
    ]  # fmt: skip
    moved: Tensors = {}
    for name, tensor in rename(tensors, rules).items():
        place, _, part = name.rpartition(".")
        place = f"backbone.{from_caffe_name(place)}" if CAFFE_NAMES.match(place) else place
        moved[f"{place}.{part}"] = tensor
    bias = moved.pop("backbone.conv1.bias", None)
    if bias is not None:
        moved["backbone.bn1.running_mean"] = moved["backbone.bn1.running_mean"] - bias
        notes += ("the bias of conv1 is folded into the normalization behind it",)
    return ConvertedModel("fcrn_nyu", moved, "depth", preprocessing=LEVELS, notes=notes, size=(228, 304))


def convert_tensorflow(tensors: Tensors) -> Converted:
    """The authors' TensorFlow graph, of an array file or of a checkpoint, which has what training adds, too."""
    moved: Tensors = {}
    others: list[str] = []
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        if layer and part in TENSORFLOW_PARTS:
            moved[f"{layer}.{TENSORFLOW_PARTS[part]}"] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
        else:
            others.append(name)
    note = f"left out {len(others)} tensors that are no weights of the network: {', '.join(others[:3])}"
    return convert_authors(moved, *([note] if others else []))


def convert_matconvnet(tensors: Tensors) -> Converted:
    """The authors' MatConvNet graph, from which that of TensorFlow was made: it has the same names of layers."""
    moved: Tensors = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        if part == "moments":
            mean, deviation = tensor.double().unbind(1)
            # The deviation contains the eps: where it is less, as in frozen units, the factor makes up for it.
            variance = (deviation.square() - BN_EPS).clamp(min=0)
            factor = (variance + BN_EPS).sqrt() / deviation
            moved[f"{layer}.running_mean"], moved[f"{layer}.running_var"] = mean.float(), variance.float()
            moved[f"{layer}.weight"] = (tensors[f"{layer}.multipliers"] * factor).float()
        elif part != "multipliers":
            moved[f"{layer}.{'weight' if part == 'filters' else 'bias'}"] = tensor
    return convert_authors(moved, "depths below 0 become 0, as in the authors' TensorFlow graph")


def with_zero_biases(network: str, moved: Tensors, preprocessing: Preprocessing) -> Converted:
    """The conversion of a port whose convolutions of the decoder lack the biases: they are 0."""
    zeros = {
        name.replace(".weight", ".bias"): torch.zeros(len(tensor))
        for name, tensor in moved.items()
        if name.startswith("head.") and tensor.ndim == 4 and name.replace(".weight", ".bias") not in moved
    }
    note = f"{len(zeros)} biases of the decoder that it does not have are 0"
    return ConvertedModel(network, moved | zeros, "depth", preprocessing=preprocessing, notes=(note,), size=(228, 304))


STEM = (
    (r"(?=conv1\.|bn1\.|layer)", "backbone."),
    (r"conv2\.", "head.conv."),
    (r"bn2\.", "head.bn."),
    (r"conv3\.", "head.predict."),
)
COLORS = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""Sparse-to-dense takes images of 0 to 1."""


def convert_plain(tensors: Tensors) -> Converted:
    """The decoder "upproj" of sparse-to-dense (Ma, Karaman 2018) and of ports made from it."""
    branches = {
        "upper_branch.conv1": "up1.k5x5", "upper_branch.batchnorm1": "bn1", "upper_branch.conv2": "conv",
        "upper_branch.batchnorm2": "bn2", "bottom_branch.conv": "up2.k5x5", "bottom_branch.batchnorm": "bn3",
    }  # fmt: skip
    rules = [
        (rf"(?:decoder|upSample)\.layer{n + 1}\.{theirs}\.", f"head.blocks.{n}.{ours}.")
        for n in range(4)
        for theirs, ours in branches.items()
    ]
    return with_zero_biases("fcrn_plain_3x3", rename(tensors, [*rules, *STEM]), COLORS)


def convert_swapped(tensors: Tensors) -> Converted:
    """The port of XPFly1989: the four parts of both branches by number, of which it exchanges the middle two."""
    parts = {1: "k3x3", 2: "k2x3", 3: "k3x2", 4: "k2x2"}
    rules = [
        (rf"up{n + 1}\.conv{branch}_{number}\.", f"head.blocks.{n}.up{branch}.{ours}.")
        for n in range(4)
        for branch in (1, 2)
        for number, ours in parts.items()
    ]
    rules += [
        (rf"up{n + 1}\.{theirs}\.", f"head.blocks.{n}.{ours}.")
        for n in range(4)
        for theirs, ours in (("bn1_1", "bn1"), ("bn1_2", "bn3"), ("conv3", "conv"), ("bn2", "bn2"))
    ]
    return with_zero_biases("fcrn_swapped_3x3", rename(tensors, [*rules, *STEM]), LEVELS)


LAYOUTS = (
    Layout(
        "FCRN (Laina et al., TensorFlow)",
        ("fcrn_nyu",),
        {"layer2x_br1_ConvA.weights": (3, 3, 1024, 512), "res2a_branch1.weights": None, "ConvPred.weights": None},
        convert_tensorflow,
    ),
    Layout(
        "FCRN (Laina et al., MatConvNet)",
        ("fcrn_nyu",),
        {"layer2x_br1_ConvA.filters": (512, 1024, 3, 3), "bn2a_branch1.moments": (256, 2), "ConvPred.filters": None},
        convert_matconvnet,
    ),
    *(
        Layout(
            f"FCRN of {title}",
            ("fcrn_plain_3x3",),
            {f"{decoder}.layer1.upper_branch.conv1.weight": (512, 1024, 5, 5), "conv2.weight": (1024, 2048, 1, 1)},
            convert_plain,
        )
        for title, decoder in (("sparse-to-dense", "decoder"), ("FCRN_pytorch (Wang)", "upSample"))
    ),
    Layout(
        "FCRN of XPFly1989",
        ("fcrn_swapped_3x3",),
        {"up1.conv1_2.weight": (512, 1024, 2, 3), "up1.conv2_3.weight": (512, 1024, 3, 2), "conv2.weight": None},
        convert_swapped,
    ),
)
