"""Residual networks for ImageNet: ResNet-18, 34, 50, 101 and 152.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385, table 1.
Input 224 x 224; 11,689,512 / 21,797,672 / 25,557,032 / 44,549,160 / 60,192,808 parameters. Shortcuts are option B:
a 1x1 projection with batch normalization where the shape changes, the identity elsewhere.

Deviation, with its switch: a bottleneck that halves the image does so in its first 1x1 in the paper, its Caffe
models and FCRN (`stride_in="1x1"`), in its 3x3 in torchvision and fb.resnet.torch (`stride_in="3x3"`, also called
v1.5). Both have the same parameters, but they are different functions with different receptive fields (483 and 427
pixels for ResNet-50): weights of one must never be loaded into the other. Published weights that are easy to get
have the 3x3, so that is the default. Likewise the pool after the stem pads its map on all sides (`pool="sides"`, as
torchvision does) or at its end only (`pool="end"`, as the Caffe models and TensorFlow do), where sides that are odd
are padded as TensorFlow does. Parameter names are torchvision's.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from ..errors import UserError
from .backbone import Level
from .initialization import initialize
from .layers import PooledBackbone
from .published import Converted, ConvertedBackbone, Layout, Tensors, in_order
from .vgg import CAFFE_COLORS

# Table 1: units per stage, and whether they are bottlenecks.
RESNET_TABLE: dict[str, tuple[tuple[int, int, int, int], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
STEM_CHANNELS = 64
STAGE_WIDTHS = (64, 128, 256, 512)
BOTTLENECK_EXPANSION = 4


CAFFE_NAMES = re.compile(
    r"(?:(?P<stem>bn_conv|scale_conv|conv)1|(?P<kind>res|bn|scale)(?P<stage>[2-5])(?P<unit>[a-z]|[ab]\d+)_branch(?P<layer>1|2[abc]))$"
)
"""Names of layers in the authors' Caffe models: "res3b2_branch2a" is the first convolution of the third unit."""


def from_caffe_name(name: str) -> str:
    """Our name of a layer of `CAFFE_NAMES`; a normalization and its scale are one layer here."""
    match = CAFFE_NAMES.match(name)
    if match is None:
        raise UserError(f"The layer '{name}' is none of a ResNet.")
    if match["stem"]:
        return "conv1" if match["stem"] == "conv" else "bn1"
    unit = match["unit"]
    number = int(unit[1:]) if len(unit) > 1 else ord(unit) - ord("a")
    at = f"layer{int(match['stage']) - 1}.{number}"
    convolution = match["kind"] == "res"
    if match["layer"] == "1":
        return f"{at}.downsample.{0 if convolution else 1}"
    return f"{at}.{'conv' if convolution else 'bn'}{'abc'.index(match['layer'][1]) + 1}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left), or alone where that is None. The stride is in the first.

    Without `norm`, the convolutions have biases instead of a normalization behind them.
    """

    def __init__(self, channels: int, width: int, stride: int, shortcut: nn.Module | None, norm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=not norm)
        self.bn1 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        self.bn2 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.downsample = shortcut
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y if self.downsample is None else y + self.downsample(x))


class EndPool(nn.Module):
    """Max pooling 3x3 of stride 2 which pads even sides at their end only: TensorFlow's "SAME"."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), not negative, to (B, C, ⌈H / 2⌉, ⌈W / 2⌉)."""
        (top, bottom), (left, right) = ((size % 2, 1) for size in x.shape[-2:])
        return functional.max_pool2d(functional.pad(x, (left, right, top, bottom)), 3, 2)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (figure 5, right)."""

    def __init__(self, channels: int, width: int, stride: int, stride_in: str) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, width * BOTTLENECK_EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * BOTTLENECK_EXPANSION)
        self.downsample = make_shortcut(channels, width * BOTTLENECK_EXPANSION, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, 4 width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu3(y + self.downsample(x))


class ZeroPaddedShortcut(nn.Module):
    """Shortcut option A: every `stride`-th pixel, with zeros for the channels that are new. No parameters.

    The zeros stand after the channels of the input, or half of them before (`centered`).
    """

    def __init__(self, new_channels: int, stride: int, centered: bool = False) -> None:
        super().__init__()
        self.before = new_channels // 2 if centered else 0
        self.after = new_channels - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C + new_channels, ⌈h / stride⌉, ⌈w / stride⌉)."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.before, self.after))


def make_shortcut(
    channels: int, out_channels: int, stride: int, option: str = "B", norm: bool = True, bias: bool = False
) -> nn.Module:
    """The identity where the shape stays; else option A (also "A-centered"), or option B: a strided 1x1 convolution,
    normalized."""
    if stride == 1 and channels == out_channels:
        return nn.Identity()
    if option != "B":
        return ZeroPaddedShortcut(out_channels - channels, stride, option == "A-centered")
    projection = nn.Conv2d(channels, out_channels, 1, stride, bias=bias)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels)) if norm else projection


def check_residual_options(
    name: str, bottleneck: bool, stride_in: str | None = None, shortcut: str | None = None
) -> None:
    """Raise a UserError for options that a residual network cannot have."""
    if shortcut not in (None, "A", "A-centered", "B"):
        raise UserError(f"shortcut of {name} is 'A', 'A-centered' or 'B', not '{shortcut}'.")
    if stride_in not in (None, "1x1", "3x3"):
        raise UserError(f"stride_in of {name} is '1x1' or '3x3', not '{stride_in}'.")
    if stride_in == "1x1" and not bottleneck:
        raise UserError(f"{name} has no 1x1 convolution to put its stride in; leave stride_in out.")


class ResNet(PooledBackbone):
    """A residual network of He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 1.

    Levels: stem (stride 2, before the pool), layer1 (4), layer2 (8), layer3 (16), layer4 (32).

    Args:
        name: a key of `RESNET_TABLE`.
        stride_in: where a bottleneck halves, "1x1" or "3x3"; None is "3x3" here (`create_backbone` takes that of the
            weights file first). Nets of basic units have no choice.
        pool: where the pool after the stem pads, "sides" or "end"; None is "sides" here (`create_backbone` takes that
            of the weights file first).
        zero_init_residual: start the last normalization of every unit at 0, so that it begins as the identity
            (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
        init: a rule of `initialization.RULES`; the paper's is "he_fan_in", torchvision's "he_fan_out".

    Raises:
        UserError: a number, a stride or a pool that this network cannot have.
    """

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        levels: int | None = None,
        stride_in: str | None = None,
        pool: str | None = None,
        zero_init_residual: bool = False,
        init: str = "he_fan_in",
    ) -> None:
        super().__init__()
        units, bottleneck = RESNET_TABLE[name]
        check_residual_options(name, bottleneck, stride_in)
        widths = [width * (BOTTLENECK_EXPANSION if bottleneck else 1) for width in STAGE_WIDTHS]
        whole = [Level("stem", 2, STEM_CHANNELS)]
        whole += [Level(f"layer{stage}", 2 ** (stage + 1), width) for stage, width in enumerate(widths, 1)]
        self._set_metadata(name, whole, num_classes=num_classes, in_channels=in_channels, built=levels)

        stride_in = stride_in or "3x3"
        if pool not in (None, "sides", "end"):
            raise UserError(f"pool of {name} is 'sides' or 'end', not '{pool}'.")
        self.options = {"stride_in": stride_in} if bottleneck else {}
        if pool == "end":
            self.options["pool"] = pool

        self.conv1 = nn.Conv2d(in_channels, STEM_CHANNELS, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU()
        self.maxpool = EndPool() if pool == "end" else nn.MaxPool2d(3, 2, padding=1)
        channels = STEM_CHANNELS
        for stage, level in enumerate(self.levels[1:]):
            stack: OrderedDict[str, nn.Module] = OrderedDict()
            for unit in range(units[stage]):
                stride = 2 if stage > 0 and unit == 0 else 1
                width = STAGE_WIDTHS[stage]
                stack[str(unit)] = (
                    Bottleneck(channels, width, stride, stride_in)
                    if bottleneck
                    else BasicBlock(channels, width, stride, make_shortcut(channels, width, stride))
                )
                channels = level.channels
            self.add_module(level.name, nn.Sequential(stack))
        if self.num_classes:
            self.fc = nn.Linear(channels, num_classes)

        initialize(self, init)
        if zero_init_residual:
            last = "bn3.weight" if bottleneck else "bn2.weight"
            for path, parameter in self.named_parameters():
                if path.endswith(last):
                    nn.init.zeros_(parameter)

    def features(self, image: Tensor) -> list[Tensor]:
        return self.first_features(image, len(self.levels))

    def first_features(self, image: Tensor, count: int) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(image)))
        maps = [x]
        for level in self.levels[1:count]:
            x = self.get_submodule(level.name)(self.maxpool(x) if len(maps) == 1 else x)
            maps.append(x)
        return maps


def convert_caffe(tensors: Tensors) -> Converted:
    """The authors' Caffe models: mean, variance and their factor in one layer, scale and shift in the next.

    ResNet-50 has a bias in conv1, which is folded into the mean of the normalization behind it.
    """
    moved: Tensors = {}
    for name, tensor in tensors.items():
        layer, _, index = name.rpartition(".")
        if not CAFFE_NAMES.match(layer):
            continue
        ours = from_caffe_name(layer)
        if layer.startswith("bn"):
            part = ("running_mean", "running_var", None)[int(index)]
            factor = tensors[f"{layer}.2"].flatten()[0]
            if part:
                moved[f"{ours}.{part}"] = tensor / factor if factor else tensor
        else:
            moved[f"{ours}.{('weight', 'bias')[int(index)]}"] = tensor
    moved["fc.weight"], moved["fc.bias"] = tensors["fc1000.0"], tensors["fc1000.1"]
    bias = moved.pop("conv1.bias", None)
    if bias is not None:
        moved["bn1.running_mean"] = moved["bn1.running_mean"] - bias
    units = tuple(len({name.split(".")[1] for name in moved if name.startswith(f"layer{n}.")}) for n in range(1, 5))
    network = next((name for name, row in RESNET_TABLE.items() if row == (units, True)), None)
    if network is None:
        raise UserError(f"The file has stages of {units} units, which no network of the paper has.")
    options = {"num_classes": len(moved["fc.bias"]), "stride_in": "1x1", "pool": "end"}
    note = ("the bias of conv1 is folded into the normalization behind it",) if bias is not None else ()
    return ConvertedBackbone(network, moved, options, CAFFE_COLORS, notes=note)


def convert_torch7(tensors: Tensors) -> Converted:
    """fb.resnet.torch: which network it is follows from the number of its convolutions."""
    count = sum(tensor.ndim == 4 for tensor in tensors.values())
    # The stem, those of the units, and a projection per stage, of basic units from the second on.
    networks = {
        1 + sum(units) * (3 if bottleneck else 2) + (4 if bottleneck else 3): name
        for name, (units, bottleneck) in RESNET_TABLE.items()
    }
    if count not in networks:
        raise UserError(f"The file has {count} convolutions, which no network of the paper has.")
    network = networks[count]
    return in_order(network, tensors, **({"stride_in": stride_in_of(tensors)} if RESNET_TABLE[network][1] else {}))


def stride_in_of(tensors: Tensors) -> str:
    """Where the bottlenecks of a network of Torch7 halve: a 3x3 convolution of stride 2 decides."""
    halving = {
        name.removesuffix("stride") + "weight"
        for name, tensor in tensors.items()
        if name.endswith("stride") and tensor.item() == 2
    }
    return "3x3" if any(tensors[name].shape[-1] == 3 for name in halving) else "1x1"


TORCH7_STEM = {"0.SpatialConvolution.weight": (64, 3, 7, 7), "1.SpatialBatchNormalization.running_mean": (64,)}
LAYOUTS = (
    Layout(
        "fb.resnet.torch (Facebook; Torch7)",
        tuple(RESNET_TABLE),
        # Other than with pre-activation, every convolution has a normalization behind it.
        {**TORCH7_STEM, "3.SpatialBatchNormalization.weight": (64,), "7.SpatialBatchNormalization.weight": None},
        convert_torch7,
    ),
    Layout(
        "ResNet (He et al., Caffe)",
        ("resnet50", "resnet101", "resnet152"),
        {"conv1.0": (64, 3, 7, 7), "scale2a_branch2a.0": (64,), "bn2a_branch2a.2": (1,), "fc1000.0": (None, 2048)},
        convert_caffe,
    ),
)
