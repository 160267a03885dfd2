"""The visualize commands: output image, raw array, and errors in one line."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from densevision import visualize
from densevision.apps.cli import main
from densevision.visualize import METHODS

COMMANDS = {
    "saliency": ((), (1, 32, 32)),
    "guided-backprop": ((), (1, 1, 32, 32)),
    "deconvnet": ((), (1, 1, 32, 32)),
    "input-x-gradient": ((), (1, 32, 32)),
    "integrated-gradients": (("--steps", "4"), (1, 32, 32)),
    "grad-cam": (("--level", "c3"), (32, 32)),
}
INPUTS = ("--model", "lenet5_mnist", "--image", "digit.png")


@pytest.fixture
def digit(tmp_path, image):
    return image(tmp_path / "digit.png", 32, 32)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_writes_an_image_and_its_array(run, digit, tmp_path, command):
    options, shape = COMMANDS[command]
    result = run("visualize", command, *INPUTS, "--target", "class:3", "--out", "seen.png", *options)
    assert result.out.splitlines()[-1] == "Wrote seen.png and seen.npy.", result
    array = np.load(tmp_path / "seen.npy")
    assert array.shape == shape and array.dtype == np.float32 and np.ptp(array) > 0
    with Image.open(tmp_path / "seen.png") as rendered:
        assert rendered.mode == "RGB" and min(rendered.size) == 224


def test_the_output_is_deterministic(run, digit, tmp_path):
    words = ("visualize", "saliency", *INPUTS, "--target", "class:3", "--smoothgrad-samples", "5")
    for name in ("one", "two"):
        run(*words, "--out", f"{name}.png")
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()


def test_a_model_with_two_inputs_takes_two_images(run, image, tmp_path):
    for seed, name in enumerate(("first.png", "second.png")):
        image(tmp_path / name, 64, 64, seed)
    words = ("--model", "flow", "--image", "first.png", "second.png", "--target", "flow-u@9,9", "--out", "f.png")
    assert run("visualize", "saliency", *words).code == 0
    assert len(np.load(tmp_path / "f.npy")) == 2


def test_integrated_gradients_print_the_delta(run, digit):
    result = run("visualize", "integrated-gradients", *INPUTS, "--target", "class:3", "--out", "s.png", "--steps", "30")
    assert "Attributions sum to " in result.out and ": delta " in result.out


def test_random_weights_are_reported_on_stderr(run, digit):
    words = ("--model", "lenet5", "--image", "digit.png", "--target", "c1:2", "--out", "s.png")
    assert "lenet5 has random weights" in run("visualize", "saliency", *words).err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--target", "class:33"), "has the classes 0 to 9, not 33"),
        (("--target", "c9:3"), "no level of lenet5_mnist named 'c9'; nearest: c"),
        (("--target", "s4:3@90,2"), "s4:3@90,2 is outside of s4, which is 5 wide and 5 high"),
        (("--image", "missing.png"), "'missing.png'"),
        (("--out", "seen.jpg"), "--out is 'seen.jpg'; name a .png file"),
        (("--model", "resnet51"), "no backbone named 'resnet51'; did you mean 'resnet"),
        (("--weights", "w.safetensors"), "'lenet5_mnist' comes with its weights"),
    ],
)
def test_errors_are_one_line(run, digit, option, message):
    words = {"--model": "lenet5_mnist", "--image": "digit.png", "--target": "class:3", "--out": "seen.png"}
    words |= {option[0]: option[1]}
    flat = [word for pair in words.items() for word in pair]
    assert message in run("visualize", "saliency", *flat).error


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("list_targets", "receptive_field")])
def test_a_command_has_the_named_arguments_of_its_method(name, capsys):
    method = getattr(visualize, name)
    main(["visualize", name.replace("_", "-"), "--help"])
    printed = capsys.readouterr().out
    options = {word.strip(",") for word in printed.split() if word.startswith("--")}
    expected = {"model", "weights", "stride_in", "device", "out"}
    for argument in inspect.signature(method).parameters:
        if argument == "options":
            type_name = inspect.signature(method).parameters[argument].annotation.split()[0]
            expected |= set(vars(sys.modules[method.__module__])[type_name].__dataclass_fields__)
        elif argument not in ("progress", "settings"):
            expected.add(argument)
    assert {f"--{each.replace('_', '-')}" for each in expected} <= options
    assert "`" not in printed and "resolve_target" not in printed and "inspect_model" not in printed


def test_help_imports_no_torch():
    words = ", ".join(f"['visualize', '{command.replace('_', '-')}', '--help']" for command in METHODS)
    code = (
        "import sys\nfrom densevision.apps.cli import main\n"
        f"for words in ({words}):\n    main(words)\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules and 'captum' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
