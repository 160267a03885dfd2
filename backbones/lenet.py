"""LeNet-5, the convolutional network that read cheques.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition. Proceedings of the IEEE 86(11),
1998, section II and figure 2. Input 32 x 32; 60,000 free parameters and 340,908 connections exactly.

What makes it the network of 1998, and what modern variants do instead: subsampling has a trainable coefficient and bias
per map and is squashed (they take plain mean or max pools); C3 sees chosen maps only (theirs sees all: 2,416 parameters
for 1,516); the output is the distance from F6 to ten drawn characters (theirs a linear layer and softmax: 61,706
parameters in all); the image has a border (theirs 28 x 28, padded by 2 in C1).

Deviations: `forward` returns the negative distances, so that the largest is the predicted class, as everywhere in this
package; their softmax is the posterior of the paper's eq. 9 without its rubbish class. The paper does not print the
drawn characters in numbers, so ours are drawn anew; counts of classes other than 10 get codes without a meaning. Biases
start at 0.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from .backbone import Backbone, Level, Preprocessing
from .initialization import RULES, initialize
from .layers import linear_as_convolution

LENET5_LEVELS = (
    Level("c1", 1, 6),
    Level("s2", 2, 6),
    Level("c3", 2, 16),
    Level("s4", 4, 16),
    Level("c5", 4, 120),
)
KERNEL = 5
F6_WIDTH = 84  # an image of 7 x 12
PAPER_SIZE = (32, 32)
# Table I: the maps of S2 that each map of C3 sees.
CONNECTIONS: tuple[tuple[int, ...], ...] = (
    # three neighbors, in a ring
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    # four neighbors, in a ring
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    # four, with gaps
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    # all
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
# Section II.B: paper is -0.1 and ink 1.175, which makes the mean about 0 and the variance about 1. As digits come, ink
# is 1 in the range 0 ... 1.
PREPROCESSING = Preprocessing(mean=(0.1 / 1.275,), std=(1 / 1.275,), resize=28, crop=32)
# What F6 is compared with (figure 3): 7 x 12, # is +1 and . is -1.
DIGITS = """
..###..   ...#...   .#####.   .#####.   .....#.
.##.##.   ..##...   ##...##   ##...##   ....##.
##...##   .###...   .....##   .....##   ...###.
##...##   ####...   .....##   .....##   ..#.##.
##...##   ..##...   ....##.   ....##.   .##.##.
##...##   ..##...   ...##..   ..###..   ##..##.
##...##   ..##...   ..##...   ....##.   #######
##...##   ..##...   .##....   .....##   #######
##...##   ..##...   ##.....   .....##   ....##.
##...##   ..##...   ##.....   ##...##   ....##.
.##.##.   ######.   #######   ##...##   ....##.
..###..   ######.   #######   .#####.   ....##.

#######   ..####.   #######   .#####.   .#####.
#######   .##....   #######   ##...##   ##...##
##.....   ##.....   .....##   ##...##   ##...##
##.....   ##.....   ....##.   ##...##   ##...##
##.....   ##.....   ....##.   ##...##   ##...##
######.   ######.   ...##..   .#####.   ##...##
.....##   ##...##   ...##..   .#####.   .######
.....##   ##...##   ..##...   ##...##   .....##
.....##   ##...##   ..##...   ##...##   .....##
##...##   ##...##   .##....   ##...##   .....##
##..##.   ##...##   .##....   ##...##   ....##.
.####..   .#####.   .##....   .#####.   .####..
"""


def scaled_tanh(x: Tensor) -> Tensor:
    """1.7159 tanh(2x / 3), eq. 6: ±1 go to ±1, where it bends most, so that targets of ±1 do not saturate it."""
    return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The SUM of every 2x2 units, times a trainable coefficient of the map, plus a trainable bias (section II.B)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, channels, ⌊h / 2⌋, ⌊w / 2⌋)."""
        sums = functional.avg_pool2d(maps, 2, divisor_override=1)
        return sums * self.coefficient[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """5x5 convolution whose maps see chosen input maps only (table I). What is not connected is no parameter.

    Args:
        connections: for every map made, the input maps that it sees, ascending.

    Attributes:
        kernels: (connections in all, 5, 5), in the order of `connections`.
        bias: (maps made,).
    """

    def __init__(self, connections: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.seen = [source for sources in connections for source in sources]
        self.seen_by = [made for made, sources in enumerate(connections) for _ in sources]
        self.kernels = nn.Parameter(torch.empty(len(self.seen), KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.zeros(len(connections)))

    def weight(self) -> Tensor:
        """(maps made, input maps, 5, 5), zero where there is no connection."""
        made, seen = torch.tensor([self.seen_by, self.seen], device=self.kernels.device)
        dense = self.kernels.new_zeros(len(self.bias), max(self.seen) + 1, KERNEL, KERNEL)
        return dense.index_put((made, seen), self.kernels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, input maps, h, w) to (B, maps made, h - 4, w - 4)."""
        return functional.conv2d(maps, self.weight(), self.bias)


class RadialBasis(nn.Module):
    """Squared Euclidean distances to fixed codes, eq. 7. The codes are not learned: eq. 8 would make them all equal.

    Attributes:
        codes: (classes, 84) of ±1.
    """

    codes: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("codes", output_codes(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., 84) to (..., classes), never negative."""
        return (x.unsqueeze(-2) - self.codes).square().sum(-1)


class LeNet5(Backbone):
    """The network of LeCun, Bottou, Bengio, Haffner 1998, figure 2.

    Levels: c1 (stride 1), s2 (2), c3 (2), s4 (4) and c5 (4), each squashed.

    Args:
        init: a rule of `initialization.RULES`. n_in of a map of C3 counts what it sees: 75, 100 or 150.
    """

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        levels: int | None = None,
        init: str = "lecun",
    ) -> None:
        super().__init__()
        self._set_metadata(name, LENET5_LEVELS, num_classes=num_classes, in_channels=in_channels, built=levels)
        self.preprocessing = PREPROCESSING.for_channels(in_channels)
        self.classifier_input_size = PAPER_SIZE

        layers = {
            "c1": nn.Conv2d(in_channels, 6, KERNEL),
            "s2": Subsampling(6),
            "c3": PartialConvolution(CONNECTIONS),
            "s4": Subsampling(16),
            "c5": nn.Conv2d(16, 120, KERNEL),
        }
        for level in self.levels:
            self.add_module(level.name, layers[level.name])
        if self.num_classes:
            self.f6 = nn.Linear(120, F6_WIDTH)
            self.output = RadialBasis(self.num_classes)

        initialize(self, init)
        for layer in self.children():
            if isinstance(layer, Subsampling):
                RULES[init](layer.coefficient, 4, 1)
            elif isinstance(layer, PartialConvolution):
                _initialize_partial(layer, init)

    def features(self, image: Tensor) -> list[Tensor]:
        """The built levels of (B, in_channels, H, W); see `Backbone.features`. H and W are at least 32 for all."""
        maps: list[Tensor] = []
        x = image
        for level in self.levels:
            x = scaled_tanh(self.get_submodule(level.name)(x))
            maps.append(x)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """(B, num_classes) logits of (B, in_channels, 32, 32): minus the distances to the classes' codes."""
        self.require_classifier(image)
        return -self.output(scaled_tanh(self.f6(self.features(image)[-1].flatten(1))))

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, num_classes, h, w) logits, every 4 pixels: the paper's space displacement network (section VII).

        Each position equals `forward` on the 32 x 32 pixels that begin 4 pixels after those of its neighbor.
        """
        self.require_classifier()
        f6 = scaled_tanh(linear_as_convolution(self.f6, self.features(image)[-1]))
        return -self.output(f6.movedim(1, -1)).movedim(-1, 1)


def output_codes(num_classes: int) -> Tensor:
    """(classes, 84) of ±1: the drawn digits for ten classes, for other counts codes that differ in about half.

    Those are the bits of a hash of the class's number, the same on every machine.
    """
    if num_classes == 10:
        blocks = [[line.split() for line in block.splitlines()] for block in DIGITS.strip().split("\n\n")]
        drawn = ["".join(rows) for block in blocks for rows in zip(*block, strict=True)]
        bits = [[mark == "#" for mark in digit] for digit in drawn]
    else:
        hashes = [int.from_bytes(hashlib.shake_256(str(one).encode()).digest(11)) for one in range(num_classes)]
        bits = [[bool(number >> bit & 1) for bit in range(F6_WIDTH)] for number in hashes]
    return torch.tensor(bits, dtype=torch.float32) * 2 - 1


def _initialize_partial(layer: PartialConvolution, rule: str) -> None:
    seen = [layer.seen_by.count(made) for made in range(len(layer.bias))]
    users = layer.seen.count(0)  # every map is seen by as many
    for kernels in layer.kernels.detach().split(seen):
        RULES[rule](kernels, KERNEL**2 * len(kernels), KERNEL**2 * users)
