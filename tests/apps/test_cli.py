"""The command tree: user errors, interruptions, help, lists."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest
from cyclopts import App

from densevision.apps.cli import app, main
from densevision.errors import UserError
from densevision.tasks import create_task

ON_CPU = ("--device", "cpu", "--amp", "off")


# User errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian depth", "no command named 'trian'; did you mean 'train'"),
        ("train dept", "no task named 'dept'; did you mean 'depth'"),
        ("data valdate rooms", "no command named 'valdate'; did you mean 'validate'"),
        ("weights lst", "no command named 'lst'; did you mean 'list'"),
        ("train depth --bakcbone resnet18", "Unknown option: --bakcbone. Did you mean --backbone"),
        ("train depth --steps many", 'unable to convert "many" into int. See densevision train depth --help'),
        ("train depth --optimizer adan", 'Did you mean "adam"'),
        ("train depth --amp fp8", 'Choose from: "auto", "bf16", "fp16", "off"'),
        ("train depth --image-size 32", "--image-size requires 2 .* See densevision train depth --help"),
        ("train depth now", "Unexpected arguments: now. See densevision train depth --help"),
        ("list taks", 'Did you mean "tasks"'),
        ("predict", "CHECKPOINT requires an argument. See densevision predict --help"),
        ("predict depth", "There is no input; name images, folders of images or videos"),
        ("predict dept photo.jpg", "no task named 'dept'; did you mean 'depth'"),
        ("predict depth photo.jpg", "no image or folder 'photo.jpg'"),
        ("evaluate dept", "no task named 'dept'; did you mean 'depth'"),
        ("evaluate depth --samples 0", "--samples is 0; it must be at least 1"),
        ("evaluate depth --save-worst -1", "--save-worst is -1; it must be at least 0"),
        ("evaluate missing.safetensors", "no checkpoint 'missing.safetensors'"),
        ("data validate nyu-dpth", "no dataset named 'nyu-dpth'; did you mean 'nyu-depth'"),
        ("data validate nyu-depth", "densevision data validate nyu-depth ROOT"),
        ("data validate nyu-depth missing", "no folder 'missing'"),
        ("data make-example synthetic-rooms here", "generated"),
        ("weights show resnet18/imagnet", "did you mean 'resnet18/imagenet'"),
        ("weights show missing.safetensors", "no weights file 'missing.safetensors'"),
        ("weights verify missing.safetensors", "missing.safetensors"),
        ("weights to-fp16 missing.safetensors small.safetensors", "no checkpoint 'missing.safetensors'"),
    ],
)
def test_a_user_error_is_one_line_with_exit_code_2(run, words, message):
    assert re.search(message, run(*words.split()).error)


@pytest.mark.parametrize("command", ["train depth", "evaluate {checkpoint}", "predict {checkpoint} {image}"])
def test_cuda_without_a_gpu_is_a_user_error(run, tmp_path, checkpoint, monkeypatch, command, image):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = image(tmp_path / "a.png")
    result = run(*command.format(checkpoint=checkpoint, image=path).split(), "--device", "cuda")
    assert result.error.startswith("--device cuda: no CUDA GPU is available; use --device cpu")


def test_debug_raises_the_error():
    with pytest.raises(UserError, match="no image or folder"):
        main(["--debug", "predict", "depth", "missing.png"])


@pytest.mark.parametrize("debug", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_process_exits_with_2_and_prints_the_traceback_only_with_debug(tmp_path, debug):
    words = ["predict", "depth", "missing.png", *(["--debug"] if debug else [])]
    process = subprocess.run(
        [sys.executable, "-m", "densevision", *words], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert ("Traceback" in process.stderr) == debug
    assert "There is no image or folder 'missing.png'." in process.stderr
    if not debug:
        assert process.returncode == 2
        assert len(process.stderr.splitlines()) == 1


def test_an_error_of_the_file_system_is_one_line(run, tmp_path, checkpoint, image):
    (tmp_path / "file").write_text("a file")
    result = run("predict", checkpoint, image(tmp_path / "a.png"), "--out", tmp_path / "file", *ON_CPU)
    assert result.code == 2
    assert result.err.splitlines()[-1] == f"densevision: File exists: {tmp_path / 'file'}."
    assert "not empty" in run("data", "make-example", "seven-scenes", tmp_path).error


def test_control_characters_of_a_name_are_escaped(run):
    assert run("predict", "depth", "a\x1b.png").error == "There is no image or folder 'a\\x1b.png'."
    assert "to a\\x1b[2J.\n" in run("data", "make-example", "depth-folders", "a\x1b[2J").out


@pytest.mark.parametrize(
    "words",
    [
        "predict depth --seed 1000000000000000000000000",
        "predict depth --max-megapixels inf",
        "visualize deepdream --model resnet18 --image a.png --target layer1 --out o.png --jitter 9999999999999999999",
        "visualize style-transfer --model vgg11 --image a.png --style a.png --out o.png --style-blend-weights 1 nan",
    ],
)
def test_a_number_that_torch_cannot_take_is_an_error(run, words):
    assert "It must be a number between -2^63 and 2^63" in run(*words.split()).error


def test_a_loop_of_links_is_an_error(run, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in run("data", "make-example", "depth-folders", tmp_path / "loop").error


@pytest.mark.parametrize("error", [MemoryError("of NumPy"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_exhausted_memory_is_one_sentence(run, tmp_path, monkeypatch, error):
    def validate(root):
        raise error

    monkeypatch.setattr("densevision.datasets.pose.lsp.LSP.validate", validate)
    result = run("data", "validate", "lsp", tmp_path)
    assert result.code == 1
    assert result.err == "densevision: Out of memory; use smaller inputs or batches, or close other programs.\n"


def test_a_closed_pipe_prints_no_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "densevision", "data", "validate", "synthetic-rooms"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 128 + 13
    process.stderr.close()


def test_an_interruption_exits_with_130(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("densevision.apps.predict.collect_inputs", interrupted)
    result = run("predict", "depth", "a.png")
    assert (result.code, result.err) == (130, "densevision: interrupted.\n")


def test_sigterm_ends_any_command_as_ctrl_c_does(run, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("densevision.apps.predict.collect_inputs", lambda *_: signal.raise_signal(signal.SIGTERM))
    result = run("predict", "depth", "a.png")
    assert (result.code, result.err) == (143, "densevision: interrupted.\n")
    assert signal.getsignal(signal.SIGTERM) == before


# Help


def leaves(branch: App, chain: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Every command without subcommands, with its names."""
    names = [name for name in branch if not name.startswith("-")]
    if not names:
        yield chain, branch
    for name in names:
        yield from leaves(branch[name], (*chain, name))


@cache
def options_of_every_command() -> list[tuple[str, str, str]]:
    """(command, option, help text) of everything that the help prints."""
    return [
        (" ".join(chain), argument.name, " ".join((argument.parameter.help or "").split()))
        for chain, leaf in leaves(app)
        for argument in leaf.assemble_argument_collection(parse_docstring=True)
        if argument.show
    ]


OPTIONAL = {
    *("--root", "--eval-data", "--eval-root", "--train-samples", "--eval-samples", "--backbone-levels", "--head"),
    *("--model", "--init-from", "--epochs", "--freeze-backbone", "--freeze-bn", "--resize-short-side", "--crop-area"),
    *(
        "--find-lr",
        "--overfit-one-batch",
        "--compile",
        "--resume",
        "--config",
        "--dry-run",
        "--guide",
        "--video",
        "--level",
        "--target",
    ),
}
"""Options that have no effect if they are not stated."""


def test_every_argument_and_option_has_a_help_text_and_says_what_its_absence_means():
    commands = set()
    for chain, leaf in leaves(app):
        commands.add(" ".join(chain))
        for argument in leaf.assemble_argument_collection(parse_docstring=True):
            if not argument.show:
                continue
            line, option = argument.parameter.help or "", argument.name
            where = f"{' '.join(chain)} {option}: '{line}'"
            assert line.endswith((".", ".)")), where
            assert "default:" not in line.lower(), f"{where}: defaults are printed by the tool"
            has_default = argument.parameter.show_default or argument.field_info.default not in (
                None,
                argument.field_info.empty,
            )
            if option.startswith("--") and not argument.required and not has_default and option not in OPTIONAL:
                assert "stated" in line or "ithout it" in line, where
    assert {"train depth", "evaluate", "predict", "data validate", "weights show", "list"} <= commands


@pytest.mark.parametrize(
    ("option", "unit"),
    [
        ("--image-size", "pixels"),
        ("--max-rotation", "degrees"),
        ("--warmup-steps", "Steps"),
        ("--batch-size", "Images"),
        ("--color-jitter", "0 to 1"),
    ],
)
def test_an_option_with_a_unit_states_it(option, unit):
    lines = {name: line for command, name, line in options_of_every_command() if command == "train depth"}
    assert unit in lines[option]


def test_the_help_of_every_command_prints(run):
    for chain, _ in leaves(app):
        result = run(*chain, "--help")
        assert result.code == 0
        assert f"densevision {' '.join(chain)}" in result.out


def test_the_help_prints_defaults_and_those_of_the_default_recipe(run):
    assert "[default: predictions]" in run("predict", "--help").out
    assert "[default: 96 128]" in " ".join(run("train", "depth", "--help").out.replace("│", "").split())


def test_the_help_of_predict_names_the_input_modes_of_depth():

    (line,) = [
        line for command, name, line in options_of_every_command() if (command, name) == ("predict", "--input-mode")
    ]
    assert all(f"{mode} (" in line for mode in create_task("depth").inference.modes)


# Lists


@pytest.mark.parametrize(
    ("what", "name", "text"),
    [
        ("tasks", "depth", "depth"),
        ("backbones", "resnet18", "timm:NAME"),
        ("heads", "unet", "fpn"),
        ("models", "fcrn", "depth"),
        ("recipes", "synthetic-rooms", "(default)"),
        ("recipes", "indoor", "depth (default for real images)"),
        ("datasets", "cifar10", "synthetic-shapes"),
    ],
)
def test_lists_print_the_names_that_commands_take(run, what, name, text):
    result = run("list", what)
    assert result.code == 0
    assert name in [line.split()[0] for line in result.out.splitlines()]
    assert text in result.out


@pytest.mark.parametrize("what", ["tasks", "backbones", "heads", "models", "recipes", "datasets"])
def test_a_list_as_json_has_the_names_of_the_lines(run, what):
    lines = [line.split()[0] for line in run("list", what).out.splitlines()]
    rows = json.loads(run("list", what, "--json").out)
    assert [row["name"] for row in rows] == lines and len({tuple(row) for row in rows}) == 1


@pytest.mark.slow  # it assembles the options of every command
def test_completion_is_a_script_that_never_starts_python(run, tmp_path):
    result = run("--install-completion", "--shell", "bash", "--output", tmp_path / "completion")
    assert result.code == 0, result.err
    script = (tmp_path / "completion").read_text()
    assert "--checkpoint-gradients" in script and "validate" in script and "openvino" in script
    # The words are in the script: no key runs densevision, which would import torch.
    assert "__complete" not in script and "python" not in script


def test_lists_of_backbones_heads_and_datasets_match_the_package(run):
    import densevision
    from densevision.tasks.heads import list_heads

    assert run("list", "backbones").out.split() == [*densevision.list_backbones(), "timm:NAME"]
    heads = [line.split() for line in run("list", "heads").out.splitlines()]
    assert [line for line in heads if len(line) == 1] == [[name] for name in list_heads()]
    assert ["warping", "flow", "only"] in heads
    assert [line.split()[0] for line in run("list", "datasets").out.splitlines()] == densevision.list_datasets()
