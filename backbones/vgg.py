"""VGG: networks of 11, 13, 16 and 19 weight layers, with and without batch normalization.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015,
arXiv:1409.1556, table 1, columns A, B, D and E. Input 224 x 224; 132,863,336 / 133,047,848 / 138,357,544 /
143,667,240 parameters. The number counts weight layers: 8, 10, 13 or 16 convolutions and three fully connected ones.
Column A-LRN (`vgg11_lrn`) is A with one response normalization, which has no parameters, behind the first ReLU;
column C (`vgg16_c`, 133,638,952) is D with 1x1 in the place of the last three blocks' last 3x3.

Deviations: batch normalization (`vgg16_bn`) is torchvision's and not in the paper; like there, the convolutions keep
their biases. Images of other sizes than 224 are brought to the classifier's 7 x 7 by adaptive average pooling as in
torchvision (at 224 it does nothing); the paper's way to larger images is `forward_dense`. The paper started its
deeper nets from the trained shallow one and noted afterwards that Glorot's rule does without; that rule is the
default. Files use torchvision's names, in which our `convolutions.N` are `features.N`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import UserError
from .backbone import Backbone, Level, Preprocessing
from .gradient_checkpointing import recomputed
from .initialization import initialize
from .layers import LocalResponseNorm, classifier_as_convolutions
from .published import Converted, ConvertedBackbone, Layout, Tensors, caffe_parameters

# Table 1: per block the kernels of its convolutions. Every block ends in a 2x2 pool.
VGG_TABLE: dict[str, tuple[str, str, str, str, str]] = {
    "vgg11": ("3", "3", "33", "33", "33"),
    "vgg13": ("33", "33", "33", "33", "33"),
    "vgg16_c": ("33", "33", "331", "331", "331"),
    "vgg16": ("33", "33", "333", "333", "333"),
    "vgg19": ("33", "33", "3333", "3333", "3333"),
}
BLOCK_CHANNELS = (64, 128, 256, 512, 512)
CLASSIFIER_SIDE = 7
CLASSIFIER_WIDTH = 4096
DROPOUT = 0.5


class VGG(Backbone):
    """A network of Simonyan and Zisserman 2014 (arXiv:1409.1556), table 1.

    Levels: block1 (stride 1) to block5 (16), each after its last ReLU and before its pool, and pool5 (32).

    Args:
        name: a key of `VGG_TABLE`, one with "_bn" behind it, or "vgg11_lrn".
    """

    state_dict_aliases: Mapping[str, str] = {"convolutions.": "features."}
    recomputing = False

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        levels: int | None = None,
        init: str = "glorot_normal",
    ) -> None:
        super().__init__()
        whole = [Level(f"block{block + 1}", 2**block, width) for block, width in enumerate(BLOCK_CHANNELS)]
        whole.append(Level("pool5", 32, BLOCK_CHANNELS[-1]))
        self._set_metadata(name, whole, num_classes=num_classes, in_channels=in_channels, built=levels)

        # ReLUs are not in place: they would overwrite what hooks and the style losses take from a convolution.
        self.convolutions = nn.Sequential()
        self.ends: list[int] = []  # per level, how many layers lead to it
        channels = in_channels
        column = VGG_TABLE[name.removesuffix("_bn").removesuffix("_lrn")]
        for level, kernels in zip(self.levels, column, strict=False):
            if self.ends:
                self.convolutions.append(nn.MaxPool2d(2))
            for kernel in map(int, kernels):
                self.convolutions.append(nn.Conv2d(channels, level.channels, kernel, padding=kernel // 2))
                if name.endswith("_bn"):
                    self.convolutions.append(nn.BatchNorm2d(level.channels))
                self.convolutions.append(nn.ReLU())
                if name.endswith("_lrn") and level.name == "block1":
                    self.convolutions.append(LocalResponseNorm())
                channels = level.channels
            self.ends.append(len(self.convolutions))
        if self.levels[-1].name == "pool5":
            self.convolutions.append(nn.MaxPool2d(2))
            self.ends.append(len(self.convolutions))
        if self.num_classes:
            self.avgpool = nn.AdaptiveAvgPool2d(CLASSIFIER_SIDE)
            self.classifier = nn.Sequential(
                nn.Linear(channels * CLASSIFIER_SIDE**2, CLASSIFIER_WIDTH),
                nn.ReLU(),
                nn.Dropout(DROPOUT),
                nn.Linear(CLASSIFIER_WIDTH, CLASSIFIER_WIDTH),
                nn.ReLU(),
                nn.Dropout(DROPOUT),
                nn.Linear(CLASSIFIER_WIDTH, num_classes),
            )
        initialize(self, init)

    def features(self, image: Tensor) -> list[Tensor]:
        """The built levels of (B, in_channels, H, W); see `Backbone.features`. H and W are at least 32 for all."""
        maps: list[Tensor] = []
        x, start = image, 0
        for end in self.ends:
            layers = self.convolutions[start:end]
            x = recomputed(layers, layers.forward, x) if self.recomputing else layers(x)
            maps.append(x)
            start = end
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """(B, num_classes) logits of (B, in_channels, H, W)."""
        self.require_classifier()
        return self.classifier(self.avgpool(self.features(image)[-1]).flatten(1))

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, num_classes, ⌊H / 32⌋ - 6, ⌊W / 32⌋ - 6) logits: the paper's dense evaluation (section 3.2).

        fc6 becomes 7x7 without padding, fc7 and fc8 become 1x1. At 224 the single position equals `forward`. On a
        larger image the mean over places is not the mean over crops: a crop is padded with zeros where the image
        continues.
        """
        self.require_classifier()
        return classifier_as_convolutions(self.classifier, self.features(image)[-1], CLASSIFIER_SIDE)


# The mean color that the authors subtract, blue first.
CAFFE_COLORS = Preprocessing((103.939, 116.779, 123.68), (1.0,) * 3, (0.0, 255.0), "BGR")


def convert_caffe(tensors: Tensors) -> Converted:
    """The authors' Caffe models; which network it is follows from the kernels of its blocks."""
    column = tuple(
        "".join(str(tensors[f"conv{block}_{n}.0"].shape[-1]) for n in range(1, 5) if f"conv{block}_{n}.0" in tensors)
        for block in range(1, 6)
    )
    network = next((name for name, row in VGG_TABLE.items() if row == column), None)
    if network is None:
        raise UserError(f"The file has blocks of kernels {' '.join(column)}, which no column of the paper has.")
    names, index = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}, 0
    for block, kernels in enumerate(column, 1):
        for n in range(1, len(kernels) + 1):
            names[f"conv{block}_{n}"] = f"convolutions.{index}"
            index += 2
        index += 1  # its pool
    moved = caffe_parameters(tensors, names)
    return ConvertedBackbone(network, moved, {"num_classes": len(moved["classifier.6.bias"])}, CAFFE_COLORS)


LAYOUTS = (
    Layout(
        "VGG (Simonyan, Zisserman; Caffe)",
        ("vgg11", "vgg13", "vgg16", "vgg16_c", "vgg19"),
        {"conv1_1.0": (64, 3, 3, 3), "conv5_2.0": (512, 512, 3, 3), "fc6.0": (4096, 25088), "fc8.0": (None, 4096)},
        convert_caffe,
    ),
)
