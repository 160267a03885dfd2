"""`densevision predict` with models of video: a whole video or folder of frames, a photo, and samples from noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.datasets.examples import fake_clip
from densevision.datasets.field_types import FieldType, Image
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.video import read_video
from densevision.tasks.checkpoint import provenance, write_model
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.video import Video
from densevision.tasks.video.policies import HISTORY

from .clips import write_video

FIELDS: dict[str, FieldType] = {"clip": Image()}
ON_CPU = ("--device", "cpu", "--amp", "off", "--out", "out")


def checkpoint(folder: Path, task: Video, model: str | None = None) -> Path:
    """A checkpoint of an untrained model, which copies the last frame if it is no VGAN."""
    torch.manual_seed(0)
    spec = ModelSpec(task, FIELDS, None if model else "resnet20_cifar", {}, None if model else "unet", model)
    network, path = spec.build(), folder / "model.safetensors"
    data = {"name": "clips", "title": "Clips", "terms": "no terms"}
    header = {"size": [64, 64], "data": data, **provenance(None, None)}
    write_model(path, network, spec.with_weights_options(network), header)
    return path


def video(path: Path) -> np.ndarray:
    return np.stack([frame.pixels for frame in read_video(path)])


def test_a_video_and_a_folder_of_frames_are_continued_once(run, tmp_path):
    frames, model = fake_clip(0, HISTORY + 5), checkpoint(tmp_path, Video(context=2, frames=3))
    write_video(tmp_path / "boats.avi", list(frames))
    for number, frame in enumerate(frames[:4], 1):
        write_image(tmp_path / "frames" / f"frame{number}.png", frame)
    result = run("predict", model, "boats.avi", "frames", *ON_CPU)
    assert result.code == 0 and "2 of 2 sequence(s) predicted" in result.err, result
    names = {path.name for path in (tmp_path / "out").iterdir()}
    numbered = [f"_clip_{number:02}.png" for number in (1, 2, 3)]
    assert names == {
        f"{stem}{end}" for stem in ("boats", "frames") for end in ("_clip.mp4", "_clip.png", "_mask.mp4", *numbered)
    } | {"predictions.jsonl"}
    # The last frames of a long video, then those predicted: copies of the last one.
    written = video(tmp_path / "out" / "boats_clip.mp4")
    expected = np.concatenate([frames[-HISTORY:], frames[[-1, -1, -1]]])
    assert written.shape == expected.shape and np.abs(written.astype(int) - expected).mean() < 4
    assert len(video(tmp_path / "out" / "frames_clip.mp4")) == 4 + 3


@pytest.mark.parametrize(("frames", "found"), [(1, "2 consecutive frames or more, not 1"), (0, "cannot be read")])
def test_a_video_that_is_too_short_or_damaged_is_a_sentence(run, tmp_path, frames, found):
    path, model = tmp_path / "a.avi", checkpoint(tmp_path, Video(context=2, frames=3))
    path.write_bytes(b"no video") if not frames else write_video(path, list(fake_clip(0, frames)))
    result = run("predict", model, "a.avi", *ON_CPU)
    assert result.code == 1 and found in result.err and "Traceback" not in result.err


def test_a_photo_is_the_first_frame_of_a_clip(run, tmp_path):
    model = checkpoint(tmp_path, Video(context=1, frames=5))
    for name, frame in zip("ab", fake_clip(1, 2), strict=True):
        write_image(tmp_path / f"{name}.png", frame)
    result = run("predict", model, "a.png", "b.png", *ON_CPU)
    assert result.code == 0 and "2 of 2 image(s) predicted" in result.err, result
    assert len(video(tmp_path / "out" / "b_clip.mp4")) == 6


def test_samples_are_clips_from_consecutive_seeds(run, tmp_path):
    model = checkpoint(tmp_path, Video(context=0, frames=32), "vgan-narrow")
    result = run("predict", model, "--samples", 2, "--seed", 4, *ON_CPU)
    assert result.code == 0 and "2 of 2 sample(s) predicted" in result.err, result
    clips = [video(tmp_path / "out" / f"seed-{seed}_clip.mp4") for seed in (4, 5)]
    assert clips[0].shape == (32, 64, 64, 3) and (tmp_path / "out" / "seed-5_mask.mp4").exists()
    assert "--samples is 0; it must be at least 1" in run("predict", model, "--samples", 0, *ON_CPU).error
    other = checkpoint(tmp_path, Video(context=2, frames=3))
    write_video(tmp_path / "a.avi", list(fake_clip(0, 3)))
    assert "leave out --samples" in run("predict", other, "a.avi", "--samples", 2, *ON_CPU).error
