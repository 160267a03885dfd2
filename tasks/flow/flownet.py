"""FlowNetS and FlowNetC.

Dosovitskiy, Fischer, Ilg, Häusser, Hazırbaş, Golkov, van der Smagt, Cremers, Brox: FlowNet: Learning Optical Flow with
Convolutional Networks. ICCV 2015, arXiv:1504.06852, figures 2 and 3. FlowNetS reads both images as six channels;
FlowNetC applies the same three convolutions to each image and correlates the results. Both predict the flow at five
resolutions, and have 38,675,546 and 39,174,330 parameters.

Biases, by `biases`: every convolution of the contracting part has one. In the authors' model the flow predictions have
them too ("predictions", the default; their deconvolutions have biases at 0 with a learning rate of 0, which are omitted
here). A widely used PyTorch port has none in the expanding part ("encoder": 38,675,536 and 39,174,320 parameters), and
"all" adds one to every layer (38,676,514 and 39,175,298). With `batch_norm`, an option of the port that the paper does
not have, contracting convolutions have a normalization instead of a bias (38,680,336 and 39,179,152 with "encoder").
Layers and parameters are named as in the port.


The mean color that is subtracted, by `mean`: the same from both images, as in the port ("port", the default), those of
the authors for each of the two, which differ by 0.001 ("authors"), or that of the two images themselves, as in NVIDIA's
FlowNet2-S and -C ("pair"). `flownets_caffe` and `flownetc_caffe` are the authors' models with "all" biases and their
means, `flownet2s` and `flownet2c` NVIDIA's.

Deviation: the authors'
Caffe model resizes images to multiples of 64 and the flow back; here, as in the port, maps of the expanding part are
cropped at the bottom and the right to the size of the skip connection.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Preprocessing
from ...backbones.initialization import RULES, fans, initialize
from ...errors import unknown_name
from .correlation import correlation
from .losses import DIV_FLOW
from .networks import FlowNetwork

PREPROCESSING = Preprocessing(mean=(0.45, 0.432, 0.411), std=(1.0, 1.0, 1.0))
"""Mean of red, green and blue in FlyingChairs."""
AUTHORS_MEANS = ((0.450141, 0.432060, 0.411451), (0.448553, 0.431021, 0.410602))
"""The authors' mean of red, green and blue, of the first and of the second image."""
NEGATIVE_SLOPE = 0.1
"""Negative slope of the leaky ReLU after every convolution and deconvolution."""

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
# Figure 3: the skip connection, and the width of the deconvolution that upsamples to its resolution.
REFINEMENT = (("conv5_1", 512), ("conv4_1", 256), ("conv3_1", 128), ("conv2", 64))

# Section 3: the correlation of FlowNetC at 1/8 of the resolution: 441 displacements of up to 160 pixels.
MAX_DISPLACEMENT, STRIDE = 20, 2
CORRELATION_CHANNELS = (2 * MAX_DISPLACEMENT // STRIDE + 1) ** 2
REDIRECT_CHANNELS = 32
"""Channels of the first image that are concatenated with the correlation."""

BIASES = ("encoder", "predictions", "all")
Biases = Literal["encoder", "predictions", "all"]
Mean = Literal["port", "authors", "pair"]


class _FlowNet(FlowNetwork):
    """Common part of both models: the convolutions and the expanding part.

    Args:
        in_channels: input channels of conv1.
        body_channels: input channels of conv3_1.
        batch_norm, biases, mean: see the module's docstring.

    Raises:
        UserError: unknown choice of biases.
    """

    stride = 64

    def __init__(self, in_channels: int, body_channels: int, batch_norm: bool, biases: Biases, mean: Mean) -> None:
        super().__init__()
        self.mean = mean
        if biases not in BIASES:
            raise unknown_name("choice of biases", biases, BIASES)
        widths: dict[str, int] = {}
        for channels, table in ((in_channels, STEM), (body_channels, BODY)):
            for name, width, kernel, stride in table:
                self.add_module(name, _convolution(channels, width, kernel, stride, batch_norm))
                widths[name] = channels = width
        channels, level = widths["conv6_1"], 6
        self.predict_flow6 = _prediction(channels, biases)
        for skip, width in REFINEMENT:
            upsample = nn.ConvTranspose2d(2, 2, 4, 2, padding=1, bias=biases == "all")
            deconvolution = nn.ConvTranspose2d(channels, width, 4, 2, padding=1, bias=biases == "all")
            self.add_module(f"upsampled_flow{level}_to_{level - 1}", upsample)
            level -= 1
            self.add_module(f"deconv{level}", nn.Sequential(deconvolution, nn.LeakyReLU(NEGATIVE_SLOPE)))
            channels = widths[skip] + width + 2
            self.add_module(f"predict_flow{level}", _prediction(channels, biases))

    def _init_weights(self) -> None:
        """The authors' initialization: Caffe's "msra", which uses the output fan of a deconvolution."""
        initialize(self, "he_fan_in")
        for layer in self.modules():
            if isinstance(layer, nn.ConvTranspose2d):
                RULES["he_fan_in"](layer.weight, *fans(layer.weight))

    def _normalize(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Both images, (B, 3, H, W) in [0, 1], minus a mean color."""
        if self.mean == "port":
            return PREPROCESSING(first), PREPROCESSING(second)
        if self.mean == "authors":
            one, other = (first.new_tensor(mean).view(3, 1, 1) for mean in AUTHORS_MEANS)
            return first - one, second - other
        mean = (first.mean((2, 3), keepdim=True) + second.mean((2, 3), keepdim=True)) / 2
        return first - mean, second - mean

    def _run_layers(self, table: Table, maps: Tensor) -> dict[str, Tensor]:
        """Apply the convolutions of a table one after the other; returns the output of each by name."""
        outputs: dict[str, Tensor] = {}
        for name, *_ in table:
            outputs[name] = maps = self.get_submodule(name)(maps)
        return outputs

    def _refine(self, body_input: Tensor, conv2: Tensor) -> list[Tensor]:
        """Flow at every level, coarse to fine, in pixels, from the input of conv3_1 and the finest skip connection."""
        features = {"conv2": conv2, **self._run_layers(BODY, body_input)}
        maps, level = features["conv6_1"], 6
        flows = [self.predict_flow6(maps)]
        for name, _ in REFINEMENT:
            skip = features[name]
            upsampled = self.get_submodule(f"upsampled_flow{level}_to_{level - 1}")(flows[-1])
            level -= 1
            deconvolved = self.get_submodule(f"deconv{level}")(maps)
            height, width = skip.shape[-2:]
            maps = torch.cat([skip, deconvolved[..., :height, :width], upsampled[..., :height, :width]], dim=1)
            flows.append(self.get_submodule(f"predict_flow{level}")(maps))
        return [DIV_FLOW * flow.float() for flow in flows]


class FlowNetS(_FlowNet):
    """FlowNetSimple of Dosovitskiy et al. 2015 (arXiv:1504.06852), figure 2, top: both images as six channels.

    Args:
        batch_norm: normalize after every contracting convolution; an option of the port, with worse results.
        biases: "encoder", "predictions" or "all"; see the module's docstring.
        mean: the color that is subtracted from both images; see the module's docstring.

    Raises:
        UserError: unknown choice of biases.
    """

    def __init__(self, batch_norm: bool = False, biases: Biases = "predictions", *, mean: Mean = "port") -> None:
        super().__init__(6, STEM[-1][1], batch_norm, biases, mean)
        self._init_weights()

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """flow6 to flow2, at strides 64 to 4, sizes rounded up; see `FlowNetwork.pyramid`."""
        stem = self._run_layers(STEM, torch.cat(self._normalize(first, second), dim=1))
        return self._refine(stem["conv3"], stem["conv2"])


class FlowNetC(_FlowNet):
    """FlowNetCorr of Dosovitskiy et al. 2015 (arXiv:1504.06852), figure 2, bottom: correlated feature maps.

    Args:
        batch_norm: as for `FlowNetS`; both images share its statistics.
        biases, mean: as for `FlowNetS`.

    Raises:
        UserError: unknown choice of biases.
    """

    def __init__(self, batch_norm: bool = False, biases: Biases = "predictions", *, mean: Mean = "port") -> None:
        super().__init__(3, REDIRECT_CHANNELS + CORRELATION_CHANNELS, batch_norm, biases, mean)
        self.conv_redir = _convolution(STEM[-1][1], REDIRECT_CHANNELS, 1, 1, batch_norm)
        self._init_weights()

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """flow6 to flow2, at strides 64 to 4, sizes rounded up; see `FlowNetwork.pyramid`."""
        stem = self._run_layers(STEM, torch.cat(self._normalize(first, second)))
        maps1, maps2 = stem["conv3"].chunk(2)
        costs = functional.leaky_relu(correlation(maps1, maps2, MAX_DISPLACEMENT, STRIDE), NEGATIVE_SLOPE)
        body_input = torch.cat([self.conv_redir(maps1), costs.to(maps1.dtype)], dim=1)
        return self._refine(body_input, stem["conv2"].chunk(2)[0])


flownets_bn = partial(FlowNetS, batch_norm=True)
flownets_caffe = partial(FlowNetS, biases="all", mean="authors")
flownetc_caffe = partial(FlowNetC, biases="all", mean="authors")
flownet2s = partial(FlowNetS, biases="all", mean="pair")
flownet2c = partial(FlowNetC, biases="all", mean="pair")


def _convolution(channels: int, width: int, kernel: int, stride: int, batch_norm: bool) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=not batch_norm)
    normalization = [nn.BatchNorm2d(width)] if batch_norm else []
    return nn.Sequential(convolution, *normalization, nn.LeakyReLU(NEGATIVE_SLOPE))


def _prediction(channels: int, biases: Biases) -> nn.Conv2d:
    """Layer that predicts flow in units of `DIV_FLOW` pixels."""
    return nn.Conv2d(channels, 2, 3, padding=1, bias=biases != "encoder")
