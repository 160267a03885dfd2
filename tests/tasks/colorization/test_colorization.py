"""Colorization end to end: train, save, predict, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from densevision import create_task, load, train
from densevision.datasets.field_types import Image
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.image_folders import ImageFolders
from densevision.datasets.synthetic import SyntheticShapes
from densevision.errors import UserError
from densevision.tasks.checkpoint import read_header, read_tensors
from densevision.tasks.colorization import Colorization
from densevision.tasks.colorization.colorized_image import ColorizedImage, fade_to_gray
from densevision.tasks.colorization.encoding import measured_prior
from densevision.tasks.colorization.lab import lab_of
from densevision.tasks.conformance import check_calibrate, check_task
from densevision.tasks.inference import Predictor
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import build_trainer

QUICK: dict[str, Any] = {
    "backbone": "resnet20_cifar", "image_size": (16, 16), "batch_size": 8, "steps": 12, "lr": 5e-3, "warmup_steps": 0,
    "ema_decay": 0.5, "workers": 0, "device": "cpu", "amp": "off", "eval_every": 0, "eval_samples": 3,
    "log_every": 12, "save_every": 1000,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "colors"
    return folder, train("colorization", **QUICK, out=folder)


def untrained(**options: Any) -> Predictor:
    torch.manual_seed(0)
    task = Colorization(**options)
    fields = SyntheticShapes().fields
    model = ModelSpec(task, fields, "resnet18", {"levels": 3}, "unet").build()
    last: Any = model.head.predict  # type: ignore[union-attr]
    torch.nn.init.normal_(last.weight, 0.0, 0.05 if task.output == "bins" else 0.005)
    return Predictor(task, model, fields, (32, 32))


def colored(predictor: Predictor, image: np.ndarray, **options: Any) -> ColorizedImage:
    prediction = predictor.predict(image, **options)
    assert isinstance(prediction, ColorizedImage)
    return prediction


# --- training ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_the_prior_of_its_training_set(trained):
    folder, result = trained
    prior = read_tensors(folder / "best.safetensors")["decoder.prior"].double().numpy()
    np.testing.assert_allclose(prior, measured_prior(SyntheticShapes(size=(16, 16))), atol=1e-7)
    assert result["monitor"]["name"] == "auc_rebalanced" and result["protocol"] == "split-prior"


def test_a_checkpoint_alone_colors_images_of_any_size(trained):
    folder, _ = trained
    prediction = colored(load(folder / "best.safetensors", "cpu", "off"), data.astronaut()[::9, ::7])
    assert prediction.to_image().shape == (57, 74, 3)


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
    ImageFolders.write_example(tmp_path / "photos")
    options = {**QUICK, "init_from": folder / "best.safetensors", "out": tmp_path / "run", "ema_decay": 0.0}
    photos = ImageFolders(tmp_path / "photos")
    run = build_trainer("colorization", Options(), photos, photos, options)
    run.log.close()
    stored = read_tensors(folder / "best.safetensors")
    made = run.model.state_dict()
    assert torch.equal(made["head.predict.weight"], stored["head.predict.weight"])
    np.testing.assert_allclose(made["decoder.prior"].double().numpy(), measured_prior(photos), atol=1e-7)


def test_steps_on_one_batch_bring_the_loss_down():
    task, dataset = Colorization(), SyntheticShapes(size=(32, 32))
    torch.manual_seed(0)
    model: Any = ModelSpec(task, dataset.fields, "resnet18", {"levels": 3}, "unet").build()
    model.calibrate(dataset)
    images = np.stack([dataset.read(number)["image"] for number in range(4)])
    batch = {"image": torch.from_numpy(images).movedim(-1, 1) / 255}
    (phase,) = task.phases(model, dataset.fields, "rebalanced")
    optimizer, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(12):
        (loss,) = phase.loss(batch, {}).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_targets_are_the_colors_of_every_fourth_pixel():
    # Facts 3.2: sub-sampled, not averaged. What lies between them changes the input and not the target.
    task, fields = Colorization(output="regression"), SyntheticShapes().fields
    model: Any = ModelSpec(task, fields, "resnet18", {"levels": 3}, "unet").build().eval()
    model.logits = lambda image: torch.zeros(len(image), 2, 4, 4)  # type: ignore[method-assign]
    (phase,) = task.phases(model, fields, "l2")
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.rand(1, 3, 16, 16, generator=rng) for _ in range(2))
    second[..., ::4, ::4] = first[..., ::4, ::4]
    assert phase.loss({"image": first}, {})["l2"] == phase.loss({"image": second}, {})["l2"]
    ab = lab_of(first[0].movedim(0, -1).numpy())[::4, ::4, 1:] / 110
    assert float(phase.loss({"image": first}, {})["l2"]) == pytest.approx((ab**2).sum(-1).mean() / 2, rel=1e-4)


def measure_something_else(model: Any, dataset):
    model.decoder.prior.copy_(torch.rand(313))


def train_before_the_training(model: Any, dataset):
    with torch.no_grad():
        model.head.predict.bias.zero_()


@pytest.mark.parametrize(
    ("calibrate", "message"),
    [(measure_something_else, "another 'decoder.prior'"), (train_before_the_training, "changes the parameter")],
)
def test_conformance_detects_a_calibration_that_is_not_repeatable_or_that_trains(monkeypatch, calibrate, message):
    dataset = SyntheticShapes(size=(32, 32))
    spec = ModelSpec(Colorization(), dataset.fields, "resnet18", {"levels": 3}, "unet")
    monkeypatch.setattr("densevision.tasks.colorization.networks.ColorizationNetwork.calibrate", calibrate)
    with pytest.raises(AssertionError, match=message):
        check_calibrate(spec, spec.build(), dataset)


# --- options ----------------------------------------------------------------------------------------------------


def test_regression_keeps_the_contract_and_offers_its_own_loss():
    task = Colorization(output="regression")
    assert task.losses == ("l2",) and Colorization().losses == ("rebalanced", "cross-entropy")
    check_task(task)


def test_mistaken_options_and_gray_data_are_predicted_with_the_way_out():
    with pytest.raises(UserError, match="did you mean 'regression'"):
        create_task("colorization", output="regresion")
    with pytest.raises(UserError, match="--neighbors is 0"):
        create_task("colorization", neighbors=0)
    with pytest.raises(UserError, match="those of the dataset have 1"):
        Colorization().inputs({"image": Image(1)})
    with pytest.raises(UserError, match="known: l2"):
        build_trainer(Colorization(output="regression"), Options(), None, None, {**QUICK, "loss": "rebalanced"})


# --- predictions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["fit", "native"])
@pytest.mark.parametrize("prediction", ["bins", "regression"])
def test_a_prediction_keeps_the_lightness_of_the_image_at_its_own_resolution(view, prediction):
    image = data.coffee()[::3, ::3]
    made = colored(untrained(output=prediction), image, mode=view)
    assert made.to_image().shape == image.shape
    wanted, found = lab_of(image)[..., 0], lab_of(made.to_image())[..., 0]
    np.testing.assert_allclose(made.lightness, wanted)
    clipped = made.clipped
    assert 0 <= clipped.mean() < 0.9
    # To one gray level of 255, which is at most 0.55 of L above the toe; rounding three channels halves that.
    assert np.abs(found - wanted)[~clipped].max() < 100 / 255 + 0.15
    assert (made.confidence is None) == (prediction == "regression")


def test_only_lightness_is_looked_at():
    image = data.astronaut()[::6, ::6]
    without = ColorizedImage(lab_of(image)[..., 0], np.zeros((*image.shape[:2], 2), np.float32)).to_image()
    # At its own size: a resize mixes colors before their lightness is taken. The gray image is rounded to 8 bits.
    one, other = (colored(untrained(), each, mode="native").ab for each in (image, without))
    assert one.std() > 5
    assert np.abs(one - other).mean() < 0.5 and np.abs(one - other).max() < 5


def test_a_mirrored_image_is_predicted_mirrored_and_flipping_averages():
    predictor, image = untrained(fade=False), data.chelsea()[:96:2, :128:2]
    plain, mirrored = (colored(predictor, one, mode="native") for one in (image, image[:, ::-1].copy()))
    both = colored(predictor, image, mode="native", flip=True)
    np.testing.assert_allclose(both.ab, (plain.ab + mirrored.ab[:, ::-1]) / 2, atol=1e-2)


def test_colors_fade_to_gray_where_the_network_is_unsure():
    ab = np.full((10, 10, 2), (30.0, -40.0), np.float32)
    confidence = np.full((10, 10), 0.4, np.float32)
    confidence[:5] = 0.1
    # Pixels of at least the 90th percentile keep their color, a quarter of its confidence leaves a quarter.
    faded = fade_to_gray(ab, confidence)
    np.testing.assert_allclose(faded[5:], ab[5:])
    np.testing.assert_allclose(faded[:5], ab[:5] / 4, rtol=1e-6)
    np.testing.assert_array_equal(fade_to_gray(ab, 0 * confidence), 0 * ab)


def test_fading_takes_chroma_only_and_can_be_turned_off():
    faded, plain = (colored(untrained(fade=fade), data.coffee()[::3, ::3]) for fade in (True, False))
    np.testing.assert_array_equal(faded.lightness, plain.lightness)
    np.testing.assert_array_equal(faded.confidence, plain.confidence)  # type: ignore[arg-type]
    chroma, original = (np.linalg.norm(one.ab, axis=-1) for one in (faded, plain))
    assert (chroma <= original + 1e-4).all() and chroma.mean() < 0.95 * original.mean()
    # The hue stays: the two colors are parallel.
    np.testing.assert_allclose((faded.ab * plain.ab).sum(-1), chroma * original, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("words, fades", [([], True), (["--no-fade"], False), (["--fade"], True)])
def test_the_command_line_chooses_whether_to_fade(trained, tmp_path, words, fades):
    from densevision.apps.cli import main

    folder, _ = trained
    write_image(tmp_path / "cup.png", data.coffee()[::8, ::8])
    main(["predict", str(folder), str(tmp_path / "cup.png"), "--out", str(tmp_path), "--device", "cpu", *words])
    predictor = load(folder, "cpu").with_options(fade=fades)
    np.testing.assert_allclose(
        np.load(tmp_path / "cup_ab.npy"), colored(predictor, data.coffee()[::8, ::8]).ab, atol=1e-3
    )


def test_the_baseline_is_the_image_without_its_colors():
    image = data.coffee()[::8, ::8]
    prediction = Colorization().baseline(SyntheticShapes())({"image": image})
    drawn = prediction.to_image().astype(int)
    assert np.ptp(drawn, axis=-1).max() <= 1
    assert np.abs(lab_of(prediction.to_image())[..., 0] - lab_of(image)[..., 0]).max() < 0.4


def test_a_prediction_is_saved_as_image_and_raw_data(tmp_path):
    image = data.coffee()[::8, ::8]
    made = colored(untrained(), image)
    files = made.save(tmp_path, "cup")
    assert [file.name for file in files] == ["cup_colorized.png", "cup_ab.npy", "cup_confidence.png"]
    np.testing.assert_array_equal(read_image(files[0]), made.to_image())
    np.testing.assert_array_equal(np.load(files[1]), made.ab)
    assert read_image(files[2]).shape == image.shape
    assert "confidence" in made.summary() and "clipped" in made.summary() and made.unit == "CIE Lab"


def test_the_command_line_takes_the_tasks_own_options(tmp_path):
    from densevision.apps.cli import main

    out = tmp_path / "run"
    words = [
        "train",
        "colorization",
        "--output",
        "regression",
        "--backbone",
        "resnet20_cifar",
        "--image-size",
        "16",
        "16",
    ]
    words += ["--batch-size", "2", "--steps", "1", "--eval-samples", "1", "--workers", "0", "--out", str(out)]
    main([*words, "--device", "cpu"])
    header = read_header(out / "best.safetensors")
    assert header["task_options"] == {"output": "regression", "neighbors": 5, "fade": True} and header["loss"] == "l2"
