"""Strict matching of a weights file's state dict to a backbone: nothing missing, unexpected or contradictory."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .backbone import Backbone, Preprocessing, features_on_meta, meta_input
from .file_format import weights_format

# Options that a paper leaves open and the weights fix. The file decides where the caller's option is None.
OPTIONS_FROM_WEIGHTS = ("stride_in", "lrn")
NOT_LEARNED = "num_batches_tracked"  # absent from files older than PyTorch 0.4.1, and read by nobody
# Classifiers that exist for training alone: the option that builds them, and how their tensors' names begin.
AUXILIARY_OPTION, AUXILIARY_PREFIX = "auxiliary", "aux"
WRAPPER = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing insert into names, at any depth."""


class WeightsWarning(UserWarning):
    """Something about loaded weights was assumed, adapted or freshly initialized."""


@dataclass(frozen=True)
class OpenedWeights:
    """A weights file whose tensors are read on demand.

    Attributes:
        source: name for messages.
        metadata: metadata of the file, may be empty.
        shapes: the shape of every tensor by name; names of nested tables are joined with dots ("state_dict.fc.bias").
        read: function that returns the tensor of a name.
    """

    source: str
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    def for_names(self, names: Collection[str]) -> OpenedWeights:
        """The weights of a network with these names, without the prefix that they have in the file.

        Training scripts save a network in tables ("state_dict", "model", "ema") and inside of others ("module.",
        "backbone."): in the file, its names begin with one prefix, whatever that is. The prefix of most names counts,
        if that is more than half of them. Of equal ones, as in a file with the trained weights and their moving
        average, one with "ema" in it, else the first. A warning names the prefix if there are other tensors.
        """
        wanted, found = set(names), Counter[str]()
        for stored in self.shapes:
            parts = stored.split(".")
            found.update(".".join([*parts[:cut], ""]) for cut in range(len(parts)) if ".".join(parts[cut:]) in wanted)
        prefix = max(found, key=lambda prefix: (found[prefix], "ema" in prefix), default="")
        if not prefix or found[prefix] <= len(wanted) / 2:
            return self
        shapes = {name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)}
        if others := len(self.shapes) - len(shapes):
            text = f"{self.source}: the tensors named '{prefix}...' are taken, and {others} others are left out."
            warnings.warn(text, WeightsWarning, stacklevel=4)
        return replace(self, shapes=shapes, read=lambda name: self.read(prefix + name))

    def resolve_options(self, name: str, options: Mapping[str, Any], offered: Collection[str]) -> dict[str, Any]:
        """The options to build `name` with: the caller's, else the file's.

        Raises:
            UserError: the caller's and the file's options contradict each other, or the file is of another network.
        """
        self._check_network(name)
        resolved = dict(options)
        for option in OPTIONS_FROM_WEIGHTS:
            if option in offered and option in self.metadata:
                if resolved.get(option) is None:
                    resolved[option] = self.metadata[option]
                self._check_option(name, option, resolved[option])
        return resolved

    def load_into(self, backbone: Backbone) -> None:
        """Copy every tensor that `backbone` has, and take over the preprocessing.

        Raises:
            UserError: the file is of another network, contradicts how this one is built, covers less than is built,
                or holds what the network does not have.
        """
        self._check_network(backbone.name)
        for option, built in backbone.options.items():
            if option in OPTIONS_FROM_WEIGHTS and option in self.metadata:
                self._check_option(backbone.name, option, built)
        own = backbone.state_dict()
        theirs = {name: backbone.state_dict_alias(name) for name in own}
        file = self.for_names(theirs.values())
        there = {name: called for name, called in theirs.items() if called in file.shapes}
        missing = [name for name in own if name not in there and not name.endswith(NOT_LEARNED)]
        reshaped = [name for name in there if tuple(own[name].shape) != file.shapes[there[name]]]
        first = first_convolution(backbone)
        adapted = first in reshaped and differs_in_channels_only(file.shapes[there[first]], own[first].shape)
        if adapted:
            reshaped.remove(first)
        fresh = file._left_fresh(backbone, missing, reshaped) if missing or reshaped else []
        file._check_extra(backbone, sorted(set(file.shapes) - set(theirs.values())))
        preprocessing = self._preprocessing(backbone)

        with torch.no_grad():
            for name, called in there.items():
                if name not in fresh:
                    stored = file.read(called)
                    if adapted and name == first:
                        bgr = preprocessing.order == "BGR"
                        stored = adapt_first_convolution(stored.float(), backbone.in_channels, bgr)
                    own[name].copy_(stored)
        backbone.preprocessing = preprocessing.for_channels(backbone.in_channels)
        self._warn_about_assumptions(backbone, preprocessing, fresh, adapted)

    def _preprocessing(self, backbone: Backbone) -> Preprocessing:
        """The file's preprocessing, else the default of this network."""
        text = self.metadata.get("preprocessing")
        if not text:
            whole = whole_network(backbone)
            return whole.preprocessing if whole else Preprocessing()
        try:
            return Preprocessing.from_json(text)
        except (TypeError, ValueError) as error:
            raise UserError(f"The preprocessing that {self.source} states cannot be read: {error}.") from error

    def _check_network(self, name: str) -> None:
        stated = self.metadata.get("network", name)
        if stated != name:
            raise UserError(f"{self.source} holds weights of {stated}, not of {name}; build {stated} instead.")

    def _check_option(self, name: str, option: str, wanted: Any) -> None:
        stated = self.metadata[option]
        if wanted != stated:
            raise UserError(
                f"{self.source} was trained with {option}='{stated}', and {name} was requested with "
                f"{option}='{wanted}': the same parameters, but another function. Leave {option} out to use the file's."
            )

    def _left_fresh(self, backbone: Backbone, missing: list[str], reshaped: list[str]) -> list[str]:
        """Tensors of the classifier that keep their initialization; any other mismatch is an error."""
        level_of = levels_of_tensors(backbone)
        gap = [name for name in missing if name in level_of]
        if gap:
            first = min(level_of[name] for name in gap)
            raise UserError(self._gap(backbone, [backbone.state_dict_alias(name) for name in gap], first))
        other_shape = [name for name in reshaped if name in level_of]
        if other_shape:
            name = other_shape[0]
            found = self.shapes[backbone.state_dict_alias(name)]
            raise UserError(
                f"{self.source} does not fit {backbone.name}: {_some(other_shape)} of another shape "
                f"({format_shape(found)} in the file, {format_shape(backbone.state_dict()[name].shape)} here)."
            )
        classifier = [name for name in backbone.state_dict() if name not in level_of]
        if missing and len(missing) < len(classifier):
            auxiliary = all(name.startswith(AUXILIARY_PREFIX) for name in missing)
            way_out = f" Build it with {AUXILIARY_OPTION}=False." if auxiliary else ""
            lacking = f"does not contain the complete classifier of {backbone.name}: {_some(missing)} missing."
            raise UserError(f"{self.source} {lacking}{way_out}")
        return missing + reshaped

    def _gap(self, backbone: Backbone, gap: list[str], level: int) -> str:
        if level == 0:
            return (
                f"{self.source} does not contain the first level of {backbone.name}: {_some(gap)} missing. "
                "Is it a file of another network?"
            )
        covered = backbone.levels[level - 1].name
        return (
            f"{self.source} covers {backbone.name} only up to its level {covered}: {_some(gap)} missing. "
            f"Build it with levels={level}."
        )

    def _check_extra(self, backbone: Backbone, extra: list[str]) -> None:
        if not extra:
            return
        whole = whole_network(backbone)
        if whole is None and backbone.num_classes == 0:
            return  # the complete form of a backbone that is not in the registry is unknown
        known = published_state(whole or backbone)
        strange = [name for name in extra if name not in known]
        if strange:
            raise UserError(f"{self.source} contains what {backbone.name} does not have: {_some(strange)} unexpected.")

    def _warn_about_assumptions(
        self, backbone: Backbone, preprocessing: Preprocessing, fresh: list[str], adapted: bool
    ) -> None:
        said = []
        if "network" not in self.metadata:
            options = [f"{key}='{backbone.options[key]}'" for key in OPTIONS_FROM_WEIGHTS if key in backbone.options]
            built = ", ".join([backbone.name, *options])
            said.append(f"it has no metadata, so it is taken for {built} with {_described(preprocessing)}")
        elif "preprocessing" not in self.metadata:
            said.append(f"it states no preprocessing, so {_described(preprocessing)} is taken")
        if fresh:
            stated = self.metadata.get("classes", "other")
            said.append(
                f"it has {stated} classes and {backbone.num_classes} were requested, so {_some(fresh)} freshly "
                "initialized"
            )
        if adapted:
            said.append(f"its first convolution was adapted to {backbone.in_channels} channels")
        if said:
            warnings.warn(f"{self.source}: {'; '.join(said)}.", WeightsWarning, stacklevel=4)


def open_file(path: Path) -> OpenedWeights:
    """Open a `.safetensors` or torch file without reading more than needed.

    Raises:
        UserError: there is no such file, or it cannot be opened safely.
    """
    if not path.is_file():
        raise UserError(f"There is no weights file {path}.")
    return _open_safetensors(path) if weights_format(path) == "safetensors" else _open_pickle(path)


def _open_safetensors(path: Path) -> OpenedWeights:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from error
    stored = {WRAPPER.sub("", name): name for name in file.keys()}  # noqa: SIM118 (not a dict)
    shapes = {name: tuple(file.get_slice(key).get_shape()) for name, key in stored.items()}
    return OpenedWeights(path.name, file.metadata() or {}, shapes, lambda name: file.get_tensor(stored[name]))


def _open_pickle(path: Path) -> OpenedWeights:
    try:
        with path.open("rb") as file:  # given a path, torch.load chooses the format by the suffix
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a weights file that can be opened safely: {reason}") from error
    opened = open_tensors(path.name, {}, loaded if isinstance(loaded, dict) else {})
    if not opened.shapes:
        raise UserError(f"{path} does not contain a state dict; save a module's state_dict().")
    return opened


def open_tensors(source: str, metadata: Mapping[str, str], table: Mapping[str, Any]) -> OpenedWeights:
    """Wrap the tensors of nested tables in memory, by their published names; other values are ignored."""
    tensors = {WRAPPER.sub("", name): tensor for name, tensor in named_tensors(table)}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return OpenedWeights(source, metadata, shapes, lambda name: tensors[name])


def named_tensors(table: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested tables, their names joined with dots. The state of optimizers, numbered, is left out."""
    for name, value in table.items():
        if isinstance(name, str) and isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in named_tensors(value))
        elif isinstance(name, str) and isinstance(value, Tensor):
            yield name, value


def published_state(backbone: Backbone) -> dict[str, Tensor]:
    """A backbone's `state_dict()` under published names; torchvision's networks load it."""
    return {backbone.state_dict_alias(name): tensor for name, tensor in backbone.state_dict().items()}


def adapt_first_convolution(kernels: Tensor, channels: int, bgr: bool = False) -> Tensor:
    """Adapt first-layer kernels trained on RGB images to another number of channels.

    One channel: the kernels are summed over the colors, so that a gray image gives the output of an RGB image with
    three equal channels. Other numbers: the kernels of the colors in turn (R, G, B, R, ...), times 3 / channels, which
    keeps the expected magnitude.

    Args:
        kernels: (out, 3, k, k).
        channels: channels of the images.
        bgr: the kernels expect blue first; the result expects red first.

    Returns:
        (out, channels, k, k).
    """
    if bgr:
        kernels = kernels.flip(1)
    if channels == 1:
        return kernels.sum(1, keepdim=True)
    turn = torch.arange(channels) % kernels.shape[1]
    return kernels[:, turn] * (kernels.shape[1] / channels)


def first_convolution(backbone: Backbone) -> str:
    """Name of the weight of the first convolution, in the order of definition."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            return f"{name}.weight"
    raise ValueError(f"{backbone.name} has no convolution")


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


def whole_network(backbone: Backbone) -> Backbone | None:
    """The complete network of this name, with its default input channels and all optional parts, on the meta device.

    None where the name is not in the registry.
    """
    from . import create_backbone

    options: dict[str, Any] = {key: key == AUXILIARY_OPTION or value for key, value in backbone.options.items()}
    try:
        with torch.device("meta"):
            return create_backbone(backbone.name, num_classes=1, **options)
    except UserError:
        return None


def differs_in_channels_only(found: Iterable[int], wanted: Iterable[int]) -> bool:
    """Whether a convolution (out, in, k, k) for color images differs from another in `in` alone."""
    found, wanted = tuple(found), tuple(wanted)
    return len(found) == len(wanted) == 4 and found[1] == 3 and (found[0], *found[2:]) == (wanted[0], *wanted[2:])


def _some(names: list[str]) -> str:
    """The first name, how many more, and the verb that follows: "'fc.weight' and 1 more are"."""
    return f"'{names[0]}' is" if len(names) == 1 else f"'{names[0]}' and {len(names) - 1} more are"


def format_shape(shape: Iterable[int]) -> str:
    """A shape as text: "64x3x7x7"."""
    return "x".join(str(side) for side in shape) or "a single number"


def _described(preprocessing: Preprocessing) -> str:
    low, high = preprocessing.range
    mean = " ".join(f"{value:g}" for value in preprocessing.mean)
    std = " ".join(f"{value:g}" for value in preprocessing.std)
    return f"preprocessing {preprocessing.order}, range {low:g} to {high:g}, mean {mean}, std {std}"
