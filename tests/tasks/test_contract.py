"""The contract of tasks carries what no packaged task has: views, cameras, numbers, depth, clips, noise, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densevision import visualize
from densevision.datasets.field_types import FIELD_TYPES, Image
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.png import write_depth_png
from densevision.datasets.formats.video import read_video, write_video
from densevision.tasks import TASKS
from densevision.tasks.conformance import check_task
from densevision.tasks.evaluation import score
from densevision.tasks.inference import Predictor, load
from densevision.tasks.training.setup import train

from .contract_toys import (
    FRAMES,
    NEW_FIELD_TYPES,
    SIZE,
    TOYS,
    Background,
    Clips,
    FromNoise,
    Hand,
    Samples,
    Score,
    Toy,
    Views,
    ViewsNetwork,
)

ODD = (40, 70)
ON_CPU = ("--device", "cpu", "--amp", "off")
CAMERA = np.array([[60.0, 0, 34], [0, 60, 19], [0, 0, 1]])


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The toys and their field types, as registered ones: checkpoints name them."""
    for task in TOYS:
        monkeypatch.setitem(TASKS, task.name, type(task))
    for name, field_type in NEW_FIELD_TYPES.items():
        monkeypatch.setitem(FIELD_TYPES, name, field_type)


def trained(task: Toy, folder: Path) -> Any:
    """The predictor of a toy after two steps, from its checkpoint."""
    result = train(
        task, data=Samples(task), eval_data=Samples(task, "test"), out=folder, steps=2, batch_size=2, lr=0.01,
        workers=0, threads=1, eval_samples=3, device="cpu", amp="off", eval_every=2,
    )  # fmt: skip
    assert result["steps"] == 2 and np.isfinite(result["metrics"]["error"])
    assert (folder / "images" / "step-2.png").is_file()
    return load(folder, "cpu", "off")


def images(folder: Path, count: int) -> list[Path]:
    """Images of noise."""
    rng = np.random.default_rng(0)
    files = [folder / f"frame-{number}.png" for number in range(count)]
    for file in files:
        folder.mkdir(parents=True, exist_ok=True)
        write_image(file, rng.integers(0, 256, (*ODD, 3), dtype=np.uint8))
    return files


@pytest.mark.parametrize("task", TOYS, ids=lambda task: task.name)
def test_a_task_of_another_form_conforms(task):
    check_task(task, Samples(task), Samples(task, "test"))


def test_views_come_with_their_cameras(tmp_path, run):
    predictor = trained(Views(), tmp_path / "run")
    files = images(tmp_path / "views", 6)
    np.save(tmp_path / "views" / "cameras.npy", np.stack([CAMERA] * 3))
    result = run("predict", tmp_path / "run", *files, "--out", "out", *ON_CPU)
    assert result.code == 0 and "2 of 2 group(s) predicted" in result.err, result
    meters = np.load(tmp_path / "out" / "frame-3.npy")
    assert meters.shape == ODD
    np.testing.assert_allclose(meters, predictor.predict(*files[3:]).values, atol=1e-6)
    # Cameras have no size: they are not padded to the stride, but they follow the geometry of the images.
    assert isinstance(predictor.model, ViewsNetwork) and predictor.model.cameras is not None
    assert predictor.model.cameras.dtype == torch.float32
    torch.testing.assert_close(predictor.model.cameras[0, 1], torch.tensor(CAMERA, dtype=torch.float32))
    inputs = predictor.load_inputs(*files[:3], mode="fit")
    np.testing.assert_allclose(inputs.samples[0]["cameras"][2], inputs.context.matrix @ CAMERA)


def test_a_number_per_image(tmp_path, run):
    predictor = trained(Score(), tmp_path / "run")
    assert predictor.task.output_spec(predictor.model, predictor.fields).layout == "values"
    files = images(tmp_path / "photos", 3)
    assert run("predict", tmp_path / "run", tmp_path / "photos", "--out", "out", *ON_CPU).code == 0
    values = [np.load(tmp_path / "out" / f"{file.stem}.npy") for file in files]
    together = [prediction.values for prediction in predictor.predict_batch(files)]
    assert values[0].shape == () and np.allclose(values, together, atol=1e-6)
    # What the output is called is a target, and needs no position.
    assert visualize.list_targets(predictor) == ["score"]
    assert visualize.saliency(predictor, files[0], "score").array.min() > 0


def test_a_depth_image_gives_joints_in_space(tmp_path, run):
    predictor = trained(Hand(), tmp_path / "run")
    depth = np.full(ODD, 0.75, np.float32)
    depth[0, 0] = np.nan
    write_depth_png(tmp_path / "hand.png", depth, 1000)
    assert run("predict", tmp_path / "run", tmp_path / "hand.png", "--out", "out", *ON_CPU).code == 0
    millimeters = np.load(tmp_path / "out" / "hand.npy")
    assert millimeters.shape == (5, 3)
    sample = {"depth": depth, "target": millimeters}
    np.testing.assert_allclose(predictor.predict_sample(sample).values, millimeters, atol=1e-5)


def test_a_clip_gives_a_clip_that_is_saved_as_a_video(tmp_path, run):
    predictor = trained(Clips(), tmp_path / "run")
    files = images(tmp_path / "frames", FRAMES + 1)
    result = run("predict", tmp_path / "run", tmp_path / "frames", "--out", "out", *ON_CPU)
    assert result.code == 0 and "2 of 2 group(s) predicted" in result.err, result
    clip = np.load(tmp_path / "out" / "frame-1.npy")
    assert clip.shape == (FRAMES, *ODD, 3)
    frames = [frame.pixels for frame in read_video(tmp_path / "out" / "frame-1.mp4")]
    assert np.shape(frames) == clip.shape
    assert np.abs(np.array(frames) / 255 - clip.clip(0, 1)).mean() < 0.1
    prediction = predictor.predict(*files[1:])
    np.testing.assert_allclose(prediction.values, clip, atol=1e-6)
    assert prediction.to_image().shape == (ODD[0], FRAMES * ODD[1], 3)
    boxed = predictor.predict(*files[:FRAMES], box=(3, 4, 30, 20))
    assert boxed.values.shape == (FRAMES, 20, 30, 3)


def test_samples_from_noise_need_only_a_seed(tmp_path, run):
    predictor = trained(FromNoise(), tmp_path / "run")
    one, two, again = (prediction.values for prediction in predictor.predict_batch([1, 2, 1]))
    assert one.shape == (*SIZE, 3)
    assert np.array_equal(one, again) and np.abs(one - two).max() > 1e-3
    for seed in (1, 2):
        result = run("predict", tmp_path / "run", "--seed", seed, "--out", "out", *ON_CPU)
        assert result.code == 0 and "1 of 1 sample(s) predicted" in result.err, result
    np.testing.assert_allclose(np.load(tmp_path / "out" / "seed-1.npy"), one, atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "seed-2.npy"), two, atol=1e-6)
    again = run("predict", tmp_path / "run", "--seed", 1, "--out", "out", *ON_CPU)
    assert "(1 in an earlier run)" in again.err
    refused = run("predict", tmp_path / "run", *images(tmp_path / "a", 1), *ON_CPU)
    assert "samples from noise and takes no input; --seed chooses the sample" in refused.error


def test_a_complete_folder_or_video_is_one_prediction(tmp_path, run):
    predictor = trained(Background(), tmp_path / "run")
    long, short = images(tmp_path / "scenes" / "long", 7), images(tmp_path / "scenes" / "short", 2)
    frames = [np.full((*ODD, 3), level, np.uint8) for level in (10, 200, 90)]
    write_video(tmp_path / "clip.mp4", frames)
    result = run("predict", tmp_path / "run", tmp_path / "scenes", tmp_path / "clip.mp4", "--out", "out", *ON_CPU)
    assert result.code == 0 and "3 of 3 sequence(s) predicted" in result.err, result
    for name, files in (("long", long), ("short", short)):
        values = np.load(tmp_path / "out" / f"{name}.npy")
        np.testing.assert_allclose(values, predictor.predict(*files).values, atol=1e-6)
    video = np.load(tmp_path / "out" / "clip.npy")
    np.testing.assert_allclose(video, predictor.predict(*frames).values, atol=0.05)


def test_clips_of_a_data_set_are_scored_together_as_one_by_one():
    task = Clips()
    torch.manual_seed(0)
    predictor = Predictor(task, task.build({}, None, None, None), task.data, SIZE)
    scores = [score(task, predictor, Samples(task), "all", batch_size=size).metrics["error"] for size in (1, 4)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_leading_axis_is_drawn_side_by_side():
    clip = np.random.default_rng(0).integers(0, 256, (FRAMES, 4, 6, 3), dtype=np.uint8)
    assert np.array_equal(Image().colorize(clip), np.concatenate(list(clip), axis=1))
