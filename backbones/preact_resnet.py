"""Residual networks with pre-activation: 110, 164, 1001 layers for CIFAR, 152, 200 for ImageNet; 18 to 152 of a port.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks. ECCV 2016, arXiv:1603.05027. With 10 classes on CIFAR
1,727,962 / 1,703,258 / 10,327,706 parameters, on ImageNet 60,185,128 / 64,666,152.

Normalization and ReLU stand before a unit's convolutions, and nothing touches the sum. Where the shape changes they
stand before the fork, so that the shortcut sees what they made, and once more after the last unit. Every stage begins
behind the stem or with a change of shape: so each of those BN-ReLU pairs here closes the stem or a stage, and the first
unit of a stage has none of its own.

Shortcuts where the shape changes are the paper's: without parameters (option A) in the network of basic units, 1x1
without normalization (option B) in those of bottlenecks; `shortcut` chooses for the former (B: 1,730,522). Bottlenecks
halve in their first 1x1 as in the authors' code; `stride_in="3x3"` is the place of torchvision and timm. On ImageNet
the stem's pair stands before its pool and serves the first unit; code that normalizes again after the pool has 128
parameters more (`first_unit_norm=True`).

`preact18_cifar`, `34`, `50`, `101` and `152` are not in the paper: the networks of Kuang Liu's pytorch-cifar, with the
units and widths of the ResNets for ImageNet, projections (option B), the stride in the 3x3, and open ends: their
classifier reads the bare sum of the last stage, and in those of basic units the first shortcut carries the bare stem.
11,171,146 / 21,279,306 / 23,509,066 / 42,501,194 / 58,144,842 parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import UserError
from .backbone import Level, Preprocessing
from .initialization import initialize
from .layers import PooledBackbone
from .published import Converted, ConvertedBackbone, Layout, Tensors, in_order, rename
from .resnet import BOTTLENECK_EXPANSION, TORCH7_STEM, check_residual_options, make_shortcut, stride_in_of

# Units per stage, and whether they are bottlenecks. CIFAR: n = (depth - 2) / 6 units, or / 9 for bottlenecks.
PREACT_TABLE: dict[str, tuple[tuple[int, ...], bool]] = {
    "preact18_cifar": ((2, 2, 2, 2), False),
    "preact34_cifar": ((3, 4, 6, 3), False),
    "preact50_cifar": ((3, 4, 6, 3), True),
    "preact101_cifar": ((3, 4, 23, 3), True),
    "preact152_cifar": ((3, 8, 36, 3), True),
    "preact110_cifar": ((18, 18, 18), False),
    "preact164_cifar": ((18, 18, 18), True),
    "preact1001_cifar": ((111, 111, 111), True),
    "preact152": ((3, 8, 36, 3), True),
    "preact200": ((3, 24, 36, 3), True),
}
CIFAR_WIDTHS = (16, 32, 64)
IMAGENET_WIDTHS = (64, 128, 256, 512)
PORT = {name: row for name, row in PREACT_TABLE.items() if name.endswith("_cifar") and len(row[0]) == 4}
"""The networks of pytorch-cifar: for CIFAR, with the stages of ImageNet."""
PORT_COLORS = Preprocessing((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), resize=32, crop=32)


class PreActBlock(nn.Module):
    """Convolutions, each behind a normalization and a ReLU, beside a shortcut (figure 4e).

    Args:
        channels: of what comes in.
        convolutions: out channels, kernel and stride of each.
        shortcut: the other way to the sum.
        activated: what comes in has been normalized and rectified already, so the first convolution reads it bare.
    """

    def __init__(
        self, channels: int, convolutions: list[tuple[int, int, int]], shortcut: nn.Module, activated: bool
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential()
        for out_channels, kernel, stride in convolutions:
            if len(self.residual) or not activated:
                self.residual.extend([nn.BatchNorm2d(channels), nn.ReLU()])
            self.residual.append(nn.Conv2d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False))
            channels = out_channels
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, out channels, ⌈h / stride⌉, ⌈w / stride⌉)."""
        return self.shortcut(x) + self.residual(x)


class PreActResNet(PooledBackbone):
    """A network of He, Zhang, Ren, Sun 2016 (arXiv:1603.05027).

    Levels: stage1 (stride 1), stage2 (2), stage3 (4) on CIFAR, and stage4 (8) of the port's; stem (2, before the
    pool), layer1 (4) to layer4 (32) on ImageNet. A level is the stage's sum after the BN-ReLU that closes it: this one
    tensor is all that the network itself reads on from there, while the bare sum has a variance that grows with the
    depth.

    Args:
        name: a key of `PREACT_TABLE`.
        num_classes: length of the logits, None for 10 on CIFAR and 1000 on ImageNet; 0 builds no classifier.
        shortcut: "A", "A-centered" or "B", for basic units only; None is "A", for the port's networks "B".
        stride_in: where a bottleneck halves, "1x1" or "3x3"; None is "1x1" here, for the port's networks "3x3"
            (`create_backbone` takes that of the weights file first).
        first_unit_norm: normalize and rectify again between the stem's pool and the first unit; ImageNet only.

    Raises:
        UserError: a number or an option that this network cannot have.
    """

    def __init__(
        self,
        name: str,
        *,
        num_classes: int | None = None,
        in_channels: int = 3,
        levels: int | None = None,
        shortcut: str | None = None,
        stride_in: str | None = None,
        first_unit_norm: bool = False,
        init: str = "he_fan_in",
    ) -> None:
        super().__init__()
        units, bottleneck = PREACT_TABLE[name]
        cifar = name.endswith("_cifar")
        check_residual_options(name, bottleneck, stride_in, shortcut)
        if bottleneck and shortcut not in (None, "B"):
            raise UserError(f"{name} is made of bottlenecks, whose shortcuts are option B; leave shortcut out.")
        if first_unit_norm and cifar:
            raise UserError(f"{name} has no pool to normalize after; leave first_unit_norm out.")
        port = name in PORT
        open_start = port and not bottleneck
        shortcut = shortcut or ("B" if port else "A")
        stride_in = stride_in or ("3x3" if port else "1x1")
        widths = CIFAR_WIDTHS if cifar and not port else IMAGENET_WIDTHS
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        if cifar:
            whole = [Level(f"stage{i}", 2 ** (i - 1), width * expansion) for i, width in enumerate(widths, 1)]
        else:
            whole = [Level(f"layer{i}", 2 ** (i + 1), width * expansion) for i, width in enumerate(widths, 1)]
            whole.insert(0, Level("stem", 2, widths[0]))
        num_classes = (10 if cifar else 1000) if num_classes is None else num_classes
        self._set_metadata(name, whole, num_classes=num_classes, in_channels=in_channels, built=levels)
        self.options = (
            {"stride_in": stride_in, "first_unit_norm": first_unit_norm} if bottleneck else {"shortcut": shortcut}
        )

        channels = widths[0]
        kernel, stride = (3, 1) if cifar else (7, 2)
        first = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)
        self.stem = nn.Sequential(first) if open_start else nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU())
        self.pool = nn.Sequential() if cifar or len(self.levels) == 1 else nn.Sequential(nn.MaxPool2d(3, 2, padding=1))
        if first_unit_norm and len(self.pool):
            self.pool.extend([nn.BatchNorm2d(channels), nn.ReLU()])
        self.stages = [level for level in self.levels if level.name != "stem"]
        for stage, level in enumerate(self.stages):
            stack = nn.Sequential()
            for unit in range(units[stage]):
                stride = 2 if stage > 0 and unit == 0 else 1
                if bottleneck:
                    at_first, at_second = (stride, 1) if stride_in == "1x1" else (1, stride)
                    convolutions = [(widths[stage], 1, at_first), (widths[stage], 3, at_second), (level.channels, 1, 1)]
                else:
                    convolutions = [(level.channels, 3, stride), (level.channels, 3, 1)]
                option = "B" if bottleneck else shortcut
                beside = make_shortcut(channels, level.channels, stride, option, norm=False)
                activated = unit == 0 and not (open_start and stage == 0)
                stack.append(PreActBlock(channels, convolutions, beside, activated))
                channels = level.channels
            if not port or stage + 1 < len(units):
                stack.extend([nn.BatchNorm2d(channels), nn.ReLU()])
            self.add_module(level.name, stack)
        if self.num_classes:
            self.fc = nn.Linear(channels, self.num_classes)
        initialize(self, init)

    def features(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        maps = [x] if self.levels[0].name == "stem" else []
        x = self.pool(x)
        for level in self.stages:
            x = self.get_submodule(level.name)(x)
            maps.append(x)
        return maps


def convert_liu(tensors: Tensors) -> Converted:
    """Kuang Liu's file: the first normalization of a later stage closes the stage before it here, or the stem."""
    units = tuple(len({name.split(".")[1] for name in tensors if name.startswith(f"layer{n}.")}) for n in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in tensors
    network = next((name for name, row in PORT.items() if row == (units, bottleneck)), None)
    if network is None:
        raise UserError(f"The file has stages of {units} units, which no network of pytorch-cifar has.")
    rules = [(r"conv1\.", "stem.0."), (r"linear\.", "fc."), (r"layer(\d)\.0\.shortcut\.0\.", r"stage\1.0.shortcut.")]
    parts = 3 if bottleneck else 2
    for stage in range(1 if bottleneck else 2, len(units) + 1):
        before = f"stage{stage - 1}.{units[stage - 2]}." if stage > 1 else "stem.1."
        rules.append((rf"layer{stage}\.0\.bn1\.", before))
        # Of a first unit, the other layers follow each other without that normalization and its ReLU.
        rules += _residual(rf"layer{stage}\.0\.", f"stage{stage}.0.", parts, -2)
    rules += _residual(r"layer(\d)\.(\d+)\.", r"stage\1.\2.", parts, 0)
    moved = rename(tensors, rules)
    return ConvertedBackbone(network, moved, {"num_classes": len(moved["fc.bias"])}, PORT_COLORS)


def _residual(theirs: str, ours: str, parts: int, shift: int) -> list[tuple[str, str]]:
    """The rules of a unit: every convolution behind a normalization and its ReLU.

    Args:
        theirs, ours: what the names of its layers begin with.
        parts: number of its convolutions.
        shift: -2 without the first normalization, which another rule moves, and its ReLU.
    """
    return [
        (rf"{theirs}{kind}{part}\.", f"{ours}residual.{3 * (part - 1) + offset + shift}.")
        for part in range(1, parts + 1)
        for kind, offset in (("bn", 0), ("conv", 2))
    ]


def convert_torch7(tensors: Tensors) -> Converted:
    """The authors' network of Torch7, whose layers are ours in their order; stride and depth follow from them."""
    count = sum(tensor.ndim == 4 for tensor in tensors.values())
    # The stem, three of every unit, and a projection per stage.
    networks = {
        1 + 3 * sum(units) + 4: name for name, (units, _) in PREACT_TABLE.items() if not name.endswith("_cifar")
    }
    if count not in networks:
        raise UserError(
            f"The file has {count} convolutions; the networks of ImageNet have {', '.join(map(str, networks))}."
        )
    return in_order(networks[count], tensors, stride_in=stride_in_of(tensors))


LAYOUTS = (
    Layout(
        "pre-activation ResNet (He et al.; Torch7)",
        ("preact152", "preact200"),
        # Behind the first 1x1 convolution of the first unit stands a normalization, and behind its last none.
        {**TORCH7_STEM, "2.SpatialConvolution.weight": (64, 64, 1, 1), "7.SpatialConvolution.weight": (256, 64, 1, 1)},
        convert_torch7,
    ),
    *(
        Layout(
            f"pytorch-cifar (Liu), PreActResNet of {kind}",
            tuple(name for name, (_, bottleneck) in PORT.items() if bottleneck == (width > IMAGENET_WIDTHS[0])),
            # The first normalization of a stage has the width of the stage before it.
            {"conv1.weight": (64, 3, 3, 3), "layer1.0.bn1.weight": (64,), "layer2.0.bn1.weight": (width,),
             "layer2.0.shortcut.0.weight": (2 * width, width, 1, 1), "linear.weight": (None, 8 * width)},
            convert_liu,
        )
        for kind, width in (("basic units", 64), ("bottlenecks", 256))
    ),
)  # fmt: skip
