"""FlowNetS and FlowNetC: two pictures in, motion at five resolutions out.

Dosovitskiy, Fischer, Ilg, Häusser, Hazırbaş, Golkov, van der Smagt, Cremers, Brox: FlowNet: Learning Optical Flow with
Convolutional Networks. ICCV 2015, arXiv:1504.06852, figures 2 and 3. FlowNetS reads both pictures as six channels;
FlowNetC reads each by the same three convolutions and correlates what they found. 38,675,546 and 39,174,330 parameters.

Biases, by `biases`: every convolution of the contracting part has one. The authors' predictions of flow have theirs
("predictions", the default; their deconvolutions hold biases too, at 0 and with a learning rate of 0, which we leave
out). A widely used PyTorch port has none in the expanding part ("encoder": 38,675,536 and 39,174,320), and "all" gives
one to every layer (38,676,514 and 39,175,298). With `batch_norm`, which is the port's and not the paper's, contracting
convolutions have a normalisation in the place of a bias (38,680,336 and 39,179,152 with "encoder"). Names of layers and
parameters are the port's.

Deviations: the same mean is subtracted from both pictures, as in the port; the authors' differ by 0.001. Their Caffe
resizes a picture to multiples of 64 and the motion back; here, as in the port, maps of the expanding part are cut at
the bottom and the right to the map they join.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Preprocessing
from ...backbones.initialization import fans, he_fan_in, initialize
from ...errors import unknown_name
from .correlation import correlation
from .losses import DIV_FLOW
from .network import FlowNetwork

PREPROCESSING = Preprocessing(mean=(0.45, 0.432, 0.411), std=(1.0, 1.0, 1.0))
"""The mean of red, green and blue in FlyingChairs is subtracted."""
SLOPE = 0.1
"""Of the leaky ReLU behind every convolution and deconvolution."""

# Figure 2, left half. Name, width, kernel, stride.
Table = tuple[tuple[str, int, int, int], ...]
STEM: Table = (("conv1", 64, 7, 2), ("conv2", 128, 5, 2), ("conv3", 256, 5, 2))
BODY: Table = (
    ("conv3_1", 256, 3, 1),
    ("conv4", 512, 3, 2),
    ("conv4_1", 512, 3, 1),
    ("conv5", 512, 3, 2),
    ("conv5_1", 512, 3, 1),
    ("conv6", 1024, 3, 2),
    ("conv6_1", 1024, 3, 1),
)
# Figure 3: the map that is joined, and the width of the deconvolution that reaches its resolution.
REFINEMENT = (("conv5_1", 512), ("conv4_1", 256), ("conv3_1", 128), ("conv2", 64))

# Section 3: what FlowNetC compares, at an eighth of the picture's sides: 441 displacements of up to 160 pixels.
REACH, STRIDE = 20, 2
CORRELATED = (2 * REACH // STRIDE + 1) ** 2
REDIRECTED = 32
"""Channels of the first picture that go on beside the correlation."""

BIASES = ("encoder", "predictions", "all")
Biases = Literal["encoder", "predictions", "all"]


class _FlowNet(FlowNetwork):
    """What both have: the contracting part from conv3_1 on, and the expanding part.

    Args:
        channels: that conv1 reads.
        joined: channels that conv3_1 reads.
        batch_norm: see the file's head.
        biases: see the file's head.

    Raises:
        UserError: no such choice of biases.
    """

    stride = 64

    def __init__(self, channels: int, joined: int, batch_norm: bool, biases: Biases) -> None:
        super().__init__()
        if biases not in BIASES:
            raise unknown_name("choice of biases", biases, BIASES)
        widths: dict[str, int] = {}
        for before, table in ((channels, STEM), (joined, BODY)):
            for name, width, kernel, stride in table:
                self.add_module(name, _convolution(before, width, kernel, stride, batch_norm))
                widths[name] = before = width
        before, level = widths["conv6_1"], 6
        self.predict_flow6 = _prediction(before, biases)
        for skip, width in REFINEMENT:
            everywhere = biases == "all"
            upsample = nn.ConvTranspose2d(2, 2, 4, 2, padding=1, bias=everywhere)
            deconvolution = nn.ConvTranspose2d(before, width, 4, 2, padding=1, bias=everywhere)
            self.add_module(f"upsampled_flow{level}_to_{level - 1}", upsample)
            level -= 1
            self.add_module(f"deconv{level}", nn.Sequential(deconvolution, nn.LeakyReLU(SLOPE)))
            before = widths[skip] + width + 2
            self.add_module(f"predict_flow{level}", _prediction(before, biases))

    def _start(self) -> None:
        """The authors' initial weights: Caffe's "msra", for which a deconvolution's fan is that of its outputs."""
        initialize(self, "he_fan_in")
        for layer in self.modules():
            if isinstance(layer, nn.ConvTranspose2d):
                he_fan_in(layer.weight, *fans(layer.weight))

    def _run(self, table: Table, maps: Tensor) -> dict[str, Tensor]:
        """A table's convolutions in turn."""
        made: dict[str, Tensor] = {}
        for name, *_ in table:
            made[name] = maps = self.get_submodule(name)(maps)
        return made

    def _expanded(self, joined: Tensor, conv2: Tensor) -> list[Tensor]:
        """The motion at every level, coarse to fine.

        Args:
            joined: what conv3_1 reads.
            conv2: the finest map to be joined.
        """
        made = {"conv2": conv2, **self._run(BODY, joined)}
        maps, level = made["conv6_1"], 6
        flows = [self.predict_flow6(maps)]
        for name, _ in REFINEMENT:
            skip = made[name]
            upsampled = self.get_submodule(f"upsampled_flow{level}_to_{level - 1}")(flows[-1])
            level -= 1
            deeper = self.get_submodule(f"deconv{level}")(maps)
            height, width = skip.shape[-2:]
            maps = torch.cat([skip, deeper[..., :height, :width], upsampled[..., :height, :width]], dim=1)
            flows.append(self.get_submodule(f"predict_flow{level}")(maps))
        return [DIV_FLOW * flow.float() for flow in flows]


class FlowNetS(_FlowNet):
    """FlowNetSimple of Dosovitskiy et al. 2015 (arXiv:1504.06852), figure 2, top: both pictures stacked.

    Args:
        batch_norm: a normalisation behind every contracting convolution; the port's, with worse results than without.
        biases: "encoder", "predictions" or "all"; see the file's head.

    Raises:
        UserError: no such choice of biases.
    """

    def __init__(self, batch_norm: bool = False, biases: Biases = "predictions") -> None:
        super().__init__(6, STEM[-1][1], batch_norm, biases)
        self._start()

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """flow6 to flow2, at strides 64 to 4; see `FlowNetwork.pyramid`. H and W are rounded up at every stride."""
        stem = self._run(STEM, torch.cat([PREPROCESSING(first), PREPROCESSING(second)], dim=1))
        return self._expanded(stem["conv3"], stem["conv2"])


class FlowNetC(_FlowNet):
    """FlowNetCorr of Dosovitskiy et al. 2015 (arXiv:1504.06852), figure 2, bottom: each picture's maps correlated.

    Args:
        batch_norm: as of `FlowNetS`; both pictures share its statistics.
        biases: as of `FlowNetS`.

    Raises:
        UserError: no such choice of biases.
    """

    def __init__(self, batch_norm: bool = False, biases: Biases = "predictions") -> None:
        super().__init__(3, REDIRECTED + CORRELATED, batch_norm, biases)
        self.conv_redir = _convolution(STEM[-1][1], REDIRECTED, 1, 1, batch_norm)
        self._start()

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """flow6 to flow2, at strides 64 to 4; see `FlowNetwork.pyramid`. H and W are rounded up at every stride."""
        stem = self._run(STEM, PREPROCESSING(torch.cat([first, second])))
        ours, theirs = stem["conv3"].chunk(2)
        alike = functional.leaky_relu(correlation(ours, theirs, REACH, STRIDE), SLOPE)
        joined = torch.cat([self.conv_redir(ours), alike.to(ours.dtype)], dim=1)
        return self._expanded(joined, stem["conv2"].chunk(2)[0])


def _convolution(channels: int, width: int, kernel: int, stride: int, batch_norm: bool) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=not batch_norm)
    between = [nn.BatchNorm2d(width)] if batch_norm else []
    return nn.Sequential(convolution, *between, nn.LeakyReLU(SLOPE))


def _prediction(channels: int, biases: Biases) -> nn.Conv2d:
    """Motion in units of `DIV_FLOW` pixels."""
    return nn.Conv2d(channels, 2, 3, padding=1, bias=biases != "encoder")
