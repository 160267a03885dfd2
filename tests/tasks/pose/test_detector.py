"""Person detection, with a toy detector and with torchvision's, untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.errors import UserError
from densevision.tasks.inference import Predictor
from densevision.tasks.pose import HumanPose, detector
from densevision.tasks.pose.detector import MIN_SCORE, PERSON, WEIGHTS, detect_people, find_person

from .toys import FIELDS, SIZE, FixedJoints, predict

DOG = 18
"""COCO's category of dogs."""
IMAGE = np.zeros((150, 200, 3), np.uint8)

Box = tuple[tuple[float, float, float, float], int, float]


class FixedDetector(nn.Module):
    """Detects fixed boxes: (left, top, right, bottom), category, score."""

    def __init__(self, *boxes: Box) -> None:
        super().__init__()
        self.boxes, self.inputs = boxes, []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.inputs += images
        boxes, labels, scores = zip(*self.boxes, strict=True) if self.boxes else ((), (), ())
        detections = {
            "boxes": torch.tensor(boxes).view(-1, 4),
            "labels": torch.tensor(labels),
            "scores": torch.tensor(scores),
        }
        return [detections]


def weights_file() -> Path:
    """Path of the weights in torch hub's cache, which is a temporary folder."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@pytest.fixture
def install_detector(monkeypatch):
    """A function that installs a `FixedDetector`."""

    def install(*boxes: Box) -> FixedDetector:
        weights_file().touch()
        fixed = FixedDetector(*boxes)
        monkeypatch.setattr(detector, "load_detector", lambda file: fixed)
        return fixed

    return install


def test_largest_confident_person_is_the_box_and_named_in_the_summary(install_detector):
    install_detector(
        ((10, 10, 30, 40), PERSON, 0.99),
        ((60, 20, 100, 100), PERSON, 0.8),
        ((0, 0, 200, 150), PERSON, MIN_SCORE - 0.01),
        ((0, 0, 199, 149), DOG, 0.99),
    )
    assert find_person(IMAGE) == ((60, 20, 40, 80), "the largest of 2 detected persons")
    prediction = predict(FixedJoints(np.zeros((3, 2))), IMAGE)
    # With a margin of an eighth of 80, as for a box of the caller.
    assert (
        prediction.box == (50, 10, 60, 100) and prediction.image is not None and prediction.image.shape == (100, 60, 3)
    )
    assert prediction.summary().endswith("in the box 50,10,60,100 (the largest of 2 detected persons)")
    expected = predict(FixedJoints(np.zeros((3, 2))), IMAGE, box=(60, 20, 40, 80))
    np.testing.assert_array_equal(prediction.joints, expected.joints)


def test_single_person_is_the_detected_person(install_detector):
    install_detector(((60, 20, 100, 100), PERSON, 0.8))
    assert find_person(IMAGE) == ((60, 20, 40, 80), "the detected person")


def test_without_a_detected_person_the_complete_image_is_used(install_detector):
    install_detector(((0, 0, 50, 50), DOG, 0.99))
    prediction = predict(FixedJoints(np.zeros((3, 2))), IMAGE)
    assert prediction.box is None and prediction.summary().endswith("in the whole image (no person detected)")
    install_detector()
    assert find_person(IMAGE) == (None, "no person detected")


def test_without_weights_the_complete_image_is_used_and_nothing_is_downloaded(monkeypatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("download")

    for name in ("load_state_dict_from_url", "download_url_to_file"):
        monkeypatch.setattr(torch.hub, name, fail)
    prediction = predict(FixedJoints(np.zeros((3, 2))), IMAGE)
    assert prediction.box is None
    note = "no person detection: detector weights are not installed"
    assert prediction.summary().endswith(f"in the whole image ({note})")


def test_no_detection_for_a_box_of_the_caller_and_in_evaluation(install_detector):
    fixed = install_detector(((60, 20, 100, 100), PERSON, 0.8))
    prediction = predict(FixedJoints(np.zeros((3, 2))), IMAGE, box=(0, 0, 40, 80))
    assert fixed.inputs == [] and prediction.summary().endswith("in the box 0,0,50,90")
    predictor = Predictor(HumanPose(), FixedJoints(np.zeros((3, 2))), FIELDS, SIZE)
    evaluated: Any = predictor.predict_sample({"image": IMAGE})
    assert fixed.inputs == [] and evaluated.box is None and evaluated.summary().endswith("in the whole image")


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        # left, top, right, bottom from the image's edge, and every pixel that the box touches, of 200 x 150.
        ((10.0, 20.0, 30.0, 50.0), (10, 20, 20, 30)),
        ((10.2, 20.9, 29.1, 49.5), (10, 20, 20, 30)),
        ((-3.0, -0.5, 250.0, 151.0), (0, 0, 200, 150)),
        ((5.1, 5.1, 5.2, 5.2), (5, 5, 1, 1)),
        ((200.0, 150.0, 200.0, 150.0), (199, 149, 1, 1)),
    ],
)
def test_boxes_are_integer_pixels_within_the_image(corners, box):
    assert detect_people(IMAGE, FixedDetector((corners, PERSON, 0.9))) == [box]


@pytest.mark.parametrize("channels", [1, 3])
def test_detector_input_is_rgb_from_0_to_1(channels):
    image = np.random.default_rng(0).integers(0, 256, (15, 20, channels), dtype=np.uint8)
    fixed = FixedDetector()
    detect_people(image, fixed)
    (pixels,) = fixed.inputs
    assert pixels.shape == (3, 15, 20)
    np.testing.assert_allclose(pixels.numpy(), np.repeat(image, 3 // channels, -1).transpose(2, 0, 1) / 255, atol=1e-6)


# --- torchvision's ----------------------------------------------------------------------------------------------


def test_weights_have_the_file_name_of_torchvision():
    from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Published

    assert Published.DEFAULT.url.endswith("/" + WEIGHTS)
    assert Published.DEFAULT.meta["num_params"] == 19_386_354  # torchvision's own page
    assert Published.DEFAULT.meta["categories"][PERSON] == "person"


def test_torchvisions_network_loads_the_weights_of_the_file():
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    reference = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).eval()
    # The published weights have frozen statistics without batch counters.
    torch.save(
        {name: value for name, value in reference.state_dict().items() if "num_batches" not in name}, weights_file()
    )
    loaded = detector.load_detector(weights_file())
    assert not loaded.training
    image = torch.rand(3, 60, 80)
    with torch.no_grad():
        expected, actual = reference([image])[0], loaded([image])[0]
    assert all(torch.equal(expected[name], actual[name]) for name in ("boxes", "labels", "scores"))
    prediction = predict(FixedJoints(np.zeros((3, 2))), IMAGE)
    assert prediction.box is None and "(no person detected)" in prediction.summary()


@pytest.mark.parametrize("content", [b"", b"half a download", b"PK\x03\x04"])
def test_damaged_weights_file_is_a_user_error(content):
    weights_file().write_bytes(content)
    with pytest.raises(UserError, match=r"fpn-907ea3f9\.pth does not contain the weights .*: download it again"):
        find_person(IMAGE)
    torch.save({"other": torch.zeros(2)}, weights_file())
    with pytest.raises(UserError, match="does not contain the weights"):
        find_person(IMAGE)
