"""The task from end to end: trained, kept, asked, judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from densevision import create_task, load, train
from densevision.datasets.fields import Image
from densevision.datasets.formats.picture import read_picture
from densevision.datasets.photographs import Photographs
from densevision.datasets.shapes import Shapes
from densevision.errors import UserError
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.colorization import Colorization
from densevision.tasks.colorization.colours import Colours
from densevision.tasks.colorization.encoding import measured_prior
from densevision.tasks.colorization.lab import lab_of
from densevision.tasks.conformance import check_fit, check_task
from densevision.tasks.inference import Predictor
from densevision.tasks.training.assembly import assemble
from densevision.tasks.training.checkpoint import read_header, read_tensors
from densevision.tasks.training.options import Options

QUICK: dict[str, Any] = {
    "backbone": "resnet20_cifar", "size": (16, 16), "batch": 8, "steps": 12, "lr": 5e-3, "warmup": 0, "ema": 0.5,
    "workers": 0, "device": "cpu", "amp": "off", "evaluate_every": 0, "eval_samples": 3, "log_every": 12,
    "save_every": 1000,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "colours"
    return folder, train("colorization", **QUICK, out=folder)


def untrained(**options: Any) -> Predictor:
    torch.manual_seed(0)
    task = Colorization(**options)
    fields = Shapes().fields
    model = Blueprint(task, fields, "resnet18", {"levels": 3}, "unet").build()
    last: Any = model.head.predict  # type: ignore[union-attr]
    torch.nn.init.normal_(last.weight, 0.0, 0.05 if task.answer == "classes" else 0.005)
    return Predictor(task, model, fields, (32, 32))


def coloured(predictor: Predictor, picture: np.ndarray, **options: Any) -> Colours:
    answer = predictor.predict(picture, **options)
    assert isinstance(answer, Colours)
    return answer


# --- training ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_the_prior_of_its_training_set(trained):
    folder, result = trained
    prior = read_tensors(folder / "best.safetensors")["answer.prior"].double().numpy()
    np.testing.assert_allclose(prior, measured_prior(Shapes(size=(16, 16))), atol=1e-7)
    assert result["watch"]["name"] == "auc_rebalanced" and result["protocol"] == "split-prior"


def test_a_checkpoint_alone_colours_pictures_of_any_size(trained):
    folder, _ = trained
    answer = coloured(load(folder / "best.safetensors", "cpu", "off"), data.astronaut()[::9, ::7])
    assert answer.picture().shape == (57, 74, 3)


def test_resuming_repeats_the_run_and_keeps_the_prior(tmp_path, trained):
    def stop(step: int) -> None:
        if step == 8:
            raise KeyboardInterrupt

    folder, _ = trained
    out = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        train("colorization", **{**QUICK, "save_every": 6}, out=out, on_step=stop)
    train("colorization", out=out, resume=True)
    one, other = (read_tensors(each / "last" / "checkpoint.safetensors") for each in (folder, out))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_another_runs_weights_are_taken_and_the_prior_is_measured_anew(trained, tmp_path):
    folder, _ = trained
    Photographs.write_miniature(tmp_path / "photographs")
    options = {**QUICK, "init": folder / "best.safetensors", "out": tmp_path / "run", "ema": 0.0}
    photographs = Photographs(tmp_path / "photographs")
    run = assemble("colorization", Options(), photographs, photographs, options)
    run.log.close()
    stored = read_tensors(folder / "best.safetensors")
    made = run.model.state_dict()
    assert torch.equal(made["head.predict.weight"], stored["head.predict.weight"])
    np.testing.assert_allclose(made["answer.prior"].double().numpy(), measured_prior(photographs), atol=1e-7)


def test_steps_on_one_batch_bring_the_loss_down():
    task, world = Colorization(), Shapes(size=(32, 32))
    torch.manual_seed(0)
    model = Blueprint(task, world.fields, "resnet18", {"levels": 3}, "unet").build()
    task.fit(model, world)
    pictures = np.stack([world.read(number)["image"] for number in range(4)])
    batch = {"image": torch.from_numpy(pictures).movedim(-1, 1) / 255}
    (phase,) = task.phases(model, world.fields, "rebalanced")
    optimizer, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(12):
        (loss,) = phase.loss(batch, {}).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_targets_are_the_colours_of_every_fourth_pixel():
    # Facts 3.2: sub-sampled, not averaged. What lies between them changes the input and not the target.
    task, fields = Colorization(answer="regression"), Shapes().fields
    model = Blueprint(task, fields, "resnet18", {"levels": 3}, "unet").build().eval()
    model.raw = lambda image: torch.zeros(len(image), 2, 4, 4)  # type: ignore[method-assign]
    (phase,) = task.phases(model, fields, "l2")
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.rand(1, 3, 16, 16, generator=rng) for _ in range(2))
    second[..., ::4, ::4] = first[..., ::4, ::4]
    assert phase.loss({"image": first}, {})["l2"] == phase.loss({"image": second}, {})["l2"]
    ab = lab_of(first[0].movedim(0, -1).numpy())[::4, ::4, 1:] / 110
    assert float(phase.loss({"image": first}, {})["l2"]) == pytest.approx((ab**2).sum(-1).mean() / 2, rel=1e-4)


class Forgetful(Colorization):
    """Measures something else every time."""

    def fit(self, model: Any, dataset):
        model.answer.prior.copy_(torch.rand(313))


class Meddling(Colorization):
    """Trains before the training."""

    def fit(self, model: Any, dataset):
        with torch.no_grad():
            model.head.predict.bias.zero_()


@pytest.mark.parametrize(
    ("kind", "sentence"), [(Forgetful, "another 'answer.prior'"), (Meddling, "moves the parameter")]
)
def test_conformance_catches_a_fit_that_is_not_repeatable_or_that_trains(kind, sentence):
    task, world = kind(), Shapes(size=(32, 32))
    blueprint = Blueprint(task, world.fields, "resnet18", {"levels": 3}, "unet")
    with pytest.raises(AssertionError, match=sentence):
        check_fit(blueprint, blueprint.build(), world)


# --- options ----------------------------------------------------------------------------------------------------


def test_regression_keeps_the_contract_and_offers_its_own_loss():
    task = Colorization(answer="regression")
    assert task.losses == ("l2",) and Colorization().losses == ("rebalanced", "classification")
    check_task(task)


def test_mistaken_options_and_grey_data_are_answered_with_the_way_out():
    with pytest.raises(UserError, match="did you mean 'regression'"):
        create_task("colorization", answer="regresion")
    with pytest.raises(UserError, match="--neighbours is 0"):
        create_task("colorization", neighbours=0)
    with pytest.raises(UserError, match="3 channels; the data set's have 1"):
        Colorization().inputs({"image": Image(1)})
    with pytest.raises(UserError, match="known: l2"):
        assemble(Colorization(answer="regression"), Options(), None, None, {**QUICK, "loss": "rebalanced"})


# --- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["fit", "native"])
@pytest.mark.parametrize("answer", ["classes", "regression"])
def test_an_answer_keeps_the_lightness_of_the_picture_at_its_own_resolution(view, answer):
    picture = data.coffee()[::3, ::3]
    made = coloured(untrained(answer=answer), picture, view=view)
    assert made.picture().shape == picture.shape
    wanted, found = lab_of(picture)[..., 0], lab_of(made.picture())[..., 0]
    np.testing.assert_allclose(made.lightness, wanted)
    clipped = made.clipped
    assert 0 <= clipped.mean() < 0.9
    # To one grey level of 255, which is at most 0.55 of L above the toe; rounding three channels halves that.
    assert np.abs(found - wanted)[~clipped].max() < 100 / 255 + 0.15
    assert (made.sureness is None) == (answer == "regression")


def test_only_lightness_is_looked_at():
    picture = data.astronaut()[::6, ::6]
    without = Colours(lab_of(picture)[..., 0], np.zeros((*picture.shape[:2], 2), np.float32)).picture()
    # At its own size: a resize mixes colours before their lightness is taken. The grey picture is rounded to 8 bits.
    one, other = (coloured(untrained(), each, view="native").ab for each in (picture, without))
    assert one.std() > 5
    assert np.abs(one - other).mean() < 0.5 and np.abs(one - other).max() < 5


def test_a_mirrored_picture_is_answered_mirrored_and_flipping_averages():
    predictor, picture = untrained(), data.chelsea()[:96:2, :128:2]
    plain, mirrored = (coloured(predictor, one, view="native") for one in (picture, picture[:, ::-1].copy()))
    both = coloured(predictor, picture, view="native", flip=True)
    np.testing.assert_allclose(both.ab, (plain.ab + mirrored.ab[:, ::-1]) / 2, atol=1e-2)


def test_the_baseline_is_the_picture_without_its_colours():
    picture = data.coffee()[::8, ::8]
    answer = Colorization().baseline(Shapes())({"image": picture})
    drawn = answer.picture().astype(int)
    assert np.ptp(drawn, axis=-1).max() <= 1
    assert np.abs(lab_of(answer.picture())[..., 0] - lab_of(picture)[..., 0]).max() < 0.4


def test_an_answer_is_saved_for_eyes_and_for_programs(tmp_path):
    picture = data.coffee()[::8, ::8]
    made = coloured(untrained(), picture)
    files = made.save(tmp_path, "cup")
    assert [file.name for file in files] == ["cup_colours.png", "cup_ab.npy", "cup_sureness.png"]
    np.testing.assert_array_equal(read_picture(files[0]), made.picture())
    np.testing.assert_array_equal(np.load(files[1]), made.ab)
    assert read_picture(files[2]).shape == picture.shape
    assert "sureness" in made.brief() and "clipped" in made.brief() and made.unit == "CIE Lab"


def test_the_command_line_takes_the_tasks_own_options(tmp_path):
    from densevision.apps.cli import main

    out = tmp_path / "run"
    words = ["train", "colorization", "--answer", "regression", "--backbone", "resnet20_cifar", "--size", "16", "16"]
    words += ["--batch", "2", "--steps", "1", "--eval-samples", "1", "--workers", "0", "--out", str(out)]
    main([*words, "--device", "cpu"])
    header = read_header(out / "best.safetensors")
    assert header["task_options"] == {"answer": "regression", "neighbours": 5} and header["loss"] == "l2"
