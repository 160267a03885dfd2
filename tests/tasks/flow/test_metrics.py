from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.flow.metrics import PROTOCOLS, FlowMetrics, Protocol

PIXEL_MEAN, KITTI, IMAGE_MEAN = (PROTOCOLS[name] for name in ("pixel-mean", "kitti", "image-mean"))
NAN = (math.nan, math.nan)


def flow(*pixels: tuple[float, float]) -> np.ndarray:
    """One row of pixels, (1, N, 2)."""
    return np.array([pixels], np.float32)


def score(protocol: Protocol, *pairs: tuple[np.ndarray, dict[str, np.ndarray]]) -> dict[str, float]:
    metrics = FlowMetrics(protocol)
    for vectors, sample in pairs:
        metrics.update(FlowField(vectors), sample)
    return metrics.compute()


def pair_with_errors(*errors: float, length: float = 0.0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Vectors with these errors, perpendicular to a motion of one length, and the sample with that motion."""
    ground_truth = flow(*((length, 0.0) for _ in errors))
    return ground_truth + flow(*((0.0, error) for error in errors)), {"flow": ground_truth}


def test_every_score_by_hand():
    # e = 5 for a motion of 10 (3-4-5), 2 for 5, 8 for 200 (4 %), 0 for 50; the fifth pixel is unknown.
    ground_truth = flow((6, 8), (-5, 0), (0, 200), (30, -40), NAN)
    prediction = flow((9, 12), (-3, 0), (8, 200), (30, -40), (7, 7))
    visible = np.array([[True, True, False, True, True]])
    assert score(PIXEL_MEAN, (prediction, {"flow": ground_truth, "visible": visible})) == pytest.approx(
        {
            "epe": (5 + 2 + 8 + 0) / 4,
            "epe_visible": (5 + 2 + 0) / 3,
            "epe_occluded": 8,
            "s0-10": 2,  # facts 3.3: buckets by the true motion; 10 belongs to the next one
            "s10-40": 5,
            "s40+": (8 + 0) / 2,
            "1px": 3 / 4,
            "3px": 2 / 4,
            "5px": 1 / 4,  # more than 5: an error of exactly 5 is not counted
            "fl_all": 25,  # percent; 8 of 200 pixels are below 5 %
            "samples": 1,
        }
    )


def test_a_perfect_prediction_has_no_error_and_no_outlier():
    ground_truth = flow((1, 2), (0, 0), NAN, (-50, 3))
    scores = score(PIXEL_MEAN, (np.nan_to_num(ground_truth, nan=9), {"flow": ground_truth}))
    assert scores.pop("samples") == 1
    assert set(scores.values()) == {0.0}


@pytest.mark.parametrize(
    ("error", "length", "outlier"),
    [(3, 0, False), (3.01, 0, True), (3.01, 60, True), (3.01, 61, False), (5, 100, False), (5.01, 100, True)],
)
def test_an_outlier_exceeds_3_pixels_and_5_percent_of_the_motion(error, length, outlier):
    # Facts 3.3: EPE > 3 px and EPE > 5 % of |g|, both strict.
    assert score(PIXEL_MEAN, pair_with_errors(error, length=length))["fl_all"] == 100 * outlier


def test_protocols_differ_in_averaging():
    # Facts 3.3, "KITTI EPE per-image, then mean; Fl pooled over valid pixels": errors of 8, and of 4, 0, 0.
    pairs = pair_with_errors(8), pair_with_errors(4, 0, 0)
    pooled, kitti, images = (score(protocol, *pairs) for protocol in (PIXEL_MEAN, KITTI, IMAGE_MEAN))
    assert pooled["epe"] == pytest.approx((8 + 4) / 4)
    assert kitti["epe"] == images["epe"] == pytest.approx((8 + 4 / 3) / 2)
    assert pooled["fl_all"] == kitti["fl_all"] == pytest.approx(100 * 2 / 4)
    assert images["fl_all"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    for name, rate in (("1px", 2 / 4), ("3px", 2 / 4), ("5px", 1 / 4)):
        assert pooled[name] == kitti[name] == pytest.approx(rate)


def test_images_without_large_motion_do_not_count_in_s40():
    pairs = pair_with_errors(2, length=50), pair_with_errors(1, length=1), pair_with_errors(4, 4, length=60)
    assert score(IMAGE_MEAN, *pairs)["s40+"] == pytest.approx((2 + 4) / 2)
    assert score(PIXEL_MEAN, *pairs)["s40+"] == pytest.approx((2 + 4 + 4) / 3)


def test_scores_without_any_pixel_are_left_out():
    scores = score(PIXEL_MEAN, pair_with_errors(2, length=5))
    assert list(scores) == ["epe", "s0-10", "1px", "3px", "5px", "fl_all", "samples"]
    prediction, sample = pair_with_errors(2, 3)
    scores = score(PIXEL_MEAN, (prediction, {**sample, "visible": np.ones((1, 2), bool)}))
    assert scores["epe_visible"] == 2.5 and "epe_occluded" not in scores


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_images_without_known_pixels_are_ignored(protocol):
    unknown = flow((1, 1)), {"flow": flow(NAN), "visible": np.zeros((1, 1), bool)}
    half_known = flow((1, 1)), {"flow": flow((1.0, math.nan))}
    assert score(protocol, pair_with_errors(2), unknown, half_known) == score(protocol, pair_with_errors(2))
    empty = score(protocol, unknown)
    assert list(empty) == ["epe", "samples"] and math.isnan(empty["epe"]) and empty["samples"] == 0


def test_a_nan_prediction_counts_as_wrong():
    scores = score(PIXEL_MEAN, (flow(NAN, (0, 0)), {"flow": flow((1, 1), (0, 0))}))
    assert math.isnan(scores["epe"])
    assert (scores["5px"], scores["fl_all"]) == (0.5, 50)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_merged_scores_of_several_processes_are_bit_identical(protocol):
    rng = np.random.default_rng((0, 0, 0, 1))
    pairs = []
    for number in range(7):
        ground_truth = rng.normal(0, 20, (4, 5, 2)).astype(np.float32)
        ground_truth[rng.random((4, 5)) < 0.3] = np.nan
        visible = {"visible": rng.random((4, 5)) < 0.5} if number % 2 else {}
        pairs.append((rng.normal(0, 20, (4, 5, 2)).astype(np.float32), {"flow": ground_truth, **visible}))
    states = [FlowMetrics(protocol).state()]
    for rank in range(3):
        metrics = FlowMetrics(protocol)
        for vectors, sample in pairs[rank::3]:
            metrics.update(FlowField(vectors), sample)
        states.append(pickle.loads(pickle.dumps(metrics.state())))
    merged = FlowMetrics(protocol)
    merged.merge(states)
    assert merged.compute() == score(protocol, *pairs)
    assert merged.compute()["samples"] == 7


def test_protocols_are_found_by_name_and_unknown_names_get_the_nearest():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and PROTOCOLS[name] is protocol
        assert pickle.loads(pickle.dumps(protocol)) == protocol
    with pytest.raises(UserError, match="did you mean 'kitti'"):
        lookup("flow protocol", "kiti", PROTOCOLS)


def test_a_prediction_of_another_size_or_class_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1, 2\).*\(1, 2, 2\)"):
        score(PIXEL_MEAN, (flow((0, 0)), {"flow": flow((0, 0), (0, 0))}))
    with pytest.raises(TypeError, match="FlowField"):
        FlowMetrics(PIXEL_MEAN).update(object(), {"flow": flow((0, 0))})  # pyright: ignore[reportArgumentType]
