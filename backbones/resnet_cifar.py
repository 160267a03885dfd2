"""Residual networks for CIFAR of 20, 32, 44, 56, 110 and 1202 weight layers, and plain ones of 20 and 56.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385, section 4.2: depth
6n + 2, a 3x3 convolution, then n units for each of 16, 32 and 64 channels. Input 32 x 32. With 10 classes and
shortcuts of option A: 269,722 / 464,154 / 658,586 / 853,018 / 1,727,962 / 19,421,274 parameters. The plain networks
are the same without the shortcuts, with as many parameters.

Where the shape changes the paper's shortcut here is option A, which has no parameters: every second pixel, and zeros
for the new channels. `shortcut="B"` is the projection of the ImageNet networks. The zeros stand after the old
channels, as in fb.resnet.torch, or half of them before (`shortcut="A-centered"`), as in Idelbayev's port: the same
counts, but another function. `norm=False`, which is not in the paper, builds all without batch normalization and gives
the convolutions biases: what depth does to a network that nothing holds up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..errors import UserError
from .backbone import Level, Preprocessing
from .initialization import initialize
from .layers import PooledBackbone
from .published import Converted, ConvertedBackbone, Layout, Tensors, rename
from .resnet import BasicBlock, check_residual_options, make_shortcut

# Section 4.2: units per stage, n = (depth - 2) / 6.
CIFAR_UNITS: dict[str, int] = {
    "plain20_cifar": 3,
    "plain56_cifar": 9,
    "resnet20_cifar": 3,
    "resnet32_cifar": 5,
    "resnet44_cifar": 7,
    "resnet56_cifar": 9,
    "resnet110_cifar": 18,
    "resnet1202_cifar": 200,
}
STAGE_WIDTHS = (16, 32, 64)


class CifarResNet(PooledBackbone):
    """A residual or plain network of He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), section 4.2.

    Levels: stage1 (stride 1), stage2 (2), stage3 (4).

    Args:
        name: a key of `CIFAR_UNITS`.
        shortcut: "A" (the paper's, and what None means here; `create_backbone` takes that of the weights file first),
            "A-centered" or "B"; a plain network has none.
        norm: normalize behind every convolution; without, the convolutions have biases.

    Raises:
        UserError: a number or a shortcut that this network cannot have.
    """

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        levels: int | None = None,
        shortcut: str | None = None,
        norm: bool = True,
        init: str = "he_fan_in",
    ) -> None:
        super().__init__()
        plain = name.startswith("plain")
        check_residual_options(name, bottleneck=False, shortcut=shortcut)
        if plain and shortcut is not None:
            raise UserError(f"{name} is plain and has no shortcut to choose; leave shortcut out.")
        whole = [Level(f"stage{stage}", 2 ** (stage - 1), width) for stage, width in enumerate(STAGE_WIDTHS, 1)]
        self._set_metadata(name, whole, num_classes=num_classes, in_channels=in_channels, built=levels)
        self.options = {"norm": norm} if plain else {"shortcut": shortcut or "A", "norm": norm}

        channels = STAGE_WIDTHS[0]
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=not norm)
        self.bn1 = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.relu = nn.ReLU()
        for stage, level in enumerate(self.levels):
            units = nn.Sequential()
            for unit in range(CIFAR_UNITS[name]):
                width, stride = level.channels, 2 if stage > 0 and unit == 0 else 1
                beside = None if plain else make_shortcut(channels, width, stride, shortcut or "A", norm, bias=not norm)
                units.append(BasicBlock(channels, width, stride, beside, norm))
                channels = width
            self.add_module(level.name, units)
        if self.num_classes:
            self.fc = nn.Linear(channels, num_classes)
        initialize(self, init)

    def features(self, image: Tensor) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(image)))
        maps = []
        for level in self.levels:
            x = self.get_submodule(level.name)(x)
            maps.append(x)
        return maps


# Published weights. Normalizations are those of their training scripts.
IMAGENET_COLORS = Preprocessing(resize=32, crop=32)
CIFAR_COLORS = Preprocessing((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), resize=32, crop=32)
PUBLISHED_NAMES = (
    (r"layer(\d)\.(\d+)\.shortcut\.", r"stage\1.\2.downsample."),
    (r"layer(\d)\.", r"stage\1."),
    (r"linear\.", "fc."),
)


def convert_cifar(tensors: Tensors, shortcut: str, preprocessing: Preprocessing) -> Converted:
    """A network of this file, recognized by its number of units per stage."""
    units = len({name.split(".")[1] for name in tensors if name.startswith("layer1.")})
    names = [name for name, n in CIFAR_UNITS.items() if n == units and name.startswith("resnet")]
    if not names:
        raise UserError(f"The file has {units} units per stage; there are networks of {set(CIFAR_UNITS.values())}.")
    if any(".conv3." in name for name in tensors):
        raise UserError(f"The file has bottlenecks, and {names[0]} has basic units.")
    moved = rename(tensors, PUBLISHED_NAMES)
    options = {"num_classes": len(moved["fc.weight"]), "shortcut": shortcut}
    return ConvertedBackbone(names[0], moved, options, preprocessing)


def _layout(title: str, head: str, shortcut: str, marks: dict[str, tuple[int, ...]], colors: Preprocessing) -> Layout:
    convert: Callable[[Tensors], Converted] = partial(convert_cifar, shortcut=shortcut, preprocessing=colors)
    networks = tuple(name for name in CIFAR_UNITS if name.startswith("resnet"))
    signature = {"conv1.weight": (16, 3, 3, 3), "layer3.0.conv1.weight": (64, 32, 3, 3), f"{head}.weight": (None, 64)}
    return Layout(title, networks, {**signature, **marks}, convert)


LAYOUTS = (
    _layout(
        "ResNets for CIFAR with projections (Idelbayev, option B)",
        "linear", "B", {"layer2.0.shortcut.0.weight": (32, 16, 1, 1)}, IMAGENET_COLORS,
    ),
    _layout("ResNets for CIFAR (Idelbayev, option A)", "linear", "A-centered", {}, IMAGENET_COLORS),
    _layout(
        "ResNets for CIFAR with projections (Yang's pytorch-classification)",
        "fc", "B", {"layer2.0.downsample.0.weight": (32, 16, 1, 1)}, CIFAR_COLORS,
    ),
)  # fmt: skip
