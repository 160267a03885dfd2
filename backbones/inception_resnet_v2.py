"""Inception-ResNet-v2.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261, figures 15 to 20. Input 299 x 299; 55,843,464 parameters.

It follows the authors' published code, which timm's network keeps, and which departs from the paper's figures: the stem
is Inception-v3's with one module more (`mixed_5b`), so that residual modules are 320, 1088 and 2080 channels wide and
not 384, 1154 and 2144; they number 10, 20 and 10, of which the last is neither scaled nor rectified; a 1x1 convolution
to 1536 channels comes before the pool. The 1x1 convolutions that end a residual are linear, with a bias. Initial
weights are that code's (He, fan in). timm's weights load: its names are the published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .backbone import Level, Preprocessing
from .inception_v4 import InceptionBackbone, Plan, Residual
from .published import Converted, Layout, Tensors, from_published_names

INCEPTION_RESNET_A = Residual(0.17, ("1x1 32", "1x1 32, 3x3 32", "1x1 32, 3x3 48, 3x3 64"))
INCEPTION_RESNET_B = Residual(0.10, ("1x1 192", "1x1 128, 1x7 160, 7x1 192"))
INCEPTION_RESNET_C = Residual(0.20, ("1x1 192", "1x1 192, 1x3 224, 3x1 256"))
INCEPTION_RESNET_V2_TABLE: dict[str, Plan] = {
    "conv2d_1a": "3x3 32 /2 V",
    "conv2d_2a": "3x3 32 V",
    "conv2d_2b": "3x3 64",
    "maxpool_3a": "max /2 V",
    "conv2d_3b": "1x1 80",
    "conv2d_4a": "3x3 192 V",
    "maxpool_5a": "max /2 V",
    "mixed_5b": ("1x1 96", "1x1 48, 5x5 64", "1x1 64, 3x3 96, 3x3 96", "avg, 1x1 64"),
    "inception_resnet_a": [INCEPTION_RESNET_A] * 10,
    "reduction_a": ("3x3 384 /2 V", "1x1 256, 3x3 256, 3x3 384 /2 V", "max /2 V"),
    "inception_resnet_b": [INCEPTION_RESNET_B] * 20,
    "reduction_b": ("1x1 256, 3x3 384 /2 V", "1x1 256, 3x3 288 /2 V", "1x1 256, 3x3 288, 3x3 320 /2 V", "max /2 V"),
    "inception_resnet_c": [INCEPTION_RESNET_C] * 9,
    "last_inception_resnet_c": Residual(1.0, INCEPTION_RESNET_C.branches, relu=False),
    "conv2d_7b": "1x1 1536",
}


class InceptionResNetV2(InceptionBackbone):
    """The network of Szegedy et al. 2016 (arXiv:1602.07261), figure 15.

    Levels, each before the next downsampling: conv2d_2b (stride 2) and conv2d_4a (4) in the stem, inception_resnet_a
    (8), inception_resnet_b (16), conv2d_7b (32). Arguments as `InceptionBackbone`; images have mean and std 0.5.
    """

    table = INCEPTION_RESNET_V2_TABLE
    every_level = (
        Level("conv2d_2b", 2, 64),
        Level("conv2d_4a", 4, 192),
        Level("inception_resnet_a", 8, 320),
        Level("inception_resnet_b", 16, 1088),
        Level("conv2d_7b", 32, 1536),
    )
    usual_preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3, resize=333, crop=299, interpolation="bicubic")
    state_dict_aliases: Mapping[str, str] = {
        "inception_resnet_a.": "repeat.",
        "reduction_a.": "mixed_6a.",
        "inception_resnet_b.": "repeat_1.",
        "reduction_b.": "mixed_7a.",
        "inception_resnet_c.": "repeat_2.",
        "last_inception_resnet_c.": "block8.",
        "fc.": "classif.",
    }


def convert_cadene(tensors: Tensors) -> Converted:
    """Cadene's file: timm's names but that of the classifier, which counts a background class first."""
    moved = {name.replace("last_linear.", "classif."): tensor for name, tensor in tensors.items()}
    background = len(moved["classif.bias"]) == 1001
    if background:
        moved |= {name: moved[name][1:] for name in ("classif.weight", "classif.bias")}
    converted = from_published_names("inception_resnet_v2", moved)
    note = "left out the first of 1001 classes, the background"
    return replace(converted, notes=(*converted.notes, note)) if background else converted


LAYOUTS = (
    Layout(
        "pretrained-models.pytorch (Cadene), Inception-ResNet-v2",
        ("inception_resnet_v2",),
        {"conv2d_1a.conv.weight": (32, 3, 3, 3), "block8.conv2d.weight": None, "last_linear.weight": (None, 1536)},
        convert_cadene,
    ),
)
