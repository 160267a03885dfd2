"""The task from end to end: what training sees, what is asked, and how an answer comes back to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from densevision import create_task, load, train
from densevision.datasets import open_dataset
from densevision.datasets.augmentation import Augmentation
from densevision.datasets.chairs import Chairs
from densevision.datasets.fields import Flow as FlowKind
from densevision.datasets.fields import Image, Kind, collate
from densevision.datasets.formats.picture import write_picture
from densevision.datasets.geometry import Size
from densevision.datasets.randomness import Purpose, generator
from densevision.errors import UserError
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.conformance import check_task
from densevision.tasks.flow import Flow
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.flow.network import FlowNetwork
from densevision.tasks.inference import Predictor
from densevision.tasks.task import Default
from densevision.tasks.training.checkpoint import read_header, read_tensors
from densevision.tasks.training.options import Options
from densevision.tasks.training.stream import TrainingView

FIELDS: dict[str, Kind] = {"first": Image(), "second": Image(frame=1), "flow": FlowKind()}
QUICK: dict[str, Any] = {
    "backbone": "resnet20_cifar", "size": (16, 24), "batch": 2, "steps": 4, "lr": 1e-3, "warmup": 0, "ema": 0.5,
    "workers": 0, "device": "cpu", "amp": "off", "evaluate_every": 0, "eval_samples": 2, "log_every": 4,
    "save_every": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, np.ndarray]]:
    world = Chairs(size=(48, 64))
    return [world.read(number) for number in range(4)]


# --- promises and options ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stacked(Flow):
    """FlowNetS's way by default."""

    default: ClassVar[Default] = Default(data="chairs", backbone="resnet18", head="unet", recipe="chairs")
    networks: ClassVar[dict[str, str]] = {}
    recipes: ClassVar[dict[str, Options]] = {"chairs": Flow.recipes["chairs"]}


def test_the_stacked_form_keeps_the_tasks_promises():
    # The usual form is checked with all tasks in tests/tasks/test_conformance.py.
    check_task(Stacked(form="stacked", between=0.5))


def test_mistaken_options_are_answered_with_the_way_out():
    with pytest.raises(UserError, match="no --form named 'stakced'; did you mean 'stacked'"):
        create_task("flow", form="stakced")
    for between in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"--between is .*; it must lie in 0 to 1\."):
            create_task("flow", between=between)
    with pytest.raises(UserError, match="'warping' compares two sets of maps, and --form stacked has one: add --head"):
        Blueprint(Flow(form="stacked"), FIELDS, "resnet20_cifar", {}, "warping").build()
    with pytest.raises(UserError, match="no head of the task flow named 'warp'; did you mean 'warping'"):
        Blueprint(Flow(), FIELDS, "resnet20_cifar", {}, "warp").build()


@pytest.mark.parametrize("name", ["first", "second", "flow"])
def test_a_set_without_two_pictures_and_their_motion_is_refused(name):
    fields = {other: kind for other, kind in FIELDS.items() if other != name}
    task = Flow()
    with pytest.raises(UserError, match=f"The task flow needs a field '{name}'"):
        task.targets(fields) if name == "flow" else task.inputs(fields)


def test_a_trunk_reads_one_picture_or_both():
    assert [Flow(form=form).channels(FIELDS) for form in ("shared", "stacked")] == [3, 6]
    grey = {**FIELDS, "first": Image(1), "second": Image(1, frame=1)}
    assert [Flow(form=form).channels(grey) for form in ("shared", "stacked")] == [1, 2]


# --- what training sees -----------------------------------------------------------------------------------------


def test_photometry_changes_both_pictures_alike_the_second_a_little_more_and_no_motion(pairs):
    task, first = Flow(), pairs[0]["first"]
    twice = {**pairs[0], "second": first.copy()}
    alike, own = [], []
    for index in range(12):
        made = task.prepare(twice, generator(0, 0, index, Purpose.PREPARE), 1.0)
        assert made["flow"] is twice["flow"] and made["first"].dtype == np.uint8
        # Colours as a whole: the grain differs from pixel to pixel.
        before, one, other = (each.mean((0, 1)) for each in (first, made["first"], made["second"]))
        alike.append(np.abs(one - before).mean())
        own.append(np.abs(other - one).mean())
        assert not np.array_equal(made["first"], made["second"])
    assert np.mean(alike) > 10  # grey levels
    assert 0.5 < np.mean(own) < 0.5 * np.mean(alike)
    np.testing.assert_array_equal(first, pairs[0]["first"])


def test_grain_is_drawn_for_each_picture():
    flat = np.full((40, 40, 3), 128, np.uint8)
    sample = {"first": flat, "second": flat, "flow": np.zeros((40, 40, 2), np.float32)}
    noises = []
    for index in range(12):
        made = Flow().prepare(sample, generator(0, 0, index, Purpose.PREPARE), 1.0)
        noises.append([made[name].astype(float) - made[name].mean((0, 1)) for name in ("first", "second")])
    deviations = np.std(noises, axis=(2, 3, 4)) / 255
    # Dosovitskiy et al. 2015: a deviation of up to 0.04; rounding adds a little.
    assert deviations.mean() > 0.005 and deviations.max() < 0.045
    assert abs(np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in noises])) < 0.05


def test_nothing_is_drawn_in_evaluation_and_without_colour(pairs):
    rng = generator(0, 0, 0, Purpose.PREPARE)
    state = rng.bit_generator.state
    for rng_or_none, colour in ((None, 1.0), (rng, 0.0)):
        made = Flow().prepare(pairs[0], rng_or_none, colour)
        assert all(made[name] is value for name, value in pairs[0].items())
    assert rng.bit_generator.state == state


def test_the_motion_between_moves_the_second_picture_and_the_truth_alone():
    def sample(**options: Any) -> dict[str, np.ndarray]:
        return TrainingView(Chairs(size=(48, 64)), Flow(**options), (48, 64), Augmentation(), 0.0, 0).sample((0, 2))

    still, moved = sample(), sample(between=1.0)
    np.testing.assert_array_equal(still["first"], moved["first"])
    assert not np.array_equal(still["second"], moved["second"])
    added = np.linalg.norm(moved["flow"] - still["flow"], axis=-1)
    # At most 3 % of each side and 3 degrees and a factor of 1.03 about the middle.
    assert 0 < np.nanmean(added) < np.hypot(0.03 * 48, 0.03 * 64) + 40 * (np.radians(3) + 0.03)


def test_every_resolution_that_a_network_answers_at_is_scored(pairs):
    task = Flow()
    batch = collate(pairs, Chairs().fields)
    model = Blueprint(task, FIELDS, "resnet18", {"levels": 3}, "warping").build()
    (phase,) = task.phases(model, FIELDS, "multiscale")
    pictures = {name: FIELDS[name].arrive(batch[name]) for name in ("first", "second")}
    terms = phase.loss({**batch, **pictures}, {})
    assert phase.module is model
    assert list(terms) == [f"stride_{stride}" for stride in (32, 16, 8, 4)]


@pytest.mark.parametrize("form, head", [("shared", "warping"), ("shared", "unet"), ("stacked", "unet")])
def test_steps_on_one_batch_bring_the_loss_down(pairs, form, head):
    task = Flow(form=form)
    torch.manual_seed(0)
    model = Blueprint(task, FIELDS, "resnet18", {"levels": 3}, head).build()
    batch = collate([{name: pair[name] for name in FIELDS} for pair in pairs], FIELDS)
    batch = {name: FIELDS[name].arrive(value) if name in FIELDS else value for name, value in batch.items()}
    (phase,) = task.phases(model, FIELDS, task.losses[0])
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-3), []
    for _ in range(15):
        loss = torch.stack(list(phase.loss(batch, {}).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


# --- runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "flow"
    return folder, train(Flow(between=0.5), **QUICK, out=folder)


def test_the_default_world_needs_no_files_and_takes_none_that_happen_to_lie_here(tmp_path, monkeypatch):
    expected = Chairs(split="test", size=(16, 24)).read(0)
    write_picture(tmp_path / "test" / "mine.png", np.zeros((40, 40, 3), np.uint8))
    for here in (tmp_path / "test" / "empty", tmp_path):
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        resized = open_dataset("chairs", None, "test").at((16, 24))
        np.testing.assert_array_equal(resized.read(0)["first"], expected["first"])
        assert "photographs" not in resized.terms


def test_a_run_is_judged_by_its_end_point_error_beside_no_motion(trained):
    folder, result = trained
    assert result["task"] == "flow" and result["head"] == "warping" and result["protocol"] == "pixels"
    assert result["watch"]["name"] == "epe" and not result["watch"]["higher_is_better"]
    # Nothing moves: the mean length of the true motion.
    world = Chairs(split="test", size=(16, 24))
    lengths = [np.linalg.norm(world.read(number)["flow"], axis=-1).mean() for number in range(2)]
    assert result["watch"]["baseline"] == pytest.approx(np.mean(lengths), rel=1e-4)
    assert read_header(folder / "best.safetensors")["task_options"] == {"form": "shared", "between": 0.5}


def test_a_checkpoint_alone_answers_pairs_of_any_size(trained, tmp_path):
    folder, _ = trained
    made = load(folder / "best.safetensors", "cpu", "off").predict(*np.zeros((2, 37, 51, 3), np.uint8))
    assert isinstance(made, FlowField) and made.vectors.shape == (37, 51, 2) and made.vectors.dtype == np.float32
    assert [file.name for file in made.save(tmp_path, "a")] == ["a_flow.flo", "a_flow.png", "a_flow_arrows.png"]


def test_resuming_repeats_the_run_with_the_tasks_own_options(tmp_path, trained):
    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    folder, _ = trained
    out = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        train(Flow(between=0.5), **QUICK, out=out, on_step=stop)
    with pytest.raises(UserError, match=r"--resume continues .*between=0\.5.*leave the task's options out"):
        train(Flow(between=0.25), out=out, resume=True)
    train("flow", out=out, resume=True)
    one, other = (read_tensors(each / "last" / "checkpoint.safetensors") for each in (folder, out))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_command_line_takes_the_tasks_own_options(tmp_path):
    from densevision.apps.cli import main

    out = tmp_path / "run"
    words = ["train", "flow", "--form", "stacked", "--head", "unet", "--between", "0.25", "--loss", "sequence"]
    words += ["--backbone", "resnet20_cifar", "--size", "16", "16", "--batch", "2", "--steps", "2", "--colour", "0.5"]
    main([*words, "--eval-samples", "1", "--workers", "0", "--out", str(out), "--device", "cpu", "--amp", "off"])
    header = read_header(out / "best.safetensors")
    assert header["task_options"] == {"form": "stacked", "between": 0.25}
    assert (header["head"], header["loss"]) == ("unet", "sequence")
    # The first convolution reads both pictures.
    assert (
        next(value.shape[1] for name, value in read_tensors(out / "best.safetensors").items() if "conv1" in name) == 6
    )


# --- answers ----------------------------------------------------------------------------------------------------


class Share(FlowNetwork):
    """Answers that everything moves by a tenth of the width and a twentieth of the height, at a quarter of the size."""

    stride = 1

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        height, width = first.shape[-2:]
        motion = first.new_tensor([0.1 * width, 0.05 * height]).view(1, 2, 1, 1)
        return [motion.expand(len(first), 2, -(-height // 4), -(-width // 4))]


class Slopes(FlowNetwork):
    """Answers the difference of the two pictures' slopes along x, and of their colours: equivariant to a mirror."""

    stride = 1

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        change = (second - first).mean(1, keepdim=True)
        along = torch.zeros_like(change)
        along[..., 1:-1] = change[..., 2:] - change[..., :-2]
        return [100 * torch.cat([along, change], dim=1)]


class Constant(FlowNetwork):
    """Answers (5, 3) everywhere, in a mirror too."""

    stride = 1

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        return [first.new_tensor([5.0, 3.0]).view(1, 2, 1, 1).expand(len(first), 2, *first.shape[2:])]


def predictor(network: FlowNetwork, size: Size = (32, 48)) -> Predictor:
    network.weight = torch.nn.Parameter(torch.zeros(1))
    return Predictor(Flow(), network, FIELDS, size)


def photographs(height: int, width: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng((5, 5)).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("view", ["native", "fit"])
@pytest.mark.parametrize("source", [(32, 48), (31, 47), (90, 61), (9, 480)])
def test_an_answer_is_in_pixels_of_the_original_whatever_the_network_was_shown(view, source):
    made = predictor(Share()).predict(*photographs(*source), view=view)
    assert isinstance(made, FlowField) and made.vectors.shape == (*source, 2)
    expected = np.broadcast_to(np.array([0.1 * source[1], 0.05 * source[0]]), made.vectors.shape)
    np.testing.assert_allclose(made.vectors, expected, rtol=1e-5)


def test_a_view_that_changes_the_aspect_scales_each_axis_by_its_own_factor():
    # 9 x 480 is shown no longer than 8 times the training's 48: 32 x 480 instead of 32 x 1707.
    task = Flow()
    (shown,) = task.shown("fit", (9, 480), (32, 48), Constant())
    assert shown.size == (32, 480)
    made = predictor(Constant()).predict(*photographs(9, 480), view="fit")
    assert isinstance(made, FlowField)
    np.testing.assert_allclose(made.vectors[4, 7], [5, 3 * 9 / 32], rtol=1e-5)


def test_in_a_mirror_motion_along_x_turns_and_motion_along_y_stays():
    output = torch.arange(12.0).view(1, 2, 2, 3)
    mirrored = Flow().mirrored(output, {}, 8)
    assert mirrored[0, 0].tolist() == [[-2, -1, 0], [-5, -4, -3]]
    assert mirrored[0, 1].tolist() == [[8, 7, 6], [11, 10, 9]]


@pytest.mark.parametrize("view", ["native", "fit"])
def test_flip_averaging_changes_nothing_where_the_network_answers_a_mirror_mirrored(view):
    asked, pictures = predictor(Slopes()), photographs(32, 48)
    plain, both = (asked.predict(*pictures, view=view, flip=flip) for flip in (False, True))
    assert isinstance(plain, FlowField) and isinstance(both, FlowField)
    assert np.abs(plain.vectors[..., 0]).max() > 10
    np.testing.assert_allclose(both.vectors, plain.vectors, rtol=0, atol=1e-5)


def test_flip_averaging_takes_out_what_does_not_turn_in_a_mirror():
    made = predictor(Constant()).predict(*photographs(20, 30), flip=True)
    assert isinstance(made, FlowField)
    assert (made.vectors == np.array([0, 3])).all()


def test_the_answer_keeps_the_first_picture_for_its_arrows():
    pictures = photographs(20, 30)
    made = predictor(Constant()).predict(*pictures)
    assert isinstance(made, FlowField)
    np.testing.assert_array_equal(made.first, pictures[0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_picture_or_three_are_refused(count):
    sentence = rf"flow takes 2 input\(s\) \(first, second\), not {count}\."
    with pytest.raises(UserError, match=sentence):
        predictor(Constant()).predict(*photographs(20, 30, count))


def test_two_pictures_of_two_sizes_are_refused():
    with pytest.raises(UserError, match=r"The inputs differ in size: 20x30, 30x20\."):
        predictor(Constant()).predict(photographs(20, 30)[0], photographs(30, 20)[0])


def test_the_trivial_answer_is_no_motion_and_the_truth_is_the_stored_one(pairs):
    trivial = Flow().baseline(Chairs())(pairs[0])
    truth = Flow().truth(pairs[0], FIELDS)
    assert isinstance(trivial, FlowField) and isinstance(truth, FlowField)
    assert trivial.vectors.shape == (48, 64, 2) and not trivial.vectors.any()
    np.testing.assert_array_equal(truth.vectors, pairs[0]["flow"])


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        ("chairs", "pixels"),  # facts 3.3: "Sintel and Chairs pooled over pixels"
        ("flying-chairs", "pixels"),
        ("sintel", "pixels"),
        ("kitti-flow-2012", "kitti"),
        ("kitti-flow-2015", "kitti"),
        ("middlebury-flow", "pictures"),
        ("my set", "pixels"),
    ],
)
def test_each_set_is_scored_as_people_score_it(data, protocol):
    assert Flow().default_protocol(data, {}) == protocol
