"""Published weights name real photographs: the data set's samples beside the checkout, else skipped with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from densevision.backbones import create_backbone
from densevision.datasets import open_dataset
from densevision.errors import UserError
from densevision.tasks.evaluation import evaluate, predictor_answer
from densevision.tasks.inference import Predictor, load

RESNET50 = "weights/resnet50_imagenet_pruned8bit_fp16.safetensors"


@pytest.fixture
def resnet50(shared_data: Path) -> Predictor:
    return load(shared_data / RESNET50, device="cpu", amp="off")


# The weights' README lists these answers for scikit-image's photographs.
@pytest.mark.parametrize(
    ("photograph", "name"), [("cat", "Egyptian cat"), ("coffee", "espresso"), ("camera", "tripod")]
)
def test_a_photograph_is_named_first_by_what_it_shows(resnet50: Predictor, photograph: str, name: str) -> None:
    from skimage import data

    answer: Any = resnet50.predict(getattr(data, photograph)())
    assert answer.name == name


@pytest.mark.slow
def test_the_other_place_of_the_stride_costs_ten_points_and_is_refused(resnet50: Predictor, shared_data: Path) -> None:
    # The weights' README: 87.5 against 75.0 % on 200 photographs at full resolution; trap 11.
    photographs = open_dataset("imagenet", shared_data / "imagenet_sample", "train")

    def top1(predictor: Predictor) -> float:
        answer = predictor_answer(predictor, "centre-crop")
        return evaluate(predictor.task, answer, photographs, "centre-crop", 300).metrics["top1"]

    right = top1(resnet50)
    with pytest.raises(UserError, match="the same parameters, another function"):
        create_backbone("resnet50", weights=shared_data / RESNET50, stride_in="3x3")
    forced = create_backbone("resnet50", stride_in="3x3")
    forced.load_state_dict({name: value.float() for name, value in load_file(shared_data / RESNET50).items()})
    resnet50.model.backbone = forced.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - stubs lag
    assert right > 0.75
    assert right - top1(resnet50) >= 0.10


@pytest.mark.parametrize(
    ("file", "network", "levels", "reason"),
    [
        ("alexnet_caffe_conv_pruned8bit_fp16", "alexnet", None, "holds alexnet to its level 'all' without"),
        ("resnet18_imagenet_to_layer3_fp16", "resnet18", 4, "covers resnet18 only to its level layer3"),
        ("vgg19_normalised_to_relu3_1_fp16", "vgg19", 2, "holds vgg19 to its level"),
    ],
)
def test_incomplete_weights_build_what_they_cover_and_say_that_they_name_nothing(
    shared_data: Path, file: str, network: str, levels: int | None, reason: str
) -> None:
    path = shared_data / "weights" / f"{file}.safetensors"
    trunk = create_backbone(network, weights=path, classes=0, levels=levels)
    picture = torch.rand(1, 3, 96, 96)
    maps = trunk.eval().features(trunk.preprocessing(picture))
    assert all(bool(made.isfinite().all()) for made in maps)
    with pytest.raises(UserError, match=reason):
        load(path)
