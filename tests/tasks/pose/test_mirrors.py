"""Answers averaged with those of mirrored pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.tasks.pose import HumanPose, heatmaps

from .toys import FIELDS, SIZE, Knowing, Looking, Mapping, ask

DOTS = np.array([[70, 50], [88, 62], [61, 80]])
"""Nose, left and right hand in a picture of 120 x 160."""


def dotted(hands: str) -> np.ndarray:
    """The picture, its left and right hand of the first and the second of these colours."""
    picture = np.zeros((120, 160, 3), np.uint8)
    rows, columns = np.mgrid[:120, :160]
    for (x, y), colour in zip(DOTS, "b" + hands, strict=True):
        picture[..., "rgb".index(colour)] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    return picture


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("box", [None, (48, 47, 64, 37), (48, 30, 80, 59)])
@pytest.mark.parametrize("hands", ["rg", "gr"])
def test_what_is_seen_at_a_place_is_answered_at_that_place_and_alike_in_a_mirror(hands, box, stretch):
    for flip in (False, True):
        answer = ask(Looking(), dotted(hands), HumanPose(stretch), box=box, flip=flip)
        np.testing.assert_allclose(answer.joints[:, :2], DOTS, atol=0.2)


def test_in_a_mirror_the_left_hand_is_the_right_one():
    output = torch.tensor([[[3.0, 5, 0.5], [10, 20, 0.9], [40, 21, 0.1]]])
    mirrored = HumanPose().mirrored(output, FIELDS, 96)
    torch.testing.assert_close(mirrored, torch.tensor([[[92.0, 5, 0.5], [55, 21, 0.1], [85, 20, 0.9]]]))


def test_flip_averaging_takes_out_what_does_not_turn_in_a_mirror():
    same = np.array([[10, 20], [30, 40], [50, 44]])
    answer = ask(Knowing(same), np.zeros((*SIZE, 3), np.uint8), flip=True)
    # 47.5 is the middle of 96 columns; the hands meet halfway between each other's mirror image and themselves.
    np.testing.assert_allclose(
        answer.joints, [[47.5, 20, 0.2], [(30 + 95 - 50) / 2, 42, 0.65], [(50 + 95 - 30) / 2, 42, 0.65]], atol=1e-4
    )


# --- maps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [96, 95, 94, 93, 92])
@pytest.mark.parametrize("hands", ["rg", "gr"])
def test_maps_of_a_mirrored_picture_show_the_same_joints_whatever_its_width(hands, width):
    # A picture at the network's own size, of 120 x 160 without its border: cells of 4 pixels do not divide 95 to 93.
    picture = np.ascontiguousarray(dotted(hands)[31:98, 35 : 35 + width])
    plain, turned = (ask(Mapping(), picture, size=(67, width), flip=flip).joints for flip in (False, True))
    np.testing.assert_allclose(plain[:, :2], DOTS - np.array([35, 31]), atol=0.3)
    np.testing.assert_allclose(turned[:, :2], plain[:, :2], atol=0.15)
    np.testing.assert_allclose(turned[:, 2], plain[:, 2], atol=0.1)


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("box", [None, (48, 47, 64, 37)])
def test_maps_of_any_picture_show_the_same_joints_in_a_mirror(box, stretch):
    for size in (SIZE, (61, 83)):
        for flip in (False, True):
            answer = ask(Mapping(), dotted("gr"), HumanPose(stretch), size, box=box, flip=flip)
            np.testing.assert_allclose(answer.joints[:, :2], DOTS, atol=1)


@pytest.mark.parametrize("width", [97, 98, 99, 100])
def test_a_mirrored_map_is_moved_by_the_part_of_a_cell_that_lies_beyond_the_picture(width):
    # By hand: the cell of pixel x is (x + 1/2) / 4 - 1/2, of which both maps have 25.
    pixels = torch.tensor([[[40.3, 30.0], [61.0, 30.0], [22.9, 30.0]]])
    mirror = torch.tensor([1.0, 0.0]) * (width - 1 - 2 * pixels) + pixels
    known = torch.ones(1, 3, dtype=torch.bool)
    straight, turned = (heatmaps.encode(heatmaps.to_cells(places), known, (16, 25))[0] for places in (pixels, mirror))
    made = HumanPose().mirrored(turned[:, [0, 2, 1]], FIELDS, width)
    # Between two cells a Gaussian of σ = 2 is at most a quarter of a cell's curvature, 1 / 32, too low.
    torch.testing.assert_close(made, straight, rtol=0, atol=1 / 32)
    found = heatmaps.in_pixels(heatmaps.decode((made + straight) / 2))
    torch.testing.assert_close(found[..., :2], pixels, rtol=0, atol=0.05)


def test_of_two_opinions_the_surer_wins_and_not_a_place_between():
    # The left hand is seen at x = 20 in the picture, and less surely at 60 in the mirror; the average of places is 40.
    places, known = torch.tensor([[[20.0, 30.0], [60.0, 30.0]]]), torch.ones(1, 2, dtype=torch.bool)
    ((here, there),) = heatmaps.encode(heatmaps.to_cells(places), known, (16, 24))[0]
    straight = torch.stack((here, here, here))[None]
    mirrored = torch.stack((0.6 * there, 0.6 * there, 0.6 * there))[None].flip(-1)
    joined = (straight + HumanPose().mirrored(mirrored, FIELDS, 96)) / 2
    found = heatmaps.in_pixels(heatmaps.decode(joined))
    torch.testing.assert_close(found[0, 1], torch.tensor([20.0, 30.0, 0.5]), rtol=0, atol=0.1)
