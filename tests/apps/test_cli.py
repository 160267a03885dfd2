"""The command line as its users meet it: mistakes, help, and the way from a data folder to answers."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cyclopts import App
from PIL import Image

from densevision.apps.cli import app, main
from densevision.apps.predict import pictures_among
from densevision.errors import UserError

LIGHT = (
    *("--backbone", "resnet18", "--levels", "2", "--head", "unet", "--size", "32", "32", "--steps", "2"),
    *("--batch", "2", "--workers", "0", "--eval-samples", "2", "--amp", "off", "--device", "cpu"),
)
ON_CPU = ("--device", "cpu", "--amp", "off")


def light_but(*given: str) -> list[str]:
    """The light settings, with other words where these say something else."""
    kept = list(LIGHT)
    for option in {"--steps" if word == "--epochs" else word for word in given} & set(kept):
        if option.startswith("--"):
            at = kept.index(option)
            del kept[at : at + (3 if option == "--size" else 2)]
    return [*kept, *given]


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line that a user's mistake leaves."""
        assert (self.code, self.out) == (2, ""), self
        (line,) = self.err.splitlines()
        assert line.startswith("densevision: ") and "Traceback" not in line
        return line.removeprefix("densevision: ")


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """A command in an empty folder, and what it said; what was printed before it is dropped."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Said:
        capfd.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """A miniature of 7-Scenes, as the command line writes it."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    main(["data", "write-miniature", "seven-scenes", str(folder)])
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes) -> Path:
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "two-steps"
    main(["train", "depth", "--data", "seven-scenes", "--root", str(scenes), *LIGHT, "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def checkpoint(trained) -> Path:
    return trained / "best.safetensors"


def picture(path: Path, height: int = 37, width: int = 53, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


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
def test_a_training_that_cannot_be_is_refused_before_it_begins(run, tmp_path, words, answer):
    assert re.search(answer, run("train", "depth", *light_but(*words.split())).mistake)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_whole_network_is_answered_with_the_nearest(run):
    said = run("train", "depth", "--network", "fcm", "--size", "32", "32", "--device", "cpu")
    assert "no network of the task depth named 'fcm'; did you mean 'fcrn'" in said.mistake


@pytest.mark.parametrize("command", ["train depth", "evaluate {checkpoint}", "predict {checkpoint} {picture}"])
def test_asking_for_cuda_without_a_gpu_is_a_sentence(run, tmp_path, checkpoint, monkeypatch, command):
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


def test_what_the_file_system_refuses_is_one_line(run, tmp_path, checkpoint):
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


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process")
def test_ctrl_c_saves_a_training_says_how_to_go_on_and_exits_with_130(tmp_path, scenes):
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


WITHOUT_DEFAULT = {"--root", "--network", "--init", "--epochs"}
"""Options that mean nothing while they are left out."""


def test_every_argument_and_option_has_a_help_line_and_every_option_says_its_default():
    found = options_of_every_command()
    assert {"train depth", "evaluate", "predict", "data check", "weights show", "list"} <= {one for one, _, _ in found}
    for command, option, line in found:
        assert line.endswith((".", ".)")), f"{command} {option}: '{line}'"
        if option.startswith("--") and option not in WITHOUT_DEFAULT:
            assert "default" in line, f"{command} {option}: '{line}'"


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


def test_resolutions_offered_are_those_that_inference_knows():
    from densevision.tasks.inference import RESOLUTIONS

    (argument,) = [one for one in app["predict"].assemble_argument_collection() if one.name == "--resolution"]
    assert all(f"'{name}'" in str(argument.hint) for name in RESOLUTIONS)
    assert str(argument.hint).count("'") == 2 * len(RESOLUTIONS)


# Lists


@pytest.mark.parametrize(
    ("what", "first", "holds"),
    [
        ("tasks", "depth", "Depth from one picture"),
        ("backbones", "", "resnet18"),
        ("heads", "", "unet"),
        ("networks", "fcrn", "depth"),
        ("recipes", "", "(default)"),
        ("data", "depth-folders", "rooms"),
    ],
)
def test_lists_give_the_names_that_commands_take(run, what, first, holds):
    said = run("list", what)
    assert said.code == 0
    assert said.out.startswith(first)
    assert holds in said.out


def test_lists_of_trunks_heads_and_data_are_those_of_the_package(run):
    import densevision
    from densevision.tasks.heads import list_heads

    assert run("list", "backbones").out.split() == [*densevision.list_backbones(), "timm:NAME"]
    assert run("list", "heads").out.split() == list_heads()
    assert [line.split()[0] for line in run("list", "data").out.splitlines()] == densevision.list_datasets()


# Data


def test_a_miniature_is_sound_and_damage_is_listed_with_exit_code_1(run, scenes, tmp_path):
    said = run("data", "check", "seven-scenes", scenes)
    assert (said.code, said.out) == (0, "seven-scenes: sound.\n")
    shutil.copytree(scenes, tmp_path / "damaged")
    first, second = sorted((tmp_path / "damaged").rglob("*.color.png"))[:2]
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    said = run("data", "check", "seven-scenes", tmp_path / "damaged")
    assert said.code == 1
    assert str(first.name) in said.out and str(second.name) in said.out
    assert said.out.splitlines()[-1] == "seven-scenes: 2 problem(s)."


def test_a_world_is_checked_by_its_name_alone(run):
    assert run("data", "check", "rooms").out == "rooms: sound.\n"


def test_a_depth_map_of_another_shape_than_its_picture_is_refused_by_name(run, tmp_path):
    assert run("data", "write-miniature", "depth-folders", tmp_path / "mine").code == 0
    odd = next((tmp_path / "mine" / "images").iterdir())
    picture(odd, 10, 12)
    said = run("data", "check", "depth-folders", tmp_path / "mine")
    assert said.code == 1
    assert odd.stem in said.out and "10" in said.out and "12" in said.out


# From a data folder to answers


def test_a_run_folder_holds_all_that_is_promised(trained):
    for name in ("config.yaml", "log.jsonl", "curves.png", "best.safetensors", "result.json", "last/state.pt"):
        assert (trained / name).is_file(), name
    assert list(trained.glob("pictures/step-*.png")) and list(trained.glob("events/*"))
    result = json.loads((trained / "result.json").read_text())
    assert result["steps"] == 2 and result["data"] == "seven-scenes"
    assert set(result["watch"]) == {"name", "higher_is_better", "value", "baseline"}


def test_a_run_is_not_written_over(run, trained, scenes):
    said = run("train", "depth", "--data", "seven-scenes", "--root", scenes, *LIGHT, "--out", trained)
    assert "holds a run already: add --resume to continue it" in said.mistake


def test_a_start_from_another_network_is_refused_naming_what_differs(run, scenes, checkpoint):
    words = light_but("--levels", "3", "--init", str(checkpoint))
    said = run("train", "depth", "--data", "seven-scenes", "--root", scenes, *words)
    assert f"--init {checkpoint}" in said.mistake


def test_own_pictures_and_depth_maps_train(run, tmp_path):
    assert run("data", "write-miniature", "depth-folders", "mine").code == 0
    said = run("train", "depth", "--data", "depth-folders", "--root", "mine", *LIGHT)
    assert said.code == 0, said.err
    assert (tmp_path / "runs" / "depth-1" / "best.safetensors").is_file()
    assert "runs/depth-1" in said.err


def test_evaluate_prints_scores_with_protocol_beside_the_trivial_answer(run, tmp_path, checkpoint, scenes):
    said = run("evaluate", checkpoint, "--root", scenes, *ON_CPU, "--worst", "2", "--out", "scores")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert result == json.loads((tmp_path / "scores" / "result.json").read_text())
    assert (result["data"], result["split"], result["protocol"]) == ("seven-scenes", "test", "all-pixels")
    assert result["metrics"].keys() == result["baseline"].keys() > {"abs_rel", "rms", "delta1"}
    assert result["watch"]["value"] == result["metrics"]["abs_rel"]
    assert Image.open(tmp_path / "scores" / "worst.png").mode == "RGB"
    worst = [float(score) for score in re.findall(r"abs_rel (\d\.\d+)", said.err)]
    assert len(worst) == 2 and worst == sorted(worst, reverse=True)


def test_evaluate_takes_another_set_a_part_of_it_and_the_mirrored_picture(run, checkpoint):
    straight = json.loads(run("evaluate", checkpoint, "--data", "rooms", "--samples", "2", *ON_CPU).out)
    both = json.loads(run("evaluate", checkpoint, "--data", "rooms", "--samples", "2", "--flip", *ON_CPU).out)
    assert (straight["data"], straight["samples"]) == ("rooms", 2)
    assert both["flip"] and both["metrics"]["abs_rel"] != straight["metrics"]["abs_rel"]
    assert both["baseline"] == straight["baseline"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--protocol nyu-laena", "no protocol of the task depth named 'nyu-laena'; did you mean 'nyu-laina'"),
        ("--split val", "has the splits train, test; there is no 'val'"),
        ("--data nyu", "no data set named 'nyu'; did you mean 'nyu-raw'|did you mean 'nyu-depth'"),
        ("--amp b16", 'Did you mean "bf16"'),
        ("--device gpu", "no device 'gpu'"),
    ],
)
def test_evaluate_answers_a_mistake_before_it_computes(run, checkpoint, scenes, words, answer):
    assert re.search(answer, run("evaluate", checkpoint, "--root", scenes, *words.split()).mistake)


def test_a_set_without_training_samples_is_scored_without_a_trivial_answer(run, tmp_path, checkpoint):
    assert run("data", "write-miniature", "depth-folders", "mine").code == 0
    (tmp_path / "mine" / "test").mkdir()
    for folder in ("images", "depths"):
        (tmp_path / "mine" / folder).rename(tmp_path / "mine" / "test" / folder)
    said = run("evaluate", checkpoint, "--data", "depth-folders", "--root", "mine", *ON_CPU)
    assert said.code == 0, said.err
    assert json.loads(said.out)["baseline"] is None
    assert "No trivial baseline" in said.err


def test_a_picture_gets_metres_millimetres_and_colours_of_its_own_size(run, tmp_path, checkpoint):
    said = run("predict", checkpoint, picture(tmp_path / "a.png", 37, 53), "--out", "answers", *ON_CPU)
    assert said.code == 0, said.err
    assert "in metres" in said.out
    answers = tmp_path / "answers"
    assert sorted(file.name for file in answers.iterdir()) == ["a_depth.npy", "a_depth.png", "a_depth_mm.png"]
    metres = np.load(answers / "a_depth.npy")
    assert metres.dtype == np.float32 and metres.shape == (37, 53) and np.isfinite(metres).all()
    with Image.open(answers / "a_depth_mm.png") as stored:
        assert stored.mode.startswith("I;16") and stored.size == (53, 37)
        assert np.array_equal(np.asarray(stored), np.round(metres.clip(0, 65.535) * 1000).astype(np.uint16))
    with Image.open(answers / "a_depth.png") as coloured:
        assert (coloured.mode, coloured.size) == ("RGB", (53, 37))


def test_what_the_training_data_asks_of_users_is_said_once(run, tmp_path, checkpoint):
    pictures = [picture(tmp_path / f"{name}.png") for name in "ab"]
    said = run("predict", checkpoint, *pictures, *ON_CPU)
    assert said.err.count("non-commercial") == 1


def test_a_folder_keeps_its_folders_and_pictures_of_one_name_apart_and_can_be_asked_twice(run, tmp_path, checkpoint):
    for name in ("a.png", "a.jpg", "b.png", "in/a.png", "in/side/c.bmp"):
        picture(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    (tmp_path / "photos" / "folder.png").mkdir()
    expected = ["a_jpg", "a_png", "b", "in/a", "in/side/c"]
    for _ in range(2):  # the second time the first answers lie inside the folder, and are no pictures to answer for
        said = run("predict", checkpoint, "photos", "--out", "photos/answers", *ON_CPU)
        assert said.code == 0, said.err
        found = (tmp_path / "photos" / "answers").rglob("*_depth.npy")
        stems = sorted(
            file.relative_to(tmp_path / "photos" / "answers").as_posix().removesuffix("_depth.npy") for file in found
        )
        assert stems == expected
        assert said.err.splitlines()[-1] == "5 of 5 picture(s) answered, in photos/answers."


def test_answers_never_land_among_the_pictures_they_answer(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(UserError, match="give another, so that both keep apart"):
        pictures_among((tmp_path,), tmp_path)


def test_two_pictures_that_would_share_their_answer_are_refused(tmp_path):
    one, two = picture(tmp_path / "one" / "a.png"), picture(tmp_path / "two" / "a.png")
    with pytest.raises(UserError, match="written to the same files"):
        pictures_among((one, two), tmp_path / "out")


def test_an_empty_folder_is_named(run, tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    assert "The folder 'empty' holds no picture (.jpg," in run("predict", checkpoint, "empty").mistake


def test_damaged_pictures_are_skipped_and_listed_and_the_exit_code_is_1(run, tmp_path, checkpoint):
    photos = tmp_path / "photos"
    whole = picture(photos / "whole.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("no picture")
    said = run("predict", checkpoint, "photos", *ON_CPU)
    assert said.code == 1
    assert (tmp_path / "predictions" / "whole_depth.npy").is_file()
    skipped = [line for line in said.err.splitlines() if line.startswith("skipped: ")]
    assert [re.search(r"(\w+)\.\w+ cannot be read", line).group(1) for line in skipped] == ["cut", "empty", "text"]  # type: ignore[union-attr]
    assert "1 of 4 picture(s) answered" in said.err


def test_a_picture_that_claims_to_be_enormous_is_damaged_too(run, tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    said = run("predict", checkpoint, picture(tmp_path / "a.png"), *ON_CPU)
    assert said.code == 1
    assert "skipped: " in said.err and "exceeds limit" in said.err


def test_a_turned_photograph_is_answered_upright(run, tmp_path, checkpoint):
    turn = Image.Exif()
    turn[0x0112] = 6  # "the 0th row is the right-hand side": turn clockwise to see it upright (EXIF 2.32, table 4)
    lying = Image.open(picture(tmp_path / "source.png", 40, 64))
    lying.save(tmp_path / "turned.png", exif=turn)
    lying.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    assert run("predict", checkpoint, "turned.png", "upright.png", *ON_CPU).code == 0
    turned, upright = (np.load(tmp_path / "predictions" / f"{name}_depth.npy") for name in ("turned", "upright"))
    assert turned.shape == (64, 40)
    np.testing.assert_array_equal(turned, upright)


@pytest.mark.parametrize("resolution", ["fit", "native"])
def test_both_resolutions_answer_at_the_pictures_size(run, tmp_path, checkpoint, resolution):
    here = picture(tmp_path / "a.png", 75, 41)
    said = run("predict", checkpoint, here, "--resolution", resolution, "--flip", *ON_CPU)
    assert said.code == 0, said.err
    assert np.load(tmp_path / "predictions" / "a_depth.npy").shape == (75, 41)


def test_asking_a_task_without_a_shipped_checkpoint_says_how_to_get_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr("densevision.tasks.inference.SHIPPED", tmp_path)
    for words in (
        ("predict", "depth", picture(tmp_path / "a.png")),
        ("evaluate", "depth"),
        ("weights", "show", "depth"),
    ):
        assert "train one (densevision train depth) and give its path" in run(*words).mistake


def test_a_shipped_checkpoint_answers_to_its_tasks_name(run, tmp_path, monkeypatch, checkpoint):
    folder = tmp_path / "shipped" / "depth" / "weights"
    folder.mkdir(parents=True)
    shutil.copy(checkpoint, folder / "small.safetensors")
    monkeypatch.setattr("densevision.tasks.inference.SHIPPED", tmp_path / "shipped")
    assert "depth: small (" in run("weights", "list").out
    assert json.loads(run("weights", "show", "depth").out)["task"] == "depth"
    assert run("weights", "verify", "depth").code == 0
    assert run("predict", "depth", picture(tmp_path / "a.png"), *ON_CPU).code == 0
    assert (tmp_path / "predictions" / "a_depth.npy").is_file()


# Weights


def test_a_checkpoint_says_what_it_is(run, checkpoint):
    header = json.loads(run("weights", "show", checkpoint).out)
    assert (header["task"], header["backbone"], header["head"]) == ("depth", "resnet18", "unet")
    assert header["data"]["terms"] and header["metrics"]["protocol"] == "all-pixels"


def test_published_weights_are_listed_and_shown_with_their_licence(run):
    listed = run("weights", "list").out.split("\n")
    assert "resnet18/imagenet" in listed
    assert json.loads(run("weights", "show", "resnet18/imagenet").out)["licence"]


def test_verify_reads_a_file_to_its_end(run, tmp_path, checkpoint):
    shown = json.loads(run("weights", "verify", checkpoint).out)
    assert run("weights", "verify", checkpoint, "--sha256", shown["sha256"]).code == 0
    assert "sha256" in run("weights", "verify", checkpoint, "--sha256", "00ff").mistake
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    assert "cut.safetensors" in run("weights", "verify", cut).mistake
    assert "cut.safetensors" in run("predict", cut, picture(tmp_path / "a.png")).mistake


def test_a_file_of_something_else_is_no_checkpoint(run, tmp_path):
    assert "no readable safetensors file" in run("evaluate", picture(tmp_path / "a.png")).mistake


def test_a_shrunken_checkpoint_is_half_as_large_and_still_answers(run, tmp_path, checkpoint):
    assert run("weights", "shrink", checkpoint, "small.safetensors").code == 0
    small = tmp_path / "small.safetensors"
    assert small.stat().st_size < 0.6 * checkpoint.stat().st_size
    assert "exists already" in run("weights", "shrink", checkpoint, small).mistake
    here = picture(tmp_path / "a.png")
    for file, out in ((checkpoint, "large"), (small, "small")):
        assert run("predict", file, here, "--out", out, *ON_CPU).code == 0
    large, halved = (np.load(tmp_path / out / "a_depth.npy") for out in ("large", "small"))
    np.testing.assert_allclose(halved, large, rtol=2e-2)
