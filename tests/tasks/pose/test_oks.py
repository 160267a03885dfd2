from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import numpy as np
import pytest

from densevision.datasets.fields import Skeleton
from densevision.datasets.skeletons import COCO, LSP
from densevision.errors import UserError
from densevision.tasks.pose.oks import (
    MOST,
    Asked,
    Found,
    Person,
    Picture,
    average_precision,
    by_picture,
    oks,
    sigmas_of,
)

SIGMAS = sigmas_of(COCO)
AREA = 100.0**2


def person(
    x: float = 0.0, area: float = AREA, crowd: bool = False, labelled: tuple[int, ...] = (*range(17),)
) -> Person:
    """All joints at (x, 0), in a box of 100 px about it."""
    joints = np.zeros((17, 3))
    for place in labelled:
        joints[place] = x, 0, 2
    return Person(joints, area, (x - 50, -50, 100, 100), crowd)


def found(x: float = 0.0, score: float = 1.0, extent: float = 100.0) -> Found:
    """All joints at (x, 0), but for the ears, which span an area of extent²."""
    joints = np.full((17, 2), (x, 0.0))
    joints[3:5] += [(-extent / 2, -extent / 2), (extent / 2, extent / 2)]
    return Found(joints, score)


EARLESS = tuple(place for place in range(17) if place not in (3, 4))
"""Joints that `found` puts where `person` has them."""


def somebody(x: float = 0.0, area: float = AREA, crowd: bool = False) -> Person:
    return person(x, area, crowd, EARLESS)


def test_every_joint_has_its_published_sigma_and_left_and_right_the_same():
    # Facts 3.5, in COCO's order of joints.
    published = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
    np.testing.assert_allclose(1000 * SIGMAS, published)
    assert sigmas_of(Skeleton(("Right_Ankle", "nose"), (), ())).tolist() == [0.089, 0.026]
    with pytest.raises(UserError, match="'neck'"):
        sigmas_of(LSP)


@pytest.mark.parametrize(("joint", "share"), [(0, 0.061), (11, 0.252)])
def test_a_single_joint_is_half_alike_at_the_published_distance(joint, share):
    # Facts 3.5: d = 0.061 sqrt(area) for the nose, 0.252 sqrt(area) for a hip.
    answer = np.full((1, 17, 2), 1e6)
    answer[0, joint] = share * np.sqrt(AREA), 0
    assert oks(answer, person(labelled=(joint,)), SIGMAS)[0] == pytest.approx(0.5, abs=0.005)


def test_likeness_is_the_mean_over_labelled_joints_of_which_occluded_ones_are_some():
    two = person(labelled=(0, 11))
    two.joints[11, 2] = 1
    answer = np.full((1, 17, 2), np.inf)
    answer[0, 0], answer[0, 11] = 0, (0.214 * 100, 0)
    # One exactly there, one off by its k = 2 sigma: (1 + exp(-1 / 2)) / 2.
    assert oks(answer, two, SIGMAS)[0] == pytest.approx((1 + np.exp(-0.5)) / 2)


def test_of_a_person_without_joints_the_distance_to_a_doubled_box_counts():
    # Facts 3.5: a box of 100 px about (0, 0) reaches 150 px to each side when enlarged by its size everywhere.
    nobody = person(labelled=())
    inside, beside = (np.full((1, 17, 2), x, np.float64) for x in (149, 160))
    assert oks(inside, nobody, SIGMAS)[0] == 1
    expected = np.exp(-(10**2 + 10**2) / (2 * AREA * (2 * SIGMAS) ** 2)).mean()
    assert oks(beside, nobody, SIGMAS)[0] == pytest.approx(expected)
    assert nobody.ignored and not person().ignored and person(crowd=True).ignored


def test_everybody_found_is_perfect_and_nobody_found_is_none():
    scores = average_precision([([somebody()], [found()]), ([somebody(500)], [found(500)])], SIGMAS)
    # 100 x 100 px is a large person; nobody is medium.
    assert scores == dict.fromkeys(("ap", "ap50", "ap75", "ar", "ap_large", "ar_large"), 1.0)
    assert set(average_precision([([somebody()], [])], SIGMAS).values()) == {0.0}
    assert average_precision([], SIGMAS) == average_precision([([], [found()])], SIGMAS) == {}


def test_precision_is_read_at_101_recalls():
    # Two people, the surest answer found one: recall 1/2 at precision 1, 51 of the 101 recalls; then one astray.
    picture = [somebody(), somebody(500)], [found(0, 0.9), found(9000, 0.8)]
    assert average_precision([picture], SIGMAS)["ap"] == pytest.approx(51 / 101)
    # The stray answer first: precision 1/2 up to there.
    picture = [somebody(), somebody(500)], [found(0, 0.8), found(9000, 0.9)]
    assert average_precision([picture], SIGMAS)["ap"] == pytest.approx(51 / 101 / 2)


def test_an_answer_that_is_less_alike_counts_at_the_lower_thresholds_only():
    # OKS between 0.6 and 0.65: found at 0.5, 0.55 and 0.6, at 3 of 10.
    nose = person(labelled=(0,))
    answer = found(np.sqrt(-2 * np.log(0.62)) * 0.052 * 100)
    scores = average_precision([([nose], [answer])], SIGMAS)
    assert (scores["ap"], scores["ap50"], scores["ap75"], scores["ar"]) == pytest.approx((0.3, 1, 0, 0.3))


def test_a_second_answer_about_the_same_person_is_wrong():
    twice = average_precision([([somebody(), somebody(500)], [found(0, 0.9), found(0, 0.8), found(500, 0.7)])], SIGMAS)
    # Recall 1/2 at precision 1, recall 1 at 2/3.
    assert twice["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_surer_answer_takes_the_person_it_is_most_alike():
    # The surer answer stands between two people, nearer to the second; the other answer is left the first.
    picture = [somebody(0), somebody(12)], [found(7, 0.9), found(0, 0.8)]
    assert average_precision([picture], SIGMAS)["ap50"] == 1


def test_what_lies_on_a_crowd_or_on_somebody_without_joints_counts_nothing():
    for ignored in (somebody(500, crowd=True), person(500, labelled=())):
        one, two = found(500, 0.9), found(501, 0.8)
        scores = average_precision([([ignored, somebody()], [one, found(0, 0.5)])], SIGMAS)
        assert scores["ap"] == pytest.approx(1)
        # Any number may lie on a crowd; on one person without joints only one.
        scores = average_precision([([ignored, somebody()], [one, two, found(0, 0.5)])], SIGMAS)
        assert scores["ap"] == pytest.approx(1 if ignored.crowd else 1 / 2)


def test_who_counts_goes_before_who_is_ignored_though_less_alike():
    picture = [somebody(0, crowd=True), somebody(5)], [found(0, 0.9)]
    assert average_precision([picture], SIGMAS)["ar"] > 0


def test_medium_and_large_people_have_scores_of_their_own():
    medium, large = somebody(0, area=64.0**2), somebody(500, area=128.0**2)
    picture = [medium, large], [found(0, 0.9, extent=64), found(9000, 0.8, extent=128)]
    scores = average_precision([picture], SIGMAS)
    # The stray answer spans a large area, so that it is wrong among the large only.
    assert (scores["ap_medium"], scores["ap_large"]) == pytest.approx((1, 0))
    # 96² px is both: the borders are included on either side.
    assert average_precision([([somebody(area=96.0**2)], [found()])], SIGMAS).keys() >= {"ap_medium", "ap_large"}


def test_an_answer_that_is_no_number_is_wrong_in_every_area():
    scores = average_precision([([somebody()], [found(np.nan, 0.9), found(0, 0.8)])], SIGMAS)
    assert (scores["ap"], scores["ap_large"]) == pytest.approx((1 / 2, 1 / 2))


def test_only_the_surest_twenty_answers_of_a_picture_count():
    strays = [found(9000 + place, 0.9) for place in range(MOST - 1)]
    assert average_precision([([somebody()], [*strays, found(0, 0.5)])], SIGMAS)["ap"] > 0
    assert average_precision([([somebody()], [*strays, found(8000, 0.9), found(0, 0.5)])], SIGMAS)["ap"] == 0


def test_people_are_gathered_by_picture_whatever_their_order():
    asked = [
        Asked(somebody(0), found(0, 0.5), 7),
        Asked(somebody(1), None, 7),
        Asked(somebody(2), found(2, 0.5), 3),
        Asked(somebody(3), found(3, 0.5)),
        Asked(somebody(3), found(3, 0.5)),
    ]
    for order in (asked, asked[::-1], [*asked[2:], *asked[:2]]):
        gathered = [([one.joints[0, 0] for one in persons], len(answers)) for persons, answers in by_picture(order)]
        # Those of no stated picture first, each in one of their own.
        assert gathered == [([3], 1), ([3], 1), ([2], 1), ([0, 1], 1)]


def made_set(seed: int, ties: bool = False, pictures: int = 12) -> list[Picture]:
    """Several people a picture, some crowds, some without joints or partly beside the picture; good and bad answers.

    `random.Random.random` alone is drawn from: Python promises that its numbers stay.
    """
    draw = random.Random(seed).random
    made: list[Picture] = []
    for _ in range(pictures):
        persons: list[Person] = []
        answers: list[Found] = []
        for _ in range(int(6 * draw())):
            size = (20, 60, 150)[int(3 * draw())]
            x, y = (320 * draw() - 20 for _ in range(2))
            places = np.array([(round(x + size * draw()), round(y + size * draw())) for _ in range(17)], np.float64)
            flags = np.array([(0, 1, 2, 2)[int(4 * draw())] for _ in range(17)]) * (draw() > 0.2)
            joints = np.column_stack([np.where(flags[:, None] > 0, places, 0), flags])
            persons.append(Person(joints, size**2 * (0.5 + draw()), (x, y, size, size), draw() < 0.15))
            # Now and then the same person twice: equally alike.
            persons += [persons[-1]] * (draw() < 0.1)
            for _ in range(int(9 * draw())):
                spread = size * (0.05, 0.12, 0.4)[int(3 * draw())]
                offsets = np.array([(draw() - 0.5, draw() - 0.5) for _ in range(17)])
                answers.insert(
                    int(draw() * len(answers)), Found(places + spread * offsets, round(draw(), 1 if ties else 9))
                )
        made.append((persons, answers))
    return made


def official(pictures: list[Picture]) -> dict[str, float]:
    """What pycocotools says, -1 where nobody counts."""
    coco = pytest.importorskip("pycocotools.coco", reason="the extra coco is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval", reason="the extra coco is not installed")
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (persons, answers) in enumerate(pictures):
        for one in persons:
            labelled = int(np.count_nonzero(one.joints[:, 2]))
            about = {"keypoints": one.joints.ravel().tolist(), "num_keypoints": labelled, "area": one.area}
            where = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append({**where, **about, "bbox": list(one.box), "iscrowd": int(one.crowd)})
        for answer in answers:
            keypoints = np.column_stack([answer.joints, np.ones(17)]).ravel().tolist()
            results.append({"image_id": number, "category_id": 1, "keypoints": keypoints, "score": answer.score})
    truth = coco.COCO()
    truth.dataset = {"info": {}, "images": [{"id": number} for number in range(len(pictures))]}
    truth.dataset |= {"annotations": annotations, "categories": [{"id": 1}]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "", "", "ar_medium", "ar_large")
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=True) if name}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_pycocotools(seed, ties):
    made = made_set(seed, ties)
    theirs = official(made)
    assert average_precision(made, SIGMAS) == pytest.approx({k: v for k, v in theirs.items() if v != -1}, abs=1e-6)


def test_scores_are_those_that_pycocotools_gave():
    # pycocotools 2.0.11 on this set, for where it is not installed.
    given = {
        "ap": 0.3483106342229294,
        "ap50": 0.43659194783932315,
        "ap75": 0.3834486558332673,
        "ap_medium": 0.37362919941284584,
        "ap_large": 0.30803735312547914,
        "ar": 0.849090909090909,
        "ar_medium": 0.8647058823529411,
        "ar_large": 0.8111111111111111,
    }
    assert average_precision(made_set(0, ties=True, pictures=30), SIGMAS) == pytest.approx(given, abs=1e-6)
