"""The contract of a trunk: named levels from fine to coarse, and a classifier on the last one.

A trunk knows no task and no data. Heads ask it for strides, never for positions in a list:
VGG has a level of stride 1, ResNet has not.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


@dataclass(frozen=True)
class Level:
    """One feature map of a trunk: its name, the input pixels between neighbouring units, its channels."""

    name: str
    stride: int
    channels: int


@dataclass(frozen=True)
class Preprocessing:
    """How the pictures looked that some weights were trained on. It belongs to the weights and travels with them.

    Convention: pictures come in as RGB (or grey, for one channel) floats in [0, 1]; `__call__` brings them to
    `(x in range - mean) / std` in the weights' channel order. Resize and crop are for classification only.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    range: tuple[float, float] = (0.0, 1.0)
    order: str = "RGB"
    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"

    def __call__(self, image: Tensor) -> Tensor:
        """Normalise a batch.

        Args:
            image: (B, C, H, W), floats in [0, 1] or uint8 in 0..255, RGB. C equals the length of `mean`.

        Returns:
            (B, C, H, W), what the weights expect.
        """
        if image.shape[1] != len(self.mean):
            raise ValueError(f"preprocessing for {len(self.mean)} channels got a picture of {image.shape[1]}")
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
        """The same for pictures of another number of channels, as `opened_weights.adapt_first_convolution` has it.

        One channel takes the means over the colours; other numbers take the colours in turn (R, G, B, R, ...).
        A changed number of channels has no colour order to reverse, so the result's order is RGB.
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
        """The form in which it stands in a weights file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Read the metadata's form back. Missing keys take the defaults, unknown ones raise TypeError."""
        stated: dict[str, Any] = json.loads(text)
        for key in ("mean", "std", "range"):
            if key in stated:
                stated[key] = tuple(float(value) for value in stated[key])
        return cls(**stated)


class Backbone(nn.Module):
    """A classification trunk.

    Subclasses set `name`, `levels`, `classes`, `in_channels` and `preprocessing` (`describe` does it) and write
    `features` and `forward`. `levels` names only what is built: with `levels=3`, three entries and no deeper
    parameter. A trunk that is cut short has no classifier.

    Attributes:
        name: the catalogue's name ("resnet50").
        levels: what `features` returns, fine to coarse. Strides never decrease.
        classes: length of the logits; 0 means that there is no classifier and `forward` refuses.
        in_channels: channels of the picture.
        preprocessing: of the weights that were loaded, else the ImageNet constants.
        options: what `create_backbone` needs besides name, classes, in_channels and levels to build this again
            without its weights file (`{"stride_in": "1x1"}`): plain values, ready for a checkpoint's header.
        published_names: where files call parts otherwise than this module does, the beginning of our tensors' names
            to the beginning of theirs (`{"convolutions.": "features."}`).
        fixed_size: (H, W) where the network takes no other size; None for all that are convolutional.
        classifier_size: (H, W) where the levels take any size and the classifier this one only; None: it takes any.
    """

    name: str
    levels: tuple[Level, ...]
    classes: int
    in_channels: int
    preprocessing: Preprocessing
    options: Mapping[str, Any] = MappingProxyType({})
    published_names: Mapping[str, str] = MappingProxyType({})
    fixed_size: tuple[int, int] | None = None
    classifier_size: tuple[int, int] | None = None

    def describe(
        self, name: str, levels: Sequence[Level], *, classes: int, in_channels: int, built: int | None
    ) -> None:
        """Set every attribute of the contract but `options`, which `create_backbone` completes.

        Args:
            name: the catalogue's name.
            levels: every level of the complete network.
            classes: length of the logits; becomes 0 where the trunk is cut.
            in_channels: channels of the picture.
            built: how many levels to build; None for all.

        Raises:
            UserError: a number that no network can have.
        """
        if built is not None and not 1 <= built <= len(levels):
            known = ", ".join(level.name for level in levels)
            raise UserError(f"{name} has {len(levels)} levels ({known}); levels={built} is none of 1 to {len(levels)}.")
        if classes < 0:
            raise UserError(f"{name} cannot have {classes} classes; 0 leaves the classifier off.")
        if in_channels < 1:
            raise UserError(f"{name} cannot read pictures of {in_channels} channels; give 1 or more.")
        self.name = name
        self.levels = checked_levels(levels[:built])
        self.classes = classes if len(self.levels) == len(levels) else 0
        self.in_channels = in_channels
        self.preprocessing = Preprocessing().for_channels(in_channels)

    def require_classifier(self) -> None:
        """Refuse to classify without a classifier.

        Raises:
            UserError: `classes` is 0.
        """
        if self.classes == 0:
            built = f"to its level {self.levels[-1].name}, " if self.levels else ""
            raise UserError(
                f"{self.name} was built {built}without a classifier; build all levels, with classes=N, to classify."
            )

    def published_name(self, name: str) -> str:
        """What files call the tensor that `state_dict` calls `name`."""
        for ours, theirs in self.published_names.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name

    def features(self, image: Tensor) -> list[Tensor]:
        """Every built level of one picture.

        Args:
            image: (B, in_channels, H, W), already preprocessed, of any size not smaller than the network takes.

        Returns:
            One (B, channels, h, w) per entry of `levels`; h is about H / stride, and heads use the real size.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Class scores before the softmax.

        Args:
            image: (B, in_channels, H, W), already preprocessed.

        Returns:
            (B, classes) logits.

        Raises:
            UserError: there is no classifier, or it does not fit a picture of this size.
        """
        raise NotImplementedError

    def score_map(self, image: Tensor) -> Tensor:
        """The classifier at every place of the coarsest level: fully connected layers as convolutions, no dropout.

        Where `forward` pools over the whole picture and then is linear, the mean of this map is `forward`'s answer.

        Args:
            image: (B, in_channels, H, W), already preprocessed, not smaller than the classifier takes.

        Returns:
            (B, classes, h, w) logits.

        Raises:
            UserError: there is no classifier, or it has no such form.
        """
        raise UserError(f"{self.name} has no map of scores: its classifier is no row of linear layers.")

    def training_logits(self, image: Tensor) -> tuple[Tensor, ...]:
        """What a loss sees: `forward`'s logits first, then those of classifiers that exist for training alone."""
        return (self(image),)


class FeaturesOnly(nn.Module):
    """A trunk whose call is its `features`, for tools that know only `forward`."""

    def __init__(self, trunk: Backbone) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, image: Tensor) -> list[Tensor]:
        """As `Backbone.features`."""
        return self.trunk.features(image)


def empty_pictures(trunk: Backbone) -> Tensor:
    """Two pictures on the meta device, large enough for every level: for looking at a trunk's graph.

    Two, because normalisation refuses to train on a single value per channel.
    """
    side = 16 * trunk.levels[-1].stride
    return torch.empty(2, trunk.in_channels, *(trunk.fixed_size or (side, side)), device="meta")


def features_on_meta(trunk: Backbone, image: Tensor, learned: bool = False) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Run `features` without numbers: shapes and graph only, whatever the trunk's size. The trunk is not touched.

    Args:
        trunk: any trunk.
        image: (B, in_channels, H, W) on the meta device.
        learned: whether the stand-ins of the parameters ask for gradients.

    Returns:
        The maps, and the stand-ins of parameters and buffers by name.
    """
    parameters = dict(trunk.named_parameters())
    state = {}
    for name, tensor in (parameters | dict(trunk.named_buffers())).items():
        dtype = image.dtype if tensor.is_floating_point() else tensor.dtype
        stand_in = torch.empty_like(tensor, dtype=dtype, device="meta")
        state[name] = stand_in.requires_grad_(learned and name in parameters)
    with torch.set_grad_enabled(learned):
        stand_ins = {f"trunk.{name}": tensor for name, tensor in state.items()}
        return torch.func.functional_call(FeaturesOnly(trunk), stand_ins, image), state


def levels_divide(trunk: Backbone) -> bool:
    """Whether every level of a picture whose sides are multiples of the coarsest stride measures side / stride.

    Then the units of a tile that starts at such a multiple are the whole picture's units, and answers can be made tile
    by tile. Trunks that pad less than they reach (AlexNet 2012, Inception-v4) lose units at the border; of those that
    do not run without numbers (timm's Swin) nothing is known, so that the answer is no.
    """
    picture = empty_pictures(trunk)
    height, width = picture.shape[-2:]
    try:
        maps, _ = features_on_meta(trunk, picture)
    except RuntimeError:
        return False
    return all(
        tuple(made.shape[-2:]) == (height / level.stride, width / level.stride)
        for level, made in zip(trunk.levels, maps, strict=True)
    )


def checked_levels(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Levels as a tuple, after checking what every head relies on.

    Raises:
        ValueError: none at all, a name twice, a stride that decreases, or no channels.
    """
    if not levels:
        raise ValueError("a trunk needs at least one level")
    names = [level.name for level in levels]
    if len(set(names)) != len(names):
        raise ValueError(f"two levels share a name: {names}")
    for finer, coarser in itertools.pairwise(levels):
        if coarser.stride < finer.stride:
            raise ValueError(f"strides decrease from {finer} to {coarser}")
    if any(level.channels < 1 for level in levels):
        raise ValueError(f"a level has no channels: {levels}")
    return tuple(levels)
