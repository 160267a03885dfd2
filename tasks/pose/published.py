"""Published weights of human pose: SimpleBaseline (Xiao, Wu, Wei 2018) of the authors and of mmpose, and the network of
Belagiannis et al. 2015 in MatConvNet's format."""

from __future__ import annotations

from functools import partial

import torch

from ...backbones.backbone import Preprocessing
from ...backbones.published import Converted, Layout, Tensors, rename
from ...backbones.resnet import RESNET_TABLE
from ...datasets.field_types import Image, Keypoints
from ...datasets.pose.skeletons import COCO, LSP, MPII
from ...errors import UserError
from ..published import ConvertedModel

SKELETONS = {len(skeleton.names): skeleton for skeleton in (MPII, COCO)}
SIZES = {len(MPII.names): (256, 256), len(COCO.names): (256, 192)}
"""Height and width of the images in training."""


def convert_baseline(tensors: Tensors, head: str, preprocessing: Preprocessing) -> Converted:
    """A ResNet with three deconvolutions; its depth follows from its units, its joints from its last layer.

    Args:
        tensors: of the file.
        head: prefix of the names of the head in it.
        preprocessing: of its images.
    """
    moved = rename(
        tensors,
        [
            (rf"{head}final_layer\.", "head.predict."),
            (r"backbone\.", "backbone."),
            (r"(?=conv1|bn1|layer)", "backbone."),
        ],
    )
    for step in range(3):
        first, second = rf"{head}deconv_layers\.{3 * step}\.", rf"{head}deconv_layers\.{3 * step + 1}\."
        place = f"head.deconvolutions.{step}."
        moved = rename(moved, [(first, f"{place}0."), (second, f"{place}1.")])
    moved = {name: tensor for name, tensor in moved.items() if not name.startswith("backbone.fc.")}
    units = tuple(
        len({name.split(".")[2] for name in moved if name.startswith(f"backbone.layer{stage}.")})
        for stage in range(1, 5)
    )
    bottleneck = "backbone.layer1.0.conv3.weight" in moved
    network = next((name for name, row in RESNET_TABLE.items() if row == (units, bottleneck)), None)
    if network is None:
        raise UserError(f"The file has stages of {units} units, which no ResNet has.")
    joints = len(moved["head.predict.weight"])
    if joints not in SKELETONS:
        known = ", ".join(map(str, SKELETONS))
        raise UserError(f"The file predicts {joints} joints; the skeletons of MPII and COCO have {known}.")
    fields = {"image": Image(), "joints": Keypoints(SKELETONS[joints])}
    return ConvertedModel(
        network, moved, "pose", fields=fields, size=SIZES[joints], head="deconvolution", preprocessing=preprocessing
    )


def convert_belagiannis(tensors: Tensors) -> Converted:
    """The network of Belagiannis et al., whose last layer is a convolution of 1x1 there."""
    last = max(int(name.split(".")[0]) for name in tensors)
    moved: Tensors = {"compared": torch.zeros((), dtype=torch.int64)}
    for name, tensor in tensors.items():
        number, part = name.split(".")
        layer = "coarse.predict" if int(number) == last else f"coarse.layers.conv{int(number) + 1}"
        value = tensor.flatten(1) if int(number) == last and part == "filters" else tensor
        moved[f"{layer}.{'weight' if part == 'filters' else 'bias'}"] = value
    joints = len(moved["coarse.predict.bias"]) // 2
    if joints != len(LSP.names):
        raise UserError(f"The file predicts {joints} joints; the skeleton of LSP has {len(LSP.names)}.")
    fields = {"image": Image(), "joints": Keypoints(LSP)}
    note = "it was trained with the observer's left and right"
    return ConvertedModel("belagiannis", moved, "pose", {"keep_aspect": False}, fields, (120, 80), notes=(note,))


MMPOSE = {"backbone.conv1.weight": (64, 3, 7, 7), "backbone.layer4.0.conv1.weight": None}
LAYOUTS = (
    Layout(
        "deepReg (Belagiannis et al.; MatConvNet)",
        ("belagiannis",),
        {"0.filters": (32, 3, 5, 5), "4.filters": (1024, 64, 12, 7), "7.filters": (None, 1024, 1, 1)},
        convert_belagiannis,
    ),
    Layout(
        "SimpleBaseline (Xiao, Wu, Wei)",
        tuple(RESNET_TABLE),
        {"conv1.weight": (64, 3, 7, 7), "deconv_layers.0.weight": (None, 256, 4, 4), "final_layer.weight": None},
        # The authors' images are read by OpenCV, and the means of red, green and blue subtracted from blue, green, red.
        partial(convert_baseline, head="", preprocessing=Preprocessing(order="BGR")),
    ),
    *(
        Layout(
            f"mmpose {version}, heat maps on a ResNet",
            tuple(RESNET_TABLE),
            {**MMPOSE, f"{head}.deconv_layers.0.weight": (None, 256, 4, 4), f"{head}.final_layer.weight": None},
            partial(convert_baseline, head=f"{head}.", preprocessing=Preprocessing()),
        )
        for version, head in (("0.x", "keypoint_head"), ("1.x", "head"))
    ),
)
