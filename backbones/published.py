"""Published layouts of weights: files of others are recognized by names and shapes, and converted to our networks.

A layout is a table near the network that it becomes: tensors that tell it from all others, and a function from its
tensors to ours. `tasks/conversion.py` tries one layout after the other. Nothing is assumed: every tensor of the file
has its place in the network, and every parameter of the network its tensor, or the conversion is refused.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import UserError
from .backbone import Backbone, Preprocessing
from .build import AUXILIARY_OPTION, build_backbone
from .state_dict_matching import AUXILIARY_PREFIX, first_convolution, format_shape, published_state, save_weights
from .weights import NOT_LEARNED

Tensors = dict[str, Tensor]
TORCH7_EPS = 1e-5
ModuleT = TypeVar("ModuleT", bound=nn.Module)
Signature = Mapping[str, "tuple[int | None, ...] | None"]
"""Names of tensors and their shapes; None is any number, or any shape."""


@dataclass(frozen=True)
class Converted(ABC):
    """Published weights in the names of this package.

    Attributes:
        network: name of the backbone or model.
        tensors: all tensors of the network by name. Counters of batches may be missing.
        notes: what a reader should know: what was left out, added or folded, one clause each.
    """

    network: str
    tensors: Tensors
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with the weights, in evaluation mode.

        Raises:
            UserError: a tensor is missing, unexpected or of another shape.
        """

    @abstractmethod
    def save(self, out: Path, source: str, terms: str) -> None:
        """Write the file that the commands of this package take.

        Args:
            out: the file to write.
            source: name of the published file.
            terms: license terms of the weights and their training data.
        """


@dataclass(frozen=True)
class ConvertedBackbone(Converted):
    """Weights of a backbone, with or without its classifier.

    Attributes:
        options: options of the backbone, among them `num_classes` and `in_channels` (`create_backbone`).
        preprocessing: of the images that the weights expect; None: that of the network.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None

    def build(self) -> Backbone:
        backbone = build_converted(lambda: build_backbone(self.network, **self.options), self.tensors, self.network)
        backbone.preprocessing = self.preprocessing or backbone.preprocessing
        return backbone.eval()

    def save(self, out: Path, source: str, terms: str) -> None:
        stated = {"origin": source, "licence": terms}
        save_weights(self.build(), out, None, **stated)


@dataclass(frozen=True)
class Layout:
    """One published layout.

    Attributes:
        title: whose it is, for messages.
        networks: the names of backbones or models that it can become.
        signature: tensors that every file of the layout has, and files of other layouts have not.
        convert: the conversion of all tensors of a file, in float32.
    """

    title: str
    networks: tuple[str, ...]
    signature: Signature
    convert: Callable[[Tensors], Converted]

    def recognizes(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a file with tensors of these shapes has this layout."""
        return all(name in shapes and _matches(shapes[name], shape) for name, shape in self.signature.items())


def _matches(shape: Sequence[int], pattern: Sequence[int | None] | None) -> bool:
    if pattern is None:
        return True
    return len(shape) == len(pattern) and all(
        wanted in (None, side) for side, wanted in zip(shape, pattern, strict=True)
    )


def rename(tensors: Tensors, rules: Sequence[tuple[str, str]]) -> Tensors:
    r"""The tensors under new names. Each name is changed by the first rule that applies, if any does.

    Args:
        tensors: by name.
        rules: regular expressions for the beginning of a name, and what replaces it (`\1` is the first group).
    """
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            if match := re.match(pattern, name):
                name = match.expand(replacement) + name[match.end() :]
                break
        renamed[name] = tensor
    return renamed


def caffe_parameters(tensors: Tensors, names: Mapping[str, str]) -> Tensors:
    """Weights and biases of Caffe's layers under our names.

    Args:
        tensors: blobs by the names of `read_caffe_file`, "conv1.0" and "conv1.1".
        names: our name of every layer. Others, such as those of losses, are left out.
    """
    parts = {
        f"{theirs}.{index}": f"{ours}.{part}"
        for theirs, ours in names.items()
        for index, part in enumerate(("weight", "bias"))
    }
    return {ours: tensors[theirs] for theirs, ours in parts.items() if theirs in tensors}


def in_order(network: str, tensors: Tensors, **options: Any) -> Converted:
    """The conversion of a network of Torch7, whose layers have no names: each is one of ours, in the same order.

    Args:
        network: name of the backbone.
        tensors: "number.class.part" of `read_torch7_file`.
        options: of the backbone.
    """
    numbers: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        number, _, part = name.split(".")
        numbers.setdefault(int(number), {})[part] = tensor
    with torch.device("meta"):
        backbone = build_backbone(network, num_classes=len(numbers[max(numbers)]["weight"]), **options)
    ours = [
        name for name, layer in backbone.named_modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))
    ]
    moved: Tensors = {}
    for name, parts in zip(ours, (numbers[number] for number in sorted(numbers)), strict=True):
        if "running_std" in parts:  # older files store 1 / sqrt(variance + eps)
            parts["running_var"] = parts.pop("running_std").pow(-2) - TORCH7_EPS
        left = {"stride"}
        # Older files have biases of 0 before every normalization.
        if isinstance(backbone.get_submodule(name), nn.Conv2d) and "bias" in parts and not parts["bias"].any():
            left.add("bias")
        moved |= {f"{name}.{part}": tensor for part, tensor in parts.items() if part not in left}
    return ConvertedBackbone(network, moved, {**options, "num_classes": backbone.num_classes})


def own_backbone(name: str) -> Layout:
    """The layout of a backbone's own names in files, with any number of classes, or with a head of another kind."""
    with torch.device("meta"):
        bare = build_backbone(name, num_classes=0)
    first = bare.state_dict_alias(first_convolution(bare))
    levels = {key: tuple(value.shape) for key, value in published_state(bare).items() if not key.endswith(NOT_LEARNED)}
    signature: Signature = {**levels, first: (levels[first][0], None, *levels[first][2:])}
    return Layout(f"our {name}", (name,), signature, partial(from_published_names, name))


def from_published_names(name: str, tensors: Tensors, **options: Any) -> Converted:
    """The conversion of tensors that a backbone's `state_dict_aliases` name.

    Args:
        name: name of the backbone.
        tensors: a complete classifier is kept, with any number of classes; tensors of another head are left out.
        options: options of the backbone.
    """
    with torch.device("meta"):
        bare = build_backbone(name, num_classes=0, **options)
        options["in_channels"] = tensors[bare.state_dict_alias(first_convolution(bare))].shape[1]
        whole = build_backbone(name, num_classes=1, **options)
    ours, levels = {whole.state_dict_alias(key): key for key in whole.state_dict()}, published_state(bare)
    head = {alias for alias in ours if alias not in levels and not alias.endswith(NOT_LEARNED)}
    auxiliary = {alias for alias in head if alias.startswith(AUXILIARY_PREFIX)}
    if AUXILIARY_OPTION in whole.options:
        options[AUXILIARY_OPTION] = bool(auxiliary) and auxiliary <= tensors.keys()
        head -= set() if options[AUXILIARY_OPTION] else auxiliary
    complete = head <= tensors.keys()
    wanted = levels.keys() | (head if complete else set())
    kept = {alias: key for alias, key in ours.items() if alias in tensors and alias in wanted}
    last = [alias for alias in ours if alias in head - auxiliary and alias.endswith(".bias")][-1]
    options["num_classes"] = len(tensors[last]) if complete else 0
    left = [alias for alias in tensors if alias not in kept and not alias.endswith(NOT_LEARNED)]
    note = f"left out {len(left)} tensors that {name} does not have: {', '.join(left[:3])}"
    state = {key: tensors[alias] for alias, key in kept.items()}
    return ConvertedBackbone(name, state, options, notes=(note,) if left else ())


def check_fit(module: nn.Module, tensors: Tensors, network: str) -> None:
    """Check that tensors are exactly those of a network, which may be on the meta device.

    Raises:
        UserError: one is missing, unexpected or of another shape; the message names it.
    """
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in sorted(own.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != own.get(name) and not (found is None and name.endswith(NOT_LEARNED)):
            there = "missing" if found is None else f"of shape {format_shape(found)}"
            wanted = f"of shape {format_shape(own[name])}" if name in own else "unknown"
            raise UserError(f"The file does not fit {network}: '{name}' is {there} in the file and {wanted} in it.")


def build_converted(
    build: Callable[[], ModuleT],
    tensors: Tensors,
    network: str,
    part: Callable[[ModuleT], nn.Module] = lambda module: module,
) -> ModuleT:
    """Build a network with converted weights. It takes no memory before they fit, and is not initialized first.

    Args:
        build: the function that builds it.
        tensors: see `Converted`; they become its parameters.
        network: its name, for messages.
        part: the submodule that the tensors belong to.

    Raises:
        UserError: as `check_fit`.
    """
    with torch.device("meta"):
        module = build()
    check_fit(part(module), tensors, network)
    if any(buffer.is_meta for buffer in set(module.buffers()) - set(module.state_dict(keep_vars=True).values())):
        module = build()  # it computes buffers that no file contains
    counters = {
        name: torch.zeros_like(each, device="cpu")
        for name, each in part(module).state_dict().items()
        if name.endswith(NOT_LEARNED)
    }
    part(module).load_state_dict({**counters, **tensors}, assign=True)
    return module
