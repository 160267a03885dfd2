"""Datasets of clips: boats, moving photos, videos and folders of frames, stacked JPEG files, UCF-101."""

from __future__ import annotations

import weakref
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.examples import fake_clip
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.video import count_frames, frame_ticks, read_video, write_video
from densevision.datasets.rendering.boats import SPEEDS, draw_boats
from densevision.datasets.video.stabilization import stabilize


@pytest.mark.parametrize(
    ("name", "frames"),
    [("boats", 16), ("boats-32", 32), ("moving-photos", 8), ("stacked-jpegs", 32), ("video-folders-16", 16)],
)
def test_clips_have_their_number_of_frames(tmp_path, name, frames):
    cls = dataset_class(name)
    if name[0] in "sv":
        cls.write_example(tmp_path)
    assert len(open_dataset(name, tmp_path if name[0] in "sv" else None).read(0)["clip"]) == frames


def boats(number: int):
    return draw_boats(generator(0, 0, number, Purpose.EXAMPLE), 12, 64, 64)


def test_boats_are_exact():
    for number in range(6):
        clip = boats(number)
        # What no boat covers is the background, in every frame.
        outside = ~clip.masks
        difference = np.abs(clip.frames.astype(int) - clip.background).max(-1)
        assert np.median(difference[outside]) == 0 and difference[clip.masks].mean() > 20
        steps = np.diff(clip.paths, axis=1)
        lengths = np.hypot(steps[..., 0], steps[..., 1])
        for path, length in zip(clip.paths, lengths, strict=True):
            assert min(abs(length[0] - speed) for speed in SPEEDS.values()) < 1e-9 and np.ptp(length) < 1e-9
            assert abs(path[6, 0] - 32) <= 0.3 * 64 + 1e-9 and abs(path[6, 1] - 32) <= 0.3 * 64 + 1e-9
        # A boat goes where it points.
        heading = np.stack([np.cos(clip.paths[..., 2]), np.sin(clip.paths[..., 2])], axis=-1)[:, :-1]
        np.testing.assert_allclose(steps[..., :2], heading * lengths[..., None], atol=1e-9)


def test_moving_photos_move_by_the_same_step():
    clip = open_dataset("moving-photos", None, "test").read(3)["clip"].astype(float)
    changes = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
    assert changes.min() > 0.3 and changes.max() < 3 * changes.min()


def write_frames(folder: Path, frames: np.ndarray) -> None:
    for number, frame in enumerate(frames, 1):
        write_image(folder / f"frame{number}.png", frame)


def test_a_folder_of_frames_is_read_in_natural_order(tmp_path):
    frames = fake_clip(1, 12)
    write_frames(tmp_path / "train" / "a", frames)
    dataset = open_dataset("video-folders", tmp_path)
    assert len(dataset) == 5 and dataset.sample_name(2) == "train/a from frame 3"
    for start in range(5):
        np.testing.assert_array_equal(dataset.read(start)["clip"], frames[start : start + 8])


def test_a_video_is_read_as_its_frames(tmp_path):
    frames = fake_clip(2, 11)
    write_video(tmp_path / "train" / "a.mp4", frames)
    write_frames(tmp_path / "train" / "b", frames[:9])
    dataset = open_dataset("video-folders", tmp_path)
    assert count_frames(tmp_path / "train" / "a.mp4") == 11 and len(dataset) == 4 + 2
    for start in (3, 0, 2):
        clip = dataset.read(start)["clip"]
        assert np.abs(clip.astype(int) - frames[start : start + 8]).mean() < 6
    assert dataset.sample_name(4) == "train/b from frame 1"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clip_is_the_same_wherever_reading_starts(tmp_path, suffix):
    frames = fake_clip(3, 40)
    written = write_video(tmp_path / "written.mp4", frames)
    path = tmp_path / "train" / f"a{suffix}"
    path.parent.mkdir()
    # With B-frames and a keyframe every 12 frames.
    with av.open(str(written)) as source, av.open(str(path), "w") as target:
        options = {"g": "12", "bf": "2", "sc_threshold": "0"}
        track = target.add_stream("libx264", rate=30, options=options, width=64, height=64, pix_fmt="yuv420p")
        for frame in source.decode(video=0):
            frame.pict_type = 0
            target.mux(track.encode(frame))
        target.mux(track.encode())
    written.unlink()
    everything = np.stack([frame.pixels for frame in read_video(path)])
    assert len(everything) == len(frame_ticks(path)) == 40
    dataset = open_dataset("video-folders", tmp_path)
    for start in (20, 21, 23, 5, 32, 0, 13, 2):
        np.testing.assert_array_equal(dataset.read(start)["clip"], everything[start : start + 8])


def test_no_more_than_a_clip_of_a_video_is_in_memory(tmp_path, monkeypatch):
    write_video(tmp_path / "train" / "a.mp4", fake_clip(2, 60))
    dataset, decoded = open_dataset("video-folders", tmp_path), []

    def reduced(frame):
        # The pixels belong to nobody else: their end is that of the frame.
        pixels = frame.copy()
        decoded.append(weakref.ref(pixels))
        alive.append(sum(each() is not None for each in decoded))
        return pixels

    alive: list[int] = []
    monkeypatch.setattr("densevision.datasets.video.video_folders._reduced", reduced)
    for start in range(len(dataset)):
        dataset.read(start)
    # In order, every frame is decoded once.
    assert len(alive) == 60 and max(alive) <= 9


def test_a_stabilized_clip_stands_still(tmp_path):
    rng = np.random.default_rng(0)
    wide = cv2.resize(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), (240, 180), interpolation=cv2.INTER_CUBIC)
    shaken = np.stack([wide[20 + 3 * (time % 3) : 148 + 3 * (time % 3), 20 + time : 180 + time] for time in range(32)])
    write_frames(tmp_path / "train" / "a", shaken)
    clip = open_dataset("video-folders-32-stabilized", tmp_path).read(0)["clip"].astype(int)
    before, after = (np.abs(each - each[0])[:, 16:-16, 16:-40].mean() for each in (shaken.astype(int), clip))
    assert before > 10 and after < 3
    plain = np.full((4, 32, 32, 3), 90, np.uint8)
    np.testing.assert_array_equal(stabilize(plain), plain)


def test_large_frames_are_reduced(tmp_path):
    write_frames(tmp_path / "train" / "a", np.full((8, 180, 320, 3), 90, np.uint8))
    assert open_dataset("video-folders", tmp_path).read(0)["clip"].shape == (8, 90, 160, 3)


def test_short_and_damaged_videos_are_named(tmp_path):
    write_video(tmp_path / "train" / "short.mp4", fake_clip(1, 5))
    with pytest.raises(DatasetError, match="expected clips of 8 frames for 'train', found none"):
        open_dataset("video-folders", tmp_path)
    write_video(tmp_path / "train" / "long.mp4", fake_clip(1, 9))
    dataset = open_dataset("video-folders", tmp_path)
    assert len(dataset) == 2
    assert [str(problem) for problem in dataset.skipped] == [
        f"{tmp_path}/train/short.mp4: expected 8 frames or more, found 5."
    ]
    (tmp_path / "train" / "damaged.mp4").write_bytes(b"no video")
    with pytest.raises(DatasetError, match=r"damaged\.mp4: expected a video"):
        open_dataset("video-folders", tmp_path)


def test_a_listed_video_that_is_missing_is_named(tmp_path):
    dataset_class("video-folders").write_example(tmp_path)
    with (tmp_path / "train.txt").open("a") as file:
        file.write("nothing.mp4\n")
    with pytest.raises(DatasetError, match=r"nothing\.mp4: expected the video or folder that train\.txt lists"):
        open_dataset("video-folders", tmp_path)


def stacked(root: Path, frames: int, side: int = 16) -> None:
    image = np.repeat(np.arange(frames, dtype=np.uint8) * 6, side)[:, None, None].repeat(side, 1).repeat(3, 2)
    write_image(root / "clip.png", image)
    (root / "train.txt").write_text("clip.png 17 more words\n")


@pytest.mark.parametrize("frames", [1, 20, 32, 40])
def test_a_stacked_clip_repeats_its_last_frame_and_is_never_cropped(tmp_path, frames):
    # D.1 [code donkey_video2]: frame k is the rows (k - 1) * side ... k * side; the first word of a line is the path.
    stacked(tmp_path, frames)
    clip = open_dataset("stacked-jpegs", tmp_path).read(0)["clip"]
    assert clip.shape == (32, 16, 16, 3)
    expected = 6 * np.minimum(np.arange(32), frames - 1)
    assert (clip == expected[:, None, None, None]).all()


def test_a_stacked_clip_that_cannot_be_read_is_no_gray_clip(tmp_path):
    # T: the authors' loader returns zeros, which is mid gray, and trains on them.
    stacked(tmp_path, 8)
    (tmp_path / "clip.png").write_bytes(b"damaged")
    dataset = open_dataset("stacked-jpegs", tmp_path)
    with pytest.raises(DatasetError, match=r"clip\.png"):
        dataset.read(0)
    write_image(tmp_path / "clip.png", np.zeros((50, 16, 3), np.uint8))
    with pytest.raises(DatasetError, match="a height that is a multiple of the width, found 16x50"):
        dataset.read(0)


def test_ucf101_lists_have_class_numbers_in_training_only(tmp_path):
    dataset_class("ucf101-2").write_example(tmp_path)
    assert (tmp_path / "ucfTrainTestlist/trainlist02.txt").read_text().endswith(" 76\n")
    assert not (tmp_path / "ucfTrainTestlist/testlist02.txt").read_text().endswith("76\n")
    names = [open_dataset("ucf101-2", tmp_path, split).sample_name(0) for split in ("train", "test")]
    assert names == [
        "UCF-101/Rowing/v_Rowing_g01_c01.avi from frame 1", "UCF-101/Rowing/v_Rowing_g02_c01.avi from frame 1",
    ]  # fmt: skip
