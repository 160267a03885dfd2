"""Grouping of inputs: single images, and consecutive frames of folders and videos."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from densevision.apps.inputs import (
    InferenceRequest,
    collect_inputs,
    iter_requests,
    natural_key,
    read_frames,
    sliding_window,
)
from densevision.errors import UserError

from .clips import write_video

ONE, TWO, THREE = ("image",), ("first", "second"), ("before", "now", "after")


def create_files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def images_by_stem(requests, root: Path) -> dict[str, list[str]]:
    """Names of the images of each request, by its stem."""

    def names(request: InferenceRequest) -> list[str]:
        return [Path(image).relative_to(root).as_posix() for image in request.images()]

    return {request.stem.as_posix(): names(request) for request in requests}


def noise(count: int, height: int = 24, width: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng((0, 0, 0, 1))
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def test_natural_order_of_folders_and_numbers():
    expected = ["9.png", "10.png", "frame.png", "frame2.png", "frame10.png", "b2/x1.png", "b10/x0.png"]
    assert sorted(sorted(expected), key=lambda name: natural_key(Path(name))) == expected


def test_single_images_are_grouped_in_the_order_of_the_arguments(tmp_path):
    sources = collect_inputs(create_files(tmp_path, "d.png", "c.png", "b.png", "a.png"), tmp_path / "out")
    assert images_by_stem(iter_requests(sources, TWO), tmp_path) == {"d": ["d.png", "c.png"], "b": ["b.png", "a.png"]}
    assert len(list(iter_requests(sources, ONE))) == 4
    with pytest.raises(UserError, match=r"takes 3 images at a time \(before, now, after\), but 4 were named"):
        iter_requests(sources, THREE)


def test_pairs_of_frames_do_not_cross_folders(tmp_path):
    create_files(tmp_path, "in/a/1.png", "in/a/2.png", "in/b/1.png", "in/b/2.png", "in/b/3.png", "in/8.png", "in/9.png")
    result = images_by_stem(iter_requests(collect_inputs([tmp_path / "in"], tmp_path / "out"), TWO), tmp_path / "in")
    assert result == {
        "8": ["8.png", "9.png"],
        "a/1": ["a/1.png", "a/2.png"],
        "b/1": ["b/1.png", "b/2.png"],
        "b/2": ["b/2.png", "b/3.png"],
    }


def test_a_folder_with_too_few_frames_is_an_error(tmp_path):
    create_files(tmp_path, "in/a/1.png", "in/a/2.png", "in/b/1.png")
    with pytest.raises(UserError, match=r"in/b' contains 1 image\(s\), but the task takes 2 at a time"):
        iter_requests(collect_inputs([tmp_path / "in"], tmp_path / "out"), TWO)
    assert len(list(iter_requests(collect_inputs([tmp_path / "in"], tmp_path / "out"), ONE))) == 3


def test_single_images_form_pairs_even_with_folders_between_them(tmp_path):
    create_files(tmp_path, "x/1.png", "x/2.png", "y/3.png", "y/4.png", "a.png", "b.png")
    inputs = [tmp_path / name for name in ("x", "a.png", "y", "b.png")]
    result = images_by_stem(iter_requests(collect_inputs(inputs, tmp_path / "out"), TWO), tmp_path)
    assert list(result.items()) == [
        ("a", ["a.png", "b.png"]),
        ("1", ["x/1.png", "x/2.png"]),
        ("3", ["y/3.png", "y/4.png"]),
    ]


def test_the_output_folder_must_not_be_an_input_folder(tmp_path):
    create_files(tmp_path, "a.png")
    with pytest.raises(UserError, match="the folder of the input images; give another folder"):
        iter_requests(collect_inputs([tmp_path], tmp_path), ONE)


@pytest.mark.parametrize("names", [("one/a.png", "two/a.png"), ("one/a.mp4", "two/a.mp4")])
def test_two_outputs_with_the_same_files_are_an_error(tmp_path, names):
    with pytest.raises(UserError, match="written to the same files"):
        iter_requests(collect_inputs(create_files(tmp_path, *names), tmp_path / "out"), ONE)


def test_pairs_whose_first_images_have_the_same_stem_get_unique_stems(tmp_path):
    images = create_files(tmp_path, "a.png", "b.png", "a.jpg", "b.jpg")
    assert list(images_by_stem(iter_requests(collect_inputs(images, tmp_path / "out"), TWO), tmp_path)) == [
        "a_png",
        "a_jpg",
    ]


def test_missing_inputs_are_an_error(tmp_path):
    with pytest.raises(UserError, match="name images, folders of images or videos"):
        collect_inputs([], tmp_path)
    for name, what in (("a.png", "image or folder"), ("a", "image or folder"), ("a.mp4", "video")):
        with pytest.raises(UserError, match=f"There is no {what} '.*{name}'"):
            collect_inputs([tmp_path / name], tmp_path)


def test_videos_in_a_folder_are_ignored(tmp_path):
    create_files(tmp_path, "in/1.png", "in/clip.mp4")
    (source,) = collect_inputs([tmp_path / "in"], tmp_path / "out")
    assert source.files == (tmp_path / "in" / "1.png",)


def test_frames_of_a_video_are_read_lazily():
    read = []

    def frames():
        for number in range(10**9):
            read.append(number)
            yield number

    pairs = sliding_window(frames(), 2)
    assert [next(pairs) for _ in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert len(read) == 4


@pytest.mark.parametrize("suffix", [".avi", ".mov"])
def test_the_frames_of_a_lossless_video_are_exact(tmp_path, suffix):
    frames = noise(5)
    result = list(read_frames(write_video(tmp_path / f"clip{suffix}", frames)))
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for frame in result)
    np.testing.assert_array_equal(result, frames)


def test_a_rotated_video_is_read_upright(tmp_path):
    # The stream's rotation is 90 degrees counter-clockwise: the right edge of the stored frame becomes the top.
    (frame,) = noise(1)
    (result,) = read_frames(write_video(tmp_path / "clip.mov", [frame], rotation=90))
    np.testing.assert_array_equal(result, np.rot90(frame))


def test_videos_with_the_same_stem_get_unique_stems(tmp_path):
    paths = [write_video(tmp_path / name, noise(2)) for name in ("clip.avi", "clip.mov")]
    result = [request.stem.name for request in iter_requests(collect_inputs(paths, tmp_path / "out"), TWO)]
    assert result == ["clip_avi-000001", "clip_mov-000001"]


def test_a_video_with_too_few_frames_or_without_a_video_stream_is_an_error(tmp_path):
    (request,) = iter_requests(collect_inputs([write_video(tmp_path / "one.avi", noise(1))], tmp_path / "out"), TWO)
    with pytest.raises(UserError, match=r"one\.avi' has fewer than 2 frames"):
        request.images()
    with wave.open(str(tmp_path / "sound.avi"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    with pytest.raises(UserError, match=r"sound\.avi' has no video stream"):
        list(read_frames(tmp_path / "sound.avi"))
