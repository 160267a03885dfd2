"""The command tree as its users meet it: mistakes, interruptions, help, lists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from cyclopts import App

from densevision.apps.cli import app, main
from densevision.errors import UserError

ON_CPU = ("--device", "cpu", "--amp", "off")


# What a user mistypes


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("trian depth", "no command named 'trian'; did you mean 'train'"),
        ("train dept", "no task named 'dept'; did you mean 'depth'"),
        ("data chek rooms", "no command named 'chek'; did you mean 'check'"),
        ("weights lst", "no command named 'lst'; did you mean 'list'"),
        ("train depth --bakcbone resnet18", "Unknown option: --bakcbone. Did you mean --backbone"),
        ("train depth --steps many", 'unable to convert "many" into int. See densevision train depth --help'),
        ("train depth --optimizer adan", 'Did you mean "adam"'),
        ("train depth --amp fp16", 'Choose from: "auto", "bf16", "off"'),
        ("train depth --size 32", "--size requires 2 .* See densevision train depth --help"),
        ("train depth now", "Too much was given: now. See densevision train depth --help"),
        ("list taks", 'Did you mean "tasks"'),
        ("predict", "CHECKPOINT requires an argument. See densevision predict --help"),
        ("predict depth", "Nothing to answer for: name pictures or folders"),
        ("predict dept photo.jpg", "no picture or folder 'photo.jpg'"),
        ("evaluate dept", "no task named 'dept'; did you mean 'depth'"),
        ("evaluate depth --samples 0", "--samples is 0; it must be at least 1"),
        ("evaluate depth --worst -1", "--worst is -1; it must be at least 0"),
        ("evaluate missing.safetensors", "no checkpoint 'missing.safetensors'"),
        ("data check nyu-dpth", "no data set named 'nyu-dpth'; did you mean 'nyu-depth'"),
        ("data check nyu-depth", "densevision data check nyu-depth DIR"),
        ("data check nyu-depth missing", "no folder 'missing'"),
        ("data write-miniature rooms here", "drawn, not stored"),
        ("weights show resnet18/imagnet", "did you mean 'resnet18/imagenet'"),
        ("weights show missing.safetensors", "no weights file 'missing.safetensors'"),
        ("weights verify missing.safetensors", "missing.safetensors"),
        ("weights shrink missing.safetensors small.safetensors", "no checkpoint 'missing.safetensors'"),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out_and_exit_code_2(run, words, answer):
    assert re.search(answer, run(*words.split()).mistake)


@pytest.mark.parametrize("command", ["train depth", "evaluate {checkpoint}", "predict {checkpoint} {picture}"])
def test_asking_for_cuda_without_a_gpu_is_a_sentence(run, tmp_path, checkpoint, monkeypatch, command, picture):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    here = picture(tmp_path / "a.png")
    said = run(*command.format(checkpoint=checkpoint, picture=here).split(), "--device", "cuda")
    assert said.mistake.startswith("--device cuda: no CUDA GPU is usable here; use --device cpu")


def test_debug_lets_the_mistake_through_with_its_stack():
    with pytest.raises(UserError, match="no picture or folder"):
        main(["--debug", "predict", "depth", "missing.png"])


@pytest.mark.parametrize("debug", [False, True])
def test_a_process_of_its_own_exits_with_2_and_shows_the_stack_only_under_debug(tmp_path, debug):
    words = ["predict", "depth", "missing.png", *(["--debug"] if debug else [])]
    done = subprocess.run(
        [sys.executable, "-m", "densevision", *words], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert ("Traceback" in done.stderr) == debug
    assert "There is no picture or folder 'missing.png'." in done.stderr
    if not debug:
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_what_the_file_system_refuses_is_one_line(run, tmp_path, checkpoint, picture):
    (tmp_path / "taken").write_text("a file")
    said = run("predict", checkpoint, picture(tmp_path / "a.png"), "--out", tmp_path / "taken", *ON_CPU)
    assert said.code == 2
    assert said.err.splitlines()[-1] == f"densevision: File exists: {tmp_path / 'taken'}."
    assert "not empty" in run("data", "write-miniature", "seven-scenes", tmp_path).mistake


def test_a_reader_that_has_enough_of_a_pipe_leaves_no_stack(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "densevision", "data", "check", "rooms"],
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

    monkeypatch.setattr("densevision.apps.predict.pictures_among", interrupted)
    said = run("predict", "depth", "a.png")
    assert (said.code, said.err) == (130, "densevision: interrupted.\n")


# Help


def leaves(branch: App, chain: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Every command that does something, with the words that lead to it."""
    names = [name for name in branch if not name.startswith("-")]
    if not names:
        yield chain, branch
    for name in names:
        yield from leaves(branch[name], (*chain, name))


def options_of_every_command() -> list[tuple[str, str, str]]:
    """(command, option, its help line) for everything that help shows."""
    return [
        (" ".join(chain), argument.name, argument.parameter.help or "")
        for chain, leaf in leaves(app)
        for argument in leaf.assemble_argument_collection(parse_docstring=True)
        if argument.show
    ]


def required_options() -> set[tuple[str, str]]:
    """(command, option) of everything that has to be given."""
    return {
        (" ".join(chain), argument.name)
        for chain, leaf in leaves(app)
        for argument in leaf.assemble_argument_collection(parse_docstring=True)
        if argument.show and argument.required
    }


WITHOUT_DEFAULT = {"--root", "--network", "--init", "--epochs"}
"""Options that mean nothing while they are left out."""


def test_every_argument_and_option_has_a_help_line_and_every_option_says_its_default():
    found, required = options_of_every_command(), required_options()
    assert {"train depth", "evaluate", "predict", "data check", "weights show", "list"} <= {one for one, _, _ in found}
    for command, option, line in found:
        assert line.endswith((".", ".)")), f"{command} {option}: '{line}'"
        if option.startswith("--") and option not in WITHOUT_DEFAULT and (command, option) not in required:
            assert "default" in line.lower(), f"{command} {option}: '{line}'"


@pytest.mark.parametrize(
    ("option", "unit"),
    [
        ("--size", "pixels"),
        ("--rotate", "degrees"),
        ("--warmup", "Steps"),
        ("--batch", "Pictures"),
        ("--colour", "0 to 1"),
    ],
)
def test_an_option_with_a_unit_names_it(option, unit):
    lines = {name: line for command, name, line in options_of_every_command() if command == "train depth"}
    assert unit in lines[option]


def test_the_help_of_every_command_prints(run):
    for chain, _ in leaves(app):
        said = run(*chain, "--help")
        assert said.code == 0
        assert f"densevision {' '.join(chain)}" in said.out
        assert "[default:" not in said.out, "the help lines say their defaults themselves"


def test_the_help_of_predict_names_the_views_of_depth():
    from densevision.tasks import task_class

    (line,) = [line for command, name, line in options_of_every_command() if (command, name) == ("predict", "--view")]
    assert all(f"{view} (" in line for view in task_class("depth").views)


# Lists


@pytest.mark.parametrize(
    ("what", "name", "holds"),
    [
        ("tasks", "depth", "Depth from one picture"),
        ("backbones", "resnet18", "timm:NAME"),
        ("heads", "unet", "fpn"),
        ("networks", "fcrn", "depth"),
        ("recipes", "rooms", "(default)"),
        ("data", "cifar10", "shapes"),
    ],
)
def test_lists_give_the_names_that_commands_take(run, what, name, holds):
    said = run("list", what)
    assert said.code == 0
    assert name in [line.split()[0] for line in said.out.splitlines()]
    assert holds in said.out


def test_lists_of_trunks_heads_and_data_are_those_of_the_package(run):
    import densevision
    from densevision.tasks.heads import list_heads

    assert run("list", "backbones").out.split() == [*densevision.list_backbones(), "timm:NAME"]
    heads = [line.split() for line in run("list", "heads").out.splitlines()]
    assert [line for line in heads if len(line) == 1] == [[name] for name in list_heads()]
    assert ["warping", "flow", "only"] in heads
    assert [line.split()[0] for line in run("list", "data").out.splitlines()] == densevision.list_datasets()
