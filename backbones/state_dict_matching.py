"""Weights into and out of a backbone: strict matching, with nothing missing, unexpected or contradictory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic_io import atomic_path
from ..errors import UserError
from .backbone import Backbone, Preprocessing, levels_of_tensors
from .build import AUXILIARY_OPTION, build_backbone, check_options, complete_backbone
from .layers import LRN
from .weights import (
    DIGEST,
    NOT_LEARNED,
    OpenedWeights,
    WeightsWarning,
    open_file,
    open_tensors,
    open_weights,
    read_weights_info,
    tensors_digest,
)

# Options that a paper leaves open and the weights fix, and their form for comparison. The file decides where the
# caller's option is None.
OPTIONS_FROM_WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "stride_in": str,
    "shortcut": str,
    "pool": str,
    "pool_first": lambda value: str(value) == "True",
    "lrn": LRN.parse,
}
# How the names of the tensors of classifiers for training alone begin.
AUXILIARY_PREFIX = "aux"


def load_weights(backbone: Backbone, weights: str | Path | Mapping[str, Tensor]) -> None:
    """Load weights into a backbone, together with their preprocessing.

    Args:
        backbone: changed in place; its dtype and device stay.
        weights: "imagenet", another published name of `WEIGHTS`, a path, or tensors by their published names
            (torchvision's `state_dict()`).

    Raises:
        UserError: as `create_backbone`.
    """
    if isinstance(weights, Mapping):
        file = open_tensors("the given state_dict", {}, weights)
    else:
        file = open_weights(backbone.name, weights)
    copy_tensors(backbone, match(backbone, file))


def save_weights(backbone: Backbone, path: str | Path, dtype: torch.dtype | None = None, **metadata: str) -> None:
    """Save a backbone as a `.safetensors` file that `create_backbone` loads.

    Args:
        backbone: any backbone.
        path: the file; written atomically.
        dtype: of the learned tensors; None keeps theirs. Running statistics keep theirs always: half precision
            cannot hold every variance.
        metadata: further entries, above all `origin` and `licence`; text.
    """
    from safetensors.torch import save_file

    learned = {name for name, _ in backbone.named_parameters()}
    tensors = {}
    for name, tensor in backbone.state_dict().items():
        kept = tensor.detach().cpu().to(dtype if dtype and name in learned else tensor.dtype)
        # safetensors refuses strided memory (channels_last) and tensors that share it.
        tensors[backbone.state_dict_alias(name)] = kept.clone(memory_format=torch.contiguous_format)
    whole = complete_backbone(backbone)
    facts = {
        "network": backbone.name,
        "classes": str(backbone.num_classes),
        "levels": "all" if whole is None or len(backbone.levels) == len(whole.levels) else backbone.levels[-1].name,
        "preprocessing": backbone.preprocessing.to_json(),
        **_options_text(backbone),
        **metadata,
        DIGEST: tensors_digest(tensors),
    }
    with atomic_path(path) as aside:
        save_file(tensors, aside, facts)


def verify_weights(path: str | Path, sha256: str | None = None) -> dict[str, Any]:
    """Verify a weights file: its hash, finite values, and names and shapes of the network that it states.

    Args:
        path: a `.safetensors` or `.pth` file.
        sha256: what its hash should be, or the start of it; None leaves this out.

    Returns:
        `read_weights_info(path)`.

    Raises:
        UserError: the first mismatch found.
    """
    path = Path(path)
    info = read_weights_info(path)
    if sha256 is not None and not info["sha256"].startswith(sha256.lower()):
        raise UserError(f"{path.name} has sha256 {info['sha256']}, not {sha256}; fetch it again.")
    opened = open_file(path)
    for name in opened.shapes:
        tensor = opened.read(name)
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{path.name} contains values that are not finite, in '{name}'.")
    if "network" in opened.metadata:
        network = opened.metadata["network"]
        options: dict[str, Any] = {key: opened.metadata[key] for key in OPTIONS_FROM_WEIGHTS if key in opened.metadata}
        with torch.device("meta"):
            whole = build_backbone(network, num_classes=int(opened.metadata.get("classes", 0)) or 1, **options)
        own = published_state(whole)
        for name, shape in opened.for_names(own).shapes.items():
            if name not in own:
                raise UserError(f"{path.name} contains '{name}', which {network} does not have.")
            first = name == whole.state_dict_alias(first_convolution(whole))
            if shape != tuple(own[name].shape) and not (first and differs_in_channels_only(shape, own[name].shape)):
                found, wanted = format_shape(shape), format_shape(own[name].shape)
                raise UserError(f"'{name}' is {found} in {path.name} and {wanted} in {network}.")
    stated = opened.metadata.get(DIGEST)
    if stated is not None and stated != tensors_digest({name: opened.read(name) for name in opened.shapes}):
        raise UserError(f"{path.name} is damaged (its tensors do not have the digest that it states): copy it again.")
    return info


def resolve_options(file: OpenedWeights, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options to build `name` with: the caller's, else the file's.

    Raises:
        UserError: the caller's and the file's options contradict each other, or the file is of another network.
    """
    _check_network(file, name)
    resolved, offered = dict(options), check_options(name, options)
    for option in OPTIONS_FROM_WEIGHTS:
        if option in offered and option in file.metadata:
            if resolved.get(option) is None:
                resolved[option] = OPTIONS_FROM_WEIGHTS[option](file.metadata[option])
            _check_option(file, name, option, resolved[option])
    return resolved


@dataclass(frozen=True)
class Match:
    """The tensors of a file that belong to a backbone.

    Attributes:
        file: the file.
        names: names in the file by those in the backbone, of all tensors that are copied.
        adapted: name of the first convolution, if it is adapted to another number of channels, else None.
        preprocessing: that of the file.
        fresh: names of the tensors that keep their initialization.
    """

    file: OpenedWeights
    names: dict[str, str]
    adapted: str | None
    preprocessing: Preprocessing
    fresh: list[str]


def match(backbone: Backbone, file: OpenedWeights) -> Match:
    """Find every tensor of a backbone, which may be on the meta device, in a file; nothing is read.

    Raises:
        UserError: the file is of another network, contradicts how this one is built, covers less than is built,
            or holds what the network does not have.
    """
    _check_network(file, backbone.name)
    for option, built in backbone.options.items():
        if option in OPTIONS_FROM_WEIGHTS and option in file.metadata:
            _check_option(file, backbone.name, option, built)
    own = backbone.state_dict()
    theirs = {name: backbone.state_dict_alias(name) for name in own}
    file = file.for_names(theirs.values())
    there = {name: called for name, called in theirs.items() if called in file.shapes}
    missing = [name for name in own if name not in there and not name.endswith(NOT_LEARNED)]
    reshaped = [name for name in there if tuple(own[name].shape) != file.shapes[there[name]]]
    first = first_convolution(backbone)
    adapted = first in reshaped and differs_in_channels_only(file.shapes[there[first]], own[first].shape)
    if adapted:
        reshaped.remove(first)
    fresh = _left_fresh(file, backbone, missing, reshaped) if missing or reshaped else []
    _check_extra(file, backbone, sorted(set(file.shapes) - set(theirs.values())))
    names = {name: called for name, called in there.items() if name not in fresh}
    return Match(file, names, first if adapted else None, _preprocessing(file, backbone), fresh)


def copy_tensors(backbone: Backbone, found: Match) -> None:
    """Copy what `match` found into a backbone of the same kind, and take over the preprocessing."""
    own, preprocessing = backbone.state_dict(), found.preprocessing
    with torch.no_grad():
        for name, called in found.names.items():
            stored = found.file.read(called)
            if name == found.adapted:
                bgr = preprocessing.order == "BGR"
                stored = adapt_first_convolution(stored.float(), backbone.in_channels, bgr)
            own[name].copy_(stored)
    backbone.preprocessing = preprocessing.for_channels(backbone.in_channels)
    _warn_about_assumptions(found, backbone)


def _preprocessing(file: OpenedWeights, backbone: Backbone) -> Preprocessing:
    """The file's preprocessing, else the default of this network."""
    text = file.metadata.get("preprocessing")
    if not text:
        whole = complete_backbone(backbone)
        return whole.preprocessing if whole else Preprocessing()
    return Preprocessing.from_json(text, file.source)


def _check_network(file: OpenedWeights, name: str) -> None:
    stated = file.metadata.get("network", name)
    if stated != name:
        raise UserError(f"{file.source} holds weights of {stated}, not of {name}; build {stated} instead.")


def _check_option(file: OpenedWeights, name: str, option: str, wanted: Any) -> None:
    parse = OPTIONS_FROM_WEIGHTS[option]
    stated, wanted = parse(file.metadata[option]), parse(wanted)
    if wanted != stated:
        raise UserError(
            f"{file.source} was trained with {option}='{stated}', and {name} was requested with "
            f"{option}='{wanted}': the same parameters, but another function. Leave {option} out to use the file's."
        )


def _left_fresh(file: OpenedWeights, backbone: Backbone, missing: list[str], reshaped: list[str]) -> list[str]:
    """Tensors of the classifier that keep their initialization; any other mismatch is an error."""
    level_of = levels_of_tensors(backbone)
    gap = [name for name in missing if name in level_of]
    if gap:
        first = min(level_of[name] for name in gap)
        lacking = f"{_some([backbone.state_dict_alias(name) for name in gap])} missing."
        if first == 0:
            start = f"{file.source} does not contain the first level of {backbone.name}"
            raise UserError(f"{start}: {lacking} Is it a file of another network?")
        covered = f"{file.source} covers {backbone.name} only up to its level {backbone.levels[first - 1].name}"
        raise UserError(f"{covered}: {lacking} Build it with levels={first}.")
    other_shape = [name for name in reshaped if name in level_of]
    if other_shape:
        name = other_shape[0]
        found = file.shapes[backbone.state_dict_alias(name)]
        raise UserError(
            f"{file.source} does not fit {backbone.name}: {_some(other_shape)} of another shape "
            f"({format_shape(found)} in the file, {format_shape(backbone.state_dict()[name].shape)} here)."
        )
    classifier = [name for name in backbone.state_dict() if name not in level_of]
    if missing and len(missing) < len(classifier):
        auxiliary = all(name.startswith(AUXILIARY_PREFIX) for name in missing)
        way_out = f" Build it with {AUXILIARY_OPTION}=False." if auxiliary else ""
        lacking = f"does not contain the complete classifier of {backbone.name}: {_some(missing)} missing."
        raise UserError(f"{file.source} {lacking}{way_out}")
    return missing + reshaped


def _check_extra(file: OpenedWeights, backbone: Backbone, extra: list[str]) -> None:
    if not extra:
        return
    whole = complete_backbone(backbone)
    if whole is None and backbone.num_classes == 0:
        return  # the complete form of a backbone that is not in the registry is unknown
    known = published_state(whole or backbone)
    strange = [name for name in extra if name not in known]
    if strange:
        raise UserError(f"{file.source} contains what {backbone.name} does not have: {_some(strange)} unexpected.")


def _warn_about_assumptions(found: Match, backbone: Backbone) -> None:
    file, preprocessing, fresh = found.file, found.preprocessing, found.fresh
    said = []
    if "network" not in file.metadata:
        options = [f"{key}='{value}'" for key, value in _options_text(backbone).items()]
        built = ", ".join([backbone.name, *options])
        said.append(f"it has no metadata, so it is taken for {built} with {_described(preprocessing)}")
    elif "preprocessing" not in file.metadata:
        said.append(f"it states no preprocessing, so {_described(preprocessing)} is taken")
    if fresh:
        stated = file.metadata.get("classes", "other")
        said.append(
            f"it has {stated} classes and {backbone.num_classes} were requested, so {_some(fresh)} freshly initialized"
        )
    if found.adapted:
        said.append(f"its first convolution was adapted to {backbone.in_channels} channels")
    if said:
        warnings.warn(f"{file.source}: {'; '.join(said)}.", WeightsWarning, stacklevel=4)


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


def differs_in_channels_only(found: Iterable[int], wanted: Iterable[int]) -> bool:
    """Whether a convolution (out, in, k, k) for color images differs from another in `in` alone."""
    found, wanted = tuple(found), tuple(wanted)
    return len(found) == len(wanted) == 4 and found[1] == 3 and (found[0], *found[2:]) == (wanted[0], *wanted[2:])


def _options_text(backbone: Backbone) -> dict[str, str]:
    """The options that weights fix, as in the metadata of a file."""
    return {
        key: str(parse(backbone.options[key])) for key, parse in OPTIONS_FROM_WEIGHTS.items() if key in backbone.options
    }


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
