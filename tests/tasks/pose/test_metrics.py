from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from densevision.datasets.dataset import Sample
from densevision.datasets.fields import Skeleton
from densevision.datasets.skeletons import COCO, LSP, MPII
from densevision.errors import UserError
from densevision.tasks.pose.metrics import PROTOCOLS, CorrectLimbs, find_protocol
from densevision.tasks.pose.people import Pose

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


def truth(skeleton: Skeleton = LSP, **more: object) -> Sample:
    """A sample of everything that protocols may ask for, all joints visible."""
    places = np.resize(STANDING, (len(skeleton.names), 2))
    sample = {"joints": np.column_stack([places, np.full(len(places), 2)]), "head": (40, 5, 70, 45), **more}
    return {"image": np.zeros((200, 100, 3), np.uint8), **{k: np.array(v, np.float32) for k, v in sample.items()}}


def coco(x: float = 0, crowd: int = 0) -> Sample:
    """A person of COCO's skeleton, all joints in one place, at x in the whole picture."""
    joints = np.tile((30, 40, 2), (17, 1))
    return truth(COCO, joints=joints, area=1e4, box=(0, 0, 99, 99), image_id=7, crowd=crowd, left=x, top=0)


def answer(sample: Sample, shift: Mapping[int, float] | float = 0, skeleton: Skeleton = LSP, sure: float = 1) -> Pose:
    """The truth, joints moved to the right by pixels: all alike, or some by their place."""
    joints = sample["joints"].copy()
    for place in range(len(joints)):
        joints[place, 0] += shift.get(place, 0) if isinstance(shift, Mapping) else shift
    joints[:, 2] = sure
    return Pose(joints, skeleton, sample["image"])


def score(protocol: str, *pairs: tuple[Pose, Sample]) -> dict[str, float]:
    metrics = find_protocol(protocol)()
    for pose, sample in pairs:
        metrics.update(pose, sample)
    return metrics.compute()


def unlabelled(sample: Sample, *places: int) -> Sample:
    """Without these joints, which lie far away then, as in LSPe's file."""
    joints = sample["joints"].copy()
    joints[list(places)] = -70, 1e4, 0
    return {**sample, "joints": joints}


def test_joints_within_a_fifth_of_the_torso_are_found():
    # 0.2, 0.1 and 0.05 of 65 px: 13, 6.5 and 3.25. Exactly at the border is found (<=, as in the published scripts).
    moved = {0: 13, 1: 13.01, 2: 6.5, 3: 6.51, 4: 3.25, 5: 3.26, 13: 200}
    assert score("pck-torso", (answer(truth(), moved), truth())) == pytest.approx(
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


def test_the_torso_is_the_diagonal_from_the_left_shoulder_to_the_right_hip():
    # Facts 3.5. The other diagonal made 50 px longer changes nothing: 13 px are still a fifth.
    sample = truth()
    sample["joints"][3, 0] += 50
    assert score("pck-torso", (answer(sample, 13), sample))["score"] == 1
    sample["joints"][2, 0] -= 50
    assert score("pck-torso", (answer(sample, 18), sample))["score"] == 1


def test_unlabelled_joints_never_count_and_occluded_ones_do():
    sample = unlabelled(truth(), 0, 13)
    sample["joints"][1, 2] = 1
    scores = score("pck-torso", (answer(truth(), {0: 500, 1: 500, 13: 500}), sample))
    assert scores["score"] == pytest.approx(11 / 12)
    assert (scores["ankle"], scores["knee"]) == (1, 0.5)
    assert "head top" not in scores


def test_shares_pool_joints_so_that_a_person_with_fewer_weighs_less():
    few = unlabelled(truth(), 0, 1, 3, 4, 5, 6, 7, 8, 10, 11)
    scores = score("pck-torso", (answer(truth()), truth()), (answer(truth(), 500), few))
    assert scores["score"] == pytest.approx(14 / 18)


@pytest.mark.parametrize("place", [9, 2])
def test_people_without_a_torso_are_left_out_and_counted(place):
    scores = score("pck-torso", (answer(truth()), truth()), (answer(truth(), 500), unlabelled(truth(), place)))
    assert (scores["score"], scores["samples"], scores["left_out"]) == (1, 1, 1)
    flat = truth()
    flat["joints"][9] = flat["joints"][2]
    assert score("pck-torso", (answer(flat), flat))["left_out"] == 1


def test_the_longer_side_of_the_box_measures_any_skeleton():
    paw = Skeleton(("tip", "base"), ((0, 1),), ())
    sample = truth(paw, joints=((0, 0, 2), (10, 0, 2)), box=(0, 0, 50, 100))
    found = answer(sample, {0: 20, 1: 20.1}, paw)
    assert score("pck-box", (found, sample))["pck@0.2"] == 0.5
    # Without a box, that of the labelled joints: 10 px.
    del sample["box"]
    assert score("pck-box", (answer(sample, {0: 2, 1: 2.1}, paw), sample))["pck@0.2"] == 0.5
    with pytest.raises(UserError, match=r"pck-torso needs the joint 'left shoulder'.*pck-box"):
        score("pck-torso", (found, sample))


def test_pckh_measures_by_the_head_box_and_leaves_out_pelvis_and_thorax():
    # Facts 3.5: 0.6 times the diagonal; of 30 x 40 px that is 30, half of it 15.
    sample = truth(MPII)
    moved = {0: 15, 1: 15.1, 6: 500, 7: 500}
    scores = score("pckh", (answer(sample, moved, MPII), sample))
    assert scores["score"] == scores["pckh@0.5"] == pytest.approx(13 / 14)
    assert not {"pelvis", "thorax"} & set(scores)
    assert scores["neck"] == 1
    with pytest.raises(UserError, match="pckh needs the field 'head'"):
        score("pckh", (answer(sample, 0, MPII), {"joints": sample["joints"]}))


def test_pckh_weighs_joints_by_how_often_they_are_labelled():
    # Facts 3.5. Two people: one ankle, missed, against 14 + 13 joints; the mean of the joints' shares would differ.
    whole, rest = truth(MPII), unlabelled(truth(MPII), 0)
    scores = score("pckh", (answer(whole, {0: 500}, MPII), whole), (answer(whole, {}, MPII), rest))
    assert scores["score"] == pytest.approx(26 / 27)


def test_a_tenth_is_a_tenth():
    # Trap of facts 3.5: "Mean@0.1" of a well-known script is 0.11. A tenth of the head's 30 px is 3.
    sample = truth(MPII)
    assert score("pckh", (answer(sample, 3.2, MPII), sample))["pckh@0.1"] == 0


def test_nobody_left_to_be_measured_by_a_joint_is_no_sample():
    only_middle = unlabelled(truth(MPII), *(place for place in range(16) if place not in (6, 7)))
    scores = score("pckh", (answer(truth(MPII), 0, MPII), only_middle))
    assert math.isnan(scores.pop("score"))
    assert scores == {"samples": 0, "left_out": 1}


def test_a_limb_is_found_where_both_its_ends_are_within_half_of_it():
    # The right lower leg is 40 px long: 20 px at each end. Wrist and elbow move together, so do the hips.
    scores = score("pcp", (answer(truth(), {0: 20, 5: 20.1, 13: 15.1}), truth()))
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


def test_loosely_a_limb_is_found_where_its_ends_are_within_half_of_it_on_average():
    # The head is 30 px long, the arms' limbs 34 to 38 px: 30 px at one of its ends, or 14 and 17 px at both.
    for moved, found in (({13: 30}, 10), ({13: 30.1}, 9), ({12: 14, 13: 16}, 10), ({12: 14, 13: 16.1}, 9)):
        scores = score("pcp", (answer(truth(), moved), truth()))
        assert (scores["pcp"], scores["pcp_loose"]) == pytest.approx((9 / 10, found / 10))


def test_the_torso_of_pcp_ends_in_the_middles_of_hips_and_shoulders():
    # 60 px long; the hips' middle moves by half of what one hip does.
    for shift, found in ((60, 1), (60.2, 0)):
        assert score("pcp", (answer(truth(), {2: shift}), truth()))["torso"] == found


def test_limbs_with_an_unlabelled_end_or_without_a_length_never_count():
    sample = unlabelled(truth(), 0, 9)
    sample["joints"][12] = sample["joints"][13]
    scores = score("pcp", (answer(sample), sample))
    # Torso, left upper arm and right lower leg have an end too few, the head no length.
    assert "torso" not in scores and "head" not in scores
    tally = find_protocol("pcp")()
    tally.update(answer(sample), sample)
    assert tally.state()[0]["pcp"] == 6
    nothing = unlabelled(truth(), *range(14))
    assert score("pcp", (answer(truth()), nothing))["left_out"] == 1


@given(st.integers(0, 10_000), st.floats(0.01, 3))
def test_strict_pcp_is_never_above_loose_pcp(seed, spread):
    # Facts 3.5: strict PCP can only be <= loose PCP; limb by limb, since both ends' mean is at most their largest.
    rng = np.random.default_rng((0, 0, seed, 1))
    sample = truth()
    sample["joints"][:, :2] = rng.normal(0, 50, (14, 2))
    pose = answer(sample)
    pose.joints[:, :2] += rng.normal(0, 50 * spread, (14, 2))
    judged = CorrectLimbs()(pose, sample)
    assert len(judged["pcp"]) == 10
    assert all(loose or not strict for strict, loose in zip(judged["pcp"], judged["pcp_loose"], strict=True))


def test_coco_has_no_head_to_measure_limbs_by():
    with pytest.raises(UserError, match="pcp needs the joint 'neck'"):
        score("pcp", (answer(coco(), 0, COCO), coco()))


def test_average_precision_needs_people_as_coco_states_them():
    with pytest.raises(UserError, match=r"no spread of the joint 'neck'.*pck-box"):
        score("coco", (answer(truth()), truth()))
    with pytest.raises(UserError, match="coco needs the field 'area'"):
        score("coco", (answer(coco(), 0, COCO), {k: v for k, v in coco().items() if k != "area"}))


def test_people_of_one_picture_are_matched_in_that_picture():
    # Two people 500 px apart. The first, surer answer lies on the second person: one found, one missed.
    first, second = coco(0), coco(500)
    astray, nowhere = answer(first, 500, COCO, sure=0.9), answer(second, 9000, COCO, sure=0.8)
    scores = score("coco", (astray, first), (nowhere, second))
    # Recall 1/2 at precision 1: 51 of 101 recalls.
    assert scores["score"] == scores["ap"] == pytest.approx(51 / 101)
    assert scores["ar"] == 0.5


@pytest.mark.parametrize("unknown", ["image_id", "left", "top"])
def test_people_of_cuts_that_lie_nowhere_known_are_not_matched_with_each_other(unknown):
    # In its own cut the second person stands where the first answer is in another.
    first, second = coco(), coco()
    second["joints"][:, 0] += 500
    astray, nowhere = answer(first, 500, COCO, sure=0.9), answer(second, 9000, COCO, sure=0.8)
    assert score("coco", (astray, first), (nowhere, second))["score"] > 0
    del first[unknown], second[unknown]
    assert score("coco", (astray, first), (nowhere, second))["score"] == 0


def test_about_crowds_and_the_unlabelled_nothing_is_asked():
    crowd, nobody = coco(500, crowd=1), unlabelled(coco(1000), *range(17))
    pairs = [(answer(one, 9000, COCO), one) for one in (crowd, nobody)]
    scores = score("coco", (answer(coco(), 0, COCO), coco()), *pairs)
    assert (scores["score"], scores["samples"], scores["left_out"]) == pytest.approx((1, 1, 2))
    nothing = score("coco", *pairs)
    assert math.isnan(nothing.pop("score")) and nothing == {"samples": 0, "left_out": 2}


def test_a_box_of_pixel_centres_is_a_pixel_wider_than_its_edges_are_apart():
    # COCO's (0, 0, 100, 100) doubled reaches 100 px further; a joint that lies there counts nothing.
    tally = find_protocol("coco")()
    tally.update(answer(coco(), 0, COCO), coco(500))
    assert tally.state()[1][0].person.box == (500, 0, 100, 100)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_answer_that_is_no_number_is_wrong_rather_than_left_out(protocol):
    skeleton = {"pckh": MPII, "coco": COCO}.get(protocol, LSP)
    sample = coco() if protocol == "coco" else truth(skeleton)
    scores = score(protocol, (answer(sample, math.nan, skeleton), sample))
    assert (scores["score"], scores["samples"]) == (0, 1)


def a_few(protocol: str, number: int = 7) -> list[tuple[Pose, Sample]]:
    """People and answers at random, equally sure ones among them."""
    rng = np.random.default_rng((0, 0, 0, 1))
    skeleton = {"pckh": MPII, "coco": COCO}.get(protocol, LSP)
    pairs = []
    for place in range(number):
        sample = coco(50.0 * place) if protocol == "coco" else truth(skeleton)
        sample["joints"][:, :2] += rng.normal(0, 20, (len(skeleton.names), 2))
        sample["joints"][rng.random(len(skeleton.names)) < 0.2, 2] = 0
        sample["image_id"] = np.array(place // 3)
        pose = answer(sample, 0, skeleton, sure=float(rng.integers(1, 3)) / 2)
        pose.joints[:, :2] += rng.normal(0, 8 + 40 * (place % 2), (len(skeleton.names), 2))
        pairs.append((pose, sample))
    return pairs


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_among_processes_the_scores_are_the_same_to_the_bit(protocol):
    pairs = a_few(protocol)
    states = [find_protocol(protocol)().state()]
    for rank in range(3):
        metrics = find_protocol(protocol)()
        for pose, sample in pairs[rank::3]:
            metrics.update(pose, sample)
        states.append(pickle.loads(pickle.dumps(metrics.state())))
    merged = find_protocol(protocol)()
    merged.merge(states[::-1])
    assert merged.compute() == score(protocol, *pairs)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_its_watched_score_even_before_anybody_was_counted(protocol):
    nothing = find_protocol(protocol)().compute()
    assert math.isnan(nothing.pop("score"))
    assert nothing == {"samples": 0, "left_out": 0}
    scores = score(protocol, *a_few(protocol))
    assert all(0 <= value <= 1 for name, value in scores.items() if name not in ("samples", "left_out"))
    assert 0 < scores["score"] < 1


def test_unknown_protocols_are_told_their_nearest():
    with pytest.raises(UserError, match="did you mean 'pck-torso'"):
        find_protocol("pck_torso")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_of_another_kind_or_number_of_joints_are_refused(protocol):
    update: Callable = find_protocol(protocol)().update
    with pytest.raises(ValueError, match=r"16 joints .* 14"):
        update(answer(truth(MPII), 0, MPII), truth())
    with pytest.raises(TypeError, match="Pose"):
        update(object(), truth())
