"""Predictions averaged with those of mirrored images, in one look."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.tasks.pose import HumanPose, heatmaps

from .toys import FIELDS, SIZE, DotHeatmaps, DotRegressor, FixedJoints, predict

DOTS = np.array([[70, 50], [88, 62], [61, 80]])
"""Nose, left and right hand in an image of 120 x 160."""


def dotted(hands: str) -> np.ndarray:
    """An image with dots at `DOTS`, the left and right hand in the first and the second of these colors."""
    image = np.zeros((120, 160, 3), np.uint8)
    rows, columns = np.mgrid[:120, :160]
    for (x, y), color in zip(DOTS, "b" + hands, strict=True):
        image[..., "rgb".index(color)] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    return image


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("box", [None, (48, 47, 64, 37), (48, 30, 80, 59)])
@pytest.mark.parametrize("hands", ["rg", "gr"])
def test_joints_are_predicted_at_their_dots_with_and_without_flip(hands, box, keep_aspect):
    for flip in (False, True):
        prediction = predict(DotRegressor(), dotted(hands), HumanPose(keep_aspect), box=box, flip=flip, mode="fit")
        np.testing.assert_allclose(prediction.joints[:, :2], DOTS, atol=0.2)


def test_unflip_exchanges_left_and_right():
    output = torch.tensor([[[3.0, 5, 0.5], [10, 20, 0.9], [40, 21, 0.1]]])
    unflipped = HumanPose().inference.unflip(output, FIELDS, 96)
    torch.testing.assert_close(unflipped, torch.tensor([[[92.0, 5, 0.5], [55, 21, 0.1], [85, 20, 0.9]]]))


def test_flip_averages_a_constant_prediction_with_its_mirror_image():
    points = np.array([[10, 20], [30, 40], [50, 44]])
    prediction = predict(FixedJoints(points), np.zeros((*SIZE, 3), np.uint8), flip=True, mode="fit")
    # 47.5 is the middle of 96 columns; the hands meet halfway between each other's mirror image and themselves.
    np.testing.assert_allclose(
        prediction.joints, [[47.5, 20, 0.2], [(30 + 95 - 50) / 2, 42, 0.65], [(50 + 95 - 30) / 2, 42, 0.65]], atol=1e-4
    )


# --- heat maps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [96, 95, 94, 93, 92])
@pytest.mark.parametrize("hands", ["rg", "gr"])
def test_flipped_heat_maps_give_the_same_joints_at_every_width(hands, width):
    # An image at the input size, cropped from 120 x 160: 95 to 93 are not multiples of 4.
    image = np.ascontiguousarray(dotted(hands)[31:98, 35 : 35 + width])
    plain, flipped = (
        predict(DotHeatmaps(), image, size=(67, width), flip=flip, mode="fit").joints for flip in (False, True)
    )
    np.testing.assert_allclose(plain[:, :2], DOTS - np.array([35, 31]), atol=0.3)
    np.testing.assert_allclose(flipped[:, :2], plain[:, :2], atol=0.15)
    np.testing.assert_allclose(flipped[:, 2], plain[:, 2], atol=0.1)


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("box", [None, (48, 47, 64, 37)])
def test_flipped_heat_maps_give_the_same_joints_of_crops(box, keep_aspect):
    for size in (SIZE, (61, 83)):
        for flip in (False, True):
            prediction = predict(
                DotHeatmaps(), dotted("gr"), HumanPose(keep_aspect), size, box=box, flip=flip, mode="fit"
            )
            np.testing.assert_allclose(prediction.joints[:, :2], DOTS, atol=1)


@pytest.mark.parametrize("width", [97, 98, 99, 100])
def test_flipped_heat_map_is_shifted_by_the_part_of_a_cell_beyond_the_image(width):
    # By hand: the cell of pixel x is (x + 1/2) / 4 - 1/2, of which both maps have 25.
    pixels = torch.tensor([[[40.3, 30.0], [61.0, 30.0], [22.9, 30.0]]])
    mirror = torch.tensor([1.0, 0.0]) * (width - 1 - 2 * pixels) + pixels
    mask = torch.ones(1, 3, dtype=torch.bool)
    plain, flipped = (heatmaps.encode(heatmaps.pixels_to_cells(each), mask, (16, 25))[0] for each in (pixels, mirror))
    unflipped = HumanPose().inference.unflip(flipped[:, [0, 2, 1]], FIELDS, width)
    # Between two cells a Gaussian of σ = 2 is at most a quarter of a cell's curvature, 1 / 32, too low.
    torch.testing.assert_close(unflipped, plain, rtol=0, atol=1 / 32)
    joints = heatmaps.joints_to_pixels(heatmaps.decode((unflipped + plain) / 2))
    torch.testing.assert_close(joints[..., :2], pixels, rtol=0, atol=0.05)


def test_flip_takes_the_more_confident_of_two_peaks_not_their_mean():
    # The left hand is at x = 20 in the image, and with less confidence at 60 in its mirror image; the mean is 40.
    points, mask = torch.tensor([[[20.0, 30.0], [60.0, 30.0]]]), torch.ones(1, 2, dtype=torch.bool)
    ((first, second),) = heatmaps.encode(heatmaps.pixels_to_cells(points), mask, (16, 24))[0]
    plain = torch.stack((first, first, first))[None]
    flipped = torch.stack((0.6 * second, 0.6 * second, 0.6 * second))[None].flip(-1)
    mean = (plain + HumanPose().inference.unflip(flipped, FIELDS, 96)) / 2
    joints = heatmaps.joints_to_pixels(heatmaps.decode(mean))
    torch.testing.assert_close(joints[0, 1], torch.tensor([20.0, 30.0, 0.5]), rtol=0, atol=0.1)
