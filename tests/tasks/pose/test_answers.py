"""How joints come back from what the network was shown to the pixels of the original picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.geometry import Size
from densevision.errors import UserError
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.inference import Predictor
from densevision.tasks.pose import HumanPose, heatmaps
from densevision.tasks.pose.heatmaps import DECODINGS, decode, encode, to_cells
from densevision.tasks.task import Query

from .toys import FIELDS, SIZE, Knowing, ask


def places_in(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).uniform(-0.5, np.array([width, height]) - 0.5, (3, 2))


def shown_at(places: np.ndarray, source: Size, stretch: bool) -> np.ndarray:
    """Where places lie in the network's picture: the source's pixels are squares, in the middle of what they fill."""
    across, down = SIZE[1] / source[1], SIZE[0] / source[0]
    if not stretch:
        across = down = min(across, down)
    border = (SIZE[1] - across * source[1]) / 2, (SIZE[0] - down * source[0]) / 2
    return (places + 0.5) * (across, down) - 0.5 + border


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("source", [(64, 96), (121, 83), (37, 53), (5, 400), (400, 5), (1, 1), (300, 200)])
def test_joints_come_back_to_the_original_whatever_the_network_was_shown(source, stretch):
    places = places_in(*source)
    answer = ask(Knowing(shown_at(places, source, stretch)), np.zeros((*source, 3), np.uint8), HumanPose(stretch))
    np.testing.assert_allclose(answer.joints[:, :2], places, atol=1e-4)
    np.testing.assert_allclose(answer.joints[:, 2], [0.2, 0.5, 0.8])
    assert answer.joints.dtype == np.float32 and answer.box is None
    assert answer.image is not None and answer.image.shape == (*source, 3)


@pytest.mark.parametrize("stretch", [False, True])
def test_asked_about_a_box_joints_come_back_to_the_whole_picture(stretch):
    # A margin of 80 / 8 on every side: see `test_a_box_is_seen_with_an_eighth_of_its_longer_side_around_it`.
    places = places_in(100, 60)
    network, picture = Knowing(shown_at(places, (100, 60), stretch)), np.zeros((150, 200, 3), np.uint8)
    answer = ask(network, picture, HumanPose(stretch), box=(30, 20, 40, 80))
    np.testing.assert_allclose(answer.joints[:, :2], places + np.array([20, 10]), atol=1e-4)
    assert answer.box == (20, 10, 60, 100) and answer.picture().shape == (100, 60, 3)
    assert "in the box 20,10,60,100" in answer.brief()


def test_a_box_in_the_corner_is_not_called_the_whole_picture():
    answer = ask(Knowing(np.zeros((3, 2))), np.zeros((150, 200, 3), np.uint8), box=(0, 0, 40, 80))
    assert answer.box == (0, 0, 50, 90) and "in the box 0,0,50,90" in answer.brief()
    assert "in the whole picture" in ask(Knowing(np.zeros((3, 2))), np.zeros((150, 200, 3), np.uint8)).brief()


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_joint_is_where_its_map_has_the_peak(decoding):
    # Middles of cells, which every decoding finds; a picture that was shown at half its size, one column further right.
    shown = torch.tensor([[[21.5, 33.5], [45.5, 61.5], [0.0, 0.0]]])
    maps, _ = encode(to_cells(shown), torch.tensor([[True, True, False]]), (25, 21))
    matrix = np.array([[0.5, 0, 1], [0, 0.5, 0], [0, 0, 1]])
    query = Query({"image": np.zeros((194, 166, 3), np.uint8)}, FIELDS, (194, 166), matrix)
    answer: Any = HumanPose(decoding=decoding).decode(maps, query)
    # DARK's parabola is exact but for the blur's ends.
    np.testing.assert_allclose(answer.joints[:2], [[41, 67, 1], [89, 123, 1]], atol=0.02)
    # What no map shows is where the shown picture's pixel 0, 0 comes from, with confidence 0.
    np.testing.assert_allclose(answer.joints[2], [-2, 0, 0])


def test_a_map_without_a_peak_is_a_joint_that_is_not_drawn_and_counts_for_nothing():
    class Blind(Knowing):
        answers = "heatmaps"

        def forward(self, image: Tensor) -> Tensor:
            maps = torch.full((1, 3, 16, 24), -0.1)
            maps[:, 1] = 0.0
            return maps

    asked: tuple[dict[str, Any], ...] = ({}, {"flip": True}, {"box": (30, 20, 40, 80)})
    for options in asked:
        answer = ask(Blind(np.zeros((3, 2))), np.full((121, 83, 3), 90, np.uint8), **options)
        assert np.isfinite(answer.joints).all() and (answer.joints[:, 2] == 0).all() and (answer.flags == 0).all()
        assert "0 of 3 joints confident, mean confidence 0.00" in answer.brief() and (answer.picture() == 90).all()
        assert answer.as_json()["num_keypoints"] == 0


def test_maps_are_read_with_the_tasks_own_sigma():
    # DARK's blur is exact for Gaussians of its own width, whatever that is.
    shown = torch.tensor([[[40.2, 30.9]] * 3])
    maps, _ = encode(to_cells(shown), torch.ones(1, 3, dtype=torch.bool), (16, 24), sigma=1.0)
    query = Query({"image": np.zeros((*SIZE, 3), np.uint8)}, FIELDS, SIZE, np.eye(3))
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatmaps, "decode", lambda maps, *options: asked.append(options) or decode(maps, *options))
        answer: Any = HumanPose(sigma=1.0, decoding="dark").decode(maps, query)
    assert asked == [("dark", 1.0)]
    np.testing.assert_allclose(answer.joints[:, :2], shown[0], atol=0.4)


def test_an_answer_in_half_precision_is_decoded_in_full():
    output = torch.tensor([[[1.5, 2.25, 1.0]] * 3], dtype=torch.bfloat16)
    query = Query({"image": np.zeros((*SIZE, 3), np.uint8)}, FIELDS, SIZE, np.diag([0.5, 0.5, 1]))
    answer: Any = HumanPose().decode(output, query)
    np.testing.assert_array_equal(answer.joints, [[3, 4.5, 1]] * 3)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        # Top, left, height and width, by hand.
        ((100, 50, 40, 80), (40, 90, 100, 60)),
        ((100, 50, 80, 40), (40, 90, 60, 100)),
        ((0, 0, 40, 80), (0, 0, 90, 50)),
        ((-30, -30, 80, 80), (0, 0, 60, 60)),
        ((280, 350, 80, 80), (340, 270, 60, 30)),
        ((-10, -10, 1000, 1000), (0, 0, 400, 300)),
        # Sixteen pixels at least.
        ((100, 100, 2, 2), (93, 93, 16, 16)),
    ],
)
def test_a_box_is_seen_with_an_eighth_of_its_longer_side_around_it(box, expected):
    assert HumanPose().window(box, (400, 300)) == expected


@pytest.mark.parametrize("box", [(300, 0, 10, 10), (0, -20, 10, 20), (5, 5, 0, 10), (5, 5, -3, 10)])
def test_a_box_beside_the_picture_or_without_extent_is_a_sentence(box):
    with pytest.raises(UserError, match="holds no pixel of the picture, which is 300 wide and 400 high"):
        ask(Knowing(np.zeros((3, 2))), np.zeros((400, 300, 3), np.uint8), box=box)


def test_a_box_shows_what_training_showed_of_somebody_in_that_box(tmp_path):
    dataset_class("coco-people").write_miniature(tmp_path)
    people = open_dataset("coco-people", tmp_path, "val")
    pictures = sorted((tmp_path / "val2017").iterdir())
    for index in range(4):
        # Two people a picture, x, y, width and height as its file states them.
        box = ((8, 8, 56, 72), (80, 8, 56, 72))[index % 2]
        predictor = Predictor(HumanPose(), Knowing(np.zeros((3, 2))), FIELDS, SIZE)
        answer: Any = predictor.predict(pictures[index // 2], box=box)
        np.testing.assert_array_equal(answer.image, people.read(index)["image"])


@pytest.mark.parametrize("head", HumanPose.heads)
def test_a_picture_of_any_size_and_form_is_answered(head):
    torch.manual_seed(0)
    model: Any = Blueprint(HumanPose(), FIELDS, "resnet20_cifar", {}, head).build()
    for size in ((1, 1), (5, 400), (400, 5), (33, 47), (64, 96, 1), (64, 96, 4)):
        for box in (None, (0, 0, 3, 3)):
            answer = ask(model, np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8), box=box, flip=True)
            assert np.isfinite(answer.joints).all() and answer.joints.shape == (3, 3)
            assert answer.picture().ndim == 3
