"""Weights of trunks: published ones, local files, and the facts that travel with them.

A `.safetensors` file carries in its metadata: `network`, `classes`, `levels` ("all", or the last one present), what
the network leaves open (`stride_in` of the ResNets, `lrn` of AlexNet), `preprocessing` (JSON), `origin` and `licence`.
A `.pth` file carries nothing, so loading one says what was assumed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown_name
from ..writing import written_aside
from .backbone import Backbone, Preprocessing, empty_pictures, features_on_meta

# "network/name" to where the weights are. The first is what `weights="imagenet"` gives; the newer recipe of
# torchvision (2021) scores higher as a classifier and is rarely the better start for dense heads.
WEIGHTS: dict[str, str] = {
    "resnet101/imagenet": "torchvision:ResNet101_Weights.IMAGENET1K_V1",
    "resnet101/imagenet_v2": "torchvision:ResNet101_Weights.IMAGENET1K_V2",
    "resnet152/imagenet": "torchvision:ResNet152_Weights.IMAGENET1K_V1",
    "resnet152/imagenet_v2": "torchvision:ResNet152_Weights.IMAGENET1K_V2",
    "resnet18/imagenet": "torchvision:ResNet18_Weights.IMAGENET1K_V1",
    "resnet34/imagenet": "torchvision:ResNet34_Weights.IMAGENET1K_V1",
    "resnet50/imagenet": "torchvision:ResNet50_Weights.IMAGENET1K_V1",
    "resnet50/imagenet_v2": "torchvision:ResNet50_Weights.IMAGENET1K_V2",
    "vgg11/imagenet": "torchvision:VGG11_Weights.IMAGENET1K_V1",
    "vgg11_bn/imagenet": "torchvision:VGG11_BN_Weights.IMAGENET1K_V1",
    "vgg13/imagenet": "torchvision:VGG13_Weights.IMAGENET1K_V1",
    "vgg13_bn/imagenet": "torchvision:VGG13_BN_Weights.IMAGENET1K_V1",
    "vgg16/imagenet": "torchvision:VGG16_Weights.IMAGENET1K_V1",
    "vgg16_bn/imagenet": "torchvision:VGG16_BN_Weights.IMAGENET1K_V1",
    "vgg19/imagenet": "torchvision:VGG19_Weights.IMAGENET1K_V1",
    "vgg19_bn/imagenet": "torchvision:VGG19_BN_Weights.IMAGENET1K_V1",
}
# What a network's publications leave open and its weights settle. A file's word is taken where the caller says None.
SETTLED_BY_WEIGHTS = ("stride_in", "lrn")
# torchvision's own choices of the above, for networks that have the option.
TORCHVISION_SETTLES = {"stride_in": "3x3"}
TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ILSVRC2012"
_NOT_LEARNED = "num_batches_tracked"  # absent from files older than PyTorch 0.4.1, and read by nobody


class WeightsWarning(UserWarning):
    """Something about loaded weights was assumed, adapted or started anew."""


@dataclass(frozen=True)
class OpenedWeights:
    """A weights file whose tensors are read when asked for.

    Attributes:
        source: how sentences call it.
        metadata: what it states about itself; empty where it states nothing.
        shapes: the shape of every tensor by name.
        read: the tensor of a name.
    """

    source: str
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]

    def settle_options(self, name: str, options: Mapping[str, Any], offered: Collection[str]) -> dict[str, Any]:
        """The options to build `name` with: the caller's, and the file's where the caller left them open.

        Raises:
            UserError: the caller's and the file's word contradict each other, or the file is another network's.
        """
        self._check_network(name)
        settled = dict(options)
        for option in SETTLED_BY_WEIGHTS:
            if option in offered and option in self.metadata:
                if settled.get(option) is None:
                    settled[option] = self.metadata[option]
                self._check_option(name, option, settled[option])
        return settled

    def load_into(self, backbone: Backbone) -> None:
        """Copy every tensor that `backbone` has, and take over the preprocessing.

        Raises:
            UserError: the file is of another network, contradicts how this one is built, covers less than is built,
                or holds what the network does not have.
        """
        self._check_network(backbone.name)
        for option, built in backbone.options.items():
            if option in SETTLED_BY_WEIGHTS and option in self.metadata:
                self._check_option(backbone.name, option, built)
        own = backbone.state_dict()
        theirs = {name: backbone.published_name(name) for name in own}
        there = {name: called for name, called in theirs.items() if called in self.shapes}
        missing = [name for name in own if name not in there and not name.endswith(_NOT_LEARNED)]
        reshaped = [name for name in there if tuple(own[name].shape) != self.shapes[there[name]]]
        first = first_convolution(backbone)
        adapted = first in reshaped and _differs_in_channels_only(self.shapes[there[first]], own[first].shape)
        if adapted:
            reshaped.remove(first)
        fresh = self._left_fresh(backbone, missing, reshaped) if missing or reshaped else []
        self._check_extra(backbone, sorted(set(self.shapes) - set(theirs.values())))

        with torch.no_grad():
            for name, called in there.items():
                if name not in fresh:
                    stored = self.read(called)
                    if adapted and name == first:
                        bgr = self._preprocessing().order == "BGR"
                        stored = adapt_first_convolution(stored.float(), backbone.in_channels, bgr)
                    own[name].copy_(stored)
        backbone.preprocessing = self._preprocessing().for_channels(backbone.in_channels)
        self._say_what_was_assumed(backbone, fresh, adapted)

    def _preprocessing(self) -> Preprocessing:
        text = self.metadata.get("preprocessing")
        try:
            return Preprocessing.from_json(text) if text else Preprocessing()
        except (TypeError, ValueError) as error:
            raise UserError(f"The preprocessing that {self.source} states cannot be read: {error}.") from error

    def _check_network(self, name: str) -> None:
        stated = self.metadata.get("network", name)
        if stated != name:
            raise UserError(f"{self.source} holds weights of {stated}, not of {name}; build {stated} instead.")

    def _check_option(self, name: str, option: str, asked: Any) -> None:
        stated = self.metadata[option]
        if asked != stated:
            raise UserError(
                f"{self.source} was trained with {option}='{stated}', and {name} was asked for with "
                f"{option}='{asked}': the same parameters, another function. Leave {option} out to follow the file."
            )

    def _left_fresh(self, backbone: Backbone, missing: list[str], reshaped: list[str]) -> list[str]:
        """The classifier's tensors that keep their initialisation; everything else that does not fit is an error."""
        level_of = levels_of_tensors(backbone)
        gap = [name for name in missing if name in level_of]
        if gap:
            first = min(level_of[name] for name in gap)
            raise UserError(self._gap(backbone, [backbone.published_name(name) for name in gap], first))
        other_shape = [name for name in reshaped if name in level_of]
        if other_shape:
            name = other_shape[0]
            found = self.shapes[backbone.published_name(name)]
            raise UserError(
                f"{self.source} does not fit {backbone.name}: {_some(other_shape)} of another shape "
                f"({_times(found)} in the file, {_times(backbone.state_dict()[name].shape)} here)."
            )
        classifier = [name for name in backbone.state_dict() if name not in level_of]
        if missing and len(missing) < len(classifier):
            raise UserError(f"{self.source} lacks {_some(missing)} of {backbone.name}'s classifier.")
        return missing + reshaped

    def _gap(self, backbone: Backbone, gap: list[str], level: int) -> str:
        if level == 0:
            return (
                f"{self.source} does not hold the first level of {backbone.name}: {_some(gap)} missing. "
                "Is it of another network?"
            )
        covered = backbone.levels[level - 1].name
        return (
            f"{self.source} covers {backbone.name} only to its level {covered}: {_some(gap)} missing. "
            f"Build it with levels={level}."
        )

    def _check_extra(self, backbone: Backbone, extra: list[str]) -> None:
        if not extra:
            return
        whole = whole_network(backbone)
        if whole is None and backbone.classes == 0:
            return  # an outsider's trunk cannot be asked what it would have had
        known = published_state(whole or backbone)
        strange = [name for name in extra if name not in known]
        if strange:
            raise UserError(f"{self.source} holds what {backbone.name} does not have: {_some(strange)} unexpected.")

    def _say_what_was_assumed(self, backbone: Backbone, fresh: list[str], adapted: bool) -> None:
        said = []
        if "network" not in self.metadata:
            options = [f"{key}='{backbone.options[key]}'" for key in SETTLED_BY_WEIGHTS if key in backbone.options]
            built = ", ".join([backbone.name, *options])
            said.append(f"it has no metadata, so it is taken for {built} with {_described(self._preprocessing())}")
        elif "preprocessing" not in self.metadata:
            said.append(f"it states no preprocessing, so {_described(self._preprocessing())} is taken")
        if fresh:
            stated = self.metadata.get("classes", "other")
            said.append(
                f"it has {stated} classes and {backbone.classes} were asked for, "
                f"so {_some(fresh)} freshly initialised"
            )
        if adapted:
            said.append(f"its first convolution was adapted to {backbone.in_channels} channels")
        if said:
            warnings.warn(f"{self.source}: {'; '.join(said)}.", WeightsWarning, stacklevel=4)


def load_weights(backbone: Backbone, weights: str | Path | Mapping[str, Tensor]) -> None:
    """Fill a trunk that is already built, and give it the weights' preprocessing.

    Args:
        backbone: changed in place; its dtype and device stay.
        weights: "imagenet", another published name of `WEIGHTS`, a path, or tensors by their published names
            (torchvision's `state_dict()`).

    Raises:
        UserError: as `create_backbone`.
    """
    if isinstance(weights, Mapping):
        _opened("the given state_dict", {}, weights).load_into(backbone)
    else:
        open_weights(backbone.name, weights).load_into(backbone)


def published_state(backbone: Backbone) -> dict[str, Tensor]:
    """A trunk's `state_dict()` under the names that files use; torchvision's networks load it."""
    return {backbone.published_name(name): tensor for name, tensor in backbone.state_dict().items()}


def save_weights(
    backbone: Backbone, path: str | Path, dtype: torch.dtype | None = None, **metadata: str
) -> None:
    """Write a trunk as one `.safetensors` file that `create_backbone` reads without further words.

    Args:
        backbone: any trunk of the contract.
        path: the file, which is written aside and renamed.
        dtype: of the learned tensors; None keeps theirs. Running statistics keep theirs always: half precision
            cannot hold every variance.
        metadata: further facts, above all `origin` and `licence`; text.
    """
    from safetensors.torch import save_file

    learned = {name for name, _ in backbone.named_parameters()}
    tensors = {}
    for name, tensor in backbone.state_dict().items():
        kept = tensor.detach().cpu().to(dtype if dtype and name in learned else tensor.dtype)
        # safetensors refuses strided memory (channels_last) and tensors that share it.
        tensors[backbone.published_name(name)] = kept.clone(memory_format=torch.contiguous_format)
    whole = whole_network(backbone)
    facts = {
        "network": backbone.name,
        "classes": str(backbone.classes),
        "levels": "all" if whole is None or len(backbone.levels) == len(whole.levels) else backbone.levels[-1].name,
        "preprocessing": backbone.preprocessing.to_json(),
        **{key: str(value) for key, value in backbone.options.items() if key in SETTLED_BY_WEIGHTS},
        **metadata,
    }
    with written_aside(path) as aside:
        save_file(tensors, aside, facts)


def open_weights(name: str, weights: str | Path) -> OpenedWeights:
    """Find weights for a network, by published name or path, without reading their tensors yet.

    Raises:
        UserError: there is no such file or name, the file is damaged, or the download failed.
    """
    if isinstance(weights, str) and f"{name}/{weights}" in WEIGHTS:
        return _open_published(WEIGHTS[f"{name}/{weights}"])
    if name.startswith("timm:") and weights == "imagenet":  # timm holds its own catalogue
        from .interop.timm import open_pretrained

        return open_pretrained(name)
    path = Path(weights)
    if path.is_file():
        return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    published = [key.split("/")[1] for key in WEIGHTS if key.split("/")[0] == name]
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"There is no weights file {path}.")
    if published:
        raise unknown_name(f"file or published set of weights of {name}", str(weights), published)
    raise UserError(f"There are no published weights of {name} and no file '{weights}'; give the path of a file.")


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a weights file states about itself; empty for a file without metadata.

    Raises:
        UserError: no such file, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no weights file {path}.")
    opened = _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    return dict(opened.metadata)


def list_weights() -> list[str]:
    """Every published set of weights, as "network/name"."""
    return sorted(WEIGHTS)


def show_weights(name_or_path: str | Path) -> dict[str, Any]:
    """What is known about weights before they are loaded. Nothing is downloaded.

    Args:
        name_or_path: one of `list_weights()`, or a file.

    Returns:
        The metadata with `preprocessing` as a dict; for a file also its tensors, parameters (without running
        statistics), bytes and sha256; for published weights their address, the start of their hash and their score.

    Raises:
        UserError: neither a published name nor a readable file.
    """
    if isinstance(name_or_path, str) and name_or_path in WEIGHTS:
        return _show_published(name_or_path)
    path = Path(name_or_path)
    if not path.is_file():
        raise unknown_name("weights file or published weights", str(name_or_path), WEIGHTS)
    opened = _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    shown: dict[str, Any] = dict(opened.metadata)
    for key in ("preprocessing", "lrn"):
        if key in shown and shown[key].startswith("{"):
            shown[key] = json.loads(shown[key])
    learned = [name for name in opened.shapes if not name.endswith((_NOT_LEARNED, "running_mean", "running_var"))]
    shown["tensors"] = len(opened.shapes)
    shown["parameters"] = sum(torch.Size(opened.shapes[name]).numel() for name in learned)
    shown["bytes"] = path.stat().st_size
    shown["sha256"] = _sha256(path)
    return shown


def verify_weights(path: str | Path, sha256: str | None = None) -> dict[str, Any]:
    """Check a file: its hash, that every value is finite, and that it fits the network that it names.

    Args:
        path: a `.safetensors` or `.pth` file.
        sha256: what its hash should be, or the start of it; None leaves this out.

    Returns:
        `show_weights(path)`.

    Raises:
        UserError: the first thing found wrong.
    """
    from . import create_backbone

    path = Path(path)
    shown = show_weights(path)
    if sha256 is not None and not shown["sha256"].startswith(sha256.lower()):
        raise UserError(f"{path.name} has sha256 {shown['sha256']}, not {sha256}; fetch it again.")
    opened = _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    for name in opened.shapes:
        tensor = opened.read(name)
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{path.name} holds values that are not finite, in '{name}'.")
    if "network" in opened.metadata:
        network = opened.metadata["network"]
        options: dict[str, Any] = {key: opened.metadata[key] for key in SETTLED_BY_WEIGHTS if key in opened.metadata}
        with torch.device("meta"):
            whole = create_backbone(network, classes=int(opened.metadata.get("classes", 0)) or 1, **options)
        own = published_state(whole)
        for name, shape in opened.shapes.items():
            if name not in own:
                raise UserError(f"{path.name} holds '{name}', which {network} does not have.")
            first = name == whole.published_name(first_convolution(whole))
            if shape != tuple(own[name].shape) and not (first and _differs_in_channels_only(shape, own[name].shape)):
                found, wanted = _times(shape), _times(own[name].shape)
                raise UserError(f"'{name}' is {found} in {path.name} and {wanted} in {network}.")
    return shown


def adapt_first_convolution(kernels: Tensor, channels: int, bgr: bool = False) -> Tensor:
    """Kernels trained on colour pictures, for pictures of another number of channels.

    One channel: the colours' kernels are added, which answers to a grey picture as to a colour picture of three
    equal channels. Other numbers: the colours' kernels in turn (R, G, B, R, ...), times 3 / channels, which keeps
    the expected magnitude.

    Args:
        kernels: (out, 3, k, k).
        channels: what the pictures have.
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
    """Name of the weight that reads the picture: the first convolution in the order of definition."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            return f"{name}.weight"
    raise ValueError(f"{backbone.name} has no convolution")


def levels_of_tensors(backbone: Backbone) -> dict[str, int]:
    """For every parameter and buffer that `features` uses, the position of the first level that depends on it.

    Whatever is absent belongs to the classifier. Found by the graph of one backward pass over an empty picture on
    the meta device, so that no trunk has to keep a second list of its own parts.
    """
    maps, state = features_on_meta(backbone, empty_pictures(backbone), learned=True)
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
    """The complete network of this name on the meta device, or None where the name is not in the catalogue."""
    from . import create_backbone

    try:
        with torch.device("meta"):
            return create_backbone(backbone.name, classes=1, in_channels=backbone.in_channels, **backbone.options)
    except UserError:
        return None


def _open_safetensors(path: Path) -> OpenedWeights:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from error
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return OpenedWeights(path.name, file.metadata() or {}, shapes, file.get_tensor)


def _open_pickle(path: Path) -> OpenedWeights:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a weights file that can be opened safely: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise UserError(f"{path} holds no table of tensors by name; save a module's state_dict().")
    return _opened(path.name, {}, held)


def _opened(source: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> OpenedWeights:
    # DistributedDataParallel saves every name behind "module.".
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return OpenedWeights(source, metadata, shapes, lambda name: tensors[name])


def _torchvision_entry(address: str) -> Any:
    import torchvision

    enum, member = address.removeprefix("torchvision:").split(".")
    return getattr(torchvision.models, enum)[member]


def _torchvision_metadata(address: str) -> dict[str, str]:
    entry = _torchvision_entry(address)
    picture = entry.transforms()
    preprocessing = Preprocessing(
        mean=tuple(picture.mean),
        std=tuple(picture.std),
        resize=picture.resize_size[0],
        crop=picture.crop_size[0],
        interpolation=picture.interpolation.value,
    )
    network = next(key.split("/")[0] for key, value in WEIGHTS.items() if value == address)
    return {
        "network": network,
        "classes": str(len(entry.meta["categories"])),
        "levels": "all",
        "preprocessing": preprocessing.to_json(),
        "origin": entry.url,
        "licence": TORCHVISION_LICENCE,
        **(TORCHVISION_SETTLES if network.startswith("resnet") else {}),
    }


def _open_published(address: str) -> OpenedWeights:
    metadata = _torchvision_metadata(address)
    url = metadata["origin"]
    try:
        tensors = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"The weights at {url} could not be fetched ({error}); "
            "fetch them elsewhere and give the file's path as weights."
        ) from error
    return _opened(Path(url).name, metadata, tensors)


def _show_published(name: str) -> dict[str, Any]:
    entry = _torchvision_entry(WEIGHTS[name])
    shown: dict[str, Any] = _torchvision_metadata(WEIGHTS[name])
    shown["preprocessing"] = json.loads(shown["preprocessing"])
    shown["parameters"] = entry.meta["num_params"]
    # torch.hub's convention: NAME-HASH.pth, the first eight digits of the sha256.
    shown["sha256"] = Path(entry.url).stem.rpartition("-")[2]
    shown["scores"] = entry.meta["_metrics"]
    return shown


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differs_in_channels_only(found: Iterable[int], wanted: Iterable[int]) -> bool:
    """Whether a convolution (out, in, k, k) for colour pictures differs from another in `in` alone."""
    found, wanted = tuple(found), tuple(wanted)
    return len(found) == len(wanted) == 4 and found[1] == 3 and (found[0], *found[2:]) == (wanted[0], *wanted[2:])


def _some(names: list[str]) -> str:
    """The first name, how many more, and the verb that follows: "'fc.weight' and 1 more are"."""
    return f"'{names[0]}' is" if len(names) == 1 else f"'{names[0]}' and {len(names) - 1} more are"


def _times(shape: Iterable[int]) -> str:
    return "x".join(str(side) for side in shape) or "a single number"


def _described(preprocessing: Preprocessing) -> str:
    low, high = preprocessing.range
    mean = " ".join(f"{value:g}" for value in preprocessing.mean)
    std = " ".join(f"{value:g}" for value in preprocessing.std)
    return f"preprocessing {preprocessing.order}, range {low:g} to {high:g}, mean {mean}, std {std}"
