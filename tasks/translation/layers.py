"""Layers shared by the generators and the discriminator of pix2pix: normalization and weight initialization.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004,
appendix 6.2.

The normalization mode says which statistics normalize, and whether dropout is on, in prediction.
The mode is chosen when a network is built, and is part of it from then on.

| mode         | statistics in prediction      | statistics in training | dropout in prediction |
| ------------ | ----------------------------- | ---------------------- | --------------------- |
| batch        | of the current batch          | the same               | on                    |
| frozen-batch | running means of the training | of the current batch   | off                   |
| instance     | of each image                 | the same               | off                   |

"batch" is the paper's (arXiv:1611.07004, section 3.4): its generator predicts in training mode, and dropout is its only
noise. After training with batches of one, the running means of "frozen-batch" are not those of any image, and the
output is visibly different.

The mode is set before weights are loaded: only "frozen-batch" has running means in its state. `train()` and `eval()`
do not change it.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ...backbones.initialization import gaussian
from ...errors import UserError, unknown_name

# Appendix 6.1.1: "C64-C128-C256-C512-C512-C512-C512-C512" of the encoder, and the same backwards.
WIDTH = 64
"""Channels of the first map."""
MAX_WIDTH_FACTOR = 8
"""Maximum width over `WIDTH`."""
SLOPE = 0.2
"""Negative slope of every leaky ReLU."""
STD = 0.02
"""Initial weights of convolutions are N(0, 0.02²), those of normalizations N(1, 0.02²), biases 0."""

Norm = Literal["batch", "instance"]
NORMS = ("batch", "instance")


def normalization(norm: Norm, width: int) -> nn.Module:
    """A normalization layer of `width` channels: batch, with scale and shift, or instance, without.

    Raises:
        UserError: no such normalization.
    """
    if norm not in NORMS:
        raise unknown_name("normalization", norm, NORMS)
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width)


def needs_bias(norm: Norm, use_bias: bool) -> bool:
    """Whether a convolution before a normalization has a bias.

    Batch normalization has a shift of its own and cancels it; instance normalization cancels it too, but published
    weights contain it.
    """
    return use_bias or norm == "instance"


def init_weights(network: nn.Module) -> None:
    """Initialize every layer of `network` as in the paper, see `STD`."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            gaussian(layer.weight, std=STD)
        elif isinstance(layer, nn.BatchNorm2d) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, STD)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


NormMode = Literal["batch", "frozen-batch", "instance"]
NORM_MODES = ("batch", "frozen-batch", "instance")


class EvalDropout(nn.Dropout):
    """Dropout that can stay on in evaluation mode.

    To get reproducible predictions, seed torch's generator before each.

    Args:
        p: probability of dropping a value.

    Attributes:
        always_on: whether it drops values in evaluation mode too.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)
        self.always_on = False

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape, with some values 0 and the others scaled up."""
        return functional.dropout(input, self.p, self.training or self.always_on)

    def extra_repr(self) -> str:
        return f"p={self.p}, always_on={self.always_on}"


class BatchStatistics(nn.BatchNorm2d):
    """A batch normalization without running statistics: it uses the current batch, in training and in evaluation.

    A 1x1 map (a global average) is only scaled and shifted: a single image has no variance there.
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(channels, eps, affine=affine, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        return _scale_and_shift(self, input) if _is_1x1(input) else super().forward(input)


class InstanceStatistics(nn.InstanceNorm2d):
    """A normalization of every image by its own statistics, in training and in evaluation.

    A 1x1 map is only scaled and shifted, as in `BatchStatistics`.
    """

    def forward(self, input: Tensor) -> Tensor:
        return _scale_and_shift(self, input) if _is_1x1(input) else super().forward(input)


def set_normalization(module: nn.Module, mode: NormMode) -> nn.Module:
    """Convert the normalization and dropout layers of a network to a mode.

    Scales and shifts stay the same parameters; running statistics are dropped, except for "frozen-batch".

    Args:
        module: a network, a backbone, a head or a single layer; its layers are replaced in place.
        mode: one of `NORM_MODES`.

    Returns:
        The module, or its replacement if it is itself a normalization or a dropout.

    Raises:
        UserError: no such mode, or a normalization of another class that "instance" cannot replace.
    """
    if mode not in NORM_MODES:
        raise unknown_name("normalization mode", mode, NORM_MODES)
    for name, child in list(module.named_children()):
        setattr(module, name, set_normalization(child, mode))
    if type(module) is nn.Dropout:
        dropout = EvalDropout(module.p)
        dropout.train(module.training)
        module = dropout
    if isinstance(module, EvalDropout):
        module.always_on = mode == "batch"
    if not isinstance(module, _BatchNorm) or mode == "frozen-batch":
        return module
    return _without_running_statistics(module, mode)


def _without_running_statistics(layer: _BatchNorm, mode: NormMode) -> nn.Module:
    if type(layer) in (nn.BatchNorm2d, BatchStatistics):
        cls = BatchStatistics if mode == "batch" else InstanceStatistics
        replacement = cls(layer.num_features, layer.eps, affine=layer.affine)
        replacement.weight, replacement.bias = layer.weight, layer.bias
        return replacement.train(layer.training)
    if mode == "instance":
        raise UserError(
            f"The mode 'instance' cannot replace the normalization {type(layer).__name__} of this backbone; "
            "use --norm batch or --norm frozen-batch, or another backbone."
        )
    # timm's normalizations contain an activation as well, so they are not replaced.
    layer.track_running_stats = False
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return layer


def _is_1x1(maps: Tensor) -> bool:
    return maps.shape[-2] == maps.shape[-1] == 1


def _scale_and_shift(layer: BatchStatistics | InstanceStatistics, maps: Tensor) -> Tensor:
    """Scale and shift of a normalization, without its statistics."""
    if not layer.affine:
        return maps
    return maps * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
