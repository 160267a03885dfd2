"""Where somebody is looked for in a whole picture, with a detector of a few lines and with torchvision's, untrained."""

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
from densevision.tasks.pose.detector import PERSON, SURE, WEIGHTS, find_person, people_in

from .toys import FIELDS, SIZE, Knowing, ask

DOG = 18
"""The category in COCO."""
PICTURE = np.zeros((150, 200, 3), np.uint8)

Finding = tuple[tuple[float, float, float, float], int, float]


class Detector(nn.Module):
    """Finds what it is told: left, top, right and bottom, category, score."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__()
        self.findings, self.seen = findings, []

    def forward(self, pictures: list[Tensor]) -> list[dict[str, Tensor]]:
        self.seen += pictures
        boxes, labels, scores = zip(*self.findings, strict=True) if self.findings else ((), (), ())
        found = {
            "boxes": torch.tensor(boxes).view(-1, 4),
            "labels": torch.tensor(labels),
            "scores": torch.tensor(scores),
        }
        return [found]


def place() -> Path:
    """Where torch hub keeps the weights, in a folder of this test's."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@pytest.fixture
def finding(monkeypatch):
    """Puts a detector at hand that finds what it is told."""

    def put(*findings: Finding) -> Detector:
        place().touch()
        made = Detector(*findings)
        monkeypatch.setattr(detector, "detector", lambda file: made)
        return made

    return put


def test_the_largest_of_those_whom_the_detector_is_sure_of_is_looked_at_and_the_answer_says_so(finding):
    finding(
        ((10, 10, 30, 40), PERSON, 0.99),
        ((60, 20, 100, 100), PERSON, 0.8),
        ((0, 0, 200, 150), PERSON, SURE - 0.01),
        ((0, 0, 199, 149), DOG, 0.99),
    )
    assert find_person(PICTURE) == ((60, 20, 40, 80), "the largest of 2 persons found")
    answer = ask(Knowing(np.zeros((3, 2))), PICTURE)
    # With an eighth of 80 around it, as of a box that one names.
    assert answer.box == (50, 10, 60, 100) and answer.image is not None and answer.image.shape == (100, 60, 3)
    assert answer.brief().endswith("in the box 50,10,60,100 (the largest of 2 persons found)")
    named = ask(Knowing(np.zeros((3, 2))), PICTURE, box=(60, 20, 40, 80))
    np.testing.assert_array_equal(answer.joints, named.joints)


def test_one_person_is_the_person_found(finding):
    finding(((60, 20, 100, 100), PERSON, 0.8))
    assert find_person(PICTURE) == ((60, 20, 40, 80), "the person found")


def test_where_nobody_is_found_the_whole_picture_is_looked_at_and_the_answer_says_so(finding):
    finding(((0, 0, 50, 50), DOG, 0.99))
    answer = ask(Knowing(np.zeros((3, 2))), PICTURE)
    assert answer.box is None and answer.brief().endswith("in the whole picture (nobody found)")
    finding()
    assert find_person(PICTURE) == (None, "nobody found")


def test_without_weights_the_whole_picture_is_looked_at_nothing_is_fetched_and_the_answer_says_so(monkeypatch):
    def unreachable(*arguments: Any, **named: Any) -> None:
        raise AssertionError("fetched")

    for name in ("load_state_dict_from_url", "download_url_to_file"):
        monkeypatch.setattr(torch.hub, name, unreachable)
    answer = ask(Knowing(np.zeros((3, 2))), PICTURE)
    assert answer.box is None
    assert answer.brief().endswith("in the whole picture (not searched: no weights of a detector)")


def test_a_named_box_and_an_evaluation_ask_no_detector(finding):
    made = finding(((60, 20, 100, 100), PERSON, 0.8))
    answer = ask(Knowing(np.zeros((3, 2))), PICTURE, box=(0, 0, 40, 80))
    assert made.seen == [] and answer.brief().endswith("in the box 0,0,50,90")
    whole: Any = Predictor(HumanPose(), Knowing(np.zeros((3, 2))), FIELDS, SIZE).answer({"image": PICTURE})
    assert made.seen == [] and whole.box is None and whole.brief().endswith("in the whole picture")


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        # left, top, right, bottom from the picture's edge; every pixel that they touch, of 200 x 150.
        ((10.0, 20.0, 30.0, 50.0), (10, 20, 20, 30)),
        ((10.2, 20.9, 29.1, 49.5), (10, 20, 20, 30)),
        ((-3.0, -0.5, 250.0, 151.0), (0, 0, 200, 150)),
        ((5.1, 5.1, 5.2, 5.2), (5, 5, 1, 1)),
        ((200.0, 150.0, 200.0, 150.0), (199, 149, 1, 1)),
    ],
)
def test_a_box_is_of_whole_pixels_within_the_picture(corners, box):
    assert people_in(PICTURE, Detector((corners, PERSON, 0.9))) == [box]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_detector_sees_rgb_from_0_to_1(channels):
    picture = np.random.default_rng(0).integers(0, 256, (15, 20, channels), dtype=np.uint8)
    made = Detector()
    people_in(picture, made)
    (seen,) = made.seen
    assert seen.shape == (3, 15, 20)
    np.testing.assert_allclose(seen.numpy(), np.repeat(picture, 3 // channels, -1).transpose(2, 0, 1) / 255, atol=1e-6)


# --- torchvision's ----------------------------------------------------------------------------------------------


def test_weights_are_looked_for_under_the_name_that_torchvision_fetches_them_by():
    from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Published

    assert Published.DEFAULT.url.endswith("/" + WEIGHTS)
    assert Published.DEFAULT.meta["num_params"] == 19_386_354  # torchvision's own page
    assert Published.DEFAULT.meta["categories"][PERSON] == "person"


def test_torchvisions_network_answers_with_the_weights_of_the_file():
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    made = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).eval()
    # Published ones have frozen statistics, which count no batches.
    torch.save({name: value for name, value in made.state_dict().items() if "num_batches" not in name}, place())
    loaded = detector.detector(place())
    assert not loaded.training
    picture = torch.rand(3, 60, 80)
    with torch.no_grad():
        expected, found = made([picture])[0], loaded([picture])[0]
    assert all(torch.equal(expected[name], found[name]) for name in ("boxes", "labels", "scores"))
    answer = ask(Knowing(np.zeros((3, 2))), PICTURE)
    assert answer.box is None and "(nobody found)" in answer.brief()


@pytest.mark.parametrize("content", [b"", b"half a download", b"PK\x03\x04"])
def test_a_damaged_file_of_weights_is_a_sentence(content):
    place().write_bytes(content)
    with pytest.raises(
        UserError, match=r"fpn-907ea3f9\.pth does not hold the weights of torchvision's detector: fetch it"
    ):
        find_person(PICTURE)
    torch.save({"other": torch.zeros(2)}, place())
    with pytest.raises(UserError, match="does not hold the weights"):
        find_person(PICTURE)
