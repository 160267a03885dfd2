"""`densevision train`: what it refuses, what a run folder holds, and how it stops."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--backbone resnet81", "no backbone named 'resnet81'; did you mean 'resnet18'"),
        ("--head unnet", "no head of the task depth named 'unnet'; did you mean 'unet'"),
        ("--recipe room", "no recipe of the task depth named 'room'; did you mean 'rooms'"),
        ("--loss berhuu", "no loss of the task depth named 'berhuu'; did you mean 'berhu'"),
        ("--data seven-scene", "no data set named 'seven-scene'; did you mean 'seven-scenes'"),
        ("--eval-data room", "no data set named 'room'; did you mean 'rooms'"),
        ("--data seven-scenes", "say which with --root"),
        ("--data seven-scenes --root missing", "no folder 'missing'"),
        ("--data seven-scenes --root .", "expected .*found"),
        ("--weights imagnet", "did you mean 'imagenet'"),
        ("--weights missing.safetensors", "no weights file missing.safetensors"),
        ("--init missing.safetensors", "no checkpoint 'missing.safetensors'"),
        ("--levels 9", "resnet18.*levels"),
        ("--network fcrn", "--network is a whole network: give either"),
        ("--epochs 1", "--epochs needs a finite training set"),
        ("--resume", "no run of 'depth' under runs/ to resume"),
        ("--resume --out missing", "nothing to resume in missing"),
        ("--batch 0", "--batch is 0; it must be at least 1"),
        ("--steps 0", "--steps is 0; it must be at least 1"),
        ("--workers -1", "--workers is -1; it must be at least 0"),
        ("--lr -1", "--lr is -1.0; it must be at least 0"),
        ("--flip 1.5", "--flip is 1.5; it must lie in 0 to 1"),
        ("--zoom 0.5", "--zoom is 0.5; it must be at least 1"),
        ("--size 4 4", "--size is 4x4; both sides must be at least 8 pixels"),
        ("--device gpu", "no device 'gpu'; use cpu, cuda, mps or auto"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_it_begins(run, tmp_path, words, answer, light_but):
    assert re.search(answer, run("train", "depth", *light_but(*words.split())).mistake)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_whole_network_is_answered_with_the_nearest(run):
    said = run("train", "depth", "--network", "fcm", "--size", "32", "32", "--device", "cpu")
    assert "no network of the task depth named 'fcm'; did you mean 'fcrn'" in said.mistake


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process")
def test_ctrl_c_saves_a_training_says_how_to_go_on_and_exits_with_130(tmp_path, scenes, light_but):
    words = light_but("--steps", "100000", "--evaluate-every", "0", "--log-every", "1", "--out", "stopped")
    words = ["train", "depth", "--data", "seven-scenes", "--root", str(scenes), *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "densevision", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    log, until = tmp_path / "stopped" / "log.jsonl", time.monotonic() + 100
    while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Go on with: densevision train depth --resume --out stopped" in err
    assert "Traceback" not in err
    assert (tmp_path / "stopped" / "last" / "state.pt").exists()


def test_a_run_folder_holds_all_that_is_promised(trained):
    for name in ("config.yaml", "log.jsonl", "curves.png", "best.safetensors", "result.json", "last/state.pt"):
        assert (trained / name).is_file(), name
    assert list(trained.glob("pictures/step-*.png")) and list(trained.glob("events/*"))
    result = json.loads((trained / "result.json").read_text())
    assert result["steps"] == 2 and result["data"] == "seven-scenes"
    assert set(result["watch"]) == {"name", "higher_is_better", "value", "baseline"}


def test_a_run_is_not_written_over(run, trained, scenes, light_but):
    said = run("train", "depth", "--data", "seven-scenes", "--root", scenes, *light_but(), "--out", trained)
    assert "holds a run already: add --resume to continue it" in said.mistake


def test_a_start_from_another_network_is_refused_naming_what_differs(run, scenes, checkpoint, light_but):
    words = light_but("--levels", "3", "--init", str(checkpoint))
    said = run("train", "depth", "--data", "seven-scenes", "--root", scenes, *words)
    assert f"--init {checkpoint}" in said.mistake


def test_own_pictures_and_depth_maps_train(run, tmp_path, light_but):
    assert run("data", "write-miniature", "depth-folders", "mine").code == 0
    said = run("train", "depth", "--data", "depth-folders", "--root", "mine", *light_but())
    assert said.code == 0, said.err
    assert (tmp_path / "runs" / "depth-1" / "best.safetensors").is_file()
    assert "runs/depth-1" in said.err
