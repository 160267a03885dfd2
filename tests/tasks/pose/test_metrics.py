from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from densevision.datasets.dataset import Sample
from densevision.datasets.field_types import Skeleton
from densevision.datasets.pose.skeletons import COCO, LSP, MPII
from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.pose.metrics import PROTOCOLS, CorrectLimbs
from densevision.tasks.pose.pose_prediction import PosePrediction

STANDING = (
    *(
        (40, 190),
        (40, 150),
        (40, 110),
        (60, 110),
        (60, 150),
        (60, 190),
    ),  # right ankle, knee, hip, left hip, knee, ankle
    *((10, 110), (20, 80), (35, 50), (65, 50), (80, 80), (90, 110)),  # right wrist, elbow, shoulder, and the left ones
    *((50, 40), (50, 10)),  # neck, head top
)
"""A person in LSP's order of joints. The torso (left shoulder to right hip) is 65 px long: 25-60-65."""


def labeled(skeleton: Skeleton = LSP, **more: object) -> Sample:
    """A sample with every field that protocols need, all joints visible."""
    points = np.resize(STANDING, (len(skeleton.names), 2))
    sample = {"joints": np.column_stack([points, np.full(len(points), 2)]), "head": (40, 5, 70, 45), **more}
    return {"image": np.zeros((200, 100, 3), np.uint8), **{k: np.array(v, np.float32) for k, v in sample.items()}}


def coco(x: float = 0, crowd: int = 0) -> Sample:
    """A person with COCO's skeleton, all joints at one point, in a crop at x of the original image."""
    joints = np.tile((30, 40, 2), (17, 1))
    return labeled(COCO, joints=joints, area=1e4, box=(0, 0, 99, 99), image_id=7, crowd=crowd, left=x, top=0)


def shifted(
    sample: Sample, shift: Mapping[int, float] | float = 0, skeleton: Skeleton = LSP, confidence: float = 1
) -> PosePrediction:
    """The ground labeled with all joints, or some by index, shifted right by pixels."""
    joints = sample["joints"].copy()
    for index in range(len(joints)):
        joints[index, 0] += shift.get(index, 0) if isinstance(shift, Mapping) else shift
    joints[:, 2] = confidence
    return PosePrediction(joints, skeleton, sample["image"])


def score(protocol: str, *pairs: tuple[PosePrediction, Sample]) -> dict[str, float]:
    metrics = PROTOCOLS[protocol]()
    for pose, sample in pairs:
        metrics.update(pose, sample)
    return metrics.compute()


def unlabeled(sample: Sample, *indices: int) -> Sample:
    """The sample with these joints unlabeled and far outside, as in LSPe's file."""
    joints = sample["joints"].copy()
    joints[list(indices)] = -70, 1e4, 0
    return {**sample, "joints": joints}


def test_pck_counts_joints_within_a_fifth_of_the_torso():
    # 0.2, 0.1 and 0.05 of 65 px: 13, 6.5 and 3.25. The threshold is inclusive (<=, as in the published scripts).
    moved = {0: 13, 1: 13.01, 2: 6.5, 3: 6.51, 4: 3.25, 5: 3.26, 13: 200}
    assert score("pck-torso", (shifted(labeled(), moved), labeled())) == pytest.approx(
        {
            "score": 12 / 14,
            "pck@0.2": 12 / 14,
            "pck@0.1": 10 / 14,
            "pck@0.05": 8 / 14,
            "ankle": 1,
            "knee": 1 / 2,
            "hip": 1,
            "wrist": 1,
            "elbow": 1,
            "shoulder": 1,
            "neck": 1,
            "head top": 0,
            "samples": 1,
            "left_out": 0,
        }
    )


def test_torso_is_the_diagonal_from_left_shoulder_to_right_hip():
    # Facts 3.5. The other diagonal made 50 px longer changes nothing: 13 px are still a fifth.
    sample = labeled()
    sample["joints"][3, 0] += 50
    assert score("pck-torso", (shifted(sample, 13), sample))["score"] == 1
    sample["joints"][2, 0] -= 50
    assert score("pck-torso", (shifted(sample, 18), sample))["score"] == 1


def test_unlabeled_joints_never_count_and_occluded_ones_do():
    sample = unlabeled(labeled(), 0, 13)
    sample["joints"][1, 2] = 1
    scores = score("pck-torso", (shifted(labeled(), {0: 500, 1: 500, 13: 500}), sample))
    assert scores["score"] == pytest.approx(11 / 12)
    assert (scores["ankle"], scores["knee"]) == (1, 0.5)
    assert "head top" not in scores


def test_pck_pools_joints_of_all_people():
    partial = unlabeled(labeled(), 0, 1, 3, 4, 5, 6, 7, 8, 10, 11)
    scores = score("pck-torso", (shifted(labeled()), labeled()), (shifted(labeled(), 500), partial))
    assert scores["score"] == pytest.approx(14 / 18)


@pytest.mark.parametrize("joint", [9, 2])
def test_people_without_a_torso_are_left_out_and_counted(joint):
    scores = score(
        "pck-torso",
        (shifted(labeled()), labeled()),
        (shifted(labeled(), 500), unlabeled(labeled(), joint)),
    )
    assert (scores["score"], scores["samples"], scores["left_out"]) == (1, 1, 1)
    flat = labeled()
    flat["joints"][9] = flat["joints"][2]
    assert score("pck-torso", (shifted(flat), flat))["left_out"] == 1


def test_pck_box_uses_the_longer_edge_of_the_box_for_any_skeleton():
    paw = Skeleton(("tip", "base"), ((0, 1),), ())
    sample = labeled(paw, joints=((0, 0, 2), (10, 0, 2)), box=(0, 0, 50, 100))
    pose = shifted(sample, {0: 20, 1: 20.1}, paw)
    assert score("pck-box", (pose, sample))["pck@0.2"] == 0.5
    # Without a box, that of the labeled joints: 10 px.
    del sample["box"]
    assert score("pck-box", (shifted(sample, {0: 2, 1: 2.1}, paw), sample))["pck@0.2"] == 0.5
    with pytest.raises(UserError, match=r"pck-torso needs the joint 'left shoulder'.*pck-box"):
        score("pck-torso", (pose, sample))


def test_pckh_uses_the_head_box_and_leaves_out_pelvis_and_thorax():
    # Facts 3.5: 0.6 times the diagonal; of 30 x 40 px that is 30, half of it 15.
    sample = labeled(MPII)
    moved = {0: 15, 1: 15.1, 6: 500, 7: 500}
    scores = score("pckh", (shifted(sample, moved, MPII), sample))
    assert scores["score"] == scores["pckh@0.5"] == pytest.approx(13 / 14)
    assert not {"pelvis", "thorax"} & set(scores)
    assert scores["neck"] == 1
    with pytest.raises(UserError, match="pckh needs the field 'head'"):
        score("pckh", (shifted(sample, 0, MPII), {"joints": sample["joints"]}))


def test_pckh_weighs_joints_by_their_number_of_labels():
    # Facts 3.5. Two people: one ankle, missed, against 14 + 13 joints; the mean over joints would differ.
    complete, partial = labeled(MPII), unlabeled(labeled(MPII), 0)
    scores = score("pckh", (shifted(complete, {0: 500}, MPII), complete), (shifted(complete, {}, MPII), partial))
    assert scores["score"] == pytest.approx(26 / 27)


def test_threshold_of_a_tenth_is_exact():
    # Trap of facts 3.5: "Mean@0.1" of a well-known script is 0.11. A tenth of the head's 30 px is 3.
    sample = labeled(MPII)
    assert score("pckh", (shifted(sample, 3.2, MPII), sample))["pckh@0.1"] == 0


def test_person_without_counted_joints_is_left_out():
    only_middle = unlabeled(labeled(MPII), *(index for index in range(16) if index not in (6, 7)))
    scores = score("pckh", (shifted(labeled(MPII), 0, MPII), only_middle))
    assert math.isnan(scores.pop("score"))
    assert scores == {"samples": 0, "left_out": 1}


def test_pcp_requires_both_ends_within_half_of_the_limb():
    # The right lower leg is 40 px long: 20 px at each end. Wrist and elbow move together, so do the hips.
    scores = score("pcp", (shifted(labeled(), {0: 20, 5: 20.1, 13: 15.1}), labeled()))
    assert scores == pytest.approx(
        {
            "score": 8 / 10,
            "pcp": 8 / 10,
            "pcp_loose": 1,  # 10.05 of 40 and 7.55 of 30 px
            "torso": 1,
            "head": 0,
            "upper leg": 1,
            "lower leg": 1 / 2,
            "upper arm": 1,
            "lower arm": 1,
            "samples": 1,
            "left_out": 0,
        }
    )


def test_loose_pcp_averages_the_distances_of_both_ends():
    # The head is 30 px long, the arms' limbs 34 to 38 px: 30 px at one of its ends, or 14 and 17 px at both.
    for moved, correct in (({13: 30}, 10), ({13: 30.1}, 9), ({12: 14, 13: 16}, 10), ({12: 14, 13: 16.1}, 9)):
        scores = score("pcp", (shifted(labeled(), moved), labeled()))
        assert (scores["pcp"], scores["pcp_loose"]) == pytest.approx((9 / 10, correct / 10))


def test_torso_of_pcp_ends_in_the_midpoints_of_hips_and_shoulders():
    # 60 px long; the midpoint of the hips moves by half of what one hip does.
    for shift, correct in ((60, 1), (60.2, 0)):
        assert score("pcp", (shifted(labeled(), {2: shift}), labeled()))["torso"] == correct


def test_limbs_with_an_unlabeled_end_or_without_length_never_count():
    sample = unlabeled(labeled(), 0, 9)
    sample["joints"][12] = sample["joints"][13]
    scores = score("pcp", (shifted(sample), sample))
    # Torso, left upper arm and right lower leg lack an end, the head has no length.
    assert "torso" not in scores and "head" not in scores
    metrics = PROTOCOLS["pcp"]()
    metrics.update(shifted(sample), sample)
    assert metrics.state()[0]["pcp"] == 6
    empty = unlabeled(labeled(), *range(14))
    assert score("pcp", (shifted(labeled()), empty))["left_out"] == 1


@given(st.integers(0, 10_000), st.floats(0.01, 3))
def test_strict_pcp_is_never_above_loose_pcp(seed, spread):
    # Facts 3.5: strict PCP can only be <= loose PCP; limb by limb, since both ends' mean is at most their largest.
    rng = np.random.default_rng((0, 0, seed, 1))
    sample = labeled()
    sample["joints"][:, :2] = rng.normal(0, 50, (14, 2))
    pose = shifted(sample)
    pose.joints[:, :2] += rng.normal(0, 50 * spread, (14, 2))
    hits = CorrectLimbs()(pose, sample)
    assert len(hits["pcp"]) == 10
    assert all(loose or not strict for strict, loose in zip(hits["pcp"], hits["pcp_loose"], strict=True))


def test_pcp_is_refused_for_cocos_skeleton():
    with pytest.raises(UserError, match="pcp needs the joint 'neck'"):
        score("pcp", (shifted(coco(), 0, COCO), coco()))


def test_coco_protocol_needs_cocos_joints_and_fields():
    with pytest.raises(UserError, match=r"no sigma for the joint 'neck'.*pck-box"):
        score("coco", (shifted(labeled()), labeled()))
    with pytest.raises(UserError, match="coco needs the field 'area'"):
        score("coco", (shifted(coco(), 0, COCO), {k: v for k, v in coco().items() if k != "area"}))


def test_people_of_one_image_are_matched_in_that_image():
    # Two people 500 px apart. The first prediction, with higher score, is on the second person: one of two is matched.
    first, second = coco(0), coco(500)
    swapped, wrong = shifted(first, 500, COCO, confidence=0.9), shifted(second, 9000, COCO, confidence=0.8)
    scores = score("coco", (swapped, first), (wrong, second))
    # Recall 1/2 at precision 1: 51 of 101 recalls.
    assert scores["score"] == scores["ap"] == pytest.approx(51 / 101)
    assert scores["ar"] == 0.5


@pytest.mark.parametrize("unknown", ["image_id", "left", "top"])
def test_people_of_crops_at_unknown_positions_are_not_matched_with_each_other(unknown):
    # The second person is at the position that the first prediction has in another crop.
    first, second = coco(), coco()
    second["joints"][:, 0] += 500
    swapped, wrong = shifted(first, 500, COCO, confidence=0.9), shifted(second, 9000, COCO, confidence=0.8)
    assert score("coco", (swapped, first), (wrong, second))["score"] > 0
    del first[unknown], second[unknown]
    assert score("coco", (swapped, first), (wrong, second))["score"] == 0


def test_crowds_and_unlabeled_people_are_left_out():
    crowd, empty = coco(500, crowd=1), unlabeled(coco(1000), *range(17))
    pairs = [(shifted(one, 9000, COCO), one) for one in (crowd, empty)]
    scores = score("coco", (shifted(coco(), 0, COCO), coco()), *pairs)
    assert (scores["score"], scores["samples"], scores["left_out"]) == pytest.approx((1, 1, 2))
    scores = score("coco", *pairs)
    assert math.isnan(scores.pop("score")) and scores == {"samples": 0, "left_out": 2}


def test_box_of_pixel_centers_is_a_pixel_wider():
    metrics = PROTOCOLS["coco"]()
    metrics.update(shifted(coco(), 0, COCO), coco(500))
    ((_, person),) = metrics.state()
    assert person.ground_truth.box == (500, 0, 100, 100)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nan_prediction_is_wrong_rather_than_left_out(protocol):
    skeleton = {"pckh": MPII, "coco": COCO}.get(protocol, LSP)
    sample = coco() if protocol == "coco" else labeled(skeleton)
    scores = score(protocol, (shifted(sample, math.nan, skeleton), sample))
    assert (scores["score"], scores["samples"]) == (0, 1)


def random_pairs(protocol: str, number: int = 7) -> list[tuple[PosePrediction, Sample]]:
    """Random people and predictions, some of equal confidence."""
    rng = np.random.default_rng((0, 0, 0, 1))
    skeleton = {"pckh": MPII, "coco": COCO}.get(protocol, LSP)
    pairs = []
    for index in range(number):
        sample = coco(50.0 * index) if protocol == "coco" else labeled(skeleton)
        sample["joints"][:, :2] += rng.normal(0, 20, (len(skeleton.names), 2))
        sample["joints"][rng.random(len(skeleton.names)) < 0.2, 2] = 0
        sample["image_id"] = np.array(index // 3)
        pose = shifted(sample, 0, skeleton, confidence=float(rng.integers(1, 3)) / 2)
        pose.joints[:, :2] += rng.normal(0, 8 + 40 * (index % 2), (len(skeleton.names), 2))
        pairs.append((pose, sample))
    return pairs


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_merged_states_give_bit_identical_scores(protocol):
    pairs = random_pairs(protocol)
    states = [PROTOCOLS[protocol]().state()]
    for rank in range(3):
        metrics = PROTOCOLS[protocol]()
        for pose, sample in pairs[rank::3]:
            metrics.update(pose, sample)
        states.append(pickle.loads(pickle.dumps(metrics.state())))
    merged = PROTOCOLS[protocol]()
    merged.merge(states[::-1])
    assert merged.compute() == score(protocol, *pairs)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_the_monitored_score_even_without_samples(protocol):
    empty = PROTOCOLS[protocol]().compute()
    assert math.isnan(empty.pop("score"))
    assert empty == {"samples": 0, "left_out": 0}
    scores = score(protocol, *random_pairs(protocol))
    assert all(0 <= value <= 1 for name, value in scores.items() if name not in ("samples", "left_out"))
    assert 0 < scores["score"] < 1


def test_unknown_protocol_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'pck-torso'"):
        lookup("pose protocol", "pck_torso", PROTOCOLS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_predictions_of_another_type_or_number_of_joints_are_refused(protocol):
    update: Callable = PROTOCOLS[protocol]().update
    with pytest.raises(ValueError, match=r"16 joints .* 14"):
        update(shifted(labeled(MPII), 0, MPII), labeled())
    with pytest.raises(TypeError, match="PosePrediction"):
        update(object(), labeled())
