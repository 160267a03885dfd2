"""Image classification end to end: train, save, predict, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densevision import load, train
from densevision.apps.evaluate import evaluate
from densevision.backbones import create_backbone
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.field_types import ClassLabel, Depth, Image
from densevision.errors import UserError
from densevision.tasks import create_task
from densevision.tasks.checkpoint import read_header
from densevision.tasks.classification import BASELINE_SAMPLES, Classification
from densevision.tasks.classification.metrics import ClassScores
from densevision.tasks.conformance import check_task
from densevision.tasks.evaluation import score
from densevision.tasks.inference import Predictor
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.network import Classifier
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import build_trainer

from .toys import COLORS, NAMES, Colors, Linear, fields

QUICK: dict[str, Any] = {
    "backbone": "resnet20_cifar", "image_size": (16, 16), "batch_size": 16, "steps": 60, "lr": 0.005,
    "warmup_steps": 0, "ema_decay": 0.0, "optimizer": "adam", "schedule": "cosine", "weight_decay": 0.0,
    "color_jitter": 0.0, "loss": "label-smoothing", "workers": 0, "device": "cpu", "amp": "off", "eval_every": 0,
    "log_every": 100, "save_every": 1000,
}  # fmt: skip


class Renamed(Colors):
    """The same images under other names."""

    def __init__(self, root=None, split="train", size=None, seed=0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = fields("rouge", "vert", "bleu")


class Stored(Dataset):
    """The given numbers of images of one color, sorted by class as folders are, or gray ones."""

    title = "Stored"
    terms = "no terms"

    def __init__(self, counts: tuple[int, ...] = (2, 3, 4), split: str = "train", channels: int = 3) -> None:
        super().__init__("", split)
        self.categories = np.repeat(np.arange(len(counts)), counts)
        self.fields = fields(channels=channels)
        self.channels, self.read_ones = channels, []

    def __len__(self) -> int:
        return len(self.categories)

    def read(self, index: int) -> Sample:
        self.read_ones.append(index)
        category = self.categories[index]
        image = np.full((9, 12, self.channels), 60 * category + 40, np.uint8)
        return {"image": image, "category": np.array(category)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A run on three colors with its result."""
    folder = tmp_path_factory.mktemp("runs") / "colors"
    return folder, train("classification", data=Colors(), eval_data=Colors(split="test"), out=folder, **QUICK)


def plain(name: str, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.broadcast_to(np.array(COLORS[name], np.uint8), (*size, 3)).copy()


def ranked(predictor: Predictor, *inputs: Any, **options: Any) -> ClassScores:
    prediction = predictor.predict(*inputs, **options)
    assert isinstance(prediction, ClassScores)
    return prediction


# --- the golden path --------------------------------------------------------------------------------------------


def test_three_colors_are_distinguished_after_some_steps(trained):
    folder, result = trained
    assert result["monitor"]["name"] == "top1" and result["monitor"]["value"] > 0.9
    assert 0.1 < result["baseline"]["top1"] < 0.7
    assert (result["protocol"], result["head"], result["samples"]) == ("center-crop", None, 30)
    assert result["metrics"]["top5"] == 1.0  # of three
    assert (folder / "images" / "step-60.png").exists()


def test_the_checkpoint_alone_names_colors_of_any_size_and_source(trained, tmp_path):
    folder, _ = trained
    predictor = load(folder / "best.safetensors", "cpu", "off")
    for name in NAMES:
        assert ranked(predictor, plain(name)).name == name
        assert ranked(predictor, plain(name, (7, 99)) / 255.0, mode="ten-crop", flip=True).name == name
        assert ranked(predictor, plain(name, (16, 16)), mode="dense").name == name
    assert sum(share for _, share in ranked(predictor, plain("red")).top()) == pytest.approx(1, abs=1e-5)


def test_the_checkpoint_knows_its_classes_and_how_it_was_scored(trained):
    folder, result = trained
    header = read_header(folder / "best.safetensors")
    assert header["fields"]["category"]["names"] == list(NAMES)
    assert header["metrics"] == {"protocol": "center-crop", "samples": 30, "split": "test", **result["metrics"]}
    assert (header["task"], header["loss"], header["size"]) == ("classification", "label-smoothing", [16, 16])


def test_smoothing_is_of_the_training_alone(trained):
    # trap 30: against hard targets the nll can fall below the smoothed loss's floor,
    # -(0.9 + 0.1 / 3) ln(0.9 + 0.1 / 3) - 2 (0.1 / 3) ln(0.1 / 3) = 0.29, and it is what the probabilities say.
    folder, result = trained
    predictor, test = load(folder, "cpu", "off"), Colors(split="test")
    surprise = [
        -np.log(ranked(predictor, (sample := test.read(index))["image"]).probabilities[sample["category"]])
        for index in range(len(test))
    ]
    assert result["metrics"]["nll"] == pytest.approx(np.mean(surprise), rel=1e-3)


def test_every_protocol_scores_the_same_network(trained):
    folder, _ = trained
    predictor, test = load(folder, "cpu", "off"), Colors(split="test")
    for protocol in Classification.protocols:
        found = score(predictor.task, predictor, test, protocol, samples=12)
        assert found.metrics["top1"] > 0.9 and found.protocol == protocol


def test_predicting_leaves_a_network_in_training_as_it_was_and_predictions_as_in_evaluation():
    # trap 22
    torch.manual_seed(0)
    model = Classifier(create_backbone("resnet20_cifar", num_classes=3)).train()
    predictor = Predictor(Classification(), model, fields(), (16, 16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, again = (ranked(predictor, plain("blue"), mode="ten-crop").probabilities for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_task_keeps_its_promises_on_a_set_of_three_classes():
    check_task(create_task("classification"), Colors(), Colors(split="test"))


@pytest.mark.slow
def test_lenet_learns_by_its_own_recipe(tmp_path):
    # Distances to fixed codes under eq. 9 (facts 1.1), at a lower learning rate than digits need: solid colors drive
    # every unit alike.
    options = {"recipe": "lenet-1998", "steps": 150, "lr": 0.003, "out": tmp_path / "run"}
    usual = {name: QUICK[name] for name in ("workers", "device", "amp", "eval_every", "save_every")}
    result = train("classification", data=Colors(), eval_data=Colors(split="test"), **options, **usual)
    assert result["monitor"]["value"] > 0.9 and result["backbone"] == "lenet5"


# --- what a run leaves in the preprocessing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "resize", "crop"),
    [
        ({"resize_short_side": (28, 28), "crop_padding": 2, "image_size": (32, 32)}, 28, 32),
        ({"resize_short_side": (20, 24), "image_size": (16, 16)}, 20, 16),
        ({"crop_area": (0.3, 1.0), "image_size": (16, 16)}, 256, 224),  # a proportion of 8 / 7 at any size
    ],
)
def test_weights_are_run_as_they_were_trained(tmp_path, stated, resize, crop):
    # trap 25: resize and crop belong to the weights, and travel in their file
    options = {**QUICK, **stated, "steps": 1, "batch_size": 2, "eval_samples": 1, "out": tmp_path / "run"}
    train("classification", data=Colors(), eval_data=Colors(split="test"), **options)
    stored = json.loads(read_header(tmp_path / "run" / "best.safetensors")["preprocessing"])
    assert (stored["resize"], stored["crop"]) == (resize, crop)
    predictor = load(tmp_path / "run", "cpu", "off")
    model: Any = predictor.model
    assert (model.backbone.preprocessing.resize, model.backbone.preprocessing.crop) == (resize, crop)
    assert ranked(predictor, plain("red", (33, 21))).probabilities.shape == (3,)


def test_lenets_digits_are_seen_in_their_border_in_training_and_in_evaluation_alike():
    predictor = Predictor(Classification(), Classifier(create_backbone("lenet5")), fields(channels=1), (32, 32))
    (geometry,) = predictor.task.inference.geometries("center-crop", (28, 28), (32, 32), predictor.model)
    digit = np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8)
    seen = Image(1).transform(digit, geometry)
    np.testing.assert_array_equal(seen[2:30, 2:30], digit)


# --- what is refused --------------------------------------------------------------------------------------------


def test_evaluation_refuses_other_classes_in_one_sentence(trained, monkeypatch):
    monkeypatch.setattr("densevision.datasets.lookup", lambda what, name, registry: Renamed)
    folder, _ = trained
    with pytest.raises(UserError) as refused:
        evaluate(str(folder / "best.safetensors"), data="renamed", device="cpu", amp="off")
    sentence = str(refused.value)
    assert "3 classes (red, green, blue)" in sentence and "3 classes (rouge, vert, bleu)" in sentence
    assert "\n" not in sentence


def test_a_set_without_classes_is_refused_with_what_it_holds():
    with pytest.raises(UserError, match=r"needs a field 'category' of type ClassLabel.*depth \(Depth\)"):
        Classification().targets({"image": Image(), "depth": Depth()})
    with pytest.raises(UserError, match="needs a field 'image' of type Image"):
        Classification().inputs({"image": ClassLabel(NAMES)})


def test_a_backbone_that_is_cut_short_is_refused_before_it_trains(tmp_path):
    with pytest.raises(UserError, match=r"to its level stage2,? without a classifier"):
        options = {**QUICK, "backbone_levels": 2, "out": tmp_path / "run"}
        build_trainer("classification", Options(), Colors(), Colors(split="test"), options)


def test_a_head_is_refused_since_the_classifier_predictions(tmp_path):
    with pytest.raises(UserError, match="has no heads: the backbone's own classifier"):
        options = {**QUICK, "head": "unet", "out": tmp_path / "run"}
        build_trainer("classification", Options(), Colors(), Colors(split="test"), options)


# --- the pieces -------------------------------------------------------------------------------------------------


def test_the_network_has_as_many_logits_as_the_set_has_names_and_its_channels():
    spec = ModelSpec(Classification(), fields("a", "b", channels=1), backbone="resnet20_cifar")
    model: Any = spec.build()
    assert (model.backbone.num_classes, model.backbone.in_channels) == (2, 1)
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, 2)


def test_a_gray_dataset_is_trained_and_predicted(tmp_path):
    options = {**QUICK, "steps": 2, "batch_size": 4, "color_jitter": 1.0, "out": tmp_path / "run"}
    train("classification", data=Stored(channels=1), eval_data=Stored(split="test", channels=1), **options)
    predictor = load(tmp_path / "run", "cpu", "off")
    for image in (plain("red"), plain("red")[..., 0], np.zeros((5, 5), bool)):
        assert ranked(predictor, image).probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_the_baseline_is_how_often_each_class_occurs():
    prediction = Classification().baseline(Stored((2, 3, 5)))
    trivial = prediction({})
    assert isinstance(trivial, ClassScores)
    assert trivial.probabilities.tolist() == pytest.approx([0.2, 0.3, 0.5]) and trivial.names == NAMES


@pytest.mark.parametrize("counts", [(999, 500, 500), (1, 1, 1500), (400, 300, 300), (5000, 2500, 2500)])
def test_the_baseline_looks_at_samples_from_the_first_to_the_last(counts):
    # Sets in folders are sorted by class: the first 1000 of 1999 would hold one or two classes.
    stored = Stored(counts)
    trivial: Any = Classification().baseline(stored)({})
    np.testing.assert_allclose(trivial.probabilities, np.divide(counts, sum(counts)), atol=1e-3)
    assert len(set(stored.read_ones)) == len(stored.read_ones) <= BASELINE_SAMPLES


def test_the_baseline_of_a_stream_is_of_its_first_samples():
    trivial: Any = Classification().baseline(Colors())({})
    np.testing.assert_allclose(trivial.probabilities, 1 / 3, atol=0.06)  # 4 standard deviations of 1000 draws


def test_published_weights_shape_predictions_in_the_data_sets_names():
    predictor = Predictor(Classification(), Classifier(Linear()), fields("one", "two", "three"), (16, 16))
    assert {name for name, _ in ranked(predictor, plain("red")).top()} == {"one", "two", "three"}
