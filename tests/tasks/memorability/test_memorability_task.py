"""Memorability end to end: train, predict, rank, evaluate, explain."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import densevision
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import Image, Scalar
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.rendering.recognition_game import find_cause, inside_circle, random_scene, render_scene
from densevision.datasets.synthetic import RecognitionGame
from densevision.tasks.inference import Predictor
from densevision.tasks.memorability import Memorability
from densevision.tasks.memorability.losses import l2
from densevision.tasks.memorability.memorability_score import BAR, MemorabilityScore, write_ranking
from densevision.tasks.memorability.networks import BackboneScore, MemNet, ScoreMap
from densevision.tasks.network import Network

FIELDS = {"image": Image(), "score": Scalar()}
GRAY = np.full((30, 40, 3), 128, np.uint8)


class Brightness(BackboneScore):
    """The brightness of the upper left corner as the score."""

    def __init__(self) -> None:
        super().__init__(densevision.create_backbone("resnet20_cifar", num_classes=1))

    def forward(self, image, auxiliary=False):
        score = image[:, :, : image.shape[2] // 2, : image.shape[3] // 2].mean((1, 2, 3))[:, None]
        return (score,) if auxiliary else score


def predictor(network: Network | None = None, size: tuple[int, int] = (32, 32)) -> Predictor:
    return Predictor(Memorability(), network or Brightness().eval(), FIELDS, size)


def predict(image: np.ndarray, mode: str | None = None) -> MemorabilityScore:
    prediction = predictor().predict_sample({"image": image}, mode)
    assert isinstance(prediction, MemorabilityScore)
    return prediction


def test_ten_crops_are_averaged():
    image = np.zeros((48, 48, 3), np.uint8)
    image[:, 24:] = 255
    one, ten = predict(image).value, predict(image, "ten-crop").value
    assert one == pytest.approx(0.0, abs=0.15)
    # Every crop has its mirror image: dark and bright corners alike.
    assert ten == pytest.approx(0.5, abs=0.05)


def predict_with(network: Network, image: np.ndarray, mode: str) -> Any:
    return predictor(network).predict(image, mode=mode)


class Corner(BackboneScore):
    """A network that scores only what is in the upper left corner of each block of 4 x 4 pixels: its red."""

    def __init__(self) -> None:
        super().__init__(densevision.create_backbone("resnet20_cifar", num_classes=1))

    def forward_dense(self, image):
        return image[:, :1, ::4, ::4]


def test_a_dense_map_is_the_score_at_every_position_of_the_original_image():
    image = np.full((64, 96, 3), 50, np.uint8)
    image[8:24, 56:72] = 255
    prediction: Any = predictor(Corner().eval()).predict(image, mode="dense")
    assert prediction.map.shape == (64, 96) and prediction.map.dtype == np.float32
    assert prediction.value == pytest.approx(prediction.map.mean(), abs=0.01)
    weights = np.maximum(prediction.map - 0.5, 0)
    rows, columns = np.indices(weights.shape)
    # The map is as symmetric as the mean with the mirror image makes it; upwards it is as exact as the network.
    assert (rows * weights).sum() / weights.sum() == pytest.approx(15.5, abs=4)
    assert (columns * weights).sum() / weights.sum() == pytest.approx(63.5, abs=0.5)
    mirrored: Any = predictor(Corner().eval()).predict(image[:, ::-1], mode="dense")
    np.testing.assert_allclose(mirrored.map, prediction.map[:, ::-1], atol=1e-5)
    flipped: Any = predictor(Corner().eval()).predict(image, mode="dense", flip=True)
    np.testing.assert_allclose(flipped.map, prediction.map, atol=1e-5)


def test_the_mean_of_the_map_is_the_score_of_a_network_that_averages():
    # Class activation mapping: one linear layer behind the mean over the positions.
    torch.manual_seed(0)
    network = BackboneScore(densevision.create_backbone("resnet20_cifar", num_classes=1)).eval()
    network.backbone.preprocessing = replace(network.backbone.preprocessing, resize=32, crop=32)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with torch.inference_mode():
        scores = [network(torch.from_numpy(each.copy()).movedim(2, 0)[None] / 255) for each in (image, image[:, ::-1])]
        mean = float(torch.cat(scores).mean())
        network.scale.mean.add_(0.5 - mean)  # inside 0..1
    assert abs(float(scores[0] - scores[1])) > 1e-5
    assert predict_with(network, image, "dense").value == pytest.approx(0.5, abs=1e-4)


def test_the_map_of_three_scales_is_the_mean_of_their_maps():
    class Scale(Corner):
        def forward_dense(self, image):
            return torch.full((len(image), 1, image.shape[2] // 4, image.shape[3] // 4), image.shape[2] / 160)

    prediction = predict_with(Scale().eval(), GRAY, "dense-3-scales")
    # 256 / 224 of 32 is 37; times 1, 1.5 and 2.
    np.testing.assert_allclose(prediction.map, (37 + 56 + 74) / 3 / 160, atol=1e-6)
    assert prediction.value == pytest.approx((37 + 56 + 74) / 3 / 160)


def test_windows_of_memnet_are_at_their_centers_in_the_map():
    class Windows(MemNet):
        def __init__(self) -> None:
            Network.__init__(self)
            self.stride = 32

        def forward_dense(self, image):
            return torch.tensor([[[[0.0, 1.0, 2.0]]]])

    # 227 + 2 * 32: windows start at 0, 32 and 64.
    scores = ScoreMap(Windows())(torch.zeros(1, 3, 227, 291))[0, 0]
    assert scores.shape == (227, 291) and bool((scores == scores[:1]).all())
    assert float(scores[0, 145]) == pytest.approx(1.0, abs=0.02)
    assert float(scores[0, 113]) == pytest.approx(0.0, abs=0.02) and float(scores[0, 177]) == pytest.approx(
        2.0, abs=0.02
    )


@pytest.mark.parametrize(("mode", "hits"), [("dense", 0.9), ("dense-3-scales", 0.95)])
def test_maps_of_the_synthetic_checkpoint_point_at_the_figure(mode, hits):
    # python tools/reproduce/pointing.py does it for all causes, and for occlusion.
    packaged = densevision.load("resnet20_recognition_game", "cpu", "off")
    inside, chance = [], []
    for index in range(60):
        scene = random_scene(generator(0, 0, index, Purpose.TEST_SYNTHESIS))
        if scene.figure is None or find_cause(scene) != scene.figure:
            continue
        circle = inside_circle(scene.figure, (64, 64))
        prediction: Any = packaged.predict(render_scene(scene, (64, 64)), mode=mode)
        inside.append(bool(circle.flat[prediction.map.argmax()]))
        chance.append(circle.mean())
    assert len(inside) > 20 and np.mean(chance) < 0.2 and np.mean(inside) >= hits


def test_a_map_is_saved_and_drawn_over_the_input(tmp_path):
    values = np.zeros((30, 40), np.float32)
    values[:15] = 1
    prediction = MemorabilityScore(0.5, GRAY, values)
    *others, array = prediction.save(tmp_path, "cat")
    assert [file.suffix for file in (*others, array)] == [".json", ".png", ".npy"]
    np.testing.assert_array_equal(np.load(array), values)
    image = prediction.to_image().astype(int)
    # Red above the score of the image, blue below.
    assert image[40, 120, 0] > image[40, 120, 2] + 50 and image[140, 120, 2] > image[140, 120, 0] + 50


def test_scores_are_clipped_to_their_range():
    class Far(Brightness):
        def forward(self, image, auxiliary=False):
            return image.mean((1, 2, 3))[:, None] * 10 - 3

    for level, value in ((0, 0.0), (255, 1.0)):
        prediction: Any = predictor(Far().eval()).predict_sample({"image": np.full((40, 50, 3), level, np.uint8)})
        assert prediction.value == value


def test_the_baseline_is_the_mean_score_and_has_no_rho():
    dataset = RecognitionGame(split="test")
    baseline = Memorability().baseline(dataset)
    sample = dataset.read(0)
    mean = np.mean([float(dataset.read(index)["score"]) for index in range(1000)])
    prediction: Any = baseline(sample)
    assert prediction.value == pytest.approx(mean)
    metrics = Memorability().metrics("center-crop")
    for index in range(20):
        metrics.update(baseline(dataset.read(index)), dataset.read(index))
    assert np.isnan(metrics.compute()["rho"])
    monitor = Memorability.monitor
    # A network that ranks is better than one that does not, however weakly; never the other way round.
    assert monitor.better(-0.1, float("nan")) and not monitor.better(float("nan"), -0.1)


def test_the_loss_is_the_mean_squared_error_of_every_output():
    score = torch.tensor([0.5, 0.75])
    terms = l2([torch.tensor([[0.5], [0.25]]), torch.tensor([[0.0], [0.75]])], score)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {"l2": 0.125, "auxiliary": 0.3 * 0.125}
    )


def test_saving_writes_the_score_with_its_unit_and_a_bar(tmp_path):
    prediction = MemorabilityScore(0.25, GRAY)
    text, image = prediction.save(tmp_path, "cat")
    assert (text.name, image.name) == ("cat_memorability.json", "cat_memorability.png")
    assert json.loads(text.read_text()) == {"score": 0.25, "unit": "memorability score, 0 to 1"}
    bar = (read_image(image)[-1] == BAR).all(-1)
    assert bar.mean() == pytest.approx(0.25, abs=0.01) and bar[:10].all()
    assert repr(prediction) == "MemorabilityScore(0.250, memorability score, 0 to 1)"


def test_the_ranking_lists_the_inputs_with_equal_ranks_for_equal_scores(tmp_path):
    scores = {"b": 0.5, "x/a": 0.9, "c": 0.5, "d, e": 0.1}
    (tmp_path / "x").mkdir()
    for stem, value in scores.items():
        MemorabilityScore(value, GRAY).save(tmp_path, stem)
    file = write_ranking(tmp_path, list(scores))
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines))
    assert file.name == "ranking.csv" and rows == [
        ["rank", "name", "score"], ["1", "x/a", "0.900000"], ["2", "b", "0.500000"], ["2", "c", "0.500000"],
        ["4", "d, e", "0.100000"],
    ]  # fmt: skip
    sheet = read_image(tmp_path / "ranking.png")
    assert sheet.shape[1] > 4 * 240 and not (sheet == sheet[0, 0]).all()


def test_no_input_is_an_empty_ranking(tmp_path):
    assert write_ranking(tmp_path, []).read_text() == "rank,name,score\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "memorability"
    result = densevision.train(
        "memorability", steps=30, batch_size=16, image_size=(32, 32), eval_samples=40, workers=0, device="cpu",
        amp="off", warmup_steps=5, ema_decay=0.0, eval_every=0, out=folder,
    )  # fmt: skip
    assert {"rho", "rho_low", "rho_high", "mse", "sd", "sd_ratio"} <= set(result["metrics"])
    return folder


def test_a_short_training_starts_from_the_mean_score(trained):
    result = json.loads((trained / "result.json").read_text())
    assert result["metrics"]["mse"] < 3 * result["baseline"]["mse"]
    assert result["baseline"]["rho"] is None


def test_predict_writes_a_ranking_of_all_inputs(trained, tmp_path, run):
    for index in range(3):
        write_image(tmp_path / "in" / f"{index}.png", RecognitionGame(split="test").read(index)["image"])
    result = run("predict", str(trained / "best.safetensors"), str(tmp_path / "in"), "--out", str(tmp_path / "out"))
    assert result.code == 0, result.err
    with (tmp_path / "out/ranking.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted(Path(row["name"]).name for row in rows) == ["0", "1", "2"]
    assert [float(row["score"]) for row in rows] == sorted((float(row["score"]) for row in rows), reverse=True)
    assert (tmp_path / "out/ranking.png").is_file()


def test_occlusion_finds_what_the_score_comes_from():
    # The memorability map: the score falls where the bright corner is covered.
    image = np.full((32, 32, 3), 40, np.uint8)
    image[4:12, 4:12] = 255
    result = densevision.visualize.occlusion(predictor(), image, "memorability", patch=6, stride=2)
    (drop,) = result.pixels
    row, column = np.unravel_index(np.nanargmax(drop), drop.shape)
    assert drop.shape == (32, 32) and 2 <= row < 14 and 2 <= column < 14


def test_real_scenes_are_read_and_scored(shared_data):
    if not (shared_data / "lnsim").is_dir():
        pytest.skip("LNSIM is not among the real samples")
    dataset = densevision.open_dataset("lnsim", shared_data / "lnsim", "test")
    metrics = Memorability().metrics("center-crop")
    baseline = Memorability().baseline(densevision.open_dataset("lnsim", shared_data / "lnsim"))
    for index in range(len(dataset)):
        sample = dataset.read(index)
        metrics.update(baseline(sample), sample)
    # README: the constant of the training part has an MSE of 0.0214 on the 45 test images.
    assert metrics.compute()["mse"] == pytest.approx(0.0214, abs=5e-5)
