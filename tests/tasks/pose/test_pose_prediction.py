from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from densevision.datasets.dataset import Sample
from densevision.datasets.field_types import Skeleton
from densevision.datasets.pose.skeletons import COCO, LSP, MPII
from densevision.tasks.pose.pose_prediction import (
    CONFIDENCE_THRESHOLD,
    DRAWING_THRESHOLD,
    MeanPose,
    PosePrediction,
    ground_truth_box,
    joint_indices,
    part_name,
    require_pose,
)

ARM = Skeleton(("left shoulder", "left elbow", "left wrist"), ((0, 1), (1, 2)), ())


def arm(*confidences: float, box: tuple[float, float, float, float] | None = None) -> PosePrediction:
    """A straight arm in a gray image of 40 x 60, in pixels of the original image."""
    x, y = (0, 0) if box is None else box[:2]
    joints = [(10 + 20 * index + x, 20 + y, confidence) for index, confidence in enumerate(confidences)]
    return PosePrediction(np.array(joints, np.float32), ARM, np.full((40, 60, 3), 90, np.uint8), box)


def drawn_pixels(pose: PosePrediction) -> np.ndarray:
    """(H, W) bool: pixels that differ from the image."""
    return (pose.to_image() != 90).any(axis=-1)


def test_uncertain_joints_are_drawn_fainter_or_not_at_all():
    confidences = (CONFIDENCE_THRESHOLD, DRAWING_THRESHOLD, 0.09)
    opaque, faint, missing = (arm(1, 1, confidence).to_image().astype(int) for confidence in confidences)
    np.testing.assert_allclose(opaque[20, 50], (255, 255, 0), atol=1)
    np.testing.assert_allclose(faint[20, 50], (opaque[20, 50] + 90) / 2, atol=1)
    assert (missing[20, 36:] == 90).all()
    assert drawn_pixels(arm(1, 1, 0.09))[20, 10:30].all()


def test_limb_is_as_faint_as_its_less_confident_end():
    opaque, faint = (arm(1, 1, confidence).to_image().astype(int)[20, 40] for confidence in (1, DRAWING_THRESHOLD))
    np.testing.assert_allclose(faint, (opaque + 90) / 2, atol=1)


def test_summary_includes_the_note_on_the_box():
    assert arm(1, 1, 1).summary().endswith("in the whole image")
    noted = replace(arm(1, 1, 1, box=(100, 200, 60, 40)), note="the detected person")
    assert noted.summary().endswith("in the box 100,200,60,40 (the detected person)")


def test_joints_of_a_crop_are_drawn_in_pixels_of_the_crop():
    complete, crop = arm(1, 1, 1), arm(1, 1, 1, box=(100, 200, 60, 40))
    assert crop.joints[0, 0] == 110
    np.testing.assert_array_equal(complete.to_image(), crop.to_image())


def test_joints_are_drawn_on_gray_and_16_bit_images_and_without_image():
    joints = arm(1, 1, 1).joints
    for image in (np.zeros((40, 60, 1), np.uint8), np.full((40, 60, 3), 60000, np.uint16)):
        pixels = PosePrediction(joints, ARM, image).to_image()
        assert (pixels.shape, pixels.dtype) == ((40, 60, 3), np.uint8)
    assert PosePrediction(joints, ARM).to_image().any()
    assert PosePrediction(arm(0, 0, 0).joints, ARM).to_image().ndim == 3
    assert (
        PosePrediction(arm(1, 1, 1, box=(100, 200, 60, 40)).joints, ARM, None, (100, 200, 60, 40)).to_image().shape[1]
        < 100
    )


def test_joints_outside_the_image_or_nan_do_not_affect_others():
    pose = arm(1, 1, 1)
    pose.joints[2, :2] = 1e9, -1e9
    assert drawn_pixels(pose)[20, 10:30].all()
    pose.joints[2, :2] = np.nan
    assert drawn_pixels(pose)[20, 10:30].all() and not drawn_pixels(pose)[:, 36:].any()


def test_save_writes_cocos_format_and_keeps_other_files(tmp_path):
    (tmp_path / "a.png").write_text("the user's")
    pose = arm(0.9, 0.2, 0.01, box=(100, 200, 60, 40))
    files = pose.save(tmp_path, "a")
    assert [file.name for file in files] == ["a_pose.json", "a_pose.png"]
    assert (tmp_path / "a.png").read_text() == "the user's"
    stored = json.loads(files[0].read_text())
    assert stored == [
        {
            "image_id": "a",
            "category_id": 1,
            # COCO counts a skeleton's joints from 1.
            "category": {"id": 1, "name": "object", "keypoints": list(ARM.names), "skeleton": [[1, 2], [2, 3]]},
            # x, y, v: 2 confident, 1 uncertain, 0 not drawn.
            "keypoints": [110, 220, 2, 130, 220, 1, 150, 220, 0],
            "num_keypoints": 2,
            "keypoint_scores": [0.9, 0.2, 0.01],
            "score": 0.37,
            "bbox": [100, 200, 60, 40],
        }
    ]
    with Image.open(files[1]) as image:
        assert (image.mode, image.size) == ("RGB", (60, 40))


def test_nan_is_saved_as_an_unlabeled_joint(tmp_path):
    pose = arm(0.5, np.nan, 1)
    pose.joints[0, 0], pose.joints[2, 1] = np.inf, np.nan
    text = pose.save(tmp_path, "a")[0].read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)[0]["keypoints"][2::3] == [0, 0, 0]


def test_json_box_is_the_complete_image_without_a_box_and_missing_without_an_image():
    assert arm(1, 1, 1).as_json()["bbox"] == [0, 0, 60, 40]
    assert PosePrediction(arm(1, 1, 1).joints, ARM).as_json().get("bbox") is None


def test_summary_has_confidence_and_box():
    assert arm(0.9, 0.3, 0.15).summary() == "2 of 3 joints confident, mean confidence 0.45, in the whole image"
    assert arm(0, 0, 0, box=(100, 200, 60.5, 40)).summary() == (
        "0 of 3 joints confident, mean confidence 0.00, in the box 100,200,60.5,40"
    )
    assert PosePrediction.unit == "pixels"


def test_from_labels_has_confidence_1_for_labeled_and_0_for_unlabeled_joints():
    labels = np.array([(1, 2, 2), (3, 4, 1), (np.nan, -70, 0)], np.float32)
    pose = PosePrediction.from_labels(labels, ARM)
    np.testing.assert_array_equal(pose.joints, np.array([(1, 2, 1), (3, 4, 1), (0, 0, 0)], np.float32))
    assert pose.joints.dtype == np.float32


def test_joint_indices_use_canonical_names():
    skeleton = Skeleton(("Left_Hip", "right-hip", "nose"), (), ())
    assert joint_indices(skeleton) == {"left hip": 0, "right hip": 1, "nose": 2}
    # MPII's upper neck is the neck of LSP and of PCKh's tables.
    assert joint_indices(MPII)["neck"] == 8 and joint_indices(LSP)["neck"] == 12
    assert part_name("Left_Hip") == "hip"
    assert {part_name(name) for name in COCO.names} >= {"nose", "eye", "ankle"}


def test_require_pose_checks_type_and_number_of_joints():
    sample = {"joints": np.zeros((14, 3), np.float32)}
    with pytest.raises(ValueError, match=r"3 joints .* 14"):
        require_pose(arm(1, 1, 1), sample)
    with pytest.raises(TypeError, match="PosePrediction, not a object"):
        require_pose(object(), sample)  # pyright: ignore[reportArgumentType]


SKELETON = Skeleton(("head", "foot", "tail"), ((0, 1),), ())


def person(*joints: tuple[float, float, float], size: tuple[int, int] = (100, 200)) -> Sample:
    return {"image": np.zeros((*size, 3), np.uint8), "joints": np.array(joints, np.float32)}


def test_mean_pose_is_relative_to_the_image():
    # In images of 100 x 200 and of 50 x 50: heads at a quarter and at three quarters of the width.
    training = [
        person((49.5, 9.5, 2), (0, 0, 0), (0, 0, 0)),
        person((37, 4.5, 1), (24.5, 49.5, 2), (0, 0, 0), size=(50, 50)),
    ]
    mean = MeanPose(training, SKELETON)
    pose = mean(person((0, 0, 0), (0, 0, 0), (0, 0, 0), size=(300, 400)))
    # Half of the width and a tenth of the height; the foot of the one sample with it; the unlabeled tail, centered.
    np.testing.assert_allclose(pose.joints[:, :2], [(199.5, 29.5), (199.5, 299.5), (199.5, 149.5)], atol=1e-4)
    np.testing.assert_allclose(pose.joints[:, 2], [1, 0.5, 0])
    assert pose.joints.dtype == np.float32 and pose.image is not None and pose.skeleton is SKELETON


def test_unlabeled_joints_do_not_change_the_mean_pose():
    # Facts 3.5: LSPe's unlabeled joints carry any coordinates, and samples may have nan there.
    labeled = person((20, 30, 2), (40, 50, 2), (60, 70, 2))
    for x, y in ((-9, -9), (np.nan, np.nan), (1e6, 0)):
        invalid = person((x, y, 0), (40, 50, 2), (60, 70, 2))
        mean = MeanPose([labeled, invalid], SKELETON)
        np.testing.assert_allclose(mean.mean, MeanPose([labeled], SKELETON).mean)


def test_mean_pose_relative_to_the_ground_truth_box_fits_shifted_and_scaled_poses():
    def standing(x: float, y: float, scale: float) -> Sample:
        return person((x, y, 2), (x - scale, y + 4 * scale, 2), (x + 2 * scale, y + scale, 1))

    mean = MeanPose([standing(50, 20, 5), standing(90, 40, 9)], SKELETON, ground_truth_box)
    sample = standing(130, 3, 17)
    np.testing.assert_allclose(mean(sample).joints[:, :2], sample["joints"][:, :2], atol=1e-3)
    # Size is a single number: the mean pose of a lying person of the same size is standing.
    lying = person((10, 50, 2), (90, 50, 2), (20, 60, 2))
    np.testing.assert_allclose(np.ptp(mean(lying).joints[:, :2], axis=0), (60, 80), atol=1e-3)
    unlabeled = mean(person((0, 0, 0), (0, 0, 0), (0, 0, 0)))
    assert np.isfinite(unlabeled.joints).all()
