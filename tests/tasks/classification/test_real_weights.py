"""Published weights name real photos: the data set's samples beside the checkout, else skipped with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from densevision.backbones import create_backbone
from densevision.datasets import open_dataset
from densevision.errors import UserError
from densevision.tasks.evaluation import score
from densevision.tasks.inference import Predictor, load

RESNET50 = "weights/resnet50_imagenet_pruned8bit_fp16.safetensors"


@pytest.fixture
def resnet50(shared_data: Path) -> Predictor:
    return load(shared_data / RESNET50, device="cpu", amp="off")


# The weights' README lists these predictions for scikit-image's photos.
@pytest.mark.parametrize(("photo", "name"), [("cat", "Egyptian cat"), ("coffee", "espresso"), ("camera", "tripod")])
def test_a_photo_is_named_first_by_what_it_shows(resnet50: Predictor, photo: str, name: str) -> None:
    from skimage import data

    prediction: Any = resnet50.predict(getattr(data, photo)())
    assert prediction.name == name


@pytest.mark.parametrize(
    ("photo", "names"), [("chelsea", {"Egyptian cat", "tabby", "tiger cat"}), ("coffee", {"espresso", "cup"})]
)
def test_the_packaged_classifier_names_photos(photo: str, names: set[str]) -> None:
    from skimage import data

    prediction: Any = load("classification", device="cpu", amp="off").predict(getattr(data, photo)())
    assert len(prediction.names) == 1000 and prediction.name in names and len(prediction.top()) == 5


def test_digits_keep_their_network_under_its_name() -> None:
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 13:16] = 255
    prediction: Any = load("lenet5_mnist", device="cpu", amp="off").predict(digit)
    assert prediction.name == "1"


@pytest.mark.slow
def test_the_other_place_of_the_stride_costs_ten_points_and_is_refused(resnet50: Predictor, shared_data: Path) -> None:
    # The weights' README: 87.5 against 75.0 % on 200 photos at full resolution; trap 11.
    photos = open_dataset("imagenet", shared_data / "imagenet_sample", "train")

    def top1(predictor: Predictor) -> float:
        prediction = predictor
        return score(predictor.task, prediction, photos, "center-crop", 300).metrics["top1"]

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
        ("alexnet_caffe_conv_pruned8bit_fp16", "alexnet", None, "contains alexnet up to the level 'all' without"),
        ("resnet18_imagenet_to_layer3_fp16", "resnet18", 4, "covers resnet18 only up to its level layer3"),
        ("vgg19_normalised_to_relu3_1_fp16", "vgg19", 2, "contains vgg19 up to the level"),
    ],
)
def test_incomplete_weights_build_what_they_cover_and_say_that_they_name_nothing(
    shared_data: Path, file: str, network: str, levels: int | None, reason: str
) -> None:
    path = shared_data / "weights" / f"{file}.safetensors"
    backbone = create_backbone(network, weights=path, num_classes=0, levels=levels)
    image = torch.rand(1, 3, 96, 96)
    maps = backbone.eval().features(backbone.preprocessing(image))
    assert all(bool(made.isfinite().all()) for made in maps)
    with pytest.raises(UserError, match=reason):
        load(path)
