"""AlexNet, in the two-group form of 2012 and in torchvision's one-tower form.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS 2012, figure 2 and
section 3: `alexnet`, 60,965,224 parameters. Its two groups of channels lived on two GPUs; conv3 and the fully connected
layers see both. Krizhevsky: One weird trick for parallelizing convolutional neural networks, 2014, arXiv:1404.5997:
one tower without response normalization, as torchvision has it: `alexnet_tv`, 61,100,840 parameters.

Deviations of `alexnet`: the paper prints an input of 224 x 224, for which its sizes do not work out; 55 x 55 units in
conv1 need 227 without padding, as in Caffe. The response normalization of Caffe's weights has other constants than the
paper's (option `lrn`; the metadata of a weights file decide). The paper halves outputs in testing where torch doubles
them in training: the same expectation. It subtracts a mean image, here a mean color. Its initialization
(`init="gaussian"`) sets the biases of `BIASES_OF_ONE` to 1 and expects images of range 0 to 255, which is the default
preprocessing.

Deviations of `alexnet_tv`: neither the paper nor torchvision chose an initialization; the default is "he_fan_in".
Images of other sizes than 224 are brought to the classifier's 6 x 6 by adaptive average pooling, as in torchvision.

Weights files use torchvision's names for both, where our `convolutions.conv2` is `features.3`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from ..atomic_io import json_text
from ..errors import UserError
from .backbone import Backbone, Level, Preprocessing
from .initialization import initialize
from .layers import LocalResponseNorm, linear_as_convolution


class Row(NamedTuple):
    """One row of the table: a convolution with its ReLU, and the layers that follow."""

    channels: int
    kernel: int
    stride: int
    padding: int
    groups: int = 1
    then: tuple[str, ...] = ()


# conv1 to conv5.
ALEXNET_TABLE: dict[str, tuple[Row, ...]] = {
    "alexnet": (
        Row(96, 11, 4, 0, then=("lrn", "pool")),
        Row(256, 5, 1, 2, groups=2, then=("lrn", "pool")),
        Row(384, 3, 1, 1),
        Row(384, 3, 1, 1, groups=2),
        Row(256, 3, 1, 1, groups=2, then=("pool",)),
    ),
    "alexnet_tv": (
        Row(64, 11, 4, 2, then=("pool",)),
        Row(192, 5, 1, 2, then=("pool",)),
        Row(384, 3, 1, 1),
        Row(256, 3, 1, 1),
        Row(256, 3, 1, 1, then=("pool",)),
    ),
}
# The paper drops outputs of fc6 and fc7, torchvision their inputs.
CLASSIFIER: dict[str, tuple[str, ...]] = {
    "alexnet": ("fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"),
    "alexnet_tv": ("drop5", "fc6", "relu6", "drop6", "fc7", "relu7", "fc8"),
}
LEVEL_STRIDES = {"conv1": 4, "conv2": 8, "conv5": 16, "pool5": 32}
POOL, POOL_STRIDE = 3, 2  # overlapping, section 3.4
CLASSIFIER_SIDE = 6
CLASSIFIER_WIDTH = 4096
DROPOUT = 0.5
PAPER_SIZE = (227, 227)
BIASES_OF_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")  # section 5
# torchvision's mean of ImageNet in 0 ... 255; the images are not divided by anything.
PAPER_PREPROCESSING = Preprocessing(
    mean=(123.675, 116.28, 103.53), std=(1.0, 1.0, 1.0), range=(0.0, 255.0), resize=256, crop=227
)


def lrn_text(n: int, alpha: float, beta: float, k: float, alpha_divided: bool = False) -> str:
    """Constants of the response normalization as text, as in the metadata of a weights file.

    Args:
        n, alpha, beta, k: of the paper's section 3.3.
        alpha_divided: the sum of squares is multiplied by alpha / n, as in Caffe and torch.
    """
    numbers = {"n": int(n), "alpha": float(alpha), "beta": float(beta), "k": float(k)}
    plain = {key: int(value) if value == int(value) else value for key, value in numbers.items()}
    return json_text(plain | {"alpha_is": "divided by n" if alpha_divided else "not divided"})


PAPER_LRN = lrn_text(5, 1e-4, 0.75, 2)
CAFFE_LRN = lrn_text(5, 1e-4, 0.75, 1, alpha_divided=True)  # its published AlexNet: not the paper's numbers


class AlexNet(Backbone):
    """The network of Krizhevsky, Sutskever, Hinton 2012, or its one-tower form (arXiv:1404.5997).

    Levels: conv1 (stride 4), conv2 (8) and conv5 (16), each after its ReLU and before response normalization and pool,
    and pool5 (32).

    Args:
        name: a key of `ALEXNET_TABLE`.
        num_classes: length of the logits; 0 builds no classifier.
        in_channels: channels of the image.
        levels: how many levels to build, None for all.
        lrn: constants of the response normalization as text like `PAPER_LRN` and `CAFFE_LRN`; None is the paper's here
            (`create_backbone` takes the weights file's first). `alexnet_tv` has none.
        init: a rule of `initialization.RULES`; None is "gaussian" for `alexnet` and "he_fan_in" for `alexnet_tv`.

    Raises:
        UserError: an impossible number, `lrn` for `alexnet_tv`, or a malformed `lrn`.
    """

    state_dict_aliases: Mapping[str, str] = {
        "convolutions.conv1.": "features.0.",
        "convolutions.conv2.": "features.3.",
        "convolutions.conv3.": "features.6.",
        "convolutions.conv4.": "features.8.",
        "convolutions.conv5.": "features.10.",
        "classifier.fc6.": "classifier.1.",
        "classifier.fc7.": "classifier.4.",
        "classifier.fc8.": "classifier.6.",
    }

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        levels: int | None = None,
        lrn: str | None = None,
        init: str | None = None,
    ) -> None:
        super().__init__()
        table = ALEXNET_TABLE[name]
        width_of = {f"conv{number}": row.channels for number, row in enumerate(table, 1)}
        width_of["pool5"] = table[-1].channels
        whole = [Level(level, stride, width_of[level]) for level, stride in LEVEL_STRIDES.items()]
        self._set_metadata(name, whole, num_classes=num_classes, in_channels=in_channels, built=levels)
        constants = PAPER_LRN if lrn is None else lrn
        if name == "alexnet":
            self.preprocessing = PAPER_PREPROCESSING.for_channels(in_channels)
            self.classifier_input_size = PAPER_SIZE
            self.options = {"lrn": constants}
        elif lrn is not None:
            raise UserError(f"{name} has no response normalization; leave lrn out, or use alexnet.")

        # ReLUs are not in place: they would overwrite what hooks take from a convolution.
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for number, row in enumerate(table, 1):
            layers[f"conv{number}"] = nn.Conv2d(
                channels, row.channels, row.kernel, row.stride, row.padding, groups=row.groups
            )
            layers[f"relu{number}"] = nn.ReLU()
            if "lrn" in row.then:
                layers[f"lrn{number}"] = response_normalization(constants)
            if "pool" in row.then:
                layers[f"pool{number}"] = nn.MaxPool2d(POOL, POOL_STRIDE)
            channels = row.channels
        # The last layer of each level.
        self.level_ends = [level.name.replace("conv", "relu") for level in self.levels]
        self.convolutions = nn.Sequential(layers)[: list(layers).index(self.level_ends[-1]) + 1]
        if self.num_classes:
            self.avgpool = nn.AdaptiveAvgPool2d(CLASSIFIER_SIDE)
            self.classifier = _classifier(CLASSIFIER[name], channels * CLASSIFIER_SIDE**2, num_classes)

        init = init or ("gaussian" if name == "alexnet" else "he_fan_in")
        initialize(self, init)
        if init == "gaussian":
            for path, parameter in self.named_parameters():
                layer, part = path.split(".")[-2:]
                if part == "bias" and layer in BIASES_OF_ONE:
                    nn.init.ones_(parameter)

    def features(self, image: Tensor) -> list[Tensor]:
        """The built levels of (B, in_channels, H, W); see `Backbone.features`. H and W are at least 67 for all."""
        maps: list[Tensor] = []
        x = image
        for name, layer in self.convolutions.named_children():
            x = layer(x)
            if name in self.level_ends:
                maps.append(x)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """(B, num_classes) logits of (B, in_channels, H, W); `alexnet` takes 227 x 227 only."""
        self.require_classifier()
        height, width = image.shape[-2:]
        if self.classifier_input_size not in (None, (height, width)):
            raise UserError(
                f"{self.name} classifies images of 227 x 227, not of {height} x {width}: its fc6 takes 6 x 6 units. "
                "Resize and crop them; forward_dense takes larger ones, and alexnet_tv takes any."
            )
        return self.classifier(self.avgpool(self.features(image)[-1]).flatten(1))

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, num_classes, h, w) logits, h and w five less than those of pool5: fc6 as 6x6 without padding, others
        as 1x1.

        The single position of a 227 x 227 image (`alexnet_tv`: 224 x 224) equals `forward`.
        """
        self.require_classifier()
        x = self.features(image)[-1]
        side = CLASSIFIER_SIDE
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                x, side = linear_as_convolution(layer, x, side), 1
            elif isinstance(layer, nn.ReLU):
                x = layer(x)
        return x


def response_normalization(lrn: str) -> LocalResponseNorm:
    """The layer described by a text like `PAPER_LRN`.

    The text of given constants is unique, so that a file's can be compared with the option.

    Raises:
        UserError: the text has another form.
    """
    try:
        stated = json.loads(lrn)
        n, alpha, beta, k = (stated[key] for key in ("n", "alpha", "beta", "k"))
        if n % 2 == 0 or lrn != lrn_text(n, alpha, beta, k, stated["alpha_is"] == "divided by n"):
            raise ValueError(lrn)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(
            f"lrn='{lrn}' is not understood; use '{PAPER_LRN}', or with \"divided by n\" as '{CAFFE_LRN}'."
        ) from error
    return LocalResponseNorm(n, alpha / n if stated["alpha_is"] == "divided by n" else alpha, beta, k)


def _classifier(parts: tuple[str, ...], inputs: int, num_classes: int) -> nn.Sequential:
    fans = {
        "fc6": (inputs, CLASSIFIER_WIDTH),
        "fc7": (CLASSIFIER_WIDTH, CLASSIFIER_WIDTH),
        "fc8": (CLASSIFIER_WIDTH, num_classes),
    }
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for part in parts:
        if part in fans:
            layers[part] = nn.Linear(*fans[part])
        else:
            layers[part] = nn.ReLU() if part.startswith("relu") else nn.Dropout(DROPOUT)
    return nn.Sequential(layers)
