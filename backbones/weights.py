"""Weights of backbones: published sets and local files, their format and their metadata.

The metadata of a `.safetensors` file: `network`, `classes`, `levels` ("all", or the last one present), options that the
paper leaves open (`stride_in`, `shortcut` and `pool` of the ResNets, `lrn` and `pool_first` of AlexNet),
`preprocessing` (JSON), `origin` and `licence` (the spelling of the files). A `.pth` file has none, so loading one warns
about what was assumed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from .. import limits
from ..errors import UserError, printable, unknown_name
from ..schema import Schema, Text, validate
from .backbone import Preprocessing
from .interop.timm import fetch_pretrained
from .layers import LRN
from .torch_files import UnsafeFile, load_torch_file

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
NOT_LEARNED = "num_batches_tracked"  # absent from files older than PyTorch 0.4.1, and read by nobody
WRAPPER = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing insert into names, at any depth."""
OTHER_FILES: dict[str, tuple[bytes, ...]] = {
    "a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`": (b"version https://git-lfs",),
    "a web page (HTML or XML), not weights: download the file itself, not the page that links to it": (b"<",),
    "a JSON file, not weights: give the weights file (.safetensors, .pth) that belongs to it": (b"{", b"["),
    "an image, not weights: give the weights file or checkpoint in its place": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"),
    "an HDF5 file (Keras), not weights of PyTorch: convert it to .safetensors or .pth": (b"\x89HDF",),
    "a NumPy array, not weights of PyTorch: save a state dict as .safetensors or .pth": (b"\x93NUMPY",),
    "a compressed archive, not weights: unpack it and give the weights file inside": (
        b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"7z\xbc\xaf", b"Rar!",
    ),
}  # fmt: skip
"""Files that are mistaken for weights, with the way out, to their first bytes after white space."""
MAX_HEADER = 16 * 2**20
"""Maximum bytes of a safetensors header; that of a network of 2,000 tensors has 0.2 MB."""
DIGEST = "digest"
"""Key of `tensors_digest` in the metadata of files that this package writes."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        """The weights of a network with these names, without the prefix that they have in the file; see `prefix_of`.

        A warning names the prefix if there are other tensors.
        """
        prefix = self.prefix_of(names)
        inner = self.below(prefix)
        if others := len(self.shapes) - len(inner.shapes):
            text = f"{self.source}: the tensors named '{prefix}...' are taken, and {others} others are left out."
            warnings.warn(text, WeightsWarning, stacklevel=4)
        return inner

    def prefix_of(self, names: Collection[str]) -> str:
        """The prefix in the file of the names of a network; empty if there is none.

        Training scripts save a network in tables ("state_dict", "model", "ema") and inside of others ("module.",
        "backbone."): in the file, its names begin with one prefix, whatever that is. The prefix of most names counts,
        if that is more than half of them. Of equal ones, as in a file with the trained weights and their moving
        average, one with "ema" in it, else the first.
        """
        wanted, found = set(names), Counter[str]()
        for stored in self.shapes:
            parts = stored.split(".")
            found.update(".".join([*parts[:cut], ""]) for cut in range(len(parts)) if ".".join(parts[cut:]) in wanted)
        prefix = max(found, key=lambda prefix: (found[prefix], "ema" in prefix), default="")
        return prefix if found[prefix] > len(wanted) / 2 else ""

    def below(self, prefix: str) -> OpenedWeights:
        """The tensors whose names begin with a prefix, by the rest of their names."""
        if not prefix:
            return self
        shapes = {name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)}
        return replace(self, shapes=shapes, read=lambda name: self.read(prefix + name))


def open_weights(name: str, weights: str | Path) -> OpenedWeights:
    """Open weights of a network by published name or path, without reading their tensors yet.

    Raises:
        UserError: there is no such file or name, the file is damaged, or the download failed.
    """
    if isinstance(weights, str) and f"{name}/{weights}" in WEIGHTS:
        return _open_published(WEIGHTS[f"{name}/{weights}"])
    if name.startswith("timm:") and weights == "imagenet":  # timm holds its own registry
        return open_tensors(*fetch_pretrained(name))
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
    with path.open("rb") as file:
        info["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return info


def open_file(path: Path) -> OpenedWeights:
    """Open a `.safetensors` or torch file without reading more than needed.

    Raises:
        UserError: there is no such file, or it cannot be opened safely.
    """
    if not path.is_file():
        raise UserError(f"There is no weights file {path}.")
    return _open_safetensors(path) if weights_format(path) == "safetensors" else _open_pickle(path)


def open_safetensors(path: Path) -> Any:
    """Open a `.safetensors` file: metadata and tensors are read on demand.

    Raises:
        UserError: it cannot be opened, or its header is longer than that of any network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with limits.open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                found = f"a header of {length:,} bytes, more than {MAX_HEADER:,}"
                raise UserError(f"{path} has {found}: download it again.")
            # safetensors refuses names that are not UTF-8; the descriptor is another name of the open file.
            name = path if str(path).isprintable() else f"/dev/fd/{file.fileno()}"
            return safe_open(name, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}): download or copy it again.") from error


def _open_safetensors(path: Path) -> OpenedWeights:
    file = open_safetensors(path)
    metadata = check_metadata(file.metadata() or {}, path.name)
    stored = {WRAPPER.sub("", name): name for name in file.keys()}  # noqa: SIM118 (not a dict)
    shapes = {name: tuple(file.get_slice(key).get_shape()) for name, key in stored.items()}
    return OpenedWeights(path.name, metadata, shapes, lambda name: file.get_tensor(stored[name]))


class Metadata(Schema):
    """Metadata of a `.safetensors` file of a backbone. All values are text; other keys are those of other programs."""

    network: Text = ""
    classes: Annotated[str, Field(pattern=r"^[0-9]{1,5}$")] = ""
    levels: Text = ""
    stride_in: Text = ""
    shortcut: Text = ""
    pool: Text = ""
    pool_first: Text = ""
    origin: Text = ""


def check_metadata(metadata: Mapping[str, str], source: str) -> dict[str, str]:
    """Validate the metadata of a backbone's file, and return them with text that is printable.

    Raises:
        UserError: an entry is not as `Metadata`, `Preprocessing` and `LRN` say.
    """
    checked = validate(Metadata, dict(metadata), f"The metadata of {source}", "copy the file again")
    if "preprocessing" in metadata:
        Preprocessing.from_json(metadata["preprocessing"], source)
    if "lrn" in metadata:
        LRN.parse(metadata["lrn"])
    return checked.model_dump(exclude_unset=True)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors on the CPU with their names, types and shapes; the same however a file orders them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _open_pickle(path: Path) -> OpenedWeights:
    try:
        loaded = load_torch_file(path)
    except (UnsafeFile, OSError) as error:
        raise UserError(f"{path} is not a weights file that can be opened safely: {error}") from error
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


def weights_format(path: Path) -> Literal["safetensors", "torch"]:
    """The format of a weights file; by the suffix if the content is unknown, which the reader of the format refuses.

    Raises:
        UserError: the file is empty, text, a zip archive or one of `OTHER_FILES`; the message says which.
    """
    with limits.open_file(path) as file:
        head = file.read(1024)
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if not text:
        raise UserError(f"{path} is an empty file: download or copy it again.")
    # A safetensors file: the length of its JSON header (8 bytes), then the header.
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return "safetensors"
    for description, starts in OTHER_FILES.items():
        if text.startswith(starts):
            raise UserError(f"{path} is {description}.")
    if is_text(text):
        first_line = printable(text.splitlines()[0].decode(errors="replace")[:60])
        raise UserError(f"{path} is a text file ('{first_line}'), not weights: download or copy the weights again.")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise UserError(f"{path} is a damaged zip archive ({error}): download or copy it again.") from error
        if not any(name.endswith("/data.pkl") for name in names):
            raise UserError(f"{path} is a zip archive, not weights: unpack it and give the weights file inside.")
        return "torch"
    return "safetensors" if path.suffix == ".safetensors" else "torch"


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are printable text in UTF-8, up to a character cut off at the end."""
    text = head.decode(errors="ignore")
    return len(text.encode()) > len(head) - 4 and "".join(text.split()).isprintable()


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
