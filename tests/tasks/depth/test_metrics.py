from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from densevision.errors import UserError
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.depth.metrics import (
    PROTOCOLS,
    DepthMetrics,
    Protocol,
    compared_pixels,
    find_protocol,
    garg_crop,
    kitti_benchmark_crop,
    kitti_eigen_crop,
    nyu_bts_crop,
    nyu_toolbox_crop,
    with_median,
)

ALL = PROTOCOLS["all-pixels"]
PER_IMAGE = Protocol("per image", averaging="per-image")


def depth(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def score(protocol: Protocol, *pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    metrics = DepthMetrics(protocol)
    for prediction, truth in pairs:
        metrics.update(DepthMap(prediction), {"depth": truth})
    return metrics.compute()


def test_every_score_by_hand():
    # p = 2, 3 against g = 1, 4; d = ln 2, ln 0.75.
    scores = score(ALL, (depth([2, 3, 5]), depth([1, 4, math.nan])))
    d = np.log([2, 0.75])
    expected = {
        "abs_rel": (1 / 1 + 1 / 4) / 2,
        "sq_rel": (1 / 1 + 1 / 4) / 2,
        "rms": 1.0,
        "rms_log": math.sqrt((d**2).mean()),
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


def test_a_perfect_answer_scores_perfectly():
    truth = depth([1, 2], [3, math.nan])
    scores = score(ALL, (np.nan_to_num(truth, nan=9), truth))
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
    assert score(ALL, *pairs)["rms"] == pytest.approx(math.sqrt((9 + 3) / 4))
    assert score(PER_IMAGE, *pairs)["rms"] == pytest.approx((3 + 1) / 2)
    assert score(ALL, *pairs)["abs_rel"] == pytest.approx((3 + 3) / 4)
    assert score(PER_IMAGE, *pairs)["abs_rel"] == pytest.approx((3 + 1) / 2)


def test_the_mean_of_rms_is_at_most_the_pooled_rms_for_equal_pixel_counts():
    rng = np.random.default_rng((0, 0, 0, 1))
    pairs = [tuple(rng.uniform(1, 5, (2, 6, 5)).astype(np.float32)) for _ in range(4)]
    assert score(PER_IMAGE, *pairs)["rms"] <= score(ALL, *pairs)["rms"]


def test_exact_zeros_leave_every_score_finite():
    # Facts 3.1: a ReLU on the prediction; clamped to 1 mm before logarithms and ratios only.
    scores = score(ALL, (depth([0, 1]), depth([1, 1])))
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["abs_rel"] == 0.5
    assert scores["log10"] == pytest.approx(3 / 2)
    assert scores["delta3"] == 0.5


def test_crops_cut_what_the_facts_say():
    assert garg_crop(375, 1242) == (slice(153, 371), slice(44, 1197))
    assert kitti_eigen_crop(375, 1242) == (slice(124, 342), slice(44, 1197))
    assert kitti_benchmark_crop(375, 1242) == (slice(23, 375), slice(13, 1229))
    assert kitti_benchmark_crop(100, 200) == (slice(0, 100), slice(0, 200))
    assert nyu_bts_crop(480, 640) == (slice(45, 471), slice(41, 601))
    assert nyu_toolbox_crop(480, 640) == (slice(44, 471), slice(40, 601))


@pytest.mark.parametrize(
    ("name", "pixels"), [("nyu-laina", 480 * 640), ("nyu-eigen-bts", 426 * 560), ("nyu-eigen-toolbox", 427 * 561)]
)
def test_nyus_protocols_count_their_pixels(name, pixels):
    truth = np.full((480, 640), 2, np.float32)
    assert compared_pixels(truth, truth, PROTOCOLS[name])[1].size == pixels


def test_nyus_crops_refuse_another_size_in_one_sentence():
    truth = np.ones((240, 320), np.float32)
    with pytest.raises(UserError, match="480x640, this one has 240x320"):
        score(PROTOCOLS["nyu-eigen-bts"], (truth, truth))


def test_caps_are_strict_on_the_truth_and_clamp_the_prediction():
    protocol = Protocol("capped", 1.0, 10.0, clamp=(1.0, 10.0))
    p, g = compared_pixels(depth([50, 0, 5, 5, 5, 5]), depth([9, 2, 1, 10, 12, math.nan]), protocol)
    assert g.tolist() == [9, 2]
    assert p.tolist() == [10, 1]


@pytest.mark.parametrize(("name", "near", "far"), [("kitti-garg-80", 1e-3, 80), ("kitti-garg-50", 1, 50)])
def test_kittis_caps(name, near, far):
    truth = np.full((375, 1242), 20, np.float32)
    truth[200, 100:104] = far, far - 1, near, 0
    prediction = np.full_like(truth, 1000)
    p, g = compared_pixels(prediction, truth, PROTOCOLS[name])
    assert g.size == 218 * 1153 - 3
    assert set(p.tolist()) == {far}


def test_median_alignment_uses_the_pixels_that_count_and_happens_before_the_clamp():
    protocol = Protocol("aligned", 0, 10, clamp=(0.0, 10.0), align="median")
    # Truth above the cap is out of the medians too: factor 2 / 20.
    p, g = compared_pixels(depth([10, 20, 300, 1]), depth([1, 2, 4, 50]), protocol)
    assert g.tolist() == [1, 2, 4]
    assert p.tolist() == [1, 2, 10]


def test_medians_of_even_counts_are_the_mean_of_the_two_middle_values():
    # torch.median would take the lower ones: a factor of 1 instead of 1.5.
    p, _ = compared_pixels(depth([1, 1]), depth([1, 2]), with_median(ALL))
    assert p.tolist() == [1.5, 1.5]


def test_median_alignment_makes_a_global_factor_harmless():
    rng = np.random.default_rng((0, 0, 1, 1))
    truth = rng.uniform(1, 5, (8, 9)).astype(np.float32)
    guess = rng.uniform(1, 5, (8, 9)).astype(np.float32)
    aligned = PROTOCOLS["all-pixels+median"]
    assert score(aligned, (4 * guess, truth)) == pytest.approx(score(aligned, (guess, truth)), rel=1e-6)
    assert score(ALL, (4 * guess, truth))["abs_rel"] > score(ALL, (guess, truth))["abs_rel"]
    assert math.isfinite(score(aligned, (0 * guess, truth))["abs_rel"])


def test_make3d_compares_at_460_by_345():
    rng = np.random.default_rng((0, 0, 2, 1))
    truth = rng.uniform(1, 81, (920, 690)).astype(np.float32)
    p, g = compared_pixels(truth, truth, PROTOCOLS["make3d-c2"])
    assert g.size == 460 * 345 and p.max() <= 80
    assert set(np.unique(g.astype(np.float32))) <= set(np.unique(truth))  # nearest invents nothing
    assert compared_pixels(truth, truth, PROTOCOLS["make3d-c1"])[1].max() < 70


def test_every_protocol_has_its_name_and_a_form_with_median_alignment():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and find_protocol(name) is protocol
        assert pickle.loads(pickle.dumps(protocol)) == protocol
    plain = {name for name in PROTOCOLS if "+" not in name}
    assert {"all-pixels", "nyu-laina", "nyu-eigen-bts", "kitti-garg-80", "kitti-kb-80", "make3d-c1"} <= plain
    assert set(PROTOCOLS) - plain == {f"{name}+median" for name in plain}
    with pytest.raises(UserError, match="did you mean 'all-pixels'"):
        find_protocol("all-pixel")


@pytest.mark.parametrize("protocol", [ALL, PER_IMAGE])
def test_shared_among_processes_the_scores_are_the_same_to_the_bit(protocol):
    rng = np.random.default_rng((0, 0, 3, 1))
    pairs = [tuple(rng.uniform(1, 5, (2, 4, 4)).astype(np.float32)) for _ in range(7)]
    states = []
    for rank in range(3):
        metrics = DepthMetrics(protocol)
        for prediction, truth in pairs[rank::3]:
            metrics.update(DepthMap(prediction), {"depth": truth})
        states.append(pickle.loads(pickle.dumps(metrics.state())))
    merged = DepthMetrics(protocol)
    merged.merge(states)
    assert merged.compute() == score(protocol, *pairs)
    assert merged.compute()["samples"] == 7


@pytest.mark.parametrize("protocol", [ALL, PER_IMAGE])
def test_pictures_without_a_known_pixel_count_nothing_and_no_picture_scores_nan(protocol):
    unknown = depth([math.nan, 0])
    pair = depth([2, 2]), depth([1, 1])
    assert score(protocol, pair, (depth([3, 3]), unknown)) == score(protocol, pair)
    empty = score(protocol, (depth([3, 3]), unknown))
    assert empty.pop("samples") == 0
    assert len(empty) == 9 and all(math.isnan(value) for value in empty.values())


def test_a_prediction_of_another_size_or_kind_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1\).*\(1, 2\)"):
        score(ALL, (depth([1]), depth([1, 2])))
    with pytest.raises(TypeError, match="DepthMap"):
        DepthMetrics(ALL).update(object(), {"depth": depth([1])})  # pyright: ignore[reportArgumentType]
