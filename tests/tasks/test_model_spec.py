from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.backbones.state_dict_matching import save_weights
from densevision.datasets.field_types import Camera, FieldType, Image
from densevision.datasets.field_types import Depth as DepthKind
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.model_spec import ModelSpec, restore_preprocessing
from densevision.tasks.network import Network

FIELDS: dict[str, FieldType] = {"image": Image(), "depth": DepthKind(), "camera": Camera()}


def light(**changes) -> ModelSpec:
    return ModelSpec(Depth(), FIELDS, **{"backbone": "resnet20_cifar", "head": "unet", **changes})


def test_a_spec_survives_its_header_and_builds_the_same_tensors():
    model_spec = light(backbone_options={"levels": 2})
    model = model_spec.build()
    header = json.loads(json.dumps(model_spec.to_json(model)))
    restored = ModelSpec.from_json(header)
    # The camera is neither input nor target.
    assert restored.fields == {name: FIELDS[name] for name in ("image", "depth")}
    assert (restored.task, restored.backbone, restored.head) == (model_spec.task, model_spec.backbone, model_spec.head)
    rebuilt = restored.build()
    assert {n: v.shape for n, v in rebuilt.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}


def test_with_weights_options_keeps_what_the_weights_file_decided(tmp_path):
    backbone = create_backbone("resnet50", levels=2, stride_in="1x1")
    backbone.preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), order="BGR")
    save_weights(backbone, tmp_path / "backbone.safetensors")
    model_spec = light(backbone="resnet50", backbone_options={"levels": 2})
    model: Any = model_spec.build(tmp_path / "backbone.safetensors")
    assert torch.equal(next(model.backbone.parameters()), next(backbone.parameters()))
    resolved = model_spec.with_weights_options(model)
    assert resolved.backbone_options["stride_in"] == "1x1" and resolved.backbone_options["levels"] == 2
    header = resolved.to_json(model)
    rebuilt: Any = ModelSpec.from_json(header).build()
    restore_preprocessing(rebuilt, header)
    assert rebuilt.backbone.options["stride_in"] == "1x1"
    assert rebuilt.backbone.preprocessing == backbone.preprocessing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "unett"}, "no head of the task depth named 'unett'; did you mean 'unet'"),
        ({"head": None}, "no head of the task depth named 'None'"),
        ({"backbone": "resnet2_cifar"}, "no backbone named 'resnet2_cifar'; did you mean 'resnet"),
        ({"model": "frcn", "backbone": None, "head": None}, "no model of the task depth named 'frcn'"),
        ({"backbone_options": {"levels": 9}}, "levels=9"),
    ],
)
def test_an_unknown_name_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        light(**changes).build()


def test_a_backbone_has_the_channels_of_the_dataset():
    model_spec = ModelSpec(Depth(), {**FIELDS, "image": Image(1)}, "resnet20_cifar", {}, "unet")
    assert model_spec.task.backbone_options(model_spec.fields)["in_channels"] == 1
    model: Any = model_spec.build()
    assert model.backbone.in_channels == 1


def test_a_complete_model_gets_backbone_weights_with_preprocessing(tmp_path):
    class Light(Depth):
        models: ClassVar = {"light": ""}

        def build(self, fields, backbone, head, model):
            return super().build(fields, create_backbone("resnet20_cifar", num_classes=0), "unet", None)

    encoder = create_backbone("resnet20_cifar")
    encoder.preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3))
    save_weights(encoder, tmp_path / "backbone.safetensors")
    model: Any = ModelSpec(Light(), FIELDS, model="light").build(tmp_path / "backbone.safetensors")
    assert torch.equal(next(model.backbone.parameters()), next(encoder.parameters()))
    assert model.backbone.preprocessing == encoder.preprocessing


def test_weights_for_a_model_without_a_backbone_are_refused():
    class Bare(Depth):
        models: ClassVar = {"bare": ""}

        def build(self, fields, backbone, head, model) -> Any:
            return Network()

    with pytest.raises(
        UserError, match="model 'bare' has no backbone that --weights could initialize; use --init-from"
    ):
        ModelSpec(Bare(), FIELDS, model="bare").build(Path("backbone.safetensors"))
