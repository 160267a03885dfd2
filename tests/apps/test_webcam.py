"""`densevision webcam` as its users meet it; cameras, windows and pages have tests of their own in live/."""

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

from densevision.apps.live.answerer import answerers
from densevision.errors import UserError

from .clips import write_video
from .live.toys import frames_in, times_in

ON_CPU = ("--device", "cpu", "--amp", "off")


@pytest.fixture
def clip(tmp_path) -> Path:
    """Twelve frames of noise that moves to the right, ten a second."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return write_video(tmp_path / "clip.avi", [np.roll(noise, 2 * number, axis=1) for number in range(12)])


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    """Where the tests run, nobody wants windows."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("densevision.apps.live.window.windows_work", lambda: False)


def test_a_video_becomes_a_film_of_as_many_frames(run, tmp_path, clip, checkpoint):
    said = run("webcam", checkpoint, "--video", clip, "--record", "out.mp4", *ON_CPU)
    assert said.code == 0, said.err
    assert said.out == "Wrote out.mp4 (12 frames).\n"
    assert re.search(r"^12 frames answered, [0-9.]+ frames/s\.$", said.err, re.MULTILINE)
    assert times_in(tmp_path / "out.mp4") == pytest.approx([number / 10 for number in range(12)])


def test_three_tasks_answer_for_every_frame_of_one_film(run, tmp_path, clip):
    said = run("webcam", "depth,classification,colorization", "--video", clip, "--record", "out.mp4", *ON_CPU)
    assert said.code == 0, said.err
    pictures = frames_in(tmp_path / "out.mp4")
    assert len(pictures) == 12 and pictures[0].shape == (2 * (180 + 36), 640, 3)
    assert "research" in said.err, "the terms of the weights are said"


def test_a_real_clip_of_80_frames_is_answered_frame_by_frame(run, tmp_path, shared_data):
    clip = shared_data / "video" / "paragliding_launch.mp4"
    said = run("webcam", "depth", "--video", clip, "--record", "out.mp4", "--size", 160, *ON_CPU)
    # The clip: 80 frames, 30 a second.
    assert said.out == "Wrote out.mp4 (80 frames).\n" and len(frames_in(tmp_path / "out.mp4")) == 80


def test_frames_can_be_limited(run, tmp_path, clip, checkpoint):
    said = run("webcam", checkpoint, "--video", clip, "--record", "out.mp4", "--frames", 5, *ON_CPU)
    assert said.out == "Wrote out.mp4 (5 frames).\n" and len(frames_in(tmp_path / "out.mp4")) == 5


def test_a_video_that_breaks_off_ends_with_the_sentence_and_a_film_that_plays(run, tmp_path, clip, checkpoint):
    whole = clip.read_bytes()
    # Noise does not compress: half the file is about half the frames.
    clip.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) // 2))
    said = run("webcam", checkpoint, "--video", clip, "--record", "out.mp4", *ON_CPU)
    assert said.code == 2
    assert re.search(r"densevision: The video '.*clip\.avi' breaks off after frame [0-9]+: ", said.err)
    assert "Traceback" not in said.err
    assert 1 < len(frames_in(tmp_path / "out.mp4")) < 12


def test_a_video_on_a_page_waits_for_somebody_plays_and_ends(run, tmp_path, clip, checkpoint, capfd):
    looking: list[bytes] = []

    def look() -> None:
        """As soon as the address is said, for as long as pictures come."""
        port = 0
        while not port:
            said = (tmp_path / "said.txt").read_text() if (tmp_path / "said.txt").exists() else ""
            port = int(found[1]) if (found := re.search(r"http://127\.0\.0\.1:(\d+)/", said)) else 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=200)
        connection.request("GET", "/stream")
        looking.append(connection.getresponse().read())

    with (tmp_path / "said.txt").open("w") as said:
        words = [sys.executable, "-m", "densevision", "webcam", str(checkpoint), "--video", str(clip), "--port", "0"]
        process = subprocess.Popen([*words, "--serve", *ON_CPU], cwd=tmp_path, stderr=said)
        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        assert process.wait(200) == 0
    looker.join(5)
    assert looking[0].count(b"image/jpeg") >= 1
    line = (tmp_path / "said.txt").read_text().splitlines()[-1]
    assert re.fullmatch(
        r"[0-9]+ of 12 frames shown, [0-9.]+ frames/s, latency \d+ ms \(median\), \d+ ms \(95 %\)\.", line
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_from_outside_leaves_a_recording_that_plays(tmp_path, checkpoint, number):
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
    said = process.stderr.read()
    assert process.wait(20) == 130 and said.splitlines()[-1] == "densevision: interrupted."
    assert len(frames_in(tmp_path / "out.mp4")) >= 1 and not list(tmp_path.glob("*.part-*"))


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("depth --camera -1", "--camera is -1; it must be at least 0"),
        ("depth --size -5", "--size is -5; it must be at least 0"),
        ("depth --frames 0", "--frames is 0; it must be at least 1"),
        ("depth --video missing.mp4", r"There is no video 'missing\.mp4'"),
        ("depth --video text.mp4", r"The video 'text\.mp4' cannot be read: Invalid data"),
        ("depth --video sound.wav", r"The video 'sound\.wav' holds no pictures"),
        ("depth --video clip.avi --record out.avi", r"give a name that ends in \.mp4"),
        ("dept --video clip.avi", "no task named 'dept'; did you mean 'depth'"),
        ("depth,dept --video clip.avi", "no task named 'dept'; did you mean 'depth'"),
        (", --video clip.avi", "No task is named"),
        ("missing.safetensors --video clip.avi", r"no checkpoint 'missing\.safetensors'"),
        ("depth --video clip.avi --view sideways", "'depth' knows no view 'sideways'; it knows fit, native"),
        ("depth --video clip.avi --serve --port 70000", r"No page at 127\.0\.0\.1:70000"),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, clip, words, answer):
    import wave

    (tmp_path / "text.mp4").write_text("no video")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    said = run("webcam", *words.split(), *ON_CPU)
    assert said.code == 2 and re.search(answer, said.err.splitlines()[-1]), said.err
    assert "Traceback" not in said.err and not list(tmp_path.glob("out*"))


@pytest.mark.skipif(sys.platform != "linux" or Path("/dev/video0").exists(), reason="cameras are files on Linux alone")
def test_no_camera_is_one_line(run):
    assert run("webcam", "depth").mistake.startswith("There is no camera 0 (")


def test_a_task_that_takes_no_pictures_is_refused(checkpoint):
    """Translation's shipped checkpoint takes label maps."""
    with pytest.raises(UserError, match=r"'translation' takes .* which no camera and no video gives"):
        answerers("translation", "cpu", "off")


def test_networks_of_one_task_are_told_apart_by_their_files(trained, checkpoint):
    other = checkpoint.parent / "other.safetensors"
    other.write_bytes(checkpoint.read_bytes())
    found = answerers(f"depth, {trained}, {other}, {trained}", "cpu", "off")
    assert [one.name for one in found] == ["depth", trained.name, "other"]
    assert [one.name for one in answerers(f"{checkpoint},flow", "cpu", "off")] == ["depth", "flow"]
    with pytest.raises(UserError, match=r"are both called 'two-steps'"):
        answerers(f"{trained},{checkpoint}", "cpu", "off")


def test_every_task_with_a_checkpoint_that_takes_pictures_answers_live():
    """One added tomorrow appears by itself."""
    from densevision.apps.live.capture import Frame
    from densevision.errors import UserError
    from densevision.tasks import list_tasks

    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frames = [Frame(number, 0.0, np.roll(noise, number, axis=1)) for number in (1, 2)]
    answered = []
    for task in list_tasks():
        try:
            (one,) = answerers(task, "cpu", "off")
        except UserError:
            continue
        picture, said = one.cell(frames, one.answer(frames))
        assert picture.dtype == np.uint8 and picture.ndim == 3 and said.startswith(f"{task}: ")
        answered.append(task)
        waiting = one.cell(frames[:1], one.answer(frames[:1]))[1]
        assert ("waits for 2 consecutive frames" in waiting) == (one.together == 2)
    assert {"depth", "flow", "pose", "restoration", "colorization", "classification"} <= set(answered)
