"""The verbs: a picture, the raw array beside it, and mistakes in one line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

VERBS = {
    "saliency": ((), (1, 32, 32)),
    "guided": ((), (1, 1, 32, 32)),
    "deconvnet": ((), (1, 1, 32, 32)),
    "gradient-input": ((), (1, 32, 32)),
    "integrated-gradients": (("--steps", "4"), (1, 32, 32)),
    "grad-cam": (("--level", "c3"), (32, 32)),
}
ASKED = ("--network", "classification", "--image", "digit.png")


@pytest.fixture
def digit(tmp_path, picture):
    return picture(tmp_path / "digit.png", 32, 32)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_writes_a_picture_and_its_array(run, digit, tmp_path, verb):
    options, shape = VERBS[verb]
    said = run("visualize", verb, *ASKED, "--probe", "class:3", "--out", "seen.png", *options)
    assert said.out.splitlines()[-1] == "Wrote seen.png and seen.npy.", said
    array = np.load(tmp_path / "seen.npy")
    assert array.shape == shape and array.dtype == np.float32 and np.ptp(array) > 0
    with Image.open(tmp_path / "seen.png") as drawn:
        assert drawn.mode == "RGB" and min(drawn.size) == 224


def test_the_same_words_write_the_same_bytes(run, digit, tmp_path):
    words = ("visualize", "saliency", *ASKED, "--probe", "class:3", "--smooth", "5")
    for name in ("one", "two"):
        run(*words, "--out", f"{name}.png")
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()


def test_two_pictures_are_given_to_a_network_of_two(run, picture, tmp_path):
    for seed, name in enumerate(("first.png", "second.png")):
        picture(tmp_path / name, 64, 64, seed)
    words = ("--network", "flow", "--image", "first.png", "second.png", "--probe", "flow-u@9,9", "--out", "f.png")
    assert run("visualize", "saliency", *words).code == 0
    assert len(np.load(tmp_path / "f.npy")) == 2


def test_integrated_gradients_print_what_is_missing(run, digit):
    said = run("visualize", "integrated-gradients", *ASKED, "--probe", "class:3", "--out", "s.png", "--steps", "30")
    assert "The shares add up to " in said.out and ": delta " in said.out


def test_random_weights_are_said_on_stderr(run, digit):
    words = ("--network", "lenet5", "--image", "digit.png", "--probe", "c1:2", "--out", "s.png")
    assert "lenet5 has random weights" in run("visualize", "saliency", *words).err


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        (("--probe", "class:33"), "has the classes 0 to 9, and no 33"),
        (("--probe", "c9:3"), "no level of classification named 'c9'; nearest: c"),
        (("--probe", "s4:3@90,2"), "s4:3@90,2 lies outside of s4, which is 5 wide and 5 high here"),
        (("--image", "missing.png"), "no picture 'missing.png'"),
        (("--out", "seen.jpg"), "--out is 'seen.jpg'; name a .png file"),
        (("--network", "resnet51"), "no backbone named 'resnet51'; did you mean 'resnet"),
        (("--weights", "w.safetensors"), "'classification' comes with its weights"),
    ],
)
def test_a_mistake_is_one_line(run, digit, changed, answer):
    words = {"--network": "classification", "--image": "digit.png", "--probe": "class:3", "--out": "seen.png"}
    words |= {changed[0]: changed[1]}
    flat = [word for pair in words.items() for word in pair]
    assert answer in run("visualize", "saliency", *flat).mistake


def test_help_of_the_verbs_imports_no_torch():
    words = ", ".join(f"['visualize', '{verb}', '--help']" for verb in (*VERBS, "probes"))
    code = (
        "import sys\nfrom densevision.apps.cli import main\n"
        f"for words in ({words}):\n    main(words)\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules and 'captum' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
