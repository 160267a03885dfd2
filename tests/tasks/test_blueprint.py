from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.backbones.weights import save_weights
from densevision.datasets.fields import Camera, Image, Kind
from densevision.datasets.fields import Depth as DepthKind
from densevision.errors import UserError
from densevision.tasks.blueprint import Blueprint, take_preprocessing
from densevision.tasks.depth import Depth

FIELDS: dict[str, Kind] = {"image": Image(), "depth": DepthKind(), "camera": Camera()}


def light(**changes) -> Blueprint:
    return Blueprint(Depth(), FIELDS, **{"backbone": "resnet20_cifar", "head": "unet", **changes})


def test_a_blueprint_comes_back_from_its_header_and_builds_the_same_tensors():
    blueprint = light(backbone_options={"levels": 2})
    model = blueprint.build()
    header = json.loads(json.dumps(blueprint.to_json(model)))
    again = Blueprint.from_json(header)
    # The camera is neither asked for nor answered: it is no part of the network.
    assert again.fields == {name: FIELDS[name] for name in ("image", "depth")}
    assert (again.task, again.backbone, again.head) == (blueprint.task, blueprint.backbone, blueprint.head)
    rebuilt = again.build()
    assert {n: v.shape for n, v in rebuilt.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}


def test_what_the_weights_file_decided_is_settled_for_the_next_time(tmp_path):
    trunk = create_backbone("resnet50", levels=2, stride_in="1x1")
    trunk.preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), order="BGR")
    save_weights(trunk, tmp_path / "trunk.safetensors")
    blueprint = light(backbone="resnet50", backbone_options={"levels": 2})
    model: Any = blueprint.build(tmp_path / "trunk.safetensors")
    assert torch.equal(next(model.backbone.parameters()), next(trunk.parameters()))
    settled = blueprint.settled(model)
    assert settled.backbone_options["stride_in"] == "1x1" and settled.backbone_options["levels"] == 2
    header = settled.to_json(model)
    rebuilt: Any = Blueprint.from_json(header).build()
    take_preprocessing(rebuilt, header)
    assert rebuilt.backbone.options["stride_in"] == "1x1"
    assert rebuilt.backbone.preprocessing == trunk.preprocessing


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"head": "unett"}, "no head of the task depth named 'unett'; did you mean 'unet'"),
        ({"head": None}, "no head of the task depth named 'None'"),
        ({"backbone": "resnet2_cifar"}, "no backbone named 'resnet2_cifar'; did you mean 'resnet"),
        ({"network": "frcn", "backbone": None, "head": None}, "no network of the task depth named 'frcn'"),
        ({"backbone_options": {"levels": 9}}, "levels=9 is none of 1 to"),
    ],
)
def test_a_name_that_is_not_there_is_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        light(**changes).build()


def test_a_trunk_takes_as_many_channels_as_the_data_has():
    blueprint = Blueprint(Depth(), {**FIELDS, "image": Image(1)}, "resnet20_cifar", {}, "unet")
    assert blueprint.task.channels(blueprint.fields) == 1
    model: Any = blueprint.build()
    assert model.backbone.in_channels == 1


def test_a_whole_network_gets_its_trunks_weights_and_their_preprocessing(tmp_path):
    class Light(Depth):
        networks: ClassVar = {"light": ""}

        def build(self, fields, backbone, head, network):
            return super().build(fields, create_backbone("resnet20_cifar", classes=0), "unet", None)

    trunk = create_backbone("resnet20_cifar")
    trunk.preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3))
    save_weights(trunk, tmp_path / "trunk.safetensors")
    model: Any = Blueprint(Light(), FIELDS, network="light").build(tmp_path / "trunk.safetensors")
    assert torch.equal(next(model.backbone.parameters()), next(trunk.parameters()))
    assert model.backbone.preprocessing == trunk.preprocessing


def test_weights_for_a_network_without_a_trunk_are_refused():
    class Bare(Depth):
        networks: ClassVar = {"bare": ""}

        def build(self, fields, backbone, head, network) -> Any:
            return torch.nn.Conv2d(3, 1, 1)

    with pytest.raises(UserError, match="network 'bare' has no trunk that --weights could fill; use --init"):
        Blueprint(Bare(), FIELDS, network="bare").build(Path("trunk.safetensors"))
