from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import numpy as np
import pytest

from densevision.datasets.field_types import Skeleton
from densevision.datasets.pose.skeletons import COCO, LSP
from densevision.errors import UserError
from densevision.tasks.pose.oks import (
    MAX_DETECTIONS,
    Detection,
    EvaluatedImage,
    EvaluatedPerson,
    GroundTruth,
    average_precision,
    group_by_image,
    joint_sigmas,
    oks,
)

SIGMAS = joint_sigmas(COCO)
AREA = 100.0**2


def person(
    x: float = 0.0, area: float = AREA, crowd: bool = False, labeled: tuple[int, ...] = (*range(17),)
) -> GroundTruth:
    """All joints at (x, 0), in a box of 100 px around it."""
    joints = np.zeros((17, 3))
    for index in labeled:
        joints[index] = x, 0, 2
    return GroundTruth(joints, area, (x - 50, -50, 100, 100), crowd)


def detection(x: float = 0.0, score: float = 1.0, extent: float = 100.0) -> Detection:
    """All joints at (x, 0), except for the ears, which span an area of extent²."""
    joints = np.full((17, 2), (x, 0.0))
    joints[3:5] += [(-extent / 2, -extent / 2), (extent / 2, extent / 2)]
    return Detection(joints, score)


EARLESS = tuple(index for index in range(17) if index not in (3, 4))
"""Joints at which `detection` and `person` agree."""


def earless(x: float = 0.0, area: float = AREA, crowd: bool = False) -> GroundTruth:
    return person(x, area, crowd, EARLESS)


def test_sigmas_are_the_published_ones():
    # Facts 3.5, in COCO's order of joints.
    published = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
    np.testing.assert_allclose(1000 * SIGMAS, published)
    assert joint_sigmas(Skeleton(("Right_Ankle", "nose"), (), ())).tolist() == [0.089, 0.026]
    with pytest.raises(UserError, match="'neck'"):
        joint_sigmas(LSP)


@pytest.mark.parametrize(("joint", "distance"), [(0, 0.061), (11, 0.252)])
def test_oks_of_a_single_joint_is_half_at_the_published_distance(joint, distance):
    # Facts 3.5: d = 0.061 sqrt(area) for the nose, 0.252 sqrt(area) for a hip.
    joints = np.full((1, 17, 2), 1e6)
    joints[0, joint] = distance * np.sqrt(AREA), 0
    assert oks(joints, person(labeled=(joint,)), SIGMAS)[0] == pytest.approx(0.5, abs=0.005)


def test_oks_is_the_mean_over_labeled_joints_occluded_ones_included():
    two = person(labeled=(0, 11))
    two.joints[11, 2] = 1
    joints = np.full((1, 17, 2), np.inf)
    joints[0, 0], joints[0, 11] = 0, (0.214 * 100, 0)
    # One exact, one off by its k = 2 sigma: (1 + exp(-1 / 2)) / 2.
    assert oks(joints, two, SIGMAS)[0] == pytest.approx((1 + np.exp(-0.5)) / 2)


def test_oks_of_a_person_without_joints_uses_the_distance_to_the_enlarged_box():
    # Facts 3.5: a box of 100 px around (0, 0) extends to 150 px in each direction when enlarged by its size.
    unlabeled = person(labeled=())
    inside, outside = (np.full((1, 17, 2), x, np.float64) for x in (149, 160))
    assert oks(inside, unlabeled, SIGMAS)[0] == 1
    expected = np.exp(-(10**2 + 10**2) / (2 * AREA * (2 * SIGMAS) ** 2)).mean()
    assert oks(outside, unlabeled, SIGMAS)[0] == pytest.approx(expected)
    assert unlabeled.ignored and not person().ignored and person(crowd=True).ignored


def test_scores_are_1_if_all_are_detected_0_if_none_is_and_missing_without_people():
    scores = average_precision([([earless()], [detection()]), ([earless(500)], [detection(500)])], SIGMAS)
    # 100 x 100 px is a large person; there are no medium ones.
    assert scores == dict.fromkeys(("ap", "ap50", "ap75", "ar", "ap_large", "ar_large"), 1.0)
    assert set(average_precision([([earless()], [])], SIGMAS).values()) == {0.0}
    assert average_precision([], SIGMAS) == average_precision([([], [detection()])], SIGMAS) == {}


def test_precision_is_sampled_at_101_recalls():
    # Two people, the first detection matches one: recall 1/2 at precision 1, 51 of the 101 recalls; then a wrong one.
    image = [earless(), earless(500)], [detection(0, 0.9), detection(9000, 0.8)]
    assert average_precision([image], SIGMAS)["ap"] == pytest.approx(51 / 101)
    # The wrong detection first: precision 1/2 up to there.
    image = [earless(), earless(500)], [detection(0, 0.8), detection(9000, 0.9)]
    assert average_precision([image], SIGMAS)["ap"] == pytest.approx(51 / 101 / 2)


def test_inexact_detection_counts_at_the_lower_thresholds_only():
    # OKS between 0.6 and 0.65: correct at 0.5, 0.55 and 0.6, at 3 of 10.
    nose = person(labeled=(0,))
    inexact = detection(np.sqrt(-2 * np.log(0.62)) * 0.052 * 100)
    scores = average_precision([([nose], [inexact])], SIGMAS)
    assert (scores["ap"], scores["ap50"], scores["ap75"], scores["ar"]) == pytest.approx((0.3, 1, 0, 0.3))


def test_second_detection_of_the_same_person_is_wrong():
    scores = average_precision(
        [([earless(), earless(500)], [detection(0, 0.9), detection(0, 0.8), detection(500, 0.7)])], SIGMAS
    )
    # Recall 1/2 at precision 1, recall 1 at 2/3.
    assert scores["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_detection_with_higher_score_takes_the_most_similar_person():
    # The first detection is between two people, nearer to the second; the other one can only match the first.
    image = [earless(0), earless(12)], [detection(7, 0.9), detection(0, 0.8)]
    assert average_precision([image], SIGMAS)["ap50"] == 1


def test_detections_of_crowds_and_unlabeled_people_are_ignored():
    for ignored in (earless(500, crowd=True), person(500, labeled=())):
        one, two = detection(500, 0.9), detection(501, 0.8)
        scores = average_precision([([ignored, earless()], [one, detection(0, 0.5)])], SIGMAS)
        assert scores["ap"] == pytest.approx(1)
        # A crowd matches any number; a person without joints only one.
        scores = average_precision([([ignored, earless()], [one, two, detection(0, 0.5)])], SIGMAS)
        assert scores["ap"] == pytest.approx(1 if ignored.crowd else 1 / 2)


def test_counted_person_is_matched_before_a_more_similar_ignored_one():
    image = [earless(0, crowd=True), earless(5)], [detection(0, 0.9)]
    assert average_precision([image], SIGMAS)["ar"] > 0


def test_medium_and_large_people_have_their_own_scores():
    medium, large = earless(0, area=64.0**2), earless(500, area=128.0**2)
    image = [medium, large], [detection(0, 0.9, extent=64), detection(9000, 0.8, extent=128)]
    scores = average_precision([image], SIGMAS)
    # The wrong detection has a large area, so it is wrong among the large only.
    assert (scores["ap_medium"], scores["ap_large"]) == pytest.approx((1, 0))
    # 96² px is both: the limits are inclusive.
    assert average_precision([([earless(area=96.0**2)], [detection()])], SIGMAS).keys() >= {
        "ap_medium",
        "ap_large",
    }


def test_nan_detection_is_wrong_in_every_area_range():
    scores = average_precision([([earless()], [detection(np.nan, 0.9), detection(0, 0.8)])], SIGMAS)
    assert (scores["ap"], scores["ap_large"]) == pytest.approx((1 / 2, 1 / 2))


def test_only_the_first_twenty_detections_of_an_image_count():
    wrong = [detection(9000 + index, 0.9) for index in range(MAX_DETECTIONS - 1)]
    assert average_precision([([earless()], [*wrong, detection(0, 0.5)])], SIGMAS)["ap"] > 0
    assert average_precision([([earless()], [*wrong, detection(8000, 0.9), detection(0, 0.5)])], SIGMAS)["ap"] == 0


def test_people_are_grouped_by_image_independently_of_their_order():
    people = [
        EvaluatedPerson(earless(0), detection(0, 0.5), 7),
        EvaluatedPerson(earless(1), None, 7),
        EvaluatedPerson(earless(2), detection(2, 0.5), 3),
        EvaluatedPerson(earless(3), detection(3, 0.5)),
        EvaluatedPerson(earless(3), detection(3, 0.5)),
    ]
    for order in (people, people[::-1], [*people[2:], *people[:2]]):
        groups = [([one.joints[0, 0] for one in labeled], len(found)) for labeled, found in group_by_image(order)]
        # Those without an image first, each in one of its own.
        assert groups == [([3], 1), ([3], 1), ([2], 1), ([0, 1], 1)]


def random_images(seed: int, ties: bool = False, images: int = 12) -> list[EvaluatedImage]:
    """Several people per image, some crowds, some without joints or partly outside; good and bad detections.

    Only `random.Random.random` is used: its numbers are the same in every version of Python.
    """
    draw = random.Random(seed).random
    result: list[EvaluatedImage] = []
    for _ in range(images):
        people: list[GroundTruth] = []
        detections: list[Detection] = []
        for _ in range(int(6 * draw())):
            size = (20, 60, 150)[int(3 * draw())]
            x, y = (320 * draw() - 20 for _ in range(2))
            points = np.array([(round(x + size * draw()), round(y + size * draw())) for _ in range(17)], np.float64)
            flags = np.array([(0, 1, 2, 2)[int(4 * draw())] for _ in range(17)]) * (draw() > 0.2)
            joints = np.column_stack([np.where(flags[:, None] > 0, points, 0), flags])
            people.append(GroundTruth(joints, size**2 * (0.5 + draw()), (x, y, size, size), draw() < 0.15))
            # Sometimes the same person twice: equally similar.
            people += [people[-1]] * (draw() < 0.1)
            for _ in range(int(9 * draw())):
                spread = size * (0.05, 0.12, 0.4)[int(3 * draw())]
                offsets = np.array([(draw() - 0.5, draw() - 0.5) for _ in range(17)])
                detections.insert(
                    int(draw() * len(detections)), Detection(points + spread * offsets, round(draw(), 1 if ties else 9))
                )
        result.append((people, detections))
    return result


def pycocotools_scores(images: list[EvaluatedImage]) -> dict[str, float]:
    """The scores of pycocotools, -1 without people."""
    coco = pytest.importorskip("pycocotools.coco", reason="the extra coco is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval", reason="the extra coco is not installed")
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (people, detections) in enumerate(images):
        for one in people:
            labeled = int(np.count_nonzero(one.joints[:, 2]))
            labels = {"keypoints": one.joints.ravel().tolist(), "num_keypoints": labeled, "area": one.area}
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append({**ids, **labels, "bbox": list(one.box), "iscrowd": int(one.crowd)})
        for detected in detections:
            keypoints = np.column_stack([detected.joints, np.ones(17)]).ravel().tolist()
            results.append({"image_id": number, "category_id": 1, "keypoints": keypoints, "score": detected.score})
    ground_truth = coco.COCO()
    ground_truth.dataset = {"info": {}, "images": [{"id": number} for number in range(len(images))]}
    ground_truth.dataset |= {"annotations": annotations, "categories": [{"id": 1}]}
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
        evaluation = cocoeval.COCOeval(ground_truth, ground_truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "", "", "ar_medium", "ar_large")
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=True) if name}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_scores_equal_those_of_pycocotools(seed, ties):
    images = random_images(seed, ties)
    expected = pycocotools_scores(images)
    assert average_precision(images, SIGMAS) == pytest.approx({k: v for k, v in expected.items() if v != -1}, abs=1e-6)


def test_scores_equal_stored_scores_of_pycocotools():
    # From pycocotools 2.0.11, for environments without it.
    expected = {
        "ap": 0.3483106342229294,
        "ap50": 0.43659194783932315,
        "ap75": 0.3834486558332673,
        "ap_medium": 0.37362919941284584,
        "ap_large": 0.30803735312547914,
        "ar": 0.849090909090909,
        "ar_medium": 0.8647058823529411,
        "ar_large": 0.8111111111111111,
    }
    assert average_precision(random_images(0, ties=True, images=30), SIGMAS) == pytest.approx(expected, abs=1e-6)
