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
preprocessing. CaffeNet, the base of MemNet, pools before it normalizes (option `pool_first`): another function of the
same parameters.

Deviations of `alexnet_tv`: neither the paper nor torchvision chose an initialization; the default is "he_fan_in".
Images of other sizes than 224 are brought to the classifier's 6 x 6 by adaptive average pooling, as in torchvision.

Weights files use torchvision's names for both, where our `convolutions.conv2` is `features.3`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from ..errors import UserError
from .backbone import Backbone, Level, Preprocessing
from .initialization import initialize
from .layers import LRN, LocalResponseNorm, classifier_as_convolutions
from .published import Converted, ConvertedBackbone, Layout, Tensors, caffe_parameters

LEVELS = {
    "alexnet": (Level("conv1", 4, 96), Level("conv2", 8, 256), Level("conv5", 16, 256), Level("pool5", 32, 256)),
    "alexnet_tv": (Level("conv1", 4, 64), Level("conv2", 8, 192), Level("conv5", 16, 256), Level("pool5", 32, 256)),
}
CLASSIFIER_SIDE = 6
CLASSIFIER_WIDTH = 4096
DROPOUT = 0.5
PAPER_SIZE = (227, 227)
BIASES_OF_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")  # section 5
# torchvision's mean of ImageNet in 0 ... 255; the images are not divided by anything.
PAPER_PREPROCESSING = Preprocessing(
    mean=(123.675, 116.28, 103.53), std=(1.0, 1.0, 1.0), range=(0.0, 255.0), resize=256, crop=227
)
CAFFE_LRN = LRN(alpha=1e-4 / 5, k=1.0)  # of Caffe's published networks, which divide alpha by the size
# The mean color of ILSVRC2012, blue first, that Caffe's published networks subtract.
CAFFE_COLORS = Preprocessing((104.0, 117.0, 123.0), (1.0,) * 3, (0.0, 255.0), "BGR", resize=256, crop=227)


# In both forms, ReLUs are not in place (they would overwrite what hooks take from a convolution), and pools overlap
# (section 3.4). Comments: the units of a 227 x 227 image, with `one_tower` of a 224 x 224 one.


def two_groups(in_channels: int, lrn: LRN, pool_first: bool = False) -> nn.Sequential:
    """The convolutions of the paper's figure 2; with `pool_first` in CaffeNet's order."""
    layers = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 96, 11, stride=4),  # 55 x 55
            relu1=nn.ReLU(),
            lrn1=LocalResponseNorm(lrn),
            pool1=nn.MaxPool2d(3, stride=2),  # 27 x 27
            conv2=nn.Conv2d(96, 256, 5, padding=2, groups=2),
            relu2=nn.ReLU(),
            lrn2=LocalResponseNorm(lrn),
            pool2=nn.MaxPool2d(3, stride=2),  # 13 x 13
            conv3=nn.Conv2d(256, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, stride=2),  # 6 x 6
        )
    )
    if not pool_first:
        return layers
    swapped = {"lrn1": "pool1", "pool1": "lrn1", "lrn2": "pool2", "pool2": "lrn2"}
    names = [swapped.get(name, name) for name, _ in layers.named_children()]
    return nn.Sequential(OrderedDict((name, layers.get_submodule(name)) for name in names))


def one_tower(in_channels: int) -> nn.Sequential:
    """The convolutions of arXiv:1404.5997, as in torchvision."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),  # 55 x 55
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, stride=2),  # 27 x 27
            conv2=nn.Conv2d(64, 192, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, stride=2),  # 13 x 13
            conv3=nn.Conv2d(192, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 256, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(256, 256, 3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, stride=2),  # 6 x 6
        )
    )


def classifier(name: str, num_classes: int) -> nn.Sequential:
    """The fully connected layers. The paper drops outputs of fc6 and fc7, torchvision their inputs."""
    fc6 = nn.Linear(256 * CLASSIFIER_SIDE**2, CLASSIFIER_WIDTH)
    fc7 = nn.Linear(CLASSIFIER_WIDTH, CLASSIFIER_WIDTH)
    fc8 = nn.Linear(CLASSIFIER_WIDTH, num_classes)
    relu6, relu7 = nn.ReLU(), nn.ReLU()
    if name == "alexnet":
        drop6, drop7 = nn.Dropout(DROPOUT), nn.Dropout(DROPOUT)
        return nn.Sequential(OrderedDict(fc6=fc6, relu6=relu6, drop6=drop6, fc7=fc7, relu7=relu7, drop7=drop7, fc8=fc8))
    drop5, drop6 = nn.Dropout(DROPOUT), nn.Dropout(DROPOUT)
    return nn.Sequential(OrderedDict(drop5=drop5, fc6=fc6, relu6=relu6, drop6=drop6, fc7=fc7, relu7=relu7, fc8=fc8))


class AlexNet(Backbone):
    """The network of Krizhevsky, Sutskever, Hinton 2012, or its one-tower form (arXiv:1404.5997).

    Levels: conv1 (stride 4), conv2 (8) and conv5 (16), each after its ReLU and before response normalization and pool,
    and pool5 (32).

    Args:
        name: "alexnet" or "alexnet_tv".
        lrn: constants of the response normalization in a form that `LRN.parse` reads; None is the paper's here
            (`create_backbone` takes the weights file's first). `alexnet_tv` has none.
        pool_first: CaffeNet's order of layers, response normalization after each pool; `alexnet` only.
        init: a rule of `initialization.RULES`; None is "gaussian" for `alexnet` and "he_fan_in" for `alexnet_tv`.

    Raises:
        UserError: an impossible number, `lrn` or `pool_first` for `alexnet_tv`, or a malformed `lrn`.
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
        lrn: LRN | Mapping[str, Any] | str | None = None,
        pool_first: bool = False,
        init: str | None = None,
    ) -> None:
        super().__init__()
        self._set_metadata(name, LEVELS[name], num_classes=num_classes, in_channels=in_channels, built=levels)
        if name == "alexnet":
            constants = LRN() if lrn is None else LRN.parse(lrn)
            self.preprocessing = PAPER_PREPROCESSING.for_channels(in_channels)
            self.classifier_input_size = PAPER_SIZE
            self.options = {"lrn": asdict(constants), **({"pool_first": True} if pool_first else {})}
            convolutions = two_groups(in_channels, constants, pool_first)
        elif lrn is None and not pool_first:
            convolutions = one_tower(in_channels)
        else:
            raise UserError(f"{name} has no response normalization; leave lrn out, and pool_first, or use alexnet.")
        # The last layer of each level.
        self.level_ends = [level.name.replace("conv", "relu") for level in self.levels]
        names = [layer for layer, _ in convolutions.named_children()]
        self.convolutions = convolutions[: names.index(self.level_ends[-1]) + 1]
        if self.num_classes:
            self.avgpool = nn.AdaptiveAvgPool2d(CLASSIFIER_SIDE)
            self.classifier = classifier(name, num_classes)

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
        self.require_classifier(image)
        return self.classifier(self.avgpool(self.features(image)[-1]).flatten(1))

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, num_classes, h, w) logits, h and w five less than those of pool5: fc6 as 6x6 without padding, others
        as 1x1.

        The single position of a 227 x 227 image (`alexnet_tv`: 224 x 224) equals `forward`.
        """
        self.require_classifier()
        return classifier_as_convolutions(self.classifier, self.features(image)[-1], CLASSIFIER_SIDE)


def convert_caffe(tensors: Tensors) -> Converted:
    """Caffe's AlexNet and CaffeNet have the same layers in another order: the latter pools before it normalizes."""
    order = [name.partition(".")[0] for name in tensors]
    pool_first = order.index("pool1") < order.index("norm1")
    moved = caffe_parameters(
        tensors,
        {f"conv{n}": f"convolutions.conv{n}" for n in range(1, 6)} | {f"fc{n}": f"classifier.fc{n}" for n in (6, 7, 8)},
    )
    options = {"num_classes": len(moved["classifier.fc8.bias"]), "lrn": CAFFE_LRN, "pool_first": pool_first}
    note = f"it is {'CaffeNet, which pools before' if pool_first else 'AlexNet, which pools after'} it normalizes"
    return ConvertedBackbone("alexnet", moved, options, CAFFE_COLORS, notes=(note,))


LAYOUTS = (
    Layout(
        "Caffe's AlexNet or CaffeNet",
        ("alexnet",),
        {"conv1.0": (96, 3, 11, 11), "conv2.0": (256, 48, 5, 5), "fc8.0": (None, 4096), "norm1": (0,), "pool1": (0,)},
        convert_caffe,
    ),
)
