"""The flow task end to end: options, augmentation, training runs, and predictions in pixels of the original."""

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
from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.core.geometry import Size
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import FieldType, Image, collate
from densevision.datasets.field_types import Flow as FlowType
from densevision.datasets.formats.image import write_image
from densevision.datasets.synthetic import SyntheticChairs
from densevision.errors import UserError
from densevision.tasks.checkpoint import read_header, read_tensors
from densevision.tasks.conformance import check_task
from densevision.tasks.flow import Flow
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.flow.networks import FlowNetwork
from densevision.tasks.inference import Predictor
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.task import Defaults
from densevision.tasks.training.data import AugmentedDataset
from densevision.tasks.training.options import Options

FIELDS: dict[str, FieldType] = {"first": Image(), "second": Image(frame=1), "flow": FlowType()}
QUICK: dict[str, Any] = {
    "backbone": "resnet20_cifar", "image_size": (16, 24), "batch_size": 2, "steps": 4, "lr": 1e-3, "warmup_steps": 0,
    "ema_decay": 0.5, "workers": 0, "device": "cpu", "amp": "off", "eval_every": 0, "eval_samples": 2, "log_every": 4,
    "save_every": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, np.ndarray]]:
    dataset = SyntheticChairs(size=(48, 64))
    return [dataset.read(index) for index in range(4)]


# --- contract and options ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EarlyFusion(Flow):
    """The task with defaults that fit early fusion."""

    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-chairs", backbone="resnet18", head="unet", recipe="synthetic-chairs"
    )
    models: ClassVar[dict[str, str]] = {}
    recipes: ClassVar[dict[str, Options]] = {"synthetic-chairs": Flow.recipes["synthetic-chairs"]}


def test_early_fusion_satisfies_the_task_contract():
    # The default fusion is checked with all tasks in tests/tasks/test_conformance.py.
    check_task(EarlyFusion(fusion="early", relative_motion=0.5))


def test_invalid_options_are_refused_with_a_way_out():
    with pytest.raises(UserError, match="no --fusion named 'earyl'; did you mean 'early'"):
        create_task("flow", fusion="earyl")
    for strength in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"--relative-motion is .*; it must be between 0 and 1\."):
            create_task("flow", relative_motion=strength)
    with pytest.raises(
        UserError, match=r"'warping' compares the feature maps of two images, and --fusion early .* add --head"
    ):
        ModelSpec(Flow(fusion="early"), FIELDS, "resnet20_cifar", {}, "warping").build()
    with pytest.raises(UserError, match="no head of the task flow named 'warp'; did you mean 'warping'"):
        ModelSpec(Flow(), FIELDS, "resnet20_cifar", {}, "warp").build()


@pytest.mark.parametrize("name", ["first", "second", "flow"])
def test_a_dataset_without_two_images_or_flow_is_refused(name):
    fields = {other: field_type for other, field_type in FIELDS.items() if other != name}
    task = Flow()
    with pytest.raises(UserError, match=f"The task flow needs a field '{name}'"):
        task.targets(fields) if name == "flow" else task.inputs(fields)


def test_input_channels_are_those_of_one_image_or_both():
    assert [Flow(fusion=fusion).backbone_options(FIELDS)["in_channels"] for fusion in ("siamese", "early")] == [3, 6]
    gray = {**FIELDS, "first": Image(1), "second": Image(1, frame=1)}
    assert [Flow(fusion=fusion).backbone_options(gray)["in_channels"] for fusion in ("siamese", "early")] == [1, 2]


# --- augmentation and loss --------------------------------------------------------------------------------------


def test_color_augmentation_is_common_with_a_small_difference_and_keeps_the_flow(pairs):
    task, first = Flow(), pairs[0]["first"]
    sample = {**pairs[0], "second": first.copy()}
    common, difference = [], []
    for index in range(12):
        result = task.augmentation.augment(sample, generator(0, 0, index, Purpose.PREPARE), 1.0)
        assert result["flow"] is sample["flow"] and result["first"].dtype == np.uint8
        # Mean colors, since the noise differs from pixel to pixel.
        before, one, other = (image.mean((0, 1)) for image in (first, result["first"], result["second"]))
        common.append(np.abs(one - before).mean())
        difference.append(np.abs(other - one).mean())
        assert not np.array_equal(result["first"], result["second"])
    assert np.mean(common) > 10  # gray levels
    assert 0.5 < np.mean(difference) < 0.5 * np.mean(common)
    np.testing.assert_array_equal(first, pairs[0]["first"])


def test_noise_is_independent_for_each_image():
    flat = np.full((40, 40, 3), 128, np.uint8)
    sample = {"first": flat, "second": flat, "flow": np.zeros((40, 40, 2), np.float32)}
    noises = []
    for index in range(12):
        result = Flow().augmentation.augment(sample, generator(0, 0, index, Purpose.PREPARE), 1.0)
        noises.append([result[name].astype(float) - result[name].mean((0, 1)) for name in ("first", "second")])
    deviations = np.std(noises, axis=(2, 3, 4)) / 255
    # Dosovitskiy et al. 2015: a standard deviation of up to 0.04; rounding adds a little.
    assert deviations.mean() > 0.005 and deviations.max() < 0.045
    assert abs(np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in noises])) < 0.05


def test_evaluation_and_strength_zero_change_nothing(pairs):
    rng = generator(0, 0, 0, Purpose.PREPARE)
    state = rng.bit_generator.state
    for rng_or_none, color_jitter in ((None, 1.0), (rng, 0.0)):
        result = Flow().augmentation.augment(pairs[0], rng_or_none, color_jitter)
        assert all(result[name] is value for name, value in pairs[0].items())
    assert rng.bit_generator.state == state


def test_relative_motion_changes_only_the_second_image_and_the_flow():
    def sample(**options: Any) -> dict[str, np.ndarray]:
        return AugmentedDataset(
            SyntheticChairs(size=(48, 64)), Flow(**options), (48, 64), Augmentation(), 0.0, 0
        ).sample((0, 2))

    still, moved = sample(), sample(relative_motion=1.0)
    np.testing.assert_array_equal(still["first"], moved["first"])
    assert not np.array_equal(still["second"], moved["second"])
    added = np.linalg.norm(moved["flow"] - still["flow"], axis=-1)
    # At most 3 % of height and width, 3 degrees and a factor of 1.03 about the center.
    assert 0 < np.nanmean(added) < np.hypot(0.03 * 48, 0.03 * 64) + 40 * (np.radians(3) + 0.03)


def test_the_loss_has_a_term_for_every_resolution(pairs):
    task = Flow()
    batch = collate(pairs, SyntheticChairs().fields)
    model: Any = ModelSpec(task, FIELDS, "resnet18", {"levels": 3}, "warping").build()
    (phase,) = task.phases(model, FIELDS, "multiscale")
    images = {name: FIELDS[name].to_input(batch[name]) for name in ("first", "second")}
    terms = phase.loss({**batch, **images}, {})
    assert phase.module is model
    assert list(terms) == [f"stride_{stride}" for stride in (32, 16, 8, 4)]


@pytest.mark.parametrize("fusion, head", [("siamese", "warping"), ("siamese", "unet"), ("early", "unet")])
def test_steps_on_one_batch_reduce_the_loss(pairs, fusion, head):
    task = Flow(fusion=fusion)
    torch.manual_seed(0)
    model: Any = ModelSpec(task, FIELDS, "resnet18", {"levels": 3}, head).build()
    batch = collate([{name: pair[name] for name in FIELDS} for pair in pairs], FIELDS)
    batch = {name: FIELDS[name].to_input(value) if name in FIELDS else value for name, value in batch.items()}
    (phase,) = task.phases(model, FIELDS, task.losses[0])
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-3), []
    for _ in range(15):
        loss = torch.stack(list(phase.loss(batch, {}).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


# --- training runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "flow"
    return folder, train(Flow(relative_motion=0.5), **QUICK, out=folder)


def test_the_default_dataset_uses_no_files_of_the_working_directory(tmp_path, monkeypatch):
    expected = SyntheticChairs(split="test", size=(16, 24)).read(0)
    write_image(tmp_path / "test" / "mine.png", np.zeros((40, 40, 3), np.uint8))
    for folder in (tmp_path / "test" / "empty", tmp_path):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        resized = open_dataset("synthetic-chairs", None, "test").with_size((16, 24))
        np.testing.assert_array_equal(resized.read(0)["first"], expected["first"])
        assert "photos" not in resized.terms


def test_a_run_monitors_the_end_point_error_beside_zero_flow(trained):
    folder, result = trained
    assert result["task"] == "flow" and result["head"] == "warping" and result["protocol"] == "pixel-mean"
    assert result["monitor"]["name"] == "epe" and not result["monitor"]["higher_is_better"]
    # The error of zero flow is the mean length of the true motion.
    dataset = SyntheticChairs(split="test", size=(16, 24))
    lengths = [np.linalg.norm(dataset.read(index)["flow"], axis=-1).mean() for index in range(2)]
    assert result["monitor"]["baseline"] == pytest.approx(np.mean(lengths), rel=1e-4)
    assert read_header(folder / "best.safetensors")["task_options"] == {"fusion": "siamese", "relative_motion": 0.5}


def test_a_checkpoint_predicts_pairs_of_any_size(trained, tmp_path):
    folder, _ = trained
    flow = load(folder / "best.safetensors", "cpu", "off").predict(*np.zeros((2, 37, 51, 3), np.uint8))
    assert isinstance(flow, FlowField) and flow.vectors.shape == (37, 51, 2) and flow.vectors.dtype == np.float32
    assert [file.name for file in flow.save(tmp_path, "a")] == ["a_flow.flo", "a_flow.png", "a_flow_arrows.png"]


def test_resuming_repeats_the_run_with_the_tasks_own_options(tmp_path, trained):
    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    folder, _ = trained
    out = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        train(Flow(relative_motion=0.5), **QUICK, out=out, on_step=stop)
    with pytest.raises(UserError, match=r"--resume continues .*relative_motion=0\.5.*leave out the task's options"):
        train(Flow(relative_motion=0.25), out=out, resume=True)
    train("flow", out=out, resume=True)
    one, other = (read_tensors(run / "last" / "checkpoint.safetensors") for run in (folder, out))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_command_line_takes_the_tasks_own_options(tmp_path):
    from densevision.apps.cli import main

    out = tmp_path / "run"
    command = "train flow --fusion early --head unet --relative-motion 0.25 --loss sequence --backbone resnet20_cifar"
    options = "--image-size 16 16 --batch-size 2 --steps 2 --color-jitter 0.5 --eval-samples 1 --workers 0"
    main([*f"{command} {options} --device cpu --amp off".split(), "--out", str(out)])
    header = read_header(out / "best.safetensors")
    assert header["task_options"] == {"fusion": "early", "relative_motion": 0.25}
    assert (header["head"], header["loss"]) == ("unet", "sequence")
    # The first convolution reads both images.
    tensors = read_tensors(out / "best.safetensors")
    assert next(value.shape[1] for name, value in tensors.items() if "conv1" in name) == 6


# --- predictions -------------------------------------------------------------------------------------------------


class Proportional(FlowNetwork):
    """Predicts a motion of 1/10 of the width and 1/20 of the height everywhere, at 1/4 of the resolution."""

    stride = 1

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        height, width = first.shape[-2:]
        motion = first.new_tensor([0.1 * width, 0.05 * height]).view(1, 2, 1, 1)
        return [motion.expand(len(first), 2, -(-height // 4), -(-width // 4))]


class Gradients(FlowNetwork):
    """Predicts differences of the images' x gradients and colors: equivariant to a flip."""

    stride = 1

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        change = (second - first).mean(1, keepdim=True)
        gradient = torch.zeros_like(change)
        gradient[..., 1:-1] = change[..., 2:] - change[..., :-2]
        return [100 * torch.cat([gradient, change], dim=1)]


class Constant(FlowNetwork):
    """Predicts (5, 3) everywhere, also for flipped images."""

    stride = 1

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        return [first.new_tensor([5.0, 3.0]).view(1, 2, 1, 1).expand(len(first), 2, *first.shape[2:])]


def predictor_of(model: FlowNetwork, size: Size = (32, 48)) -> Predictor:
    model.weight = torch.nn.Parameter(torch.zeros(1))
    return Predictor(Flow(), model, FIELDS, size)


def random_images(height: int, width: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng((5, 5)).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["native", "fit"])
@pytest.mark.parametrize("source", [(32, 48), (31, 47), (90, 61), (9, 480)])
def test_predictions_are_in_pixels_of_the_original_in_every_input_mode(mode, source):
    flow = predictor_of(Proportional()).predict(*random_images(*source), mode=mode)
    assert isinstance(flow, FlowField) and flow.vectors.shape == (*source, 2)
    expected = np.broadcast_to(np.array([0.1 * source[1], 0.05 * source[0]]), flow.vectors.shape)
    np.testing.assert_allclose(flow.vectors, expected, rtol=1e-5)


def test_a_resize_that_changes_the_aspect_ratio_scales_each_axis_by_its_own_factor():
    # 9 x 480 is resized to 32 x 480 instead of 32 x 1707: at most about 8 times as long as the training size.
    task = Flow()
    (geometry,) = task.inference.geometries("fit", (9, 480), (32, 48), Constant())
    assert geometry.size == (32, 480)
    flow = predictor_of(Constant()).predict(*random_images(9, 480), mode="fit")
    assert isinstance(flow, FlowField)
    np.testing.assert_allclose(flow.vectors[4, 7], [5, 3 * 9 / 32], rtol=1e-5)


def test_unflip_negates_x_and_keeps_y():
    output = torch.arange(12.0).view(1, 2, 2, 3)
    unflipped = Flow().inference.unflip(output, {}, 8)
    assert unflipped[0, 0].tolist() == [[-2, -1, 0], [-5, -4, -3]]
    assert unflipped[0, 1].tolist() == [[8, 7, 6], [11, 10, 9]]


@pytest.mark.parametrize("mode", ["native", "fit"])
def test_flip_averaging_does_not_change_equivariant_predictions(mode):
    predictor, images = predictor_of(Gradients()), random_images(32, 48)
    plain, averaged = (predictor.predict(*images, mode=mode, flip=flip) for flip in (False, True))
    assert isinstance(plain, FlowField) and isinstance(averaged, FlowField)
    assert np.abs(plain.vectors[..., 0]).max() > 10
    np.testing.assert_allclose(averaged.vectors, plain.vectors, rtol=0, atol=1e-5)


def test_flip_averaging_cancels_x_motion_that_is_not_equivariant():
    flow = predictor_of(Constant()).predict(*random_images(20, 30), flip=True)
    assert isinstance(flow, FlowField)
    assert (flow.vectors == np.array([0, 3])).all()


def test_predictions_have_the_first_image_for_arrows():
    images = random_images(20, 30)
    flow = predictor_of(Constant()).predict(*images)
    assert isinstance(flow, FlowField)
    np.testing.assert_array_equal(flow.first, images[0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_image_or_three_are_refused(count):
    message = rf"model takes 2 input\(s\) \(first, second\), not {count}\."
    with pytest.raises(UserError, match=message):
        predictor_of(Constant()).predict(*random_images(20, 30, count))


def test_images_of_different_sizes_are_refused():
    with pytest.raises(UserError, match=r"The inputs differ in size: 20x30, 30x20\."):
        predictor_of(Constant()).predict(random_images(20, 30)[0], random_images(30, 20)[0])


def test_the_baseline_is_zero_flow_and_the_ground_truth_is_the_stored_flow(pairs):
    baseline = Flow().baseline(SyntheticChairs())(pairs[0])
    ground_truth = Flow().ground_truth(pairs[0], FIELDS)
    assert isinstance(baseline, FlowField) and isinstance(ground_truth, FlowField)
    assert baseline.vectors.shape == (48, 64, 2) and not baseline.vectors.any()
    np.testing.assert_array_equal(ground_truth.vectors, pairs[0]["flow"])
