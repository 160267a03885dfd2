"""Ridge regression on frozen features: the closed form, its penalty, and a run without gradient steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import densevision
from densevision.datasets.dataset import Dataset
from densevision.datasets.field_types import Image, Scalar
from densevision.errors import UserError
from densevision.tasks.conformance import check_calibrate, check_network_contract, check_predictions
from densevision.tasks.inference import Predictor
from densevision.tasks.memorability import Memorability
from densevision.tasks.memorability.networks import RidgeScore
from densevision.tasks.memorability.ridge import PENALTIES, Ridge, fit_ridge, statistics
from densevision.tasks.model_spec import ModelSpec


class Contrasts(Dataset):
    """Images whose score is the contrast of their stripes."""

    title, terms = "Contrasts", "none"
    splits = ("train", "test")

    def __init__(self, split: str = "train", count: int = 40) -> None:
        super().__init__("", split)
        self.fields = {"image": Image(), "score": Scalar()}
        self.rng_seed, self.count = self.splits.index(split), count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int):
        rng = np.random.default_rng((self.rng_seed, index))
        contrast = rng.random()
        stripes = np.sin(np.arange(64) * 0.7 + 6 * rng.random()) * contrast
        image = np.broadcast_to((128 + 100 * stripes + 20 * rng.random())[None, :, None], (48, 64, 3))
        return {"image": np.round(image).astype(np.uint8), "score": np.array(0.2 + 0.6 * contrast)}


def toy(count: int = 60, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 2, (count, 40)) * rng.lognormal(0, 2, 40)
    signal = ((features - features.mean(0)) / features.std(0))[:, :5].sum(1)
    return features, 0.6 + 0.1 * (signal + noise * 5 * rng.normal(size=count))


def sklearn_ridge(penalty: float) -> Any:
    return make_pipeline(StandardScaler(), SklearnRidge(penalty))


@pytest.mark.parametrize("count", [60, 23])
def test_the_closed_form_is_the_ridge_of_scikit_learn(count):
    features, scores = toy(count)
    fit = fit_ridge(features, scores)
    theirs = sklearn_ridge(fit.penalty).fit(features, scores)
    np.testing.assert_allclose(features @ fit.weight + fit.bias, theirs.predict(features), rtol=1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.5, 5.0])
def test_the_penalty_has_the_least_error_in_five_fold_cross_validation(noise):
    features, scores = toy(noise=noise)
    folds = PredefinedSplit(np.arange(len(scores)) % 5)
    predicted = [cross_val_predict(sklearn_ridge(penalty), features, scores, cv=folds) for penalty in PENALTIES]
    errors = [float(((each - scores) ** 2).mean()) for each in predicted]
    fit = fit_ridge(features, scores)
    assert fit.penalty == PENALTIES[int(np.argmin(errors))]
    assert fit.mse == pytest.approx(min(errors))


def test_noise_is_penalized_more_than_signal():
    assert fit_ridge(*toy(noise=0.0)).penalty < fit_ridge(*toy(noise=1.0)).penalty
    unrelated = np.random.default_rng(1).normal(size=60)
    assert fit_ridge(toy()[0], unrelated).penalty == PENALTIES[-1]


def test_equal_scores_are_predicted_as_they_are_and_have_no_rho():
    features, _ = toy()
    fit = fit_ridge(features, np.full(60, 0.7))
    assert not fit.weight.any() and fit.bias == pytest.approx(0.7)
    assert np.isnan(fit.rho) and fit.mse == pytest.approx(0)


def test_a_constant_feature_has_no_weight():
    features, scores = toy()
    features[:, 0], features[:, 1] = 0.0, 1e3 + 1e-7 * np.arange(60)
    fit = fit_ridge(features, scores)
    assert fit.weight[:2].tolist() == [0, 0] and np.isfinite(fit.weight).all() and fit.weight[2:].any()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_images_are_enough_for_a_fit(count):
    features, scores = (each[:count] for each in toy())
    fit = fit_ridge(features, scores)
    assert np.isfinite(fit.weight).all() and np.isfinite(features @ fit.weight + fit.bias).all()


def test_the_features_are_means_and_standard_deviations_of_every_level():
    maps = [torch.rand(2, 3, 5, 7), torch.rand(2, 4, 2, 3)]
    expected = [moment(axis=(2, 3)) for each in maps for moment in (each.numpy().mean, each.numpy().std)]
    np.testing.assert_allclose(statistics(maps).numpy(), np.concatenate(expected, 1), rtol=1e-5)
    # Dead channels occur in pruned networks; gradients of visualizations pass through them.
    dead = torch.zeros(1, 3, 4, 4, requires_grad=True)
    statistics([dead]).sum().backward()
    assert dead.grad is not None and bool(dead.grad.isfinite().all())


def network(levels: int | None = None) -> RidgeScore:
    torch.manual_seed(0)
    backbone = densevision.create_backbone("resnet20_cifar", num_classes=0, levels=levels)
    return RidgeScore(backbone, Ridge(backbone.levels)).eval()


def test_the_shares_of_all_positions_have_the_score_as_their_mean():
    model = network()
    model.head.weight.copy_(torch.randn(model.head.weight.shape))
    model.head.bias.fill_(0.4)
    image = torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        shares, score = model.forward_dense(image), model(image)
    assert shares.shape == (2, 1, 8, 16)
    torch.testing.assert_close(shares.mean((2, 3)), score, rtol=1e-4, atol=1e-4)


def test_the_dense_map_of_a_ridge_has_its_score_as_the_mean():
    model = network()
    model.head.weight.copy_(0.01 * torch.randn(model.head.weight.shape))
    model.head.bias.fill_(0.4)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    model.backbone.preprocessing = replace(model.backbone.preprocessing, resize=32, crop=32)
    prediction: Any = Predictor(Memorability(), model, Contrasts().fields, (32, 32)).predict(image, mode="dense")
    inputs = torch.from_numpy(np.stack([image, image[:, ::-1]])).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert prediction.value == pytest.approx(float(model(inputs).mean()), abs=0.02)
    assert prediction.map.shape == (32, 64)


def test_a_head_replaces_the_classifier_of_the_backbone():
    spec = ModelSpec(Memorability(), Contrasts().fields, "resnet20_cifar", {"levels": 2}, "ridge")
    model = spec.build()
    assert model.backbone is not None and (len(model.backbone.levels), model.backbone.num_classes) == (2, 0)
    complete = ModelSpec(Memorability(), Contrasts().fields, "resnet20_cifar", {}, "ridge").build()
    assert not [name for name, _ in complete.named_parameters() if "fc" in name]


def test_the_contract_of_a_network_holds():
    task, dataset = Memorability(), Contrasts(count=12)
    spec = ModelSpec(task, dataset.fields, "resnet20_cifar", {}, "ridge")
    model = spec.build()
    check_calibrate(spec, model, dataset)
    check_network_contract(spec, model, dataset)
    check_predictions(spec, model, task.baseline(dataset), Contrasts("test", 6))


def ridge_run(out: Path, **options: Any) -> dict[str, Any]:
    return densevision.train(
        "memorability", data=Contrasts(), eval_data=Contrasts("test"), recipe="ridge", backbone="resnet20_cifar",
        image_size=(32, 32), workers=0, device="cpu", amp="off", out=out, **options,
    )  # fmt: skip


def test_a_run_without_steps_fits_the_head_and_leaves_the_backbone(tmp_path, capsys):
    result = ridge_run(tmp_path / "run")
    assert result["steps"] == 0 and result["metrics"]["rho"] > 0.9
    assert result["metrics"]["mse"] < result["baseline"]["mse"] / 2
    log = capsys.readouterr().err
    assert "Ridge regression of 40 scores on" in log and "in cross-validation rho 0.9" in log
    predictor = densevision.load(tmp_path / "run", device="cpu", amp="off")
    torch.manual_seed(0)
    initial = densevision.create_backbone("resnet20_cifar", num_classes=0).state_dict()
    assert predictor.model.backbone is not None
    for name, value in predictor.model.backbone.state_dict().items():
        assert torch.equal(value, initial[name]), name
    sample = Contrasts("test").read(0)
    prediction: Any = predictor.predict(sample["image"])
    assert prediction.value == pytest.approx(float(sample["score"]), abs=0.2)


def test_the_classifiers_crop_is_that_of_the_run(tmp_path):
    # The fit sees what the default input mode sees.
    ridge_run(tmp_path / "run")
    model = densevision.load(tmp_path / "run", device="cpu").model
    assert model.backbone is not None
    assert (model.backbone.preprocessing.resize, model.backbone.preprocessing.crop) == (32, 32)


def test_a_resumed_run_keeps_its_fit(tmp_path, monkeypatch):
    result = ridge_run(tmp_path / "run")
    monkeypatch.setattr(RidgeScore, "calibrate", lambda self, dataset: pytest.fail("fitted again"))
    resumed = ridge_run(tmp_path / "run", resume=True)
    assert resumed["metrics"] == result["metrics"]


def test_the_fit_is_to_the_samples_of_the_run(tmp_path, capsys):
    ridge_run(tmp_path / "run", train_samples=12)
    assert "Ridge regression of 12 scores on" in capsys.readouterr().err


def test_steps_continue_from_the_fit(tmp_path):
    result = ridge_run(tmp_path / "run", steps=2, batch_size=4, lr=1e-6, eval_every=1)
    assert result["steps"] == 2 and result["metrics"]["rho"] > 0.9


def test_a_frozen_backbone_is_fitted_without_steps_and_refused_with_some(tmp_path):
    fitted = ridge_run(tmp_path / "fitted")["metrics"]
    assert ridge_run(tmp_path / "frozen", freeze_backbone=True)["metrics"] == fitted
    with pytest.raises(UserError, match="No parameter is left to train: leave out --freeze-backbone"):
        ridge_run(tmp_path / "steps", freeze_backbone=True, steps=2, batch_size=4)
