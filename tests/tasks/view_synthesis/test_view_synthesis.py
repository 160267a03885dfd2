"""View synthesis: networks, sources, predictions about scenes, and the packaged checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from densevision import create_task, train
from densevision.datasets import dataset_class
from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.field_types import collate
from densevision.datasets.formats.arrays import read_npy, write_npy
from densevision.datasets.formats.image import read_image
from densevision.datasets.formats.video import read_video
from densevision.datasets.synthetic import RoomViews
from densevision.datasets.views.detect import read_scene
from densevision.errors import UserError
from densevision.tasks.conformance import SIZE, check_network
from densevision.tasks.evaluation import score
from densevision.tasks.inference import Predictor, load
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.prediction import Prediction
from densevision.tasks.training.data import AugmentedDataset
from densevision.tasks.view_synthesis import ViewSynthesis
from densevision.tasks.view_synthesis.classical import CLASSICAL
from densevision.tasks.view_synthesis.networks import DeepStereo, LightDeepStereo
from densevision.tasks.view_synthesis.new_view import NewView

from ..training.toys import require_same_runs, stop_after

ON_CPU = ("--device", "cpu", "--amp", "off")


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def pixels(prediction: Prediction) -> np.ndarray:
    assert isinstance(prediction, NewView)
    return prediction.pixels.astype(int)


@pytest.fixture
def fern(tmp_path) -> Path:
    dataset_class("llff").write_example(tmp_path / "root")
    return tmp_path / "root" / "fern"


def test_parameters_are_those_of_the_stated_reading():
    # facts of the reading: 64-64-32-8 per plane, 8D-4D-2D-D across planes, 64-64-32-3 for colors, all 3x3 with biases
    with torch.device("meta"):
        counts = [parameters(DeepStereo(*each)) for each in ((4, 96), (5, 96), (4, 64))]
    assert counts == [3_616_843, 3_621_451, 1_681_259]


@pytest.mark.parametrize("network", [DeepStereo, LightDeepStereo])
def test_networks_start_at_the_classical_sweep(network):
    dataset = RoomViews(None, "test", (48, 64))
    task = ViewSynthesis(planes=12)
    model = network(4, 12)
    fresh = Predictor(task, model, dataset.fields, (48, 64))
    scores = score(task, fresh, dataset, "border-4", 2).metrics
    sweep = score(task, task.baseline(dataset), dataset, "border-4", 2).metrics
    nearest = Predictor(task, CLASSICAL["nearest-view"](12), dataset.fields, (48, 64))
    assert abs(scores["psnr"] - sweep["psnr"]) < 2
    assert scores["psnr"] > score(task, nearest, dataset, "border-4", 2).metrics["psnr"] + 3


def test_features_of_a_backbone_change_nothing_at_the_start():
    sample = RoomViews(None, "test", (32, 40)).read(0)
    task = ViewSynthesis(planes=8)
    network = ModelSpec(task, RoomViews.field_types, "resnet20_cifar", {"levels": 2}, "unet").build()
    first, second = (
        pixels(Predictor(task, each, RoomViews.field_types, (32, 40)).predict_sample(sample))
        for each in (network, LightDeepStereo(4, 8))
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("backbone", "head"), [("resnet20_cifar", "unet"), ("alexnet", "up-projection")])
def test_features_of_a_backbone_are_trained(backbone, head):
    dataset = RoomViews(None, "train", SIZE)
    spec = ModelSpec(ViewSynthesis(planes=4, crop=24), dataset.fields, backbone, {"levels": 2}, head)
    check_network(spec, spec.build(), dataset)
    network = spec.build()
    torch.nn.init.normal_(network.last.weight)  # type: ignore[union-attr]
    augmented = AugmentedDataset(dataset, spec.task, SIZE, Augmentation(), 0.0, 0)
    batch = augmented.preprocessor.to_device(collate([augmented.sample((0, 0))], augmented.fields), torch.device("cpu"))
    (phase,) = spec.task.phases(network, dataset.fields, "l1")
    phase.loss(batch, {})["l1"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    "backbone",
    ["lenet5", "alexnet", "alexnet_tv", "vgg11", "googlenet", "resnet18", "resnet20_cifar", "preact110_cifar",
     "preact152", "inception_v4", "inception_resnet_v2"],
)  # fmt: skip
def test_backbones_of_every_file_give_features(backbone):
    with torch.device("meta"):
        network = ModelSpec(ViewSynthesis(planes=3), RoomViews.field_types, backbone, {}, "unet").build()
        views, pose, camera = torch.empty(1, 2, 3, 127, 161), torch.empty(1, 2, 3, 4), torch.empty(1, 2, 3, 3)
        assert network(views, camera, pose, camera[:, 0], torch.empty(1, 2)).shape == (1, 4, 127, 161)


@pytest.mark.parametrize("views", [2, 3, 8])
def test_views_and_planes_are_free_in_the_light_network(views):
    sample = RoomViews(None, "test", (31, 45)).read(0)
    task = ViewSynthesis(views=views, planes=7)
    model = LightDeepStereo(4, 32)
    model.planes = 7
    prediction = Predictor(task, model, RoomViews.field_types, (31, 45)).predict_sample(sample)
    assert pixels(prediction).shape == (31, 45, 3)


def test_the_order_of_the_sources_does_not_matter_to_the_light_network():
    sample = RoomViews(None, "test", (32, 40)).read(0)
    model = LightDeepStereo(4, 8)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    predictor = Predictor(ViewSynthesis(planes=8), model, RoomViews.field_types, (32, 40))
    turned = {**sample, **{name: sample[name][::-1].copy() for name in ("views", "cameras", "poses")}}
    first, second = (pixels(predictor.predict_sample(each)) for each in (sample, turned))
    assert np.abs(first - second).max() <= 1


def test_large_views_are_predicted_in_windows_that_equal_one_pass(monkeypatch):
    sample = RoomViews(None, "test", (64, 96)).read(1)
    model = LightDeepStereo(4, 6)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    predictor = Predictor(ViewSynthesis(planes=6), model, RoomViews.field_types, (64, 96))
    complete = pixels(predictor.predict_sample(sample))
    monkeypatch.setattr("densevision.tasks.view_synthesis.networks.TILE", 24)
    assert np.abs(pixels(predictor.predict_sample(sample)) - complete).max() <= 1


def test_training_cuts_the_target_and_moves_its_camera():
    sample = RoomViews(None, "test", (64, 80)).read(0)
    policy = ViewSynthesis(views=3, crop=16).augmentation
    cut = policy.augment(sample, np.random.default_rng(3), 0.0)
    assert cut["image"].shape == (16, 16, 3) and cut["depth"].shape == (16, 16) and len(cut["views"]) == 3
    left, top = (sample["camera"] - cut["camera"])[:2, 2].round().astype(int)
    assert np.array_equal(cut["image"], sample["image"][top : top + 16, left : left + 16])
    flips = policy.limits(Augmentation(hflip=0.5, max_rotation=5, max_zoom=1.5), {}, (64, 80))
    assert flips.hflip == 0 and flips.max_zoom == 1 and flips.max_rotation == 0


def test_a_flip_is_refused():
    sample = RoomViews(None, "test", (32, 40)).read(0)
    predictor = Predictor(ViewSynthesis(planes=4), LightDeepStereo(4, 4), RoomViews.field_types, (32, 40))
    with pytest.raises(UserError, match="Mirrored images have other cameras"):
        predictor.predict_sample(sample, flip=True)


@pytest.mark.parametrize("options", [{"views": 1}, {"planes": 1}, {"crop": -1}])
def test_options_out_of_range_are_named(options):
    (name,) = options
    with pytest.raises(UserError, match=f"--{name} is"):
        create_task("view_synthesis", **options)


# --- predictions about scenes ---------------------------------------------------------------------------------------


def test_a_left_out_photo_is_predicted_and_scored(run, fern, tmp_path):
    result = run("predict", "view_synthesis", fern, "--target", "image005", "--out", "out", *ON_CPU)
    assert result.code == 0 and "1 of 1 view(s) predicted" in result.err, result
    assert "PSNR" in result.out and "SSIM" in result.out
    out = tmp_path / "out" / "fern"
    assert read_image(out / "image005_view.png").shape == (48, 64, 3)
    assert read_npy(out / "image005_view_depth.npy").shape == (48, 64)
    scores = json.loads((out / "image005_view.json").read_text())
    classical = run(
        "predict",
        "view_synthesis",
        fern,
        "--target",
        "image005",
        "--classical",
        "nearest-view",
        "--out",
        "near",
        *ON_CPU,
    )
    assert classical.code == 0
    nearest = json.loads((tmp_path / "near" / "fern" / "image005_view.json").read_text())
    assert scores["border"] == 8 and scores["psnr"] > nearest["psnr"]


def test_a_path_becomes_a_video(run, fern, tmp_path):
    command = ("predict", "view_synthesis", fern, "--path", "spiral:5", "--planes", "8", "--views", "3", *ON_CPU)
    result = run(*command, "--out", "out")
    assert result.code == 0 and "5 of 5 view(s) predicted" in result.err, result
    frames = [frame.pixels for frame in read_video(tmp_path / "out" / "fern_path.mp4")]
    assert np.shape(frames) == (5, 48, 64, 3)
    assert "(5 in an earlier run)" in run(*command, "--out", "out").err


def test_a_pose_of_a_file_is_predicted(run, fern, tmp_path):
    scene = read_scene(fern)
    (tmp_path / "here.json").write_text(json.dumps({"pose": scene.view("image003").pose.tolist(), "far": 9.0}))
    result = run("predict", "view_synthesis", fern, "--pose", tmp_path / "here.json", "--out", "out", *ON_CPU)
    assert result.code == 0, result
    there = read_image(tmp_path / "out" / "fern" / "here_view.png").astype(float)
    photo = read_image(fern / "images_8" / "image003.jpg").astype(float)
    assert np.abs(there - photo)[8:-8, 8:-8].mean() < 12
    (tmp_path / "here.json").write_text(json.dumps({"pose": np.eye(3, 4).tolist(), "near": 5.0, "far": 2.0}))
    result = run("predict", "view_synthesis", fern, "--pose", tmp_path / "here.json", *ON_CPU)
    assert result.code == 2 and "depths 0 < near < far" in result.error


def test_the_middle_photo_of_a_scene_is_predicted_from_python(fern):
    prediction = load("view_synthesis", "cpu", "off").predict(fern)
    assert isinstance(prediction, NewView) and prediction.photo is not None
    np.testing.assert_array_equal(prediction.photo, read_image(fern / "images_8" / "image012.jpg"))


def test_bad_inputs_get_a_sentence(run, fern, tmp_path):
    poses = read_npy(fern / "poses_bounds.npy")

    def error(*options: str) -> str:
        result = run("predict", "view_synthesis", fern, *options, *ON_CPU)
        assert result.code == 2 and result.err.count("\n") <= 3
        return result.error

    assert "give spiral or along and a number of frames" in error("--path", "circle:9")
    assert "expected one view named 'image999'" in error("--target", "image999")
    assert "--views is 1" in error("--views", "1", "--target", "image001")
    assert "no classical method named 'best'" in error("--classical", "best").replace("There is ", "")
    write_npy(fern / "poses_bounds.npy", poses[:-1])
    assert "a row for each of the 24 photos, found 23 rows" in error()
    turned = poses.copy()
    turned[0, :3] *= 2
    write_npy(fern / "poses_bounds.npy", turned)
    assert "expected a rotation R" in error()
    swapped = poses.copy()
    swapped[:, [15, 16]] = poses[:, [16, 15]]
    write_npy(fern / "poses_bounds.npy", swapped)
    assert "depths 0 < near < far" in error()
    (fern / "poses_bounds.npy").unlink()
    assert "camera poses of the photos" in error()
    refused = run("predict", "depth", fern / "images_8" / "image001.jpg", "--target", "a", *ON_CPU)
    assert refused.code == 2 and "leave out --target" in refused.error


def test_the_packaged_checkpoint_beats_the_classical_sweep_on_unseen_rooms():
    predictor, dataset = load("view_synthesis", "cpu", "off"), RoomViews(None, "test")
    task = predictor.task
    scores = score(task, predictor, dataset, "border-4", 6).metrics
    sweep = score(task, task.baseline(dataset), dataset, "border-4", 6).metrics
    # 1.4 dB on 50 rooms.
    assert scores["psnr"] > sweep["psnr"] + 0.3


TINY = {
    "image_size": (32, 40), "steps": 4, "optimizer": "sgd", "lr": 20.0, "warmup_steps": 0, "eval_every": 0,
    "eval_samples": 1, "workers": 0, "threads": 1, "device": "cpu", "amp": "off",
}  # fmt: skip


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    options = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", *as_words(value))]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command = ["densevision", "train", "view_synthesis", "--planes", "4", "--crop", "16", "--batch-size", "2"]
    subprocess.run([*launch, *command, *options, "--out", "two"], check=True, cwd=tmp_path, timeout=300)
    task = ViewSynthesis(planes=4, crop=16)
    train(task, **TINY, batch_size=4, out=tmp_path / "one")
    one, two = (dict(load(str(tmp_path / name), "cpu", "off").model.named_parameters()) for name in ("one", "two"))
    # The last layers start at zero, and have moved far more than the runs differ.
    moved = float(one["last.weight"].detach().abs().max())
    assert moved > 1e-3
    assert max(float((one[name] - two[name]).detach().abs().max()) for name in one) < 1e-3 * moved


def as_words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def test_a_run_that_was_interrupted_continues_bit_for_bit(tmp_path):
    task = ViewSynthesis(planes=4, crop=16)
    train(task, **TINY, batch_size=1, out=tmp_path / "uninterrupted")
    with pytest.raises(KeyboardInterrupt):
        train(task, **TINY, batch_size=1, out=tmp_path / "interrupted", on_step=stop_after(2))
    train(task, out=tmp_path / "interrupted", resume=True)
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")
