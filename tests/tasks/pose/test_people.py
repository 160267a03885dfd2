from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from densevision.datasets.dataset import Sample
from densevision.datasets.fields import Skeleton
from densevision.datasets.skeletons import COCO, LSP, MPII
from densevision.tasks.pose.people import (
    CONFIDENT,
    SHOWN,
    MeanPose,
    Pose,
    joint_places,
    part_name,
    pose_for,
    true_place,
)

ARM = Skeleton(("left shoulder", "left elbow", "left wrist"), ((0, 1), (1, 2)), ())


def arm(*confidences: float, box: tuple[float, float, float, float] | None = None) -> Pose:
    """A straight arm in a grey picture of 40 x 60, in pixels of what the picture was cut from."""
    x, y = (0, 0) if box is None else box[:2]
    joints = [(10 + 20 * place + x, 20 + y, confidence) for place, confidence in enumerate(confidences)]
    return Pose(np.array(joints, np.float32), ARM, np.full((40, 60, 3), 90, np.uint8), box)


def drawn(pose: Pose) -> np.ndarray:
    """(H, W) bool: what differs from the picture."""
    return (pose.picture() != 90).any(axis=-1)


def test_confident_joints_are_drawn_uncertain_ones_fainter_and_the_least_certain_not_at_all():
    sure, faint, gone = (arm(1, 1, confidence).picture().astype(int) for confidence in (CONFIDENT, SHOWN, 0.09))
    np.testing.assert_allclose(sure[20, 50], (255, 255, 0), atol=1)
    np.testing.assert_allclose(faint[20, 50], (sure[20, 50] + 90) / 2, atol=1)
    assert (gone[20, 36:] == 90).all()
    assert drawn(arm(1, 1, 0.09))[20, 10:30].all()


def test_a_limb_is_no_surer_than_its_less_certain_end():
    sure, faint = (arm(1, 1, confidence).picture().astype(int)[20, 40] for confidence in (1, SHOWN))
    np.testing.assert_allclose(faint, (sure + 90) / 2, atol=1)


def test_an_answer_says_why_it_looked_there_where_nobody_said():
    assert arm(1, 1, 1).brief().endswith("in the whole picture")
    noted = replace(arm(1, 1, 1, box=(100, 200, 60, 40)), note="the person found")
    assert noted.brief().endswith("in the box 100,200,60,40 (the person found)")


def test_in_a_part_of_a_picture_joints_are_drawn_where_the_part_has_them():
    whole, part = arm(1, 1, 1), arm(1, 1, 1, box=(100, 200, 60, 40))
    assert part.joints[0, 0] == 110
    np.testing.assert_array_equal(whole.picture(), part.picture())


def test_grey_pictures_pictures_of_16_bits_and_none_at_all_can_be_drawn_on():
    joints = arm(1, 1, 1).joints
    for image in (np.zeros((40, 60, 1), np.uint8), np.full((40, 60, 3), 60000, np.uint16)):
        picture = Pose(joints, ARM, image).picture()
        assert (picture.shape, picture.dtype) == ((40, 60, 3), np.uint8)
    assert Pose(joints, ARM).picture().any()
    assert Pose(arm(0, 0, 0).joints, ARM).picture().ndim == 3
    assert Pose(arm(1, 1, 1, box=(100, 200, 60, 40)).joints, ARM, None, (100, 200, 60, 40)).picture().shape[1] < 100


def test_joints_beside_the_picture_or_nowhere_disturb_no_other():
    pose = arm(1, 1, 1)
    pose.joints[2, :2] = 1e9, -1e9
    assert drawn(pose)[20, 10:30].all()
    pose.joints[2, :2] = np.nan
    assert drawn(pose)[20, 10:30].all() and not drawn(pose)[:, 36:].any()


def test_it_is_written_as_coco_writes_a_person_and_no_picture_of_the_user_is(tmp_path):
    (tmp_path / "a.png").write_text("the user's")
    pose = arm(0.9, 0.2, 0.01, box=(100, 200, 60, 40))
    files = pose.save(tmp_path, "a")
    assert [file.name for file in files] == ["a_pose.json", "a_pose.png"]
    assert (tmp_path / "a.png").read_text() == "the user's"
    stored = json.loads(files[0].read_text())
    assert stored == {
        # COCO counts a skeleton's joints from 1.
        "category": {"name": "person", "keypoints": list(ARM.names), "skeleton": [[1, 2], [2, 3]]},
        # x, y, v: 2 confident, 1 uncertain, 0 not drawn.
        "keypoints": [110, 220, 2, 130, 220, 1, 150, 220, 0],
        "num_keypoints": 2,
        "keypoint_scores": [0.9, 0.2, 0.01],
        "score": 0.37,
        "bbox": [100, 200, 60, 40],
    }
    with Image.open(files[1]) as picture:
        assert (picture.mode, picture.size) == ("RGB", (60, 40))


def test_what_is_no_number_is_written_as_an_unlabelled_joint(tmp_path):
    pose = arm(0.5, np.nan, 1)
    pose.joints[0, 0], pose.joints[2, 1] = np.inf, np.nan
    text = pose.save(tmp_path, "a")[0].read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["keypoints"][2::3] == [0, 0, 0]


def test_the_box_is_the_whole_picture_where_none_was_asked_about_and_unknown_without_a_picture():
    assert arm(1, 1, 1).as_json()["bbox"] == [0, 0, 60, 40]
    assert Pose(arm(1, 1, 1).joints, ARM).as_json()["bbox"] is None


def test_it_says_how_sure_it_is_and_where_it_looked():
    assert arm(0.9, 0.3, 0.15).brief() == "2 of 3 joints confident, mean confidence 0.45, in the whole picture"
    assert arm(0, 0, 0, box=(100, 200, 60.5, 40)).brief() == (
        "0 of 3 joints confident, mean confidence 0.00, in the box 100,200,60.5,40"
    )
    assert Pose.unit == "pixels"


def test_labelled_joints_are_sure_whether_occluded_or_not_and_unlabelled_ones_lie_nowhere():
    labels = np.array([(1, 2, 2), (3, 4, 1), (np.nan, -70, 0)], np.float32)
    truth = Pose.labelled(labels, ARM)
    np.testing.assert_array_equal(truth.joints, np.array([(1, 2, 1), (3, 4, 1), (0, 0, 0)], np.float32))
    assert truth.joints.dtype == np.float32


def test_joints_are_known_by_their_plain_names():
    own = Skeleton(("Left_Hip", "right-hip", "nose"), (), ())
    assert joint_places(own) == {"left hip": 0, "right hip": 1, "nose": 2}
    # MPII's upper neck is where LSP and PCKh's tables have the neck.
    assert joint_places(MPII)["neck"] == 8 and joint_places(LSP)["neck"] == 12
    assert part_name("Left_Hip") == "hip"
    assert {part_name(name) for name in COCO.names} >= {"nose", "eye", "ankle"}


def test_only_a_pose_of_as_many_joints_can_be_compared():
    truth = {"joints": np.zeros((14, 3), np.float32)}
    with pytest.raises(ValueError, match=r"3 joints .* 14"):
        pose_for(arm(1, 1, 1), truth)
    with pytest.raises(TypeError, match="not on a object"):
        pose_for(object(), truth)  # pyright: ignore[reportArgumentType]


TWO = Skeleton(("head", "foot", "tail"), ((0, 1),), ())


def person(*joints: tuple[float, float, float], size: tuple[int, int] = (100, 200)) -> Sample:
    return {"image": np.zeros((*size, 3), np.uint8), "joints": np.array(joints, np.float32)}


def test_it_stands_where_the_training_stood_as_a_share_of_the_picture():
    # In pictures of 100 x 200 and of 50 x 50: heads at a quarter and at three quarters of the width.
    training = [
        person((49.5, 9.5, 2), (0, 0, 0), (0, 0, 0)),
        person((37, 4.5, 1), (24.5, 49.5, 2), (0, 0, 0), size=(50, 50)),
    ]
    mean = MeanPose(training, TWO)
    answer = mean(person((0, 0, 0), (0, 0, 0), (0, 0, 0), size=(300, 400)))
    # Halfway across and a tenth down; the foot from the one that shows it; the tail, never labelled, in the middle.
    np.testing.assert_allclose(answer.joints[:, :2], [(199.5, 29.5), (199.5, 299.5), (199.5, 149.5)], atol=1e-4)
    np.testing.assert_allclose(answer.joints[:, 2], [1, 0.5, 0])
    assert answer.joints.dtype == np.float32 and answer.image is not None and answer.skeleton is TWO


def test_unlabelled_joints_move_no_mean():
    # Facts 3.5: LSPe's unlabelled joints carry any coordinates, and samples may have nan there.
    labelled = person((20, 30, 2), (40, 50, 2), (60, 70, 2))
    for x, y in ((-9, -9), (np.nan, np.nan), (1e6, 0)):
        strange = person((x, y, 0), (40, 50, 2), (60, 70, 2))
        mean = MeanPose([labelled, strange], TWO)
        np.testing.assert_allclose(mean.places, MeanPose([labelled], TWO).places)


def test_placed_with_the_true_centre_and_size_it_fits_one_pose_wherever_it_stands():
    def standing(x: float, y: float, scale: float) -> Sample:
        return person((x, y, 2), (x - scale, y + 4 * scale, 2), (x + 2 * scale, y + scale, 1))

    mean = MeanPose([standing(50, 20, 5), standing(90, 40, 9)], TWO, true_place)
    there = standing(130, 3, 17)
    np.testing.assert_allclose(mean(there).joints[:, :2], there["joints"][:, :2], atol=1e-3)
    # Size is one number: whoever lies as long as another stands is answered with somebody who stands.
    lying = person((10, 50, 2), (90, 50, 2), (20, 60, 2))
    np.testing.assert_allclose(np.ptp(mean(lying).joints[:, :2], axis=0), (60, 80), atol=1e-3)
    nowhere = mean(person((0, 0, 0), (0, 0, 0), (0, 0, 0)))
    assert np.isfinite(nowhere.joints).all()
