from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from densevision.errors import UserError
from densevision.tasks.flow.flow_field import FlowField
from densevision.tasks.flow.metrics import PROTOCOLS, FlowMetrics, Protocol, find_protocol

PIXELS, KITTI, PICTURES = (PROTOCOLS[name] for name in ("pixels", "kitti", "pictures"))
NAN = (math.nan, math.nan)


def flow(*pixels: tuple[float, float]) -> np.ndarray:
    """(1, N, 2), one row of pixels."""
    return np.array([pixels], np.float32)


def score(protocol: Protocol, *pairs: tuple[np.ndarray, dict[str, np.ndarray]]) -> dict[str, float]:
    metrics = FlowMetrics(protocol)
    for vectors, truth in pairs:
        metrics.update(FlowField(vectors), truth)
    return metrics.compute()


def off_by(*errors: float, length: float = 0.0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A picture whose pixels all move by one length, answered with these errors, across the motion."""
    truth = flow(*((length, 0.0) for _ in errors))
    return truth + flow(*((0.0, error) for error in errors)), {"flow": truth}


def test_every_score_by_hand():
    # e = 5 of a motion of 10 (3-4-5), 2 of 5, 8 of 200 (4 %), 0 of 50; the fifth is unknown.
    truth = flow((6, 8), (-5, 0), (0, 200), (30, -40), NAN)
    answer = flow((9, 12), (-3, 0), (8, 200), (30, -40), (7, 7))
    visible = np.array([[True, True, False, True, True]])
    assert score(PIXELS, (answer, {"flow": truth, "visible": visible})) == pytest.approx(
        {
            "epe": (5 + 2 + 8 + 0) / 4,
            "epe_visible": (5 + 2 + 0) / 3,
            "epe_occluded": 8,
            "s0-10": 2,  # facts 3.3: buckets by the true motion; 10 itself belongs to the next one
            "s10-40": 5,
            "s40+": (8 + 0) / 2,
            "1px": 3 / 4,
            "3px": 2 / 4,
            "5px": 1 / 4,  # farther than 5: the error of exactly 5 is not
            "fl_all": 25,  # percent; 8 pixels of 200 are below 5 %
            "samples": 1,
        }
    )


def test_a_perfect_answer_has_no_error_and_no_outlier():
    truth = flow((1, 2), (0, 0), NAN, (-50, 3))
    scores = score(PIXELS, (np.nan_to_num(truth, nan=9), {"flow": truth}))
    assert scores.pop("samples") == 1
    assert set(scores.values()) == {0.0}


@pytest.mark.parametrize(
    ("error", "length", "outlier"),
    [(3, 0, False), (3.01, 0, True), (3.01, 60, True), (3.01, 61, False), (5, 100, False), (5.01, 100, True)],
)
def test_an_outlier_is_farther_off_than_3_pixels_and_than_5_percent_of_the_motion(error, length, outlier):
    # Facts 3.3: EPE > 3 px and EPE > 5 % of |g|, both strict.
    assert score(PIXELS, off_by(error, length=length))["fl_all"] == 100 * outlier


def test_protocols_differ_in_what_they_pool():
    # Facts 3.3, "KITTI EPE per-image, then mean; Fl pooled over valid pixels": one pixel off by 8, three by 4, 0, 0.
    pairs = off_by(8), off_by(4, 0, 0)
    pooled, kitti, pictures = (score(protocol, *pairs) for protocol in (PIXELS, KITTI, PICTURES))
    assert pooled["epe"] == pytest.approx((8 + 4) / 4)
    assert kitti["epe"] == pictures["epe"] == pytest.approx((8 + 4 / 3) / 2)
    assert pooled["fl_all"] == kitti["fl_all"] == pytest.approx(100 * 2 / 4)
    assert pictures["fl_all"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    for name, share in (("1px", 2 / 4), ("3px", 2 / 4), ("5px", 1 / 4)):
        assert pooled[name] == kitti[name] == pytest.approx(share)


def test_pictures_without_a_large_motion_do_not_enter_the_mean_of_large_motions():
    pairs = off_by(2, length=50), off_by(1, length=1), off_by(4, 4, length=60)
    assert score(PICTURES, *pairs)["s40+"] == pytest.approx((2 + 4) / 2)
    assert score(PIXELS, *pairs)["s40+"] == pytest.approx((2 + 4 + 4) / 3)


def test_what_a_set_does_not_know_has_no_score():
    scores = score(PIXELS, off_by(2, length=5))
    assert list(scores) == ["epe", "s0-10", "1px", "3px", "5px", "fl_all", "samples"]
    answer, truth = off_by(2, 3)
    scores = score(PIXELS, (answer, {**truth, "visible": np.ones((1, 2), bool)}))
    assert scores["epe_visible"] == 2.5 and "epe_occluded" not in scores


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_pictures_without_a_known_pixel_count_nothing_and_no_picture_has_no_score(protocol):
    unknown = flow((1, 1)), {"flow": flow(NAN), "visible": np.zeros((1, 1), bool)}
    half_known = flow((1, 1)), {"flow": flow((1.0, math.nan))}
    assert score(protocol, off_by(2), unknown, half_known) == score(protocol, off_by(2))
    nothing = score(protocol, unknown)
    assert list(nothing) == ["epe", "samples"] and math.isnan(nothing["epe"]) and nothing["samples"] == 0


def test_an_answer_that_is_nan_is_wrong_rather_than_left_out():
    scores = score(PIXELS, (flow(NAN, (0, 0)), {"flow": flow((1, 1), (0, 0))}))
    assert math.isnan(scores["epe"])
    assert (scores["5px"], scores["fl_all"]) == (0.5, 50)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_shared_among_processes_the_scores_are_the_same_to_the_bit(protocol):
    rng = np.random.default_rng((0, 0, 0, 1))
    pairs = []
    for number in range(7):
        truth = rng.normal(0, 20, (4, 5, 2)).astype(np.float32)
        truth[rng.random((4, 5)) < 0.3] = np.nan
        visible = {"visible": rng.random((4, 5)) < 0.5} if number % 2 else {}
        pairs.append((rng.normal(0, 20, (4, 5, 2)).astype(np.float32), {"flow": truth, **visible}))
    states = [FlowMetrics(protocol).state()]
    for rank in range(3):
        metrics = FlowMetrics(protocol)
        for vectors, truth in pairs[rank::3]:
            metrics.update(FlowField(vectors), truth)
        states.append(pickle.loads(pickle.dumps(metrics.state())))
    merged = FlowMetrics(protocol)
    merged.merge(states)
    assert merged.compute() == score(protocol, *pairs)
    assert merged.compute()["samples"] == 7


def test_every_protocol_has_its_name_and_unknown_ones_their_nearest():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and find_protocol(name) is protocol
        assert pickle.loads(pickle.dumps(protocol)) == protocol
    with pytest.raises(UserError, match="did you mean 'kitti'"):
        find_protocol("kiti")


def test_an_answer_of_another_size_or_kind_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1, 2\).*\(1, 2, 2\)"):
        score(PIXELS, (flow((0, 0)), {"flow": flow((0, 0), (0, 0))}))
    with pytest.raises(TypeError, match="FlowField"):
        FlowMetrics(PIXELS).update(object(), {"flow": flow((0, 0))})  # pyright: ignore[reportArgumentType]
