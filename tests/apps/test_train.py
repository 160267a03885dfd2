"""`densevision train`: user errors, run folders, interruption."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--backbone resnet81", "no backbone named 'resnet81'; did you mean 'resnet18'"),
        ("--head unnet", "no head of the task depth named 'unnet'; did you mean 'unet'"),
        ("--recipe room", "no recipe of the task depth named 'room'; did you mean 'synthetic-rooms'"),
        ("--loss berhuu", "no loss of the task depth named 'berhuu'; did you mean 'berhu'"),
        ("--data seven-scene", "no dataset named 'seven-scene'; did you mean 'seven-scenes'"),
        ("--eval-data synthetic-room", "no dataset named 'synthetic-room'; did you mean 'synthetic-rooms'"),
        ("--data seven-scenes", "state it with --root"),
        ("--data seven-scenes --root missing", "no folder 'missing'"),
        ("--data seven-scenes --root .", "expected .*found"),
        ("--weights imagnet", "did you mean 'imagenet'"),
        ("--weights missing.safetensors", "no weights file missing.safetensors"),
        ("--init-from missing.safetensors", "no checkpoint 'missing.safetensors'"),
        ("--backbone-levels 9", "resnet18.*levels"),
        ("--model fcrn", "--model is a complete model: give either"),
        ("--epochs 1", "--epochs needs a finite training set"),
        ("--resume", "no run of 'depth' under runs/ to resume"),
        ("--resume --out missing", "missing cannot be resumed"),
        ("--batch-size 0", "--batch-size is 0; it must be between 1 and 65536"),
        ("--steps -1", "--steps is -1; it must be between 0 and 1000000000"),
        ("--workers -1", "--workers is -1; it must be between 0 and 1024"),
        ("--lr -1", "--lr is -1.0; it must be at least 0"),
        ("--hflip 1.5", "--hflip is 1.5; it must be between 0 and 1"),
        ("--max-zoom 0.5", "--max-zoom is 0.5; it must be at least 1"),
        ("--image-size 4 4", "--image-size is 4x4; height and width must be at least 8 pixels"),
        ("--image-size 8 5000", "--image-size is 8x5000; .* at most 4096"),
        ("--train-samples 99999999999", "--train-samples is 99999999999; it must be between 1 and 10000000"),
        ("--lr nan", "nan"),
        ("--device gpu", "no device 'gpu'; use cpu, cuda, mps or auto"),
    ],
)
def test_a_user_error_before_training_is_one_line(run, tmp_path, words, message, light_options):
    assert re.search(message, run("train", "depth", *light_options(*words.split())).error)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_model_is_an_error_with_the_nearest_name(run):
    result = run("train", "depth", "--model", "fcm", "--image-size", "32", "32", "--device", "cpu")
    assert "no model of the task depth named 'fcm'; did you mean 'fcrn'" in result.error


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process")
def test_ctrl_c_saves_the_training_and_exits_with_130(tmp_path, scenes, light_options):
    words = light_options("--steps", "100000", "--eval-every", "0", "--log-every", "1", "--out", "stopped")
    words = ["train", "depth", "--data", "seven-scenes", "--root", str(scenes), *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "densevision", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    log, deadline = tmp_path / "stopped" / "log.jsonl", time.monotonic() + 100
    while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Resume with: densevision train depth --resume --out stopped" in err
    assert "Traceback" not in err
    assert (tmp_path / "stopped" / "last" / "state.pt").exists()


def test_a_run_folder_is_complete(trained):
    for name in ("config.yaml", "log.jsonl", "curves.png", "best.safetensors", "result.json", "last/state.pt"):
        assert (trained / name).is_file(), name
    assert list(trained.glob("images/step-*.png")) and list(trained.glob("events/*"))
    scores = json.loads((trained / "result.json").read_text())
    assert scores["steps"] == 2 and scores["data"] == "seven-scenes"
    assert set(scores["monitor"]) == {"name", "higher_is_better", "value", "baseline"}


def test_a_run_is_not_overwritten(run, trained, scenes, light_options):
    result = run("train", "depth", "--data", "seven-scenes", "--root", scenes, *light_options(), "--out", trained)
    assert "already contains a run: add --resume to continue it" in result.error


def test_init_from_a_different_model_is_an_error(run, scenes, checkpoint, light_options):
    words = light_options("--backbone-levels", "3", "--init-from", str(checkpoint))
    result = run("train", "depth", "--data", "seven-scenes", "--root", scenes, *words)
    assert f"--init-from {checkpoint}" in result.error


def test_training_on_a_folder_of_images_and_depth_maps(run, tmp_path, light_options):
    assert run("data", "make-example", "depth-folders", "mine").code == 0
    result = run("train", "depth", "--data", "depth-folders", "--root", "mine", *light_options())
    assert result.code == 0, result.err
    assert (tmp_path / "runs" / "depth-1" / "best.safetensors").is_file()
    assert "runs/depth-1" in result.err


def test_a_dry_run_prints_options_model_and_batch(run, tmp_path, light_options):
    result = run("train", "depth", *light_options("--lr", "0.5"), "--dry-run")
    assert result.code == 0, result.err
    options, model, batch = result.out.splitlines()
    assert "--backbone resnet18 --backbone-levels 2 --head unet" in options and "--lr 0.5" in options
    assert re.fullmatch(
        r"Model: [\d,]+ parameters; for one image of 32x32, [\d,]+ multiply-adds and [\d.]+ MiB of activations", model
    )
    assert batch.startswith("Batch: image 2x3x32x32, depth 2x32x32")
    assert not list(tmp_path.iterdir())


def test_a_run_starts_from_the_config_of_another(run, trained, tmp_path):
    result = run("train", "depth", "--config", trained / "config.yaml", "--steps", "1", "--dry-run")
    assert result.code == 0, result.err
    assert "--data seven-scenes" in result.out and "--steps 1" in result.out and "--batch-size 2" in result.out
    result = run("train", "flow", "--config", trained / "config.yaml")
    assert "is a run of 'depth', not of 'flow'" in result.error
    assert not (tmp_path / "runs").exists()


def test_the_help_prints_the_values_of_the_tasks_default_recipe(run):
    words = " ".join(run("train", "depth", "--help").out.replace("│", " ").split())
    for name, value in (("steps", "1200"), ("lr", "0.004"), ("batch-size", "16"), ("weight-decay", "0.0001")):
        assert re.search(rf"--{name} [^\[]*\[default: {value}\]", words), name
    # What depends on other options, and switches that are off, print none.
    assert not re.search(r"--backbone-lr-factor [^-]*\[default", words)
    assert not re.search(r"--freeze-bn --no-freeze-bn [^-]*\[default", words)
