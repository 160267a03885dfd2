"""Residual networks for CIFAR of 20, 32, 44, 56, 110 and 1202 weight layers, and plain ones of 20 and 56.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385, section 4.2: depth
6n + 2, a 3x3 convolution, then n units for each of 16, 32 and 64 channels. Input 32 x 32. With 10 classes and
shortcuts of option A: 269,722 / 464,154 / 658,586 / 853,018 / 1,727,962 / 19,421,274 parameters. The plain networks
are the same without the shortcuts, with as many parameters.

Where the shape changes the paper's shortcut here is option A, which has no parameters: every second pixel, and zeros
for the new channels. `shortcut="B"` is the projection of the ImageNet networks. The zeros stand after the old
channels, as in fb.resnet.torch; ports that put half of them before (akamaster's) have the same counts but are other
functions. `norm=False`, which is not in the paper, builds all without batch normalization and gives the convolutions
biases: what depth does to a network that nothing holds up.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import UserError
from .backbone import Level
from .initialization import initialize
from .layers import PooledBackbone
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
        shortcut: "A" (the paper's, and what None means) or "B"; a plain network has none.
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
