from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.depth.metrics import (
    PROTOCOLS,
    DepthMetrics,
    Protocol,
    garg_crop,
    kitti_benchmark_crop,
    kitti_eigen_crop,
    nyu_bts_crop,
    nyu_toolbox_crop,
    valid_pixels,
    with_median,
)

ALL = PROTOCOLS["all-pixels"]
PER_IMAGE = Protocol("per image", averaging="per-image")


def depth(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def score(protocol: Protocol, *pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    metrics = DepthMetrics(protocol)
    for prediction, ground_truth in pairs:
        metrics.update(DepthMap(prediction), {"depth": ground_truth})
    return metrics.compute()


def test_every_score_by_hand():
    # p = 2, 3 against g = 1, 4; d = ln 2, ln 0.75.
    scores = score(ALL, (depth([2, 3, 5]), depth([1, 4, math.nan])))
    d = np.log([2, 0.75])
    expected = {
        "abs_rel": (1 / 1 + 1 / 4) / 2,
        "sq_rel": (1 / 1 + 1 / 4) / 2,
        "rmse": 1.0,
        "rmse_log": math.sqrt((d**2).mean()),
        "log10": np.abs(np.log10([2, 0.75])).mean(),
        "silog": 100 * d.std(),
        # Ratios 2 and 4/3 against 1.25, 1.5625, 1.953125.
        "delta1": 0.0,
        "delta2": 0.5,
        "delta3": 0.5,
        "samples": 1.0,
    }
    assert scores.keys() == expected.keys()
    assert scores == pytest.approx(expected)


def test_perfect_prediction_has_perfect_scores():
    ground_truth = depth([1, 2], [3, math.nan])
    scores = score(ALL, (np.nan_to_num(ground_truth, nan=9), ground_truth))
    assert scores.pop("samples") == 1
    assert {name for name, value in scores.items() if value == 1} == {"delta1", "delta2", "delta3"}
    assert sum(scores.values()) == 3


def test_delta_is_strict():
    assert score(ALL, (depth([1.25]), depth([1])))["delta1"] == 0
    assert score(ALL, (depth([1.25]), depth([1])))["delta2"] == 1
    assert score(ALL, (depth([1.2499]), depth([1])))["delta1"] == 1


def test_pooled_and_per_image_averages_differ_as_they_must():
    # Errors: one pixel of 3 m; three pixels of 1 m.
    pairs = (depth([4]), depth([1])), (depth([2, 2, 2]), depth([1, 1, 1]))
    assert score(ALL, *pairs)["rmse"] == pytest.approx(math.sqrt((9 + 3) / 4))
    assert score(PER_IMAGE, *pairs)["rmse"] == pytest.approx((3 + 1) / 2)
    assert score(ALL, *pairs)["abs_rel"] == pytest.approx((3 + 3) / 4)
    assert score(PER_IMAGE, *pairs)["abs_rel"] == pytest.approx((3 + 1) / 2)


def test_mean_rmse_is_at_most_pooled_rmse_for_equal_pixel_counts():
    rng = np.random.default_rng((0, 0, 0, 1))
    pairs = [tuple(rng.uniform(1, 5, (2, 6, 5)).astype(np.float32)) for _ in range(4)]
    assert score(PER_IMAGE, *pairs)["rmse"] <= score(ALL, *pairs)["rmse"]


def test_zero_predictions_have_finite_scores():
    # Facts 3.1: a ReLU on the prediction; clamped to 1 mm before logarithms and ratios only.
    scores = score(ALL, (depth([0, 1]), depth([1, 1])))
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["abs_rel"] == 0.5
    assert scores["log10"] == pytest.approx(3 / 2)
    assert scores["delta3"] == 0.5


def test_crops_are_the_published_ones():
    assert garg_crop(375, 1242) == (slice(153, 371), slice(44, 1197))
    assert kitti_eigen_crop(375, 1242) == (slice(124, 342), slice(44, 1197))
    assert kitti_benchmark_crop(375, 1242) == (slice(23, 375), slice(13, 1229))
    assert kitti_benchmark_crop(100, 200) == (slice(0, 100), slice(0, 200))
    assert nyu_bts_crop(480, 640) == (slice(45, 471), slice(41, 601))
    assert nyu_toolbox_crop(480, 640) == (slice(44, 471), slice(40, 601))


@pytest.mark.parametrize(
    ("name", "pixels"), [("nyu-laina", 480 * 640), ("nyu-eigen-bts", 426 * 560), ("nyu-eigen-toolbox", 427 * 561)]
)
def test_nyu_protocols_have_their_number_of_pixels(name, pixels):
    ground_truth = np.full((480, 640), 2, np.float32)
    assert valid_pixels(ground_truth, ground_truth, PROTOCOLS[name])[1].size == pixels


def test_nyu_crops_refuse_other_sizes():
    ground_truth = np.ones((240, 320), np.float32)
    with pytest.raises(UserError, match="480x640, not 240x320"):
        score(PROTOCOLS["nyu-eigen-bts"], (ground_truth, ground_truth))


def test_caps_are_strict_for_ground_truth_and_clamp_predictions():
    protocol = Protocol("capped", 1.0, 10.0, clamp=(1.0, 10.0))
    p, g = valid_pixels(depth([50, 0, 5, 5, 5, 5]), depth([9, 2, 1, 10, 12, math.nan]), protocol)
    assert g.tolist() == [9, 2]
    assert p.tolist() == [10, 1]


@pytest.mark.parametrize(("name", "near", "far"), [("kitti-garg-80", 1e-3, 80), ("kitti-garg-50", 1, 50)])
def test_kitti_caps(name, near, far):
    ground_truth = np.full((375, 1242), 20, np.float32)
    ground_truth[200, 100:104] = far, far - 1, near, 0
    prediction = np.full_like(ground_truth, 1000)
    p, g = valid_pixels(prediction, ground_truth, PROTOCOLS[name])
    assert g.size == 218 * 1153 - 3
    assert set(p.tolist()) == {far}


def test_median_alignment_uses_evaluated_pixels_before_the_clamp():
    protocol = Protocol("aligned", 0, 10, clamp=(0.0, 10.0), align="median")
    # Ground truth above the cap is not part of the medians either: factor 2 / 20.
    p, g = valid_pixels(depth([10, 20, 300, 1]), depth([1, 2, 4, 50]), protocol)
    assert g.tolist() == [1, 2, 4]
    assert p.tolist() == [1, 2, 10]


def test_medians_of_even_counts_are_the_mean_of_the_two_middle_values():
    # torch.median would return the lower ones: a factor of 1 instead of 1.5.
    p, _ = valid_pixels(depth([1, 1]), depth([1, 2]), with_median(ALL))
    assert p.tolist() == [1.5, 1.5]


def test_median_alignment_removes_a_global_factor():
    rng = np.random.default_rng((0, 0, 1, 1))
    ground_truth = rng.uniform(1, 5, (8, 9)).astype(np.float32)
    guess = rng.uniform(1, 5, (8, 9)).astype(np.float32)
    aligned = PROTOCOLS["all-pixels+median"]
    assert score(aligned, (4 * guess, ground_truth)) == pytest.approx(score(aligned, (guess, ground_truth)), rel=1e-6)
    assert score(ALL, (4 * guess, ground_truth))["abs_rel"] > score(ALL, (guess, ground_truth))["abs_rel"]
    assert math.isfinite(score(aligned, (0 * guess, ground_truth))["abs_rel"])


def test_make3d_compares_at_460_by_345():
    rng = np.random.default_rng((0, 0, 2, 1))
    ground_truth = rng.uniform(1, 81, (920, 690)).astype(np.float32)
    p, g = valid_pixels(ground_truth, ground_truth, PROTOCOLS["make3d-c2"])
    assert g.size == 460 * 345 and p.max() <= 80
    assert set(np.unique(g.astype(np.float32))) <= set(np.unique(ground_truth))  # nearest neighbor gives no new values
    assert valid_pixels(ground_truth, ground_truth, PROTOCOLS["make3d-c1"])[1].max() < 70


def test_every_protocol_has_a_median_aligned_variant():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and PROTOCOLS[name] is protocol
        assert pickle.loads(pickle.dumps(protocol)) == protocol
    plain = {name for name in PROTOCOLS if "+" not in name}
    assert {"all-pixels", "nyu-laina", "nyu-eigen-bts", "kitti-garg-80", "kitti-kb-80", "make3d-c1"} <= plain
    assert set(PROTOCOLS) - plain == {f"{name}+median" for name in plain}
    with pytest.raises(UserError, match="did you mean 'all-pixels'"):
        lookup("depth protocol", "all-pixel", PROTOCOLS)


@pytest.mark.parametrize("protocol", [ALL, PER_IMAGE])
def test_scores_are_bitwise_equal_across_processes(protocol):
    rng = np.random.default_rng((0, 0, 3, 1))
    pairs = [tuple(rng.uniform(1, 5, (2, 4, 4)).astype(np.float32)) for _ in range(7)]
    states = []
    for rank in range(3):
        metrics = DepthMetrics(protocol)
        for prediction, ground_truth in pairs[rank::3]:
            metrics.update(DepthMap(prediction), {"depth": ground_truth})
        states.append(pickle.loads(pickle.dumps(metrics.state())))
    merged = DepthMetrics(protocol)
    merged.merge(states)
    assert merged.compute() == score(protocol, *pairs)
    assert merged.compute()["samples"] == 7


@pytest.mark.parametrize("protocol", [ALL, PER_IMAGE])
def test_images_without_known_pixels_do_not_count(protocol):
    unknown = depth([math.nan, 0])
    pair = depth([2, 2]), depth([1, 1])
    assert score(protocol, pair, (depth([3, 3]), unknown)) == score(protocol, pair)
    empty = score(protocol, (depth([3, 3]), unknown))
    assert empty.pop("samples") == 0
    assert len(empty) == 9 and all(math.isnan(value) for value in empty.values())


def test_prediction_of_another_size_or_type_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1\).*\(1, 2\)"):
        score(ALL, (depth([1]), depth([1, 2])))
    with pytest.raises(TypeError, match="DepthMap"):
        DepthMetrics(ALL).update(object(), {"depth": depth([1])})  # pyright: ignore[reportArgumentType]
