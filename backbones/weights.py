"""Pretrained weights of backbones: published ones and local files with their metadata.

The metadata of a `.safetensors` file: `network`, `classes`, `levels` ("all", or the last one present), options that the
paper leaves open (`stride_in` of the ResNets, `lrn` of AlexNet), `preprocessing` (JSON), `origin` and `licence` (the
spelling of the files). A `.pth` file has none, so loading one warns about what was assumed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic_io import atomic_path
from ..errors import UserError, unknown_name
from .backbone import Backbone, Preprocessing
from .state_dict_matching import (
    NOT_LEARNED,
    OPTIONS_FROM_WEIGHTS,
    OpenedWeights,
    differs_in_channels_only,
    first_convolution,
    format_shape,
    open_file,
    open_tensors,
    published_state,
    whole_network,
)

# "network/name" to the source of the weights; `weights="imagenet"` is torchvision's first recipe, whose scores papers
# compare with, and "imagenet_v2" its recipe of 2021.
WEIGHTS: dict[str, str] = {
    "alexnet_tv/imagenet": "torchvision:AlexNet_Weights.IMAGENET1K_V1",
    "googlenet_tv/imagenet": "torchvision:GoogLeNet_Weights.IMAGENET1K_V1",
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
# Options fixed by torchvision's weights (`OPTIONS_FROM_WEIGHTS`): the 3x3 convolution of a bottleneck has the stride.
TORCHVISION_OPTIONS = {"stride_in": "3x3"}
# torchvision's GoogLeNet turns its input into one of this mean and std itself (`transform_input`); ours does not.
TRANSFORMED_INPUT = {"googlenet_tv": (0.5, 0.5, 0.5)}
TORCHVISION_LICENSE = "BSD-3-Clause (torchvision); trained on ILSVRC2012"


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
        open_tensors("the given state_dict", {}, weights).load_into(backbone)
    else:
        open_weights(backbone.name, weights).load_into(backbone)


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
    whole = whole_network(backbone)
    facts = {
        "network": backbone.name,
        "classes": str(backbone.num_classes),
        "levels": "all" if whole is None or len(backbone.levels) == len(whole.levels) else backbone.levels[-1].name,
        "preprocessing": backbone.preprocessing.to_json(),
        **{key: str(value) for key, value in backbone.options.items() if key in OPTIONS_FROM_WEIGHTS},
        **metadata,
    }
    with atomic_path(path) as aside:
        save_file(tensors, aside, facts)


def open_weights(name: str, weights: str | Path) -> OpenedWeights:
    """Open weights of a network by published name or path, without reading their tensors yet.

    Raises:
        UserError: there is no such file or name, the file is damaged, or the download failed.
    """
    if isinstance(weights, str) and f"{name}/{weights}" in WEIGHTS:
        return _open_published(WEIGHTS[f"{name}/{weights}"])
    if name.startswith("timm:") and weights == "imagenet":  # timm holds its own registry
        from .interop.timm import open_pretrained

        return open_pretrained(name)
    path = Path(weights)
    if path.is_file():
        return open_file(path)
    published = [key.split("/")[1] for key in WEIGHTS if key.split("/")[0] == name]
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"There is no weights file {path}.")
    if published:
        raise unknown_name(f"file or published set of weights of {name}", str(weights), published)
    raise UserError(f"There are no published weights of {name} and no file '{weights}'; give the path of a file.")


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of a weights file; empty where it has none.

    Raises:
        UserError: no such file, or a damaged one.
    """
    return dict(open_file(Path(path)).metadata)


def list_weights() -> list[str]:
    """Every published set of weights, as "network/name"."""
    return sorted(WEIGHTS)


def read_weights_info(name_or_path: str | Path) -> dict[str, Any]:
    """Information about weights, without loading or downloading them.

    Args:
        name_or_path: one of `list_weights()`, or a file.

    Returns:
        The metadata with `preprocessing` as a dict; for a file also its tensors, parameters (without running
        statistics), bytes and sha256; for published weights their address, the start of their hash and their score.

    Raises:
        UserError: neither a published name nor a readable file.
    """
    if isinstance(name_or_path, str) and name_or_path in WEIGHTS:
        return _published_info(name_or_path)
    path = Path(name_or_path)
    if not path.is_file():
        raise unknown_name("weights file or published weights", str(name_or_path), WEIGHTS)
    opened = open_file(path)
    info: dict[str, Any] = dict(opened.metadata)
    for key in ("preprocessing", "lrn"):
        if key in info and info[key].startswith("{"):
            info[key] = json.loads(info[key])
    learned = [name for name in opened.shapes if not name.endswith((NOT_LEARNED, "running_mean", "running_var"))]
    info["tensors"] = len(opened.shapes)
    info["parameters"] = sum(torch.Size(opened.shapes[name]).numel() for name in learned)
    info["bytes"] = path.stat().st_size
    info["sha256"] = _sha256(path)
    return info


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
    from . import create_backbone

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
            whole = create_backbone(network, num_classes=int(opened.metadata.get("classes", 0)) or 1, **options)
        own = published_state(whole)
        for name, shape in opened.for_names(own).shapes.items():
            if name not in own:
                raise UserError(f"{path.name} contains '{name}', which {network} does not have.")
            first = name == whole.state_dict_alias(first_convolution(whole))
            if shape != tuple(own[name].shape) and not (first and differs_in_channels_only(shape, own[name].shape)):
                found, wanted = format_shape(shape), format_shape(own[name].shape)
                raise UserError(f"'{name}' is {found} in {path.name} and {wanted} in {network}.")
    return info


def _torchvision_entry(address: str) -> Any:
    import torchvision

    enum, member = address.removeprefix("torchvision:").split(".")
    return getattr(torchvision.models, enum)[member]


def _torchvision_metadata(address: str) -> dict[str, str]:
    entry = _torchvision_entry(address)
    network = next(key.split("/")[0] for key, value in WEIGHTS.items() if value == address)
    image = entry.transforms()
    preprocessing = Preprocessing(
        mean=TRANSFORMED_INPUT.get(network, tuple(image.mean)),
        std=TRANSFORMED_INPUT.get(network, tuple(image.std)),
        resize=image.resize_size[0],
        crop=image.crop_size[0],
        interpolation=image.interpolation.value,
    )
    return {
        "network": network,
        "classes": str(len(entry.meta["categories"])),
        "levels": "all",
        "preprocessing": preprocessing.to_json(),
        "origin": entry.url,
        "licence": TORCHVISION_LICENSE,
        **(TORCHVISION_OPTIONS if network.startswith("resnet") else {}),
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
            f"The weights at {url} could not be downloaded ({error}); "
            "download them elsewhere and give the path of the file as weights."
        ) from error
    return open_tensors(Path(url).name, metadata, tensors)


def _published_info(name: str) -> dict[str, Any]:
    entry = _torchvision_entry(WEIGHTS[name])
    info: dict[str, Any] = _torchvision_metadata(WEIGHTS[name])
    info["preprocessing"] = json.loads(info["preprocessing"])
    info["parameters"] = entry.meta["num_params"]
    # torch.hub's convention: NAME-HASH.pth, the first eight digits of the sha256.
    info["sha256"] = Path(entry.url).stem.rpartition("-")[2]
    info["scores"] = entry.meta["_metrics"]
    return info


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
