"""Grouping of inputs: single images, and consecutive frames of folders and videos."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from densevision.apps.inputs import InferenceRequest, LeftOut, collect_inputs, iter_requests, sliding_window
from densevision.datasets.formats.video import read_video
from densevision.errors import UserError

from .clips import write_video

THREE = ("before", "now", "after")


def create_files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def images_by_stem(requests, root: Path) -> dict[str, list[str]]:
    """Names of the images of each request, by its stem."""

    def names(request: InferenceRequest) -> list[str]:
        return [image.path.relative_to(root).as_posix() for image in request.images()]

    return {request.stem.as_posix(): names(request) for request in requests}


def noise(count: int, height: int = 24, width: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng((0, 0, 0, 1))
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def test_single_images_are_grouped_in_the_order_of_the_arguments(tmp_path):
    sources = collect_inputs(create_files(tmp_path, "d.png", "c.png", "b.png", "a.png"), tmp_path / "out")
    assert images_by_stem(iter_requests(sources, 2), tmp_path) == {"d": ["d.png", "c.png"], "b": ["b.png", "a.png"]}
    assert len(list(iter_requests(sources, 1))) == 4
    with pytest.raises(UserError, match=r"takes 3 images at a time \(before, now, after\), but 4 were named"):
        iter_requests(sources, 3, THREE)


def test_pairs_of_frames_do_not_cross_folders(tmp_path):
    create_files(tmp_path, "in/a/1.png", "in/a/2.png", "in/b/1.png", "in/b/2.png", "in/b/3.png", "in/8.png", "in/9.png")
    result = images_by_stem(iter_requests(collect_inputs([tmp_path / "in"], tmp_path / "out"), 2), tmp_path / "in")
    assert result == {
        "8": ["8.png", "9.png"],
        "a/1": ["a/1.png", "a/2.png"],
        "b/1": ["b/1.png", "b/2.png"],
        "b/2": ["b/2.png", "b/3.png"],
    }


def test_a_folder_with_too_few_frames_is_an_error(tmp_path):
    create_files(tmp_path, "in/a/1.png", "in/a/2.png", "in/b/1.png")
    with pytest.raises(UserError, match=r"in/b' contains 1 image\(s\), but the task takes 2 at a time"):
        iter_requests(collect_inputs([tmp_path / "in"], tmp_path / "out"), 2)
    assert len(list(iter_requests(collect_inputs([tmp_path / "in"], tmp_path / "out"), 1))) == 3


def test_single_images_form_pairs_even_with_folders_between_them(tmp_path):
    create_files(tmp_path, "x/1.png", "x/2.png", "y/3.png", "y/4.png", "a.png", "b.png")
    inputs = [tmp_path / name for name in ("x", "a.png", "y", "b.png")]
    result = images_by_stem(iter_requests(collect_inputs(inputs, tmp_path / "out"), 2), tmp_path)
    assert list(result.items()) == [
        ("a", ["a.png", "b.png"]),
        ("1", ["x/1.png", "x/2.png"]),
        ("3", ["y/3.png", "y/4.png"]),
    ]


def test_the_output_folder_must_not_be_an_input_folder(tmp_path):
    create_files(tmp_path, "a.png")
    with pytest.raises(UserError, match="the folder of the input images; give another folder"):
        iter_requests(collect_inputs([tmp_path], tmp_path), 1)


def test_missing_inputs_are_an_error(tmp_path):
    with pytest.raises(UserError, match="name images, folders of images or videos"):
        collect_inputs([], tmp_path)
    for name, what in (("a.png", "image or folder"), ("a", "image or folder"), ("a.mp4", "video")):
        with pytest.raises(UserError, match=f"There is no {what} '.*{name}'"):
            collect_inputs([tmp_path / name], tmp_path)


def test_every_file_of_a_folder_is_an_input_or_left_out_with_the_reason(tmp_path):
    images = ["1.JPG", "2.Jfif", "3.avif", "4.heic", "sub/5.apng"]
    create_files(tmp_path, *(f"in/{name}" for name in images))
    create_files(tmp_path, "in/clip.mp4", "in/sub/notes.TXT", "in/README", "in/._1.JPG", "in/.git/config.png")
    (tmp_path / "in" / "gone").symlink_to("nowhere")
    left_out: LeftOut = {}
    sources = collect_inputs([tmp_path / "in"], tmp_path / "out", left_out)
    assert [file.relative_to(tmp_path / "in").as_posix() for source in sources for file in source.files] == images
    found = {Path(file).name: reason for reason, files in left_out.items() for file in files}
    assert found == {
        "clip.mp4": "a video; give its own path to predict it",
        "notes.TXT": "the suffix .txt is not that of an image",
        "README": "no suffix",
        "._1.JPG": "hidden",
        ".git": "hidden",
        "gone": "a broken link",
    }


def test_the_error_of_a_folder_without_images_says_what_is_in_it(tmp_path):
    create_files(tmp_path, "in/clip.mp4", *(f"in/{number:03}.raw" for number in range(25)))
    with pytest.raises(
        UserError, match=r"no image \(.*\); left out: .*019\.raw and 5 more \(the suffix \.raw .*clip\.mp4 \(a"
    ):
        collect_inputs([tmp_path / "in"], tmp_path / "out")


def test_links_to_files_and_folders_are_followed_but_not_in_circles(tmp_path):
    create_files(tmp_path, "store/walk/1.png", "store/walk/2.png", "store/single.png", "in/own.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "store" / "walk")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "store" / "walk")
    (tmp_path / "in" / "file.png").symlink_to(tmp_path / "store" / "single.png")
    (tmp_path / "in" / "linked" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "itself").symlink_to("itself")
    left_out: LeftOut = {}
    sources = collect_inputs([tmp_path / "in"], tmp_path / "out", left_out)
    expected = {".": ["file.png", "own.png"], "again": ["1.png", "2.png"], "linked": ["1.png", "2.png"]}
    assert {source.output_dir.as_posix(): [file.name for file in source.files] for source in sources} == expected
    assert sum(map(len, left_out.values())) == 3


def test_results_in_an_output_folder_behind_a_link_are_not_inputs(tmp_path):
    create_files(tmp_path, "in/a.png", "out/a_depth.png")
    (tmp_path / "in" / "results").symlink_to(tmp_path / "out")
    (source,) = collect_inputs([tmp_path / "in"], tmp_path / "out")
    assert source.files == (tmp_path / "in" / "a.png",)


def test_a_broken_link_to_an_image_is_an_input_so_that_its_neighbors_are_no_pair(tmp_path):
    create_files(tmp_path, "in/1.png", "in/3.png")
    (tmp_path / "in" / "2.png").symlink_to("nowhere.png")
    requests = iter_requests(collect_inputs([tmp_path / "in"], tmp_path / "out"), 2)
    assert [[file.name for file in each.files] for each in requests] == [["1.png", "2.png"], ["2.png", "3.png"]]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_does_not_block_the_run(tmp_path):
    create_files(tmp_path, "in/a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    left_out: LeftOut = {}
    collect_inputs([tmp_path / "in"], tmp_path / "out", left_out)
    assert left_out == {"not a regular file": [str(tmp_path / "in" / "pipe.png")]}


def test_an_input_with_a_name_that_is_too_long_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="There is no image or folder 'aaa"):
        collect_inputs([Path("a" * 300)], tmp_path)


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
    result = [frame.pixels for frame in read_video(write_video(tmp_path / f"clip{suffix}", frames))]
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for frame in result)
    np.testing.assert_array_equal(result, frames)


def test_a_rotated_video_is_read_upright(tmp_path):
    # The stream's rotation is 90 degrees counter-clockwise: the right edge of the stored frame becomes the top.
    (frame,) = noise(1)
    (result,) = read_video(write_video(tmp_path / "clip.mov", [frame], rotation=90))
    np.testing.assert_array_equal(result.pixels, np.rot90(frame))


def test_a_video_with_too_few_frames_or_without_a_video_stream_is_an_error(tmp_path):
    (request,) = iter_requests(collect_inputs([write_video(tmp_path / "one.avi", noise(1))], tmp_path / "out"), 2)
    with pytest.raises(UserError, match=r"one\.avi' has fewer than 2 frames"):
        request.images()
    with av.open(str(tmp_path / "sound.avi"), "w") as sound:
        stream = sound.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), layout="mono")
        frame.sample_rate = 8000
        sound.mux(stream.encode(frame))
    with pytest.raises(UserError, match=r"sound\.avi' has no video stream"):
        list(read_video(tmp_path / "sound.avi"))
