"""Tools of the tests of published weights: a functional network that draws its weights when they are first used."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.backbones.weights import open_tensors
from densevision.tasks.conversion import convert_published


class Random:
    """Layers with random weights, which are kept in `state` under their published names.

    A definition of a network is a function that calls them in its order: it is the reference, and `state` is the file.
    """

    def __init__(self, seed: int = 0) -> None:
        # Large tensors repeat these numbers, which is faster than to draw more.
        self.numbers = torch.rand(1_000_003, generator=torch.Generator().manual_seed(seed))
        self.drawn = 0
        self.state: dict[str, Tensor] = {}

    def draw(self, name: str, *shape: int, scale: float = 1.0, low: float = -1.0) -> Tensor:
        """A tensor by name, uniform in scale * [low, 1]."""
        if name not in self.state:
            size, start = math.prod(shape), self.drawn % len(self.numbers)
            repeated = self.numbers.repeat((start + size) // len(self.numbers) + 1)[start : start + size]
            self.state[name] = repeated.view(shape).mul(scale * (1 - low)).add_(scale * low)
            self.drawn += size
        return self.state[name]

    def _weight(self, name: str, *shape: int) -> Tensor:
        return self.draw(name, *shape, scale=math.sqrt(6 / math.prod(shape[1:])))

    def _bias(self, name: str, width: int, bias: bool) -> Tensor | None:
        return self.draw(name, width, scale=0.1) if bias else None

    def conv(
        self,
        name: str,
        x: Tensor,
        width: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        groups: int = 1,
        dilation: int = 1,
    ) -> Tensor:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self._weight(f"{name}.weight", width, x.shape[1] // groups, *kernel)
        return F.conv2d(x, weight, self._bias(f"{name}.bias", width, bias), stride, padding, dilation, groups)

    def deconv(
        self, name: str, x: Tensor, width: int, kernel: int = 4, stride: int = 2, padding: int = 1, extra: int = 0,
        bias: bool = True,
    ) -> Tensor:  # fmt: skip
        weight = self.draw(f"{name}.weight", x.shape[1], width, kernel, kernel, scale=math.sqrt(1.5 / x.shape[1]))
        return F.conv_transpose2d(x, weight, self._bias(f"{name}.bias", width, bias), stride, padding, extra)

    def linear(self, name: str, x: Tensor, width: int, bias: bool = True) -> Tensor:
        return F.linear(x, self._weight(f"{name}.weight", width, x.shape[1]), self._bias(f"{name}.bias", width, bias))

    def batch_norm(self, name: str, x: Tensor, eps: float = 1e-5, affine: bool = True) -> Tensor:
        width = x.shape[1]
        mean = self.draw(f"{name}.running_mean", width, scale=0.1)
        variance = self.draw(f"{name}.running_var", width, low=0.2)
        weight = self.draw(f"{name}.weight", width, low=0.5) if affine else None
        bias = self.draw(f"{name}.bias", width, scale=0.1) if affine else None
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)


def assert_same(output: Tensor, expected: Tensor, tolerance: float = 1e-3) -> None:
    """Check that two outputs are equal up to rounding, in units of their standard deviation."""
    scale = expected.std()
    assert scale > 0
    torch.testing.assert_close(output / scale, expected / scale, atol=tolerance, rtol=tolerance)


def converted(table: dict[str, Any], network: str | None = None) -> tuple[list[str], Any]:
    """What `weights import` says of a file with these tables, and what it makes of them."""
    return convert_published(open_tensors("published.pth", {}, table), network)


RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def resnet_body(net: Random, image: Tensor, depth: int, stride_in: str = "3x3", prefix: str = "") -> Tensor:
    """A ResNet without its classifier, in torchvision's names: (1, 3, H, W) to (1, C, ⌈H / 32⌉, ⌈W / 32⌉)."""

    def step(at: str, number: str, x: Tensor, width: int, kernel: int, stride: int = 1) -> Tensor:
        x = net.conv(f"{prefix}{at}conv{number}", x, width, kernel, stride, kernel // 2, bias=False)
        return net.batch_norm(f"{prefix}{at}bn{number}", x)

    x = F.max_pool2d(F.relu(step("", "1", image, 64, 7, 2)), 3, 2, 1)
    for stage, units in enumerate(RESNETS[depth], 1):
        width = 32 * 2**stage
        for unit in range(units):
            at, stride = f"layer{stage}.{unit}.", 2 if stage > 1 and unit == 0 else 1
            if depth < 50:
                y, out = step(at, "2", F.relu(step(at, "1", x, width, 3, stride)), width, 3), width
            else:
                first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
                y = F.relu(step(at, "1", x, width, 1, first))
                y, out = step(at, "3", F.relu(step(at, "2", y, width, 3, second)), 4 * width, 1), 4 * width
            if x.shape[1] != out or stride == 2:
                x = net.conv(f"{prefix}{at}downsample.0", x, out, 1, stride, 0, bias=False)
                x = net.batch_norm(f"{prefix}{at}downsample.1", x)
            x = F.relu(x + y)
    return x
