"""GoogLeNet as published in 2014, and with batch normalization as torchvision has it.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going Deeper with Convolutions. CVPR 2015,
arXiv:1409.4842, table 1. Input 224 x 224. `googlenet`: 6,998,552 parameters, 13,378,280 with both auxiliary
classifiers. (The column printed in the paper adds up to 6.8 million; several of its entries do not match its sizes.)

`googlenet_tv` is torchvision's network, another function of 6,624,904 parameters, 13,004,888 with both: batch
normalization in place of biases and of response normalization, 3x3 convolutions where the paper has 5x5, a 2x2 pool
before 5a, less dropout, auxiliary classifiers on an adaptive pool. Its published auxiliary classifiers are untrained.

Deviations of `googlenet`: the paper is silent on initial weights, so those of its Caffe port are taken ("xavier" in
Caffe's sense; biases of 0.2 before every ReLU). At other sizes than 224 the auxiliary classifiers' 5x5 pool is followed
by an adaptive one to their 4 x 4 (at 224 it does nothing); a map smaller than that pool meets the adaptive one alone.
`auxiliary=False` leaves both classifiers out. The response normalization of Caffe's weights has other constants than
the paper's (option `lrn` of `googlenet`). Files use torchvision's names for either form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UserError
from .alexnet import CAFFE_COLORS, CAFFE_LRN
from .backbone import Level, Preprocessing
from .initialization import initialize
from .layers import LRN, LocalResponseNorm, PooledBackbone
from .published import Converted, ConvertedBackbone, Layout, Tensors, caffe_parameters

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool projection.
INCEPTION_TABLE: dict[str, tuple[int, int, int, int, int, int]] = {
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}
LEVELS = (
    Level("conv1", 2, 64),
    Level("conv2", 4, 192),
    Level("inception_3b", 8, 480),
    Level("inception_4e", 16, 832),
    Level("inception_5b", 32, 1024),
)
# Classifiers that exist for training alone, the outputs that they read, and those outputs' channels.
AUXILIARY = {"aux1": ("inception_4a", 512), "aux2": ("inception_4d", 528)}
AUXILIARY_DROPOUT = 0.7
BIAS_BEFORE_RELU = 0.2  # Caffe's port
INCEPTION_EPS = 1e-3  # of batch normalization in every network of this family


class ConvUnit(nn.Module):
    """A convolution and its ReLU; with `norm` a batch normalization between them in the place of the bias."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, padding, bias=not norm)
        self.bn = nn.BatchNorm2d(out_channels, eps=INCEPTION_EPS) if norm else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, out_channels, h', w')."""
        return self.relu(self.bn(self.conv(x)))


class InceptionModule(nn.Module):
    """Four branches side by side (figure 2b): 1x1, 3x3, 5x5, and a pool with a projection."""

    def __init__(self, channels: int, row: tuple[int, int, int, int, int, int], norm: bool) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, project = row
        wide = 3 if norm else 5  # torchvision's 3x3 in the 5x5 branch is a known slip that its weights depend on
        self.branch1 = ConvUnit(channels, one, 1, norm=norm)
        self.branch2 = nn.Sequential(
            ConvUnit(channels, reduce3, 1, norm=norm), ConvUnit(reduce3, three, 3, padding=1, norm=norm)
        )
        self.branch3 = nn.Sequential(
            ConvUnit(channels, reduce5, 1, norm=norm), ConvUnit(reduce5, five, wide, padding=wide // 2, norm=norm)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), ConvUnit(channels, project, 1, norm=norm))
        self.out_channels = one + three + five + project

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, out_channels, h, w)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class AuxiliaryClassifier(nn.Module):
    """A small classifier on a module in the middle, which brings gradients there (section 5)."""

    def __init__(self, channels: int, num_classes: int, norm: bool) -> None:
        super().__init__()
        self.pooled_first = not norm
        self.conv = ConvUnit(channels, 128, 1, norm=norm)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(AUXILIARY_DROPOUT)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, num_classes)."""
        if self.pooled_first and min(x.shape[-2:]) >= 5:
            x = functional.avg_pool2d(x, 5, 3)
        x = self.conv(functional.adaptive_avg_pool2d(x, 4))
        return self.fc2(self.dropout(self.relu(self.fc1(x.flatten(1)))))


class GoogLeNet(PooledBackbone):
    """The network of Szegedy et al. 2014 (arXiv:1409.4842), table 1.

    Levels: conv1 (stride 2), conv2 (4), inception_3b (8), inception_4e (16), inception_5b (32), each the last ReLU's
    output before the next downsampling; in `googlenet` conv2 is taken before its response normalization.

    Args:
        name: "googlenet", or "googlenet_tv" for torchvision's form. The latter's images have mean and std 0.5.
        auxiliary: build the two auxiliary classifiers, where there is a classifier at all. `forward_train` gives
            (main, aux1, aux2); the paper adds their losses with weight 0.3. `forward` never gives theirs.
        lrn: constants of the response normalization in a form that `LRN.parse` reads; None is the paper's here
            (`create_backbone` takes the weights file's first). `googlenet_tv` has none.
        init: a rule of `initialization.RULES`; None is "caffe_xavier" for `googlenet` and "gaussian", torchvision's,
            for `googlenet_tv`.

    Raises:
        UserError: an impossible number, `lrn` for `googlenet_tv`, or a malformed `lrn`.
    """

    state_dict_aliases: Mapping[str, str] = {"conv2_reduce.": "conv2.", "conv2.": "conv3.", "inception_": "inception"}

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        levels: int | None = None,
        auxiliary: bool = True,
        lrn: LRN | Mapping[str, Any] | str | None = None,
        init: str | None = None,
    ) -> None:
        super().__init__()
        norm = name == "googlenet_tv"
        if norm and lrn is not None:
            raise UserError(f"{name} has no response normalization; leave lrn out, or use googlenet.")
        self._set_metadata(name, LEVELS, num_classes=num_classes, in_channels=in_channels, built=levels)
        constants = LRN() if lrn is None else LRN.parse(lrn)
        self.options = {"auxiliary": auxiliary, **({} if lrn is None else {"lrn": asdict(constants)})}
        if norm:
            # torchvision's weights expect this. Its network makes it inside from images normalized as ImageNet's
            # (`transform_input`); done before, padding zeros still mean mid-gray, as they did when it was trained.
            # Folded into conv1 they would not: zeros beyond the border are not moved by a bias.
            self.preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3).for_channels(in_channels)

        self.steps = self._add_steps(in_channels, norm, constants)
        self.auxiliary = AUXILIARY if auxiliary and self.num_classes else {}
        for called, (_, channels) in self.auxiliary.items():
            self.add_module(called, AuxiliaryClassifier(channels, num_classes, norm))
        if self.num_classes:
            self.dropout = nn.Dropout(0.2 if norm else 0.4)
            self.fc = nn.Linear(LEVELS[-1].channels, num_classes)
        initialize(self, init or ("gaussian" if norm else "caffe_xavier"))
        for module in self.modules():
            if isinstance(module, ConvUnit) and module.conv.bias is not None:
                nn.init.constant_(module.conv.bias, BIAS_BEFORE_RELU)
            elif isinstance(module, AuxiliaryClassifier) and module.conv.conv.bias is not None:
                nn.init.constant_(module.fc1.bias, BIAS_BEFORE_RELU)

    def _add_steps(self, in_channels: int, norm: bool, lrn: LRN) -> tuple[str, ...]:
        """Table 1 row by row, to the last level that is built; returns the rows' names."""

        def pool(side: int = 3) -> nn.Module:
            return nn.MaxPool2d(side, 2, ceil_mode=True)  # without ceil 56, 28, 14 and 7 would be 55, 27, 13 and 6

        rows: dict[str, nn.Module] = {
            "conv1": ConvUnit(in_channels, 64, 7, 2, 3, norm),
            "pool1": pool(),
            "norm1": LocalResponseNorm(lrn),
            "conv2_reduce": ConvUnit(64, 64, 1, norm=norm),
            "conv2": ConvUnit(64, 192, 3, padding=1, norm=norm),
            "norm2": LocalResponseNorm(lrn),
            "pool2": pool(),
        }
        channels = 192
        for name, row in INCEPTION_TABLE.items():
            if name == "inception_4a":
                rows["pool3"] = pool()
            elif name == "inception_5a":
                rows["pool4"] = pool(2 if norm else 3)
            module = InceptionModule(channels, row, norm)
            rows[name], channels = module, module.out_channels
        if norm:
            del rows["norm1"], rows["norm2"]
        last = self.levels[-1].name
        names = (*takewhile(lambda name: name != last, rows), last)
        for name in names:
            self.add_module(name, rows[name])
        return names

    def _run(self, image: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = image
        for name in self.steps:
            x = self.get_submodule(name)(x)
            yield name, x

    def features(self, image: Tensor) -> list[Tensor]:
        names = {level.name for level in self.levels}
        return [made for name, made in self._run(image) if name in names]

    def forward_train(self, image: Tensor) -> tuple[Tensor, ...]:
        """The main logits, then those of aux1 (on 4a) and aux2 (on 4d) where they were built; one pass for all."""
        self.require_classifier()
        made = dict(self._run(image))
        beside = [self.get_submodule(called)(made[source]) for called, (source, _) in self.auxiliary.items()]
        return (self.classify(made[self.levels[-1].name]), *beside)

    def classify(self, coarsest: Tensor) -> Tensor:
        return self.fc(self.dropout(coarsest.mean((2, 3))))


# Layers of a module in Caffe's port, "inception_3a/5x5_reduce", to ours.
CAFFE_BRANCHES = {
    "1x1": "branch1", "3x3_reduce": "branch2.0", "3x3": "branch2.1", "5x5_reduce": "branch3.0", "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}  # fmt: skip
CAFFE_STEM = {"conv1/7x7_s2": "conv1", "conv2/3x3_reduce": "conv2_reduce", "conv2/3x3": "conv2"}


def convert_caffe(tensors: Tensors) -> Converted:
    """Caffe's GoogLeNet, with its auxiliary classifiers if the file has them."""
    names = {theirs: f"{ours}.conv" for theirs, ours in CAFFE_STEM.items()} | {"loss3/classifier": "fc"}
    names |= {f"{m}/{theirs}": f"{m}.{ours}.conv" for m in INCEPTION_TABLE for theirs, ours in CAFFE_BRANCHES.items()}
    auxiliary = "loss1/conv.0" in tensors
    for n in (1, 2) if auxiliary else ():
        names |= {
            f"loss{n}/conv": f"aux{n}.conv.conv",
            f"loss{n}/fc": f"aux{n}.fc1",
            f"loss{n}/classifier": f"aux{n}.fc2",
        }
    moved = caffe_parameters(tensors, names)
    options = {"num_classes": len(moved["fc.bias"]), "auxiliary": auxiliary, "lrn": CAFFE_LRN}
    return ConvertedBackbone("googlenet", moved, options, replace(CAFFE_COLORS, crop=224))


LAYOUTS = (
    Layout(
        "Caffe's GoogLeNet",
        ("googlenet",),
        {"conv1/7x7_s2.0": (64, 3, 7, 7), "inception_5b/5x5.0": (128, 48, 5, 5), "loss3/classifier.0": (None, 1024)},
        convert_caffe,
    ),
)
