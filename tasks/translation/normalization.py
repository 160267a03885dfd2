"""How normalisations and dropout answer at test: one rule, chosen when a network is built, part of it ever after.

| rule        | statistics at test                      | statistics in training | dropout at test |
| ----------- | --------------------------------------- | ---------------------- | --------------- |
| batch-stats | of the batch at hand                    | the same               | on              |
| frozen      | running means of the training           | of the batch at hand   | off             |
| instance    | of every picture by itself              | the same               | off             |

"batch-stats" is the paper's (arXiv:1611.07004, section 3.4): its generator is asked in the mode in which it was
trained, and dropout is all the noise that it has. Trained picture by picture, the running means of "frozen" belong to
no picture, and the answer is visibly another one.

A network settles its rule before its weights are loaded: only "frozen" keeps running means in its state. `train()` and
`eval()` then cannot break it.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import UserError, unknown_name

Rule = Literal["batch-stats", "frozen", "instance"]
RULES = ("batch-stats", "frozen", "instance")


class Noise(nn.Dropout):
    """Dropout that may stay on at test.

    Seed torch's generator before every question, and the same question has the same answer.

    Args:
        p: probability of dropping a value.

    Attributes:
        awake: whether it drops in evaluation too.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)
        self.awake = False

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) with some of its values at 0 and the others larger."""
        return functional.dropout(input, self.p, self.training or self.awake)

    def extra_repr(self) -> str:
        return f"p={self.p}, awake={self.awake}"


class BatchStatistics(nn.BatchNorm2d):
    """A batch normalisation without running statistics: those of the batch at hand, in training and at test.

    A map of a single place (a mean over the picture) is scaled and shifted only: a lone picture has no spread there.
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(channels, eps, affine=affine, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) of the same."""
        return _scaled(self, input) if _is_single(input) else super().forward(input)


class PictureStatistics(nn.InstanceNorm2d):
    """A normalisation of every picture by its own statistics, in training and at test.

    A map of a single place is scaled and shifted only, as in `BatchStatistics`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) of the same."""
        return _scaled(self, input) if _is_single(input) else super().forward(input)


def settle_normalization(module: nn.Module, rule: Rule) -> nn.Module:
    """Make a rule part of a network.

    Scales and shifts stay the parameters that they are; running statistics are forgotten, but for "frozen".

    Args:
        module: a network, a trunk, a head or a single layer; what it holds is exchanged in place.
        rule: one of `RULES`.

    Returns:
        The module, or what takes its place where it is itself a normalisation or a dropout.

    Raises:
        UserError: no such rule, or a normalisation of a foreign kind that "instance" cannot replace.
    """
    if rule not in RULES:
        raise unknown_name("rule of normalisation", rule, RULES)
    for name, child in list(module.named_children()):
        setattr(module, name, settle_normalization(child, rule))
    if type(module) is nn.Dropout:
        noise = Noise(module.p)
        noise.train(module.training)
        module = noise
    if isinstance(module, Noise):
        module.awake = rule == "batch-stats"
    if not isinstance(module, _BatchNorm) or rule == "frozen":
        return module
    return _without_running_statistics(module, rule)


def _without_running_statistics(layer: _BatchNorm, rule: Rule) -> nn.Module:
    if type(layer) in (nn.BatchNorm2d, BatchStatistics):
        form = BatchStatistics if rule == "batch-stats" else PictureStatistics
        made = form(layer.num_features, layer.eps, affine=layer.affine)
        made.weight, made.bias = layer.weight, layer.bias
        return made.train(layer.training)
    if rule == "instance":
        raise UserError(
            f"The rule 'instance' cannot replace the normalisation {type(layer).__name__} of this trunk; "
            "take 'batch-stats' or 'frozen', or another trunk."
        )
    # timm's normalisations hold an activation as well, so that they stay what they are.
    layer.track_running_stats = False
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return layer


def _is_single(maps: Tensor) -> bool:
    return maps.shape[-2] == maps.shape[-1] == 1


def _scaled(layer: BatchStatistics | PictureStatistics, maps: Tensor) -> Tensor:
    """Scale and shift of a normalisation, without its statistics."""
    if not layer.affine:
        return maps
    return maps * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
