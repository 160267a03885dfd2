"""Published weights of human pose: SimpleBaseline (Xiao, Wu, Wei 2018), of the authors and of mmpose."""

from __future__ import annotations

from functools import partial

from ...backbones.backbone import Preprocessing
from ...backbones.published import Converted, Layout, Tensors, rename
from ...backbones.resnet import RESNET_TABLE
from ...datasets.field_types import Image, Keypoints
from ...datasets.pose.skeletons import COCO, MPII
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


MMPOSE = {"backbone.conv1.weight": (64, 3, 7, 7), "backbone.layer4.0.conv1.weight": None}
LAYOUTS = (
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
