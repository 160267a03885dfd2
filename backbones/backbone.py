"""The backbone interface: named feature levels from fine to coarse, and a classifier on the last one.

A backbone depends on no task and no dataset. Heads select levels by stride, never by position in a list: VGG has a
level of stride 1, ResNet has not.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..atomic_io import json_text
from ..errors import UserError
from ..schema import MAX_CHANNELS, Schema, Side, create_dataclass, validate_json


@dataclass(frozen=True)
class Level:
    """One feature map of a backbone: its name, the input pixels between neighboring units, its channels."""

    name: str
    stride: int
    channels: int


@dataclass(frozen=True)
class Preprocessing:
    """Input preprocessing that a set of weights was trained with: normalization, range and channel order.

    Convention: inputs are RGB (or gray, for one channel) floats in [0, 1]; `__call__` maps them to
    `(x in range - mean) / std` in the channel order of the weights. Resize and crop are for classification only.
    """

    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=MAX_CHANNELS)] = (0.485, 0.456, 0.406)
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=MAX_CHANNELS)] = (
        0.229, 0.224, 0.225,
    )  # fmt: skip
    range: tuple[float, float] = (0.0, 1.0)
    order: Literal["RGB", "BGR"] = "RGB"
    resize: Side = 256
    crop: Side = 224
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    def __call__(self, image: Tensor) -> Tensor:
        """Normalize a batch.

        Args:
            image: (B, C, H, W), floats in [0, 1] or uint8 in 0..255, RGB. C equals the length of `mean`.

        Returns:
            (B, C, H, W), as the weights expect it.
        """
        if image.shape[1] != len(self.mean):
            raise ValueError(f"preprocessing for {len(self.mean)} channels got an image of {image.shape[1]}")
        low, high = self.range
        if self.order == "BGR":
            image = image.flip(1)
        # (low + x (high - low) - mean) / std as one multiplication and one addition in the place of one new tensor:
        # on a CPU, touching fresh memory costs more than the arithmetic (32x3x224x224: 5 ms instead of 39).
        if image.dtype == torch.uint8:
            fresh, top = image.float(), 255.0
        else:
            fresh, top = image, 1.0
        mean = fresh.new_tensor(self.mean).view(1, -1, 1, 1)
        std = fresh.new_tensor(self.std).view(1, -1, 1, 1)
        scale = (high - low) / top / std
        scaled = fresh.mul(scale) if fresh is image else fresh.mul_(scale)
        return scaled.add_((low - mean) / std)

    def for_channels(self, channels: int) -> Preprocessing:
        """The preprocessing for another number of channels, consistent with
        `state_dict_matching.adapt_first_convolution`.

        One channel takes the means over the colors; other numbers take the colors in turn (R, G, B, R, ...).
        A changed number of channels has no color order to reverse, so the result's order is RGB.
        """
        if channels == len(self.mean):
            return self
        step = -1 if self.order == "BGR" else 1
        mean, std = self.mean[::step], self.std[::step]
        if channels == 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        else:
            mean = tuple(mean[channel % len(mean)] for channel in range(channels))
            std = tuple(std[channel % len(std)] for channel in range(channels))
        return replace(self, mean=mean, std=std, order="RGB")

    def to_json(self) -> str:
        """JSON, as stored in the metadata of a weights file."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls, text: str, source: str = "the weights") -> Preprocessing:
        """Read JSON of `to_json`. Missing keys take the defaults.

        Args:
            text: the JSON.
            source: whose preprocessing it is, for messages.

        Raises:
            UserError: not as the attributes say.
        """
        where, remedy = f"The preprocessing of {source}", "copy the file again"
        read = create_dataclass(cls, validate_json(Schema, text, where, remedy).model_dump(), where, remedy)
        if len(read.mean) != len(read.std):
            raise UserError(f"{where} has {len(read.mean)} means and {len(read.std)} standard deviations: {remedy}.")
        return read


class Backbone(nn.Module):
    """A classification backbone.

    Subclasses set `name`, `levels`, `num_classes`, `in_channels` and `preprocessing` (`_set_metadata` does it) and
    write `features` and `forward`. `levels` contains only what is built: with `levels=3`, three entries and no deeper
    parameter. A truncated backbone has no classifier.

    Every constructor takes a name of the registry and the keywords `num_classes` (length of the logits; 0 builds no
    classifier), `in_channels` (of the image), `levels` (how many to build; None: all) and, except timm's, `init` (a
    rule of `initialization.RULES`), and raises UserError for impossible ones. Subclasses document what they add.

    Attributes:
        name: name in the registry ("resnet50").
        levels: the levels that `features` returns, from fine to coarse. Strides never decrease.
        num_classes: length of the logits; 0 without a classifier, and `forward` raises.
        in_channels: channels of the image.
        preprocessing: that of the loaded weights, else the ImageNet constants.
        options: what `create_backbone` needs besides name, num_classes, in_channels and levels to rebuild this backbone
            without its weights file (`{"stride_in": "1x1"}`): plain values, ready for a checkpoint's header.
        state_dict_aliases: prefixes of this module's parameter names to the prefixes that published weights files use
            (`{"convolutions.": "features."}`).
        fixed_size: (H, W) of networks that take one input size only; None for convolutional networks.
        classifier_input_size: (H, W) where only the classifier is limited to one input size; None: it takes any size.
        recomputing: whether `features` recomputes the layers of a level in the backward pass
            (`gradient_checkpointing`); None: its modules do, if it has blocks.
    """

    name: str
    levels: tuple[Level, ...]
    num_classes: int
    in_channels: int
    preprocessing: Preprocessing
    options: Mapping[str, Any] = MappingProxyType({})
    state_dict_aliases: Mapping[str, str] = MappingProxyType({})
    fixed_size: tuple[int, int] | None = None
    classifier_input_size: tuple[int, int] | None = None
    recomputing: bool | None = None

    def _set_metadata(
        self, name: str, levels: Sequence[Level], *, num_classes: int, in_channels: int, built: int | None
    ) -> None:
        """Set every attribute of the interface except `options`, which `create_backbone` completes.

        `levels` are those of the complete network, of which the first `built` are built (None: all); the numbers are
        those of the constructor.

        Raises:
            UserError: an impossible number of levels, classes or channels.
        """
        if built is not None and not 1 <= built <= len(levels):
            known = ", ".join(level.name for level in levels)
            raise UserError(f"{name} has {len(levels)} levels ({known}); levels={built} is not in 1 to {len(levels)}.")
        if num_classes < 0:
            raise UserError(f"{name} cannot have {num_classes} classes; 0 builds no classifier.")
        if in_channels < 1:
            raise UserError(f"{name} cannot read images of {in_channels} channels; give 1 or more.")
        self.name = name
        self.levels = checked_levels(levels[:built])
        self.num_classes = num_classes if len(self.levels) == len(levels) else 0
        self.in_channels = in_channels
        self.preprocessing = Preprocessing().for_channels(in_channels)

    def require_classifier(self, image: Tensor | None = None) -> None:
        """Check that there is a classifier and, given a (B, C, H, W) image, that it takes this size.

        Raises:
            UserError: `num_classes` is 0, or the image does not have the `classifier_input_size`.
        """
        if self.num_classes == 0:
            built = f"to its level {self.levels[-1].name}, " if self.levels else ""
            raise UserError(
                f"{self.name} was built {built}without a classifier; build all levels, with num_classes=N, to classify."
            )
        if image is not None and self.classifier_input_size not in (None, tuple(image.shape[-2:])):
            wanted, given = ("{} x {}".format(*size) for size in (self.classifier_input_size, image.shape[-2:]))
            raise UserError(
                f"{self.name} classifies images of {wanted}, not of {given}. "
                "Resize and crop them; forward_dense takes larger ones."
            )

    def state_dict_alias(self, name: str) -> str:
        """The name that published weights files use for an entry of `state_dict`."""
        for ours, theirs in self.state_dict_aliases.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of all built levels.

        Args:
            image: (B, in_channels, H, W), already preprocessed, of any size not smaller than the network takes.

        Returns:
            One (B, channels, h, w) per entry of `levels`; h is about H / stride, and heads use the real size.
        """
        raise NotImplementedError

    def first_features(self, image: Tensor, count: int) -> list[Tensor]:
        """The first `count` maps of `features`, fine to coarse; backbones that can, stop after them."""
        return self.features(image)[:count]

    def forward(self, image: Tensor) -> Tensor:
        """Class scores before the softmax.

        Args:
            image: (B, in_channels, H, W), already preprocessed.

        Returns:
            (B, num_classes) logits.

        Raises:
            UserError: there is no classifier, or it does not fit an image of this size.
        """
        raise NotImplementedError

    def forward_dense(self, image: Tensor) -> Tensor:
        """Class scores at every position of the coarsest level: fully connected layers as convolutions, no dropout.

        Where `forward` is global average pooling and a linear layer, the mean of this map equals `forward`.

        Args:
            image: (B, in_channels, H, W), already preprocessed, at least as large as the classifier needs.

        Returns:
            (B, num_classes, h, w) logits.

        Raises:
            UserError: there is no classifier, or it has no convolutional form.
        """
        raise UserError(f"{self.name} has no dense class scores: its classifier is not a sequence of linear layers.")

    def forward_train(self, image: Tensor) -> tuple[Tensor, ...]:
        """Logits for the loss: those of `forward` first, then those of auxiliary training-only classifiers."""
        return (self(image),)


class FeaturesOnly(nn.Module):
    """A backbone whose `forward` is its `features`, for tools that only call `forward`."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> list[Tensor]:
        """As `Backbone.features`."""
        return self.backbone.features(image)


def meta_input(backbone: Backbone) -> Tensor:
    """Two images on the meta device, large enough for every level, to trace the graph of a backbone.

    Two, because normalization refuses to train on a single value per channel.
    """
    side = 16 * backbone.levels[-1].stride
    return torch.empty(2, backbone.in_channels, *(backbone.fixed_size or (side, side)), device="meta")


def features_on_meta(
    backbone: Backbone, image: Tensor, learned: bool = False
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Run `features` on the meta device: shapes and graph only. The backbone is not changed.

    Args:
        backbone: any backbone.
        image: (B, in_channels, H, W) on the meta device.
        learned: whether the stand-ins of the parameters require gradients.

    Returns:
        The maps, and the stand-ins of parameters and buffers by name.
    """
    parameters = dict(backbone.named_parameters())
    state = {}
    for name, tensor in (parameters | dict(backbone.named_buffers())).items():
        dtype = image.dtype if tensor.is_floating_point() else tensor.dtype
        stand_in = torch.empty_like(tensor, dtype=dtype, device="meta")
        state[name] = stand_in.requires_grad_(learned and name in parameters)
    with torch.set_grad_enabled(learned):
        stand_ins = {f"backbone.{name}": tensor for name, tensor in state.items()}
        return torch.func.functional_call(FeaturesOnly(backbone), stand_ins, image), state


def levels_of_tensors(backbone: Backbone) -> dict[str, int]:
    """For every parameter and buffer that `features` uses, the index of the first level that depends on it.

    All others belong to the classifier. Computed from one backward pass on the meta device, so that no backbone has to
    list its own parts.
    """
    maps, state = features_on_meta(backbone, meta_input(backbone), learned=True)
    parameters = dict(backbone.named_parameters())
    found: dict[str, int] = {}
    for position, level in enumerate(maps):
        names = [name for name in parameters if name not in found]
        if not names:
            break
        reached = torch.autograd.grad(
            level, [state[name] for name in names], torch.empty_like(level), retain_graph=True, allow_unused=True
        )
        found.update({name: position for name, gradient in zip(names, reached, strict=True) if gradient is not None})
    # A buffer belongs where its module's parameters do.
    owners = {name.rpartition(".")[0]: position for name, position in found.items()}
    for name, _ in backbone.named_buffers():
        owner = name.rpartition(".")[0]
        if owner in owners:
            found[name] = owners[owner]
    return found


def levels_are_aligned(backbone: Backbone) -> bool:
    """Whether every level has exactly size / stride units for image sizes that are multiples of the coarsest stride.

    Then the units of a tile that starts at such a multiple are those of the full image, and prediction can run tile by
    tile. Backbones with less padding than their kernels need (AlexNet 2012, Inception-v4) lose units at the border;
    those that do not run on the meta device (timm's Swin) count as not aligned.
    """
    image = meta_input(backbone)
    height, width = image.shape[-2:]
    try:
        maps, _ = features_on_meta(backbone, image)
    except RuntimeError:
        return False
    return all(
        tuple(made.shape[-2:]) == (height / level.stride, width / level.stride)
        for level, made in zip(backbone.levels, maps, strict=True)
    )


def checked_levels(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Levels as a tuple, after checking the invariants that heads rely on.

    Raises:
        ValueError: none at all, a name twice, a stride that decreases, or no channels.
    """
    if not levels:
        raise ValueError("a backbone needs at least one level")
    names = [level.name for level in levels]
    if len(set(names)) != len(names):
        raise ValueError(f"two levels share a name: {names}")
    for finer, coarser in itertools.pairwise(levels):
        if coarser.stride < finer.stride:
            raise ValueError(f"strides decrease from {finer} to {coarser}")
    if any(level.channels < 1 for level in levels):
        raise ValueError(f"a level has no channels: {levels}")
    return tuple(levels)
