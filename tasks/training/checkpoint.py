"""A checkpoint is one safetensors file that needs nothing else; training state lies beside it in the run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...backbones.backbone import Preprocessing
from ...backbones.opened_weights import open_file
from ...backbones.weights import WEIGHTS, read_metadata, show_weights
from ...datasets import open_dataset
from ...datasets.fields import Category, Image, Kind
from ...datasets.imagenet import ImageNet, imagenet_classes
from ...errors import UserError
from ...version import VERSION
from ...writing import written_aside
from .. import create_task
from ..blueprint import Blueprint, take_preprocessing
from ..task import Network, Task

HEADER = "densevision"
"""The key of the header in the file's metadata; its value is JSON."""


def save_checkpoint(path: str | Path, model: Network, blueprint: Blueprint, facts: dict[str, Any]) -> None:
    """Write a network and all that is needed to build, feed and judge it.

    Args:
        path: of the `.safetensors` file, replaced in one move.
        model: the network, on any device.
        blueprint: how to build it again.
        facts: what else the header says: size, data and its terms, step, metrics with their protocol.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    header = {"version": VERSION, **blueprint.to_json(model), **facts}
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata={HEADER: json.dumps(header, ensure_ascii=False)})


def read_header(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says about itself.

    Raises:
        UserError: no such file, a damaged one, or one that this package did not write.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint '{path}'.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no readable safetensors file ({error}); copy or train it again.") from error
    if HEADER not in metadata:
        raise UserError(f"{path} holds weights, but no densevision header: it is no checkpoint of a task.")
    return json.loads(metadata[HEADER])


def holds_trunk(path: str | Path) -> bool:
    """Whether a file holds a trunk's own weights, which say of which network they are, and no task's checkpoint."""
    try:
        metadata = read_metadata(path)
    except UserError:
        return False
    return "network" in metadata and HEADER not in metadata


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, floating ones in fp32."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def load_checkpoint(path: str | Path) -> tuple[Network, Blueprint, dict[str, Any]]:
    """The network in evaluation mode on the CPU, its blueprint, and the whole header.

    Raises:
        UserError: see `read_header`; or the weights are not those of the network the header describes.
    """
    header = read_header(path)
    blueprint = Blueprint.from_json(header)
    model = blueprint.build()
    take_preprocessing(model, header)
    try:
        model.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        what = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} does not fit the network its header describes: {what}") from error
    return model.eval(), blueprint, header


def load_classifier(weights: str | Path) -> tuple[Network, Blueprint, dict[str, Any]]:
    """A trunk's own weights as what they are: a checkpoint of the task classification, with the names of ImageNet.

    Args:
        weights: a file whose metadata names its network, or published weights ("resnet50/imagenet").

    Raises:
        UserError: the weights hold no classifier.
    """
    shown = show_weights(weights)
    classes = int(shown.get("classes", 0))
    if classes == 0:
        raise UserError(
            f"{weights} holds {shown['network']} to its level '{shown.get('levels')}' without a classifier: it names "
            "nothing; give it to a training as --weights."
        )
    names = imagenet_classes()[1] if classes == len(imagenet_classes()[1]) else [f"class {n}" for n in range(classes)]
    preprocessing = Preprocessing(**shown["preprocessing"])
    fields: dict[str, Kind] = {"image": Image(len(preprocessing.mean)), "category": Category(tuple(names))}
    blueprint = Blueprint(create_task("classification"), fields, shown["network"])
    model = blueprint.build(str(weights).rpartition("/")[2] if weights in WEIGHTS else weights)
    header = {
        **blueprint.settled(model).to_json(model),
        "size": [preprocessing.crop, preprocessing.crop],
        "data": {"name": "imagenet", "title": ImageNet.title, "terms": shown.get("licence", ImageNet.terms)},
        "trunk": None,
        "init": None,
    }
    return model.eval(), blueprint, header


def shrink_checkpoint(path: str | Path, out: str | Path) -> None:
    """Store a checkpoint's kernels in fp16 under the same header.

    Vectors (biases, statistics) stay in fp32: they weigh little, and fp16 holds no variance above 65504.
    """
    header = read_header(path)
    halved = {
        name: value.half() if value.is_floating_point() and value.ndim > 1 else value
        for name, value in read_tensors(path).items()
    }
    with written_aside(out) as aside:
        save_file(halved, aside, metadata={HEADER: json.dumps(header, ensure_ascii=False)})


def adopt(task: Task, network: str, weights: str | Path, path: str | Path, terms: str) -> None:
    """Turn published weights of a whole network into a checkpoint, which every command takes.

    Args:
        task: whose network it is.
        network: a name of `task.networks`.
        weights: a `.pth` or `.safetensors` file of the published names.
        path: of the checkpoint.
        terms: what the weights' data allow.

    Raises:
        UserError: no such network or file, or a tensor that is missing, too many or of another shape.
    """
    dataset = open_dataset(task.default.data)
    blueprint = Blueprint(task, dataset.fields, network=network)
    model = blueprint.build()
    opened, own = open_file(Path(weights)), model.published.state_dict()
    for name in sorted(own.keys() | opened.shapes.keys()):
        ours = tuple(own[name].shape) if name in own else None
        if ours != (theirs := opened.shapes.get(name)):
            raise UserError(f"{weights} is no file of {network}: '{name}' is {theirs} there and {ours} here.")
    model.published.load_state_dict({name: opened.read(name) for name in own})
    size = next((recipe.size for recipe in task.recipes.values() if recipe.network == network), None)
    facts = {
        "size": list(size or task.recipes[task.default.recipe].size or (224, 224)),
        "step": 0,
        "data": {"name": task.default.data, "title": Path(weights).name, "terms": terms},
        "trunk": None,
        "init": None,
        "metrics": None,
    }
    save_checkpoint(path, model, blueprint, facts)


def start_from(model: Network, blueprint: Blueprint, path: str | Path) -> None:
    """Fill a network from another run's checkpoint (`--init`), its trunk's preprocessing included.

    Raises:
        UserError: naming what differs between the two networks: their names, an option of the trunk, or the first
            tensor that is missing or of another shape.
    """
    header = read_header(path)
    before = {**header, **header["backbone_options"]}
    now = {**vars(blueprint), **blueprint.backbone_options}
    for name in ("network", "backbone", "head", *blueprint.backbone_options):
        if name in before and before[name] != now[name]:
            raise UserError(f"--init {path} has the {name} {before[name]}, this network {now[name]}: give the same.")
    stored, wanted = read_tensors(path), model.state_dict()
    for name, value in wanted.items():
        if name not in stored:
            raise UserError(f"--init {path} lacks '{name}': it is another network.")
        if stored[name].shape != value.shape:
            raise UserError(
                f"--init {path} has '{name}' of shape {tuple(stored[name].shape)}, this network {tuple(value.shape)}."
            )
    model.load_state_dict({name: stored[name] for name in wanted})
    take_preprocessing(model, header)


def ancestry(weights: str | None, init: Path | None) -> dict[str, Any]:
    """What a network began from, for its header: terms follow the weights from run to run.

    Args:
        weights: of the trunk, a name or a file; None from scratch.
        init: the checkpoint the whole network was filled from, whose own trunk and data count then.

    Returns:
        trunk: weights, origin and licence, or None. init: file, data and init of that checkpoint, or None.
    """
    if init is not None:
        header = read_header(init)
        return {"trunk": header["trunk"], "init": {"file": init.name, "data": header["data"], "init": header["init"]}}
    if weights is None:
        return {"trunk": None, "init": None}
    stated = show_weights(weights) if Path(weights).suffix else {}
    trunk = {"weights": Path(weights).name, "origin": stated.get("origin"), "licence": stated.get("licence")}
    return {"trunk": trunk, "init": None}


def save_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training state: plain tensors and numbers, in one move, so that a reader meets the old or the new one."""
    with written_aside(path) as aside:
        torch.save(state, aside)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state; nothing but tensors and plain data is unpickled.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is nothing to resume: {path} does not exist.") from None
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}); start a new run with another --out.") from error
