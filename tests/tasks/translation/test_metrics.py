"""The scores under each protocol: hand-made errors, toy judges, and tallies that merge exactly."""

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
from densevision.datasets.fields import Labels
from densevision.errors import UserError
from densevision.tasks.restoration.restored import Restored
from densevision.tasks.task import Metrics, Prediction
from densevision.tasks.translation import metrics as page
from densevision.tasks.translation.frechet import frechet_distance
from densevision.tasks.translation.judges import Judge
from densevision.tasks.translation.made import LabelMap, Made
from densevision.tasks.translation.metrics import (
    PROTOCOLS,
    FrechetMetrics,
    JudgedMetrics,
    LabelMetrics,
    PictureMetrics,
    find_protocol,
    sharpness,
)

PHOTOGRAPH = np.ascontiguousarray(data.chelsea()[40:140, 100:240])
KIND = Labels(("dark", "bright", "never"), ignore=255)


def toy_judge(goal: str) -> Judge:
    """Dark or bright."""
    return Judge("labels", KIND, lambda picture: (picture.mean(-1) > 127).astype(np.int64))


def toy_eye() -> Callable[[np.ndarray], np.ndarray]:
    """Three features."""
    return lambda picture: picture.reshape(-1, 3).mean(0).astype(np.float32)


def scored(metrics: Metrics, *pairs: tuple[Prediction, Sample]) -> dict[str, float]:
    for prediction, truth in pairs:
        metrics.update(prediction, truth)
    return metrics.compute()


def picture_pairs(count: int) -> list[tuple[Prediction, Sample]]:
    """Made pictures beside true ones, with labels that the toy judge finds in the true ones but for a corner."""
    rng = np.random.default_rng(0)
    pairs: list[tuple[Prediction, Sample]] = []
    for _ in range(count):
        true = rng.integers(0, 256, (16, 20, 3)).astype(np.uint8)
        made = np.clip(true.astype(int) + rng.integers(-60, 60, true.shape), 0, 255).astype(np.uint8)
        labels = (true.mean(-1) > 127).astype(np.uint8)
        labels[:4, :4] = 255
        pairs.append((Made(made, "image"), {"image": true, "labels": labels}))
    return pairs


def label_pairs(count: int) -> list[tuple[Prediction, Sample]]:
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 2, (count, 2, 9, 12))
    return [(LabelMap(answer, KIND, "labels"), {"labels": truth}) for answer, truth in maps]


TALLIES: dict[str, tuple[Callable[[], Metrics], Callable[[int], list[tuple[Prediction, Sample]]]]] = {
    "pictures": (PictureMetrics, picture_pairs),
    "judged": (lambda: JudgedMetrics(toy_judge), picture_pairs),
    "fid": (lambda: FrechetMetrics(toy_eye), picture_pairs),
    "labels": (LabelMetrics, label_pairs),
}


def test_a_shifted_picture_has_the_error_it_was_given():
    true = np.clip(PHOTOGRAPH, 0, 230)
    scores = scored(PictureMetrics(), (Made(true + np.uint8(25), "image"), {"image": true}))
    assert scores["error"] == scores["l1"] == pytest.approx(25 / 255)
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(true, true + np.uint8(25)))
    assert scores["sharpness"] == pytest.approx(1) and scores["samples"] == 1


def test_scores_are_means_over_pictures():
    true = np.full((16, 16, 3), 100, np.uint8)
    pairs = [(Made(true + np.uint8(step), "image"), {"image": true}) for step in (2, 20)]
    scores = scored(PictureMetrics(), *pairs)
    assert scores["l1"] == pytest.approx(11 / 255)
    # Facts 3.4: MSE 4 and 400 give 32.11 dB, their mean 25.08.
    assert scores["psnr"] == pytest.approx(32.11, abs=0.005)
    # Flat pictures have no sharpness to be compared with.
    assert math.isnan(scores["sharpness"])


def test_grey_and_sixteen_bit_pictures_score_as_the_same_picture_in_colour():
    grey = PHOTOGRAPH[..., :1]
    made = np.clip(grey.astype(int) + 9, 0, 255).astype(np.uint8)
    colour = scored(PictureMetrics(), (Made(np.repeat(made, 3, -1), "g"), {"g": np.repeat(grey, 3, -1)}))
    for true in (grey, grey.astype(np.uint16) * 257, (grey / 255).astype(np.float32)):
        assert scored(PictureMetrics(), (Made(made, "g"), {"g": true})) == pytest.approx(colour, rel=1e-9)


def test_sharpness_falls_when_a_picture_is_blurred_and_rises_with_grain():
    true = PHOTOGRAPH.astype(np.float64)
    blurred, grain = cv2.GaussianBlur(true, (0, 0), 2), np.random.default_rng(0).normal(0, 10, true.shape)
    assert sharpness(true, true) == 1
    assert sharpness(blurred, true) < 0.6 < 1.1 < sharpness(true + grain, true)
    assert sharpness(true / 2, true) == pytest.approx(0.5)


def test_sharpness_is_the_gradients_length_by_hand():
    # Of a ramp of 3 across and 4 down per pixel the gradient is 5 everywhere; Rec. 601 weights add up to 1.
    ramp = np.add.outer(4.0 * np.arange(6), 3.0 * np.arange(8))[..., None].repeat(3, -1)
    assert sharpness(ramp, np.arange(8.0)[None, :, None] * np.ones((6, 1, 3))) == pytest.approx(5)
    assert math.isnan(sharpness(ramp[:1], ramp[:1]))


def test_a_judge_compares_what_it_reads_in_made_and_in_true_pictures_with_the_labels():
    true = np.zeros((4, 10, 3), np.uint8)
    true[:, 5:] = 255
    made = true.copy()
    made[:, 4] = 255
    labels = np.repeat([[0] * 5 + [1] * 4 + [255]], 4, 0).astype(np.uint8)
    scores = scored(JudgedMetrics(toy_judge), (Made(made, "image"), {"image": true, "labels": labels}))
    assert scores["pixel_accuracy"] == pytest.approx(8 / 9)
    assert scores["class_accuracy"] == pytest.approx((4 / 5 + 1) / 2)
    assert scores["mean_iou"] == pytest.approx((4 / 5 + 4 / 5) / 2)
    assert [scores[f"true_{name}"] for name in ("pixel_accuracy", "class_accuracy", "mean_iou")] == [1, 1, 1]
    assert scores["error"] == scores["l1"] == pytest.approx(1 / 10)
    zero = scored(JudgedMetrics(toy_judge, "zero"), (Made(made, "image"), {"image": true, "labels": labels}))
    # Of three classes one is nowhere.
    assert zero["true_mean_iou"] == pytest.approx(2 / 3) and zero["mean_iou"] == pytest.approx(1.6 / 3)


def test_labels_are_scored_without_what_nothing_is_said_of():
    truth = np.array([[0, 0, 1, 255]])
    pairs = [(LabelMap(np.array([[0, 1, 1, 2]]), KIND, "labels"), {"labels": truth})]
    nothing = LabelMap(truth, KIND, "labels"), {"labels": np.full((1, 4), 255)}
    scores = scored(LabelMetrics(), *pairs, nothing)
    assert scores["pixel_accuracy"] == pytest.approx(2 / 3) and scores["error"] == pytest.approx(1 / 3)
    # Per class 1/2 and 1; intersections over unions 1/2 and 1/2.
    assert scores["class_accuracy"] == pytest.approx(3 / 4) and scores["mean_iou"] == pytest.approx(1 / 2)
    assert scores["samples"] == 1


def test_a_class_that_is_nowhere_counts_under_the_scripts_convention_only():
    pair = LabelMap(np.array([[0, 1]]), KIND, "labels"), {"labels": np.array([[0, 1]])}
    for name in ("labels", "labels+fcn-score"):
        scores = scored(find_protocol(name)(), pair)
        assert scores["mean_iou"] == scores["class_accuracy"] == pytest.approx(1 if name == "labels" else 2 / 3)
        assert scores["pixel_accuracy"] == 1


def test_fid_is_the_distance_between_all_made_and_all_true_pictures():
    pairs = picture_pairs(7)
    scores = scored(FrechetMetrics(toy_eye), *pairs)
    see = toy_eye()
    made = np.array([see(prediction.picture()) for prediction, _ in pairs])
    true = np.array([see(truth["image"]) for _, truth in pairs])
    assert scores["fid"] == pytest.approx(frechet_distance(made, true)) and scores["fid"] > 0
    assert {"error", "l1", "psnr", "ssim", "sharpness"} < scores.keys()


@pytest.mark.parametrize("name", TALLIES)
def test_tallies_merge_to_what_one_tally_of_all_says_in_any_order(name):
    create, pairs_of = TALLIES[name]
    pairs = pairs_of(5)
    whole = scored(create(), *pairs)
    parts = [create() for _ in range(3)]
    for place, pair in enumerate(pairs):
        parts[place % 2].update(*pair)
    # The third process had no sample.
    states = [pickle.loads(pickle.dumps(part.state())) for part in parts]
    for order in (states, states[::-1]):
        merged = create()
        merged.update(*pairs[0])
        merged.merge(order)
        found = merged.compute()
        assert found.pop("fid", 0) == pytest.approx(whole.get("fid", 0), rel=1e-9)
        assert found == {key: value for key, value in whole.items() if key != "fid"}


@pytest.mark.parametrize("name", TALLIES)
def test_a_state_does_not_change_when_more_is_counted(name):
    create, pairs_of = TALLIES[name]
    tally = create()
    first, second = pairs_of(2)
    before = pickle.dumps(tally.state())
    empty = tally.state()
    tally.update(*first)
    state = tally.state()
    alone = tally.compute()
    tally.update(*second)
    again = create()
    again.merge([state])
    assert again.compute() == pytest.approx(alone, nan_ok=True) and pickle.dumps(empty) == before


@pytest.mark.parametrize("name", TALLIES)
def test_every_protocol_watches_an_error_that_is_nan_where_nothing_was_counted(name):
    create, pairs_of = TALLIES[name]
    empty = create().compute()
    assert empty.pop("samples") == 0 and all(map(math.isnan, empty.values()))
    merged = create()
    merged.merge([])
    assert merged.compute()["samples"] == 0
    assert empty.keys() | {"samples"} == scored(create(), *pairs_of(2)).keys() and "error" in empty


def test_answers_of_the_other_kind_of_another_size_or_task_are_refused():
    made, labels = Made(PHOTOGRAPH, "image"), LabelMap(np.zeros((2, 2), int), KIND, "labels")
    with pytest.raises(UserError, match="'labels' is a label map: use the protocol labels"):
        PictureMetrics().update(labels, {"labels": labels.classes})
    with pytest.raises(UserError, match="'image' is a picture: use pictures"):
        LabelMetrics().update(made, {"image": PHOTOGRAPH})
    with pytest.raises(ValueError, match="cannot be compared"):
        PictureMetrics().update(made, {"image": PHOTOGRAPH[1:]})
    for metrics in (PictureMetrics(), LabelMetrics()):
        with pytest.raises(TypeError, match="not on a Restored"):
            metrics.update(Restored(PHOTOGRAPH), {"image": PHOTOGRAPH})


@pytest.mark.parametrize("labels", [None, PHOTOGRAPH])
def test_a_set_without_the_judges_labels_is_a_users_mistake_that_counts_nothing(labels):
    metrics = JudgedMetrics(toy_judge)
    with pytest.raises(UserError, match="label map 'labels', which the data set lacks: use the protocol pictures"):
        metrics.update(
            Made(PHOTOGRAPH, "image"), {"image": PHOTOGRAPH, **({} if labels is None else {"labels": labels})}
        )
    assert metrics.compute()["samples"] == 0


def test_protocols_are_found_by_name_and_a_mistyped_one_gets_the_nearest(monkeypatch):
    assert {"pictures", "facades", "judge", "labels", "fid"} <= PROTOCOLS.keys() and next(iter(PROTOCOLS)) == "pictures"
    with pytest.raises(UserError, match="did you mean 'pictures'"):
        find_protocol("picture")
    with pytest.raises(UserError, match="did you mean 'labels'"):
        find_protocol("labels=x")
    with pytest.raises(UserError, match="judge=CHECKPOINT"):
        find_protocol("judge")()
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(page, "trained_judge", lambda path, goal: asked.append((path, goal)) or toy_judge(goal))
    (pair,) = picture_pairs(1)
    plain, script = (scored(find_protocol(f"judge=runs/a{end}")(), pair) for end in ("", "+fcn-score"))
    assert asked == [("runs/a", "image")] * 2
    assert script["true_mean_iou"] == pytest.approx(plain["true_mean_iou"] * 2 / 3)


def test_a_judge_is_not_read_before_the_first_picture():
    assert find_protocol("judge=nowhere.safetensors")().compute()["samples"] == 0
