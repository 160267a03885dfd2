"""The scores of each protocol: known errors, toy evaluators, and exact merging of states."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from densevision.datasets.dataset import Sample
from densevision.datasets.field_types import SegmentationMask
from densevision.errors import UserError
from densevision.tasks.prediction import Prediction
from densevision.tasks.restoration.metrics import RestoredImage
from densevision.tasks.task import Metrics
from densevision.tasks.translation import metrics as metrics_module
from densevision.tasks.translation.fcn_score import SegmentationEvaluator
from densevision.tasks.translation.fid import frechet_distance
from densevision.tasks.translation.metrics import (
    PROTOCOLS,
    FCNScoreMetrics,
    FIDMetrics,
    ImageMetrics,
    LabelMetrics,
    find_protocol,
    sharpness,
)
from densevision.tasks.translation.predictions import LabelMap, TranslatedImage

PHOTO = np.ascontiguousarray(data.chelsea()[40:140, 100:240])
CLASSES = SegmentationMask(("dark", "bright", "never"), ignore=255)


def toy_evaluator(target_field: str) -> SegmentationEvaluator:
    """Labels by brightness: 0 dark, 1 bright."""
    return SegmentationEvaluator("labels", CLASSES, lambda image: (image.mean(-1) > 127).astype(np.int64))


def toy_extractor() -> Callable[[np.ndarray], np.ndarray]:
    """Three features: the mean color."""
    return lambda image: image.reshape(-1, 3).mean(0).astype(np.float32)


def compute_scores(metrics: Metrics, *pairs: tuple[Prediction, Sample]) -> dict[str, float]:
    for prediction, ground_truth in pairs:
        metrics.update(prediction, ground_truth)
    return metrics.compute()


def image_pairs(count: int) -> list[tuple[Prediction, Sample]]:
    """Noisy and real images, with labels as the toy evaluator predicts them in the real ones, except for a corner."""
    rng = np.random.default_rng(0)
    pairs: list[tuple[Prediction, Sample]] = []
    for _ in range(count):
        real = rng.integers(0, 256, (16, 20, 3)).astype(np.uint8)
        fake = np.clip(real.astype(int) + rng.integers(-60, 60, real.shape), 0, 255).astype(np.uint8)
        labels = (real.mean(-1) > 127).astype(np.uint8)
        labels[:4, :4] = 255
        pairs.append((TranslatedImage(fake, "image"), {"image": real, "labels": labels}))
    return pairs


def label_pairs(count: int) -> list[tuple[Prediction, Sample]]:
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 2, (count, 2, 9, 12))
    return [(LabelMap(predicted, CLASSES, "labels"), {"labels": labels}) for predicted, labels in maps]


METRICS: dict[str, tuple[Callable[[], Metrics], Callable[[int], list[tuple[Prediction, Sample]]]]] = {
    "image-mean": (ImageMetrics, image_pairs),
    "fcn-score": (lambda: FCNScoreMetrics(toy_evaluator), image_pairs),
    "fid": (lambda: FIDMetrics(toy_extractor), image_pairs),
    "labels": (LabelMetrics, label_pairs),
}


def test_shifted_image_has_the_error_of_the_shift():
    real = np.clip(PHOTO, 0, 230)
    scores = compute_scores(ImageMetrics(), (TranslatedImage(real + np.uint8(25), "image"), {"image": real}))
    assert scores["error"] == scores["l1"] == pytest.approx(25 / 255)
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(real, real + np.uint8(25)))
    assert scores["sharpness"] == pytest.approx(1) and scores["samples"] == 1


def test_scores_are_means_over_images():
    real = np.full((16, 16, 3), 100, np.uint8)
    pairs = [(TranslatedImage(real + np.uint8(step), "image"), {"image": real}) for step in (2, 20)]
    scores = compute_scores(ImageMetrics(), *pairs)
    assert scores["l1"] == pytest.approx(11 / 255)
    # Facts 3.4: MSE 4 and 400 give 32.11 dB, their mean 25.08.
    assert scores["psnr"] == pytest.approx(32.11, abs=0.005)
    # Flat images have no gradient to compare with.
    assert math.isnan(scores["sharpness"])


def test_gray_and_16_bit_images_have_the_scores_of_the_same_image_in_color():
    gray = PHOTO[..., :1]
    fake = np.clip(gray.astype(int) + 9, 0, 255).astype(np.uint8)
    color = compute_scores(
        ImageMetrics(), (TranslatedImage(np.repeat(fake, 3, -1), "g"), {"g": np.repeat(gray, 3, -1)})
    )
    for real in (gray, gray.astype(np.uint16) * 257, (gray / 255).astype(np.float32)):
        assert compute_scores(ImageMetrics(), (TranslatedImage(fake, "g"), {"g": real})) == pytest.approx(
            color, rel=1e-9
        )


def test_sharpness_falls_with_blur_and_rises_with_grain():
    real = PHOTO.astype(np.float64)
    blurred, grain = cv2.GaussianBlur(real, (0, 0), 2), np.random.default_rng(0).normal(0, 10, real.shape)
    assert sharpness(real, real) == 1
    assert sharpness(blurred, real) < 0.6 < 1.1 < sharpness(real + grain, real)
    assert sharpness(real / 2, real) == pytest.approx(0.5)


def test_sharpness_of_a_ramp_is_the_length_of_its_gradient():
    # A ramp of 3 per column and 4 per row has a gradient of length 5 everywhere; Rec. 601 weights add up to 1.
    ramp = np.add.outer(4.0 * np.arange(6), 3.0 * np.arange(8))[..., None].repeat(3, -1)
    assert sharpness(ramp, np.arange(8.0)[None, :, None] * np.ones((6, 1, 3))) == pytest.approx(5)
    assert math.isnan(sharpness(ramp[:1], ramp[:1]))


def test_fcn_score_compares_labels_read_in_fake_and_real_images_with_the_ground_truth():
    real = np.zeros((4, 10, 3), np.uint8)
    real[:, 5:] = 255
    fake = real.copy()
    fake[:, 4] = 255
    labels = np.repeat([[0] * 5 + [1] * 4 + [255]], 4, 0).astype(np.uint8)
    scores = compute_scores(
        FCNScoreMetrics(toy_evaluator), (TranslatedImage(fake, "image"), {"image": real, "labels": labels})
    )
    assert scores["pixel_accuracy"] == pytest.approx(8 / 9)
    assert scores["class_accuracy"] == pytest.approx((4 / 5 + 1) / 2)
    assert scores["mean_iou"] == pytest.approx((4 / 5 + 4 / 5) / 2)
    assert [scores[f"true_{name}"] for name in ("pixel_accuracy", "class_accuracy", "mean_iou")] == [1, 1, 1]
    assert scores["error"] == scores["l1"] == pytest.approx(1 / 10)
    zero = compute_scores(
        FCNScoreMetrics(toy_evaluator, "zero"), (TranslatedImage(fake, "image"), {"image": real, "labels": labels})
    )
    # One of three classes is absent.
    assert zero["true_mean_iou"] == pytest.approx(2 / 3) and zero["mean_iou"] == pytest.approx(1.6 / 3)


def test_unlabeled_pixels_and_images_do_not_count():
    labels = np.array([[0, 0, 1, 255]])
    pairs = [(LabelMap(np.array([[0, 1, 1, 2]]), CLASSES, "labels"), {"labels": labels})]
    unlabeled = LabelMap(labels, CLASSES, "labels"), {"labels": np.full((1, 4), 255)}
    scores = compute_scores(LabelMetrics(), *pairs, unlabeled)
    assert scores["pixel_accuracy"] == pytest.approx(2 / 3) and scores["error"] == pytest.approx(1 / 3)
    # Class accuracies 1/2 and 1; IoU 1/2 and 1/2.
    assert scores["class_accuracy"] == pytest.approx(3 / 4) and scores["mean_iou"] == pytest.approx(1 / 2)
    assert scores["samples"] == 1


def test_absent_class_counts_in_absent_zero_protocols_only():
    pair = LabelMap(np.array([[0, 1]]), CLASSES, "labels"), {"labels": np.array([[0, 1]])}
    for name in ("labels", "labels+absent-zero"):
        scores = compute_scores(find_protocol(name)(), pair)
        assert scores["mean_iou"] == scores["class_accuracy"] == pytest.approx(1 if name == "labels" else 2 / 3)
        assert scores["pixel_accuracy"] == 1


def test_fid_is_the_distance_between_all_fake_and_all_real_images():
    pairs = image_pairs(7)
    scores = compute_scores(FIDMetrics(toy_extractor), *pairs)
    extract = toy_extractor()
    fake = np.array([extract(prediction.to_image()) for prediction, _ in pairs])
    real = np.array([extract(sample["image"]) for _, sample in pairs])
    assert scores["fid"] == pytest.approx(frechet_distance(fake, real)) and scores["fid"] > 0
    assert {"error", "l1", "psnr", "ssim", "sharpness"} < scores.keys()


@pytest.mark.parametrize("name", METRICS)
def test_merged_states_give_the_scores_of_all_samples_in_any_order(name):
    create, pairs_of = METRICS[name]
    pairs = pairs_of(5)
    expected = compute_scores(create(), *pairs)
    parts = [create() for _ in range(3)]
    for index, pair in enumerate(pairs):
        parts[index % 2].update(*pair)
    # The third process had no sample.
    states = [pickle.loads(pickle.dumps(part.state())) for part in parts]
    for order in (states, states[::-1]):
        merged = create()
        merged.update(*pairs[0])
        merged.merge(order)
        scores = merged.compute()
        assert scores.pop("fid", 0) == pytest.approx(expected.get("fid", 0), rel=1e-9)
        assert scores == {key: value for key, value in expected.items() if key != "fid"}


@pytest.mark.parametrize("name", METRICS)
def test_state_does_not_change_with_later_updates(name):
    create, pairs_of = METRICS[name]
    metrics = create()
    first, second = pairs_of(2)
    before = pickle.dumps(metrics.state())
    empty = metrics.state()
    metrics.update(*first)
    state = metrics.state()
    expected = metrics.compute()
    metrics.update(*second)
    restored = create()
    restored.merge([state])
    assert restored.compute() == pytest.approx(expected, nan_ok=True) and pickle.dumps(empty) == before


@pytest.mark.parametrize("name", METRICS)
def test_every_protocol_has_an_error_which_is_nan_without_samples(name):
    create, pairs_of = METRICS[name]
    empty = create().compute()
    assert empty.pop("samples") == 0 and all(map(math.isnan, empty.values()))
    merged = create()
    merged.merge([])
    assert merged.compute()["samples"] == 0
    assert empty.keys() | {"samples"} == compute_scores(create(), *pairs_of(2)).keys() and "error" in empty


def test_predictions_of_another_type_or_size_are_refused():
    fake, labels = TranslatedImage(PHOTO, "image"), LabelMap(np.zeros((2, 2), int), CLASSES, "labels")
    with pytest.raises(UserError, match="'labels' is a label map: use the protocol labels"):
        ImageMetrics().update(labels, {"labels": labels.classes})
    with pytest.raises(UserError, match="'image' is an image: use the protocol image-mean"):
        LabelMetrics().update(fake, {"image": PHOTO})
    with pytest.raises(ValueError, match="cannot be compared"):
        ImageMetrics().update(fake, {"image": PHOTO[1:]})
    for metrics in (ImageMetrics(), LabelMetrics()):
        with pytest.raises(TypeError, match="not a Restored"):
            metrics.update(RestoredImage(PHOTO), {"image": PHOTO})


@pytest.mark.parametrize("labels", [None, PHOTO])
def test_dataset_without_the_evaluators_labels_is_a_user_error_and_not_counted(labels):
    metrics = FCNScoreMetrics(toy_evaluator)
    with pytest.raises(UserError, match="label map 'labels', which the dataset lacks: use the protocol image-mean"):
        metrics.update(
            TranslatedImage(PHOTO, "image"), {"image": PHOTO, **({} if labels is None else {"labels": labels})}
        )
    assert metrics.compute()["samples"] == 0


def test_find_protocol_by_name_and_suggestion_of_the_nearest_name(monkeypatch):
    assert {"image-mean", "fcn-score-synthetic-facades", "fcn-score", "labels", "fid"} <= PROTOCOLS.keys()
    assert next(iter(PROTOCOLS)) == "image-mean"
    with pytest.raises(UserError, match="did you mean 'image-mean'"):
        find_protocol("image")
    with pytest.raises(UserError, match="did you mean 'labels'"):
        find_protocol("labels=x")
    with pytest.raises(UserError, match="fcn-score=CHECKPOINT"):
        find_protocol("fcn-score")()
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(
        metrics_module, "checkpoint_evaluator", lambda path, field: calls.append((path, field)) or toy_evaluator(field)
    )
    (pair,) = image_pairs(1)
    skipped, zero = (compute_scores(find_protocol(f"fcn-score=runs/a{end}")(), pair) for end in ("", "+absent-zero"))
    assert calls == [("runs/a", "image")] * 2
    assert zero["true_mean_iou"] == pytest.approx(skipped["true_mean_iou"] * 2 / 3)


def test_evaluator_is_not_loaded_before_the_first_image():
    assert find_protocol("fcn-score=nowhere.safetensors")().compute()["samples"] == 0
