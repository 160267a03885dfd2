"""`densevision webcam`; cameras, windows and the web page are tested in live/."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from densevision.apps.live.live_predictor import live_predictors
from densevision.errors import UserError

from .clips import write_video
from .live.toys import frames_in, times_in

ON_CPU = ("--device", "cpu", "--amp", "off")


@pytest.fixture
def clip(tmp_path) -> Path:
    """Twelve frames of noise that moves to the right, at 10 frames per second."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return write_video(tmp_path / "clip.avi", [np.roll(noise, 2 * number, axis=1) for number in range(12)])


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    """Tests open no windows."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("densevision.apps.live.viewer.window_available", lambda: False)


def test_a_recording_has_all_frames_of_the_video(run, tmp_path, clip, checkpoint):
    result = run("webcam", checkpoint, "--video", clip, "--record", "out.mp4", *ON_CPU)
    assert result.code == 0, result.err
    assert result.out == "Wrote out.mp4 (12 frames).\n"
    assert re.search(r"^12 frames processed, [0-9.]+ frames/s\.$", result.err, re.MULTILINE)
    assert times_in(tmp_path / "out.mp4") == pytest.approx([number / 10 for number in range(12)])


def test_three_tasks_run_on_every_frame_of_a_recording(run, tmp_path, clip):
    result = run("webcam", "depth,classification,colorization", "--video", clip, "--record", "out.mp4", *ON_CPU)
    assert result.code == 0, result.err
    images = frames_in(tmp_path / "out.mp4")
    assert len(images) == 12 and images[0].shape == (2 * (180 + 36), 640, 3)
    assert "research" in result.err, "the license terms of the weights are printed"


@pytest.mark.slow
def test_a_real_clip_of_80_frames_is_processed_frame_by_frame(run, tmp_path, shared_data):
    clip = shared_data / "video" / "paragliding_launch.mp4"
    result = run("webcam", "depth", "--video", clip, "--record", "out.mp4", "--size", 160, *ON_CPU)
    # The clip has 80 frames at 30 frames per second.
    assert result.out == "Wrote out.mp4 (80 frames).\n" and len(frames_in(tmp_path / "out.mp4")) == 80


def test_frames_can_be_limited(run, tmp_path, clip, checkpoint):
    result = run("webcam", checkpoint, "--video", clip, "--record", "out.mp4", "--frames", 5, *ON_CPU)
    assert result.out == "Wrote out.mp4 (5 frames).\n" and len(frames_in(tmp_path / "out.mp4")) == 5


def test_a_video_that_breaks_off_leaves_an_error_and_a_valid_recording(run, tmp_path, clip, checkpoint):
    content = clip.read_bytes()
    # Noise does not compress: half the file is about half the frames.
    clip.write_bytes(content[: len(content) // 2] + b"\xff" * (len(content) // 2))
    result = run("webcam", checkpoint, "--video", clip, "--record", "out.mp4", *ON_CPU)
    assert result.code == 2
    assert re.search(r"densevision: The video '.*clip\.avi' breaks off after frame [0-9]+: ", result.err)
    assert "Traceback" not in result.err
    assert 1 < len(frames_in(tmp_path / "out.mp4")) < 12


def test_a_video_on_the_web_page_waits_for_a_client_and_ends(run, tmp_path, clip, checkpoint, capfd):
    streams: list[bytes] = []

    def connect() -> None:
        """Read the stream to its end, as soon as the address is printed."""
        port = 0
        while not port:
            err = (tmp_path / "err.txt").read_text() if (tmp_path / "err.txt").exists() else ""
            port = int(match[1]) if (match := re.search(r"http://127\.0\.0\.1:(\d+)/", err)) else 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=200)
        connection.request("GET", "/stream")
        streams.append(connection.getresponse().read())

    with (tmp_path / "err.txt").open("w") as err:
        words = [sys.executable, "-m", "densevision", "webcam", str(checkpoint), "--video", str(clip), "--port", "0"]
        process = subprocess.Popen([*words, "--serve", *ON_CPU], cwd=tmp_path, stderr=err)
        client = threading.Thread(target=connect, daemon=True)
        client.start()
        assert process.wait(200) == 0
    client.join(5)
    assert streams[0].count(b"image/jpeg") >= 1
    line = (tmp_path / "err.txt").read_text().splitlines()[-1]
    assert re.fullmatch(
        r"[0-9]+ of 12 frames displayed, [0-9.]+ frames/s, latency \d+ ms \(median\), \d+ ms \(95th percentile\)\.",
        line,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_leaves_a_valid_recording(tmp_path, checkpoint, number):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    clip = write_video(tmp_path / "long.avi", [noise] * 3000)
    words = [sys.executable, "-m", "densevision", "webcam", str(checkpoint), "--video", str(clip), "--live"]
    process = subprocess.Popen(
        [*words, "--serve", "--port", "0", "--record", "out.mp4", *ON_CPU],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "Open http" not in process.stderr.readline():
        pass
    while not list(tmp_path.glob("out.part-*")):
        assert process.poll() is None
    process.send_signal(number)
    result = process.stderr.read()
    assert process.wait(20) == 130 and result.splitlines()[-1] == "densevision: interrupted."
    assert len(frames_in(tmp_path / "out.mp4")) >= 1 and not list(tmp_path.glob("*.part-*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("depth --camera -1", "--camera is -1; it must be at least 0"),
        ("depth --size -5", "--size is -5; it must be at least 0"),
        ("depth --frames 0", "--frames is 0; it must be at least 1"),
        ("depth --video missing.mp4", r"There is no video 'missing\.mp4'"),
        ("depth --video text.mp4", r"The video 'text\.mp4' cannot be read: Invalid data"),
        ("depth --video sound.wav", r"The video 'sound\.wav' cannot be read: it is not MP4"),
        ("depth --video clip.avi --record out.avi", r"give a name that ends in \.mp4"),
        ("dept --video clip.avi", "no task named 'dept'; did you mean 'depth'"),
        ("depth,dept --video clip.avi", "no task named 'dept'; did you mean 'depth'"),
        (", --video clip.avi", "No task is named"),
        ("missing.safetensors --video clip.avi", r"no checkpoint 'missing\.safetensors'"),
        ("depth --video clip.avi --input-mode sideways", "'depth' has no input mode 'sideways'; it has fit, native"),
        ("depth --video clip.avi --serve --port 70000", r"Cannot serve at 127\.0\.0\.1:70000"),
    ],
)
def test_a_user_error_is_one_line(run, tmp_path, clip, words, message):
    import wave

    (tmp_path / "text.mp4").write_text("no video")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    result = run("webcam", *words.split(), *ON_CPU)
    assert result.code == 2 and re.search(message, result.err.splitlines()[-1]), result.err
    assert "Traceback" not in result.err and not list(tmp_path.glob("out*"))


@pytest.mark.skipif(sys.platform != "linux" or Path("/dev/video0").exists(), reason="cameras are files on Linux only")
def test_a_missing_camera_is_a_user_error(run):
    assert run("webcam", "depth").error.startswith("There is no camera 0 (")


def test_a_task_whose_input_is_not_an_image_is_an_error(checkpoint):
    """The packaged checkpoint of translation takes label maps."""
    with pytest.raises(UserError, match=r"'translation' needs .* which a camera or video does not provide"):
        live_predictors("translation", "cpu", "off")


def test_models_of_one_task_are_named_by_their_files(trained, checkpoint):
    other = checkpoint.parent / "other.safetensors"
    other.write_bytes(checkpoint.read_bytes())
    models = live_predictors(f"depth, {trained}, {other}, {trained}", "cpu", "off")
    assert [model.name for model in models] == ["depth", trained.name, "other"]
    assert [model.name for model in live_predictors(f"{checkpoint},flow", "cpu", "off")] == ["depth", "flow"]
    with pytest.raises(UserError, match=r"have the name 'two-steps'"):
        live_predictors(f"{trained},{checkpoint}", "cpu", "off")


def test_every_task_with_a_packaged_checkpoint_for_images_runs_live():
    """A new task is included automatically."""
    from densevision.apps.live.capture import Frame
    from densevision.errors import UserError
    from densevision.tasks import list_tasks

    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frames = [Frame(number, 0.0, np.roll(noise, number, axis=1)) for number in (1, 2)]
    tested = []
    for task in list_tasks():
        try:
            (model,) = live_predictors(task, "cpu", "off")
        except UserError:
            continue
        image, caption = model.cell(frames, model.predict(frames))
        assert image.dtype == np.uint8 and image.ndim == 3 and caption.startswith(f"{task}: ")
        tested.append(task)
        waiting = model.cell(frames[:1], model.predict(frames[:1]))[1]
        assert ("waiting for 2 consecutive frames" in waiting) == (model.num_frames == 2)
    assert {"depth", "flow", "pose", "restoration", "colorization", "classification"} <= set(tested)
