"""People: joints lie in their own flesh, what hides them is known, front and back differ, no pose is like the mean."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.formats.image import write_image
from densevision.datasets.pose.skeletons import LSP
from densevision.datasets.rendering.bodies import INDIVIDUAL, JOINTS, LENGTHS, PARTS, SEATS, SIDES, Body, draw_body
from densevision.datasets.rendering.clothes import COVERS, draw_outfit
from densevision.datasets.rendering.figures import BEYOND, FILLS, SUPERSAMPLING, draw_figure, flags_of
from densevision.datasets.rendering.materials import Dice
from densevision.datasets.rendering.poses import EVERYDAY, HELD, SPORT, UPSIDE_DOWN, Limb, Pose, draw_pose
from densevision.datasets.rendering.solids import TEXELS, Canvas, Round, Solid
from densevision.datasets.synthetic import SyntheticAthletes, SyntheticFigures
from densevision.errors import UserError

N = 96
HANGING, STRAIGHT = Limb(12, 90, 0), Limb(5, 90, 0)
STANDING = Pose(0, 0, 0, 0, 0, (STRAIGHT, STRAIGHT), (HANGING, HANGING), yaw=0, pitch=0, roll=0)
LIGHT = np.array([0.0, 0.0, -1.0])
"""From the viewer: neither side of a body is darker."""


def rng(*words: int) -> np.random.Generator:
    return np.random.default_rng((31, *words))


@pytest.fixture(scope="module")
def many():
    return [draw_figure(rng(index), N, N) for index in range(150)]


@pytest.fixture(scope="module")
def bodies():
    return [body_of(index) for index in range(200)]


def body_of(index: int, pose: Pose | None = None) -> Body:
    dice = Dice(rng(index), 512)
    return draw_body(dice, draw_pose(dice, SPORT) if pose is None else pose, draw_outfit(dice))


def joint(body: Body, name: str) -> np.ndarray:
    return body.joints[JOINTS.index(name)]


def portrait(body: Body, others: list[Solid] | None = None, side: int = 2 * N) -> tuple[Canvas, np.ndarray, float]:
    """The body alone, head to foot, on a canvas; its joints in pixels of the image, and its stature."""
    stature, shift = 0.4 * side / SUPERSAMPLING, np.array([side, side, 0]) / (2 * SUPERSAMPLING)
    canvas = Canvas((side, side), LIGHT)
    for solid in [*body.solids, *(others or [])]:
        fine = solid.placed(stature, shift).placed(SUPERSAMPLING, np.array([0.5, 0.5, 0]))
        canvas.lay(fine, PARTS.index(solid.part) if solid.part in PARTS else -1, 0)
    return canvas, body.joints * stature + shift, stature


def flags(body: Body, others: list[Solid] | None = None) -> dict[str, int]:
    canvas, joints, stature = portrait(body, others)
    found = flags_of(canvas, joints, stature, None, (N, N))
    return dict(zip(JOINTS, found.astype(int).tolist(), strict=True))


@pytest.mark.parametrize("dataset_class", [SyntheticFigures, SyntheticAthletes])
def test_both_datasets_conform_to_the_contract(dataset_class):
    check_dataset(dataset_class)


def test_everyday_figures_are_upright_and_mostly_frontal():
    poses = [draw_pose(Dice(rng(11, index), 512), EVERYDAY) for index in range(300)]
    assert max(abs(pose.roll) for pose in poses) <= 3 * EVERYDAY.steady
    # Nine in ten face the viewer, of whom all but a few within 90 degrees, and half of the others do.
    assert 0.88 < np.mean([abs(pose.yaw) < 90 for pose in poses]) < 0.99


def test_athletes_differ_from_everyday_figures():
    first, second = (
        open_dataset(name, split="test").with_size((48, 48)).read(3)["joints"]
        for name in ("synthetic-figures", "synthetic-athletes")
    )
    assert not np.array_equal(first, second)


def test_joints_are_those_of_leeds_sports_pose():
    assert LSP.names == JOINTS  # facts 3.5
    assert set(SEATS) == set(JOINTS)
    assert {part for parts, _ in SEATS.values() for part in parts} <= set(PARTS)


def test_every_joint_is_inside_its_own_parts(bodies):
    for body, name in ((body, name) for body in bodies for name in JOINTS):
        x, y, z = joint(body, name)
        own = [solid for solid in body.solids if solid.part in SEATS[name][0]]
        rays = [np.array([[x - solid.start[0]], [y - solid.start[1]]], np.float32) for solid in own]
        shapes = [Round(solid, LIGHT) for solid in own]
        skins = [
            float(shape.meet(ray)[0]) / shape.pace + solid.start[2]
            for shape, ray, solid in zip(shapes, rays, own, strict=True)
        ]
        assert np.nanmin(skins) < z + 0.02, name


def test_lengths_are_anatomical(bodies):
    """Drillis and Contini 1966, as in Winter's figure 4.1: shares of the stature."""
    published = {"thigh": 0.245, "shank": 0.246, "upper arm": 0.186, "forearm": 0.146}
    assert {name: LENGTHS[name] for name in published} == published
    ends = {
        "thigh": ("hip", "knee"), "shank": ("knee", "ankle"), "upper arm": ("shoulder", "elbow"),
        "forearm": ("elbow", "wrist"),
    }  # fmt: skip
    for body in bodies:
        for name, (first, second) in ends.items():
            left, right = (math.dist(joint(body, f"{side} {first}"), joint(body, f"{side} {second}")) for side in SIDES)
            assert left == pytest.approx(right)  # one person has one length of thigh
            assert abs(left / LENGTHS[name] - 1) <= INDIVIDUAL + 1e-9


def test_ankles_of_a_standing_figure_are_at_the_bottom_of_its_height():
    """The ankle's height is 0.039 (Winter, figure 4.1)."""
    heights = [
        joint(body, "left ankle")[1] - joint(body, "head top")[1]
        for body in (body_of(index, STANDING) for index in range(40))
    ]
    assert np.mean(heights) == pytest.approx(1 - 0.039, abs=0.03)  # children's heads are larger


def test_projected_limb_is_never_longer_than_its_bone(bodies):
    seen = [
        math.dist(joint(body, f"{side} hip")[:2], joint(body, f"{side} knee")[:2]) / LENGTHS["thigh"]
        for body in bodies
        for side in SIDES
    ]
    assert max(seen) <= 1 + INDIVIDUAL + 1e-9
    assert np.mean(np.array(seen) < 0.7) > 0.2


def test_knees_bend_backwards_and_elbows_forwards(bodies):
    for body in bodies:
        for side in SIDES:
            for middle, below, part, sign in (("knee", "ankle", "thigh", -1), ("elbow", "wrist", "upper arm", 1)):
                front = next(solid.front for solid in body.solids if solid.part == f"{side} {part}")
                lower = joint(body, f"{side} {below}") - joint(body, f"{side} {middle}")
                assert sign * float(front @ lower) >= -1e-9, (middle, side)


def test_left_and_right_are_the_persons_own_in_every_view(bodies):
    """To the left, up and to the front is a right-handed frame in everyone: no one is a mirror image."""
    for body in bodies:
        leftwards = joint(body, "left shoulder") - joint(body, "right shoulder")
        upwards = joint(body, "neck") - (joint(body, "left hip") + joint(body, "right hip")) / 2
        front = next(solid.front for solid in body.solids if solid.part == "chest")
        assert np.cross(leftwards, upwards) @ front > 0
    facing, turned = body_of(0, STANDING), body_of(0, STANDING._replace(yaw=180))
    # x points to the right of the image: who faces the viewer has the left there, who shows the back has not.
    assert joint(facing, "left wrist")[0] > 0 > joint(facing, "right wrist")[0]
    assert joint(turned, "left wrist")[0] < 0 < joint(turned, "right wrist")[0]


def test_front_and_back_differ_only_in_their_textures():
    """Needed to distinguish left and right: the silhouette from behind is the mirror image of that from the front."""
    apart, outlines = [], []
    for index in range(20):
        images, masks = [], []
        for yaw in (0, 180):
            dice = Dice(rng(index), 512)
            outfit = draw_outfit(dice)
            body = draw_body(dice, STANDING._replace(yaw=yaw), outfit)
            canvas = Canvas((N, N), LIGHT)
            for solid in body.solids:
                canvas.lay(solid.placed(0.8 * N, np.array([(N - 1) / 2, (N - 1) / 2, 0])), 0, COVERS.index(solid.cover))
            images.append(canvas.paint(outfit.covers))
            masks.append(canvas.owner >= 0)
        mirrored = images[1][:, ::-1]
        both = masks[0] & masks[1][:, ::-1]
        head = both & (np.arange(N) < 0.2 * N)[:, None]
        apart.append(np.abs(images[0] - mirrored)[head].mean())
        outlines.append(both.sum() / (masks[0] | masks[1][:, ::-1]).sum())
    assert min(outlines) > 0.97
    assert np.quantile(apart, 0.2) > 0.05  # of 1: a face against hair


def test_visible_joints_show_their_own_part(many):
    own_part = []
    for drawn in many:
        for name, (x, y, flag) in zip(JOINTS, drawn.joints, strict=True):
            if flag < 2:
                continue
            column, row = round(float(x)), round(float(y))
            around = drawn.parts[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            own_part.append(any(PARTS[part] in SEATS[name][0] for part in around.ravel() if part >= 0))
    # The crown alone may lie a pixel beside the head.
    assert np.mean(own_part) > 0.99


def test_occluded_joints_mostly_show_something_else(many):
    """Else one looks at it through the body: at the far hip, the far shoulder, an ankle behind its own knee."""
    other = []
    for drawn in many:
        for name, (x, y, flag) in zip(JOINTS, drawn.joints, strict=True):
            if flag == 1:
                part = drawn.parts[round(float(y)), round(float(x))]
                other.append(part < 0 or PARTS[part] not in SEATS[name][0])
    assert np.mean(other) > 0.55
    assert 0.05 < np.mean(np.concatenate([drawn.joints[:, 2] for drawn in many]) == 1) < 0.35


def test_in_profile_the_far_arm_and_hip_are_occluded():
    for index in range(10):
        # To the right of the image: the left side is the far one.
        found = flags(body_of(index, STANDING._replace(yaw=90, arms=(Limb(60, 0, 0), Limb(60, 0, 0)))))
        assert found["right elbow"] == found["right hip"] == found["right shoulder"] == found["right knee"] == 2
        assert found["left elbow"] == found["left hip"] == found["left shoulder"] == 1


def test_from_the_front_and_from_behind_all_joints_are_visible():
    for index, yaw in itertools.product(range(10), (0, 180)):
        assert set(flags(body_of(index, STANDING._replace(yaw=yaw))).values()) == {2}


def test_hands_behind_the_back_are_occluded_from_the_front_only():
    behind = Limb(20, 180, 0)
    for yaw, expected in ((0, 1), (180, 2)):
        arms = (behind._replace(towards=215), behind._replace(towards=215))
        found = flags(body_of(1, STANDING._replace(yaw=yaw, arms=arms)))
        assert found["left wrist"] == found["right wrist"] == expected


@pytest.mark.parametrize(("depth", "expected"), [(-1.0, 1), (1.0, 2)])
def test_ball_in_front_of_a_joint_occludes_it(depth, expected):
    body = body_of(2, STANDING)
    middle = joint(body, "left knee") + np.array([0, 0, depth])
    ball = Solid("ball", "ball", middle, middle, (0.08, 0.08), np.array([0.0, 0.0, -1.0]))
    found = flags(body, [ball])
    assert found["left knee"] == expected and found["right elbow"] == 2


def test_screen_occludes_what_it_covers():
    body = body_of(3, STANDING)
    canvas, joints, stature = portrait(body)
    middle = (joints[:, 1].min() + joints[:, 1].max()) / 2
    screen = np.array([(-1, middle), (N, middle), (N, N), (-1, N)], np.float64)
    found = flags_of(canvas, joints, stature, screen, (N, N))
    np.testing.assert_array_equal(found == 1, joints[:, 1] > middle)


def test_exactly_the_joints_outside_the_image_are_unlabeled(many):
    outside_at_all = 0
    for drawn in many:
        x, y, flag = drawn.joints.T
        # A pixel reaches half a pixel beyond its center.
        inside = (x >= -0.5) & (x < N - 0.5) & (y >= -0.5) & (y < N - 0.5)
        np.testing.assert_array_equal(flag > 0, inside)
        outside_at_all += not inside.all()
    assert 0 < outside_at_all < 3 * BEYOND * len(many)


def test_person_is_centered_fills_the_image_and_is_inside_the_box(many):
    fills, away = [], []
    for drawn in many:
        left, top, right, bottom = drawn.box
        assert 0 <= left < right <= N - 1 and 0 <= top < bottom <= N - 1
        rows, columns = np.nonzero(drawn.parts >= 0)
        assert left - 1 <= columns.min() and columns.max() <= right + 1
        assert top - 1 <= rows.min() and rows.max() <= bottom + 1
        fills.append(max(right - left, bottom - top) / N)
        away.append(math.dist(((left + right) / 2, (top + bottom) / 2), ((N - 1) / 2, (N - 1) / 2)) / N)
    assert FILLS[0] - 0.02 < min(fills) and 0.65 < np.mean(fills) < 0.85
    assert max(away) < 0.2


def test_every_pose_of_the_table_is_anatomically_possible():
    for bend, legs, arms in (HELD | UPSIDE_DOWN).values():
        assert -60 <= bend <= 85
        assert all(0 <= leg.raised <= 130 and 0 <= leg.bent <= 140 for leg in legs)
        assert all(0 <= arm.raised <= 180 and 0 <= arm.bent <= 140 for arm in arms)


def test_people_are_upright_upside_down_and_lying(bodies):
    """Of 696 fully labeled people of LSP-Extended the backbone is within 45 degrees of upright in 53 %, and within 45
    degrees of upside down in 22 %."""
    up = np.stack([joint(body, "neck") - (joint(body, "left hip") + joint(body, "right hip")) / 2 for body in bodies])
    lean = np.degrees(np.abs(np.arctan2(up[:, 0], -up[:, 1])))
    assert 0.45 < np.mean(lean < 45) < 0.75
    assert 0.08 < np.mean(lean > 135) < 0.3


def test_no_pose_is_close_to_the_mean_pose(bodies):
    """PCK@0.2 of the mean pose placed with the true middle and size: 0.05 here as on real people (LSP-Extended, 0.05:
    the data's own readme). Torso: left shoulder to right hip."""
    joints = np.stack([body.joints[:, :2] for body in bodies])
    low, high = joints.min(1), joints.max(1)
    size = (high - low).max(1)[:, None, None]
    placed = (joints - (low + high)[:, None] / 2) / size
    torso = np.linalg.norm(joints[:, 9] - joints[:, 2], axis=1)[:, None] / size[:, 0]
    right = np.linalg.norm(placed - placed.mean(0), axis=2) <= 0.2 * torso
    print(f"PCK@0.2 of the mean pose with true middle and size: {right.mean():.3f}")
    assert right.mean() < 0.12


def test_same_seed_gives_the_same_figure_at_any_size():
    agreeing, differences = [], []
    for index in range(12):
        small, large = draw_figure(rng(7, index), 64, 64), draw_figure(rng(7, index), 192, 192)
        # Three pixels for one; centers at integers.
        np.testing.assert_allclose((large.joints[:, :2] + 0.5) / 3 - 0.5, small.joints[:, :2], atol=1e-3)
        agreeing.append(small.joints[:, 2] == large.joints[:, 2])
        reduced = cv2.resize(large.image, (64, 64), interpolation=cv2.INTER_AREA)
        differences.append(np.abs(reduced.astype(float) - small.image).mean())
    assert np.mean(agreeing) > 0.93
    assert np.mean(differences) < 16


def test_figures_differ_and_are_reproducible_from_the_seed(many):
    assert np.abs(many[0].image.astype(int) - many[1].image).mean() > 10
    for first, second in zip(many[0], draw_figure(rng(0), N, N), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [(120, 80), (33, 97), (7, 60), (1, 1)])
def test_any_size_is_generated(size):
    for index in range(6):
        drawn = draw_figure(rng(index), *size)
        assert drawn.image.shape == (*size, 3) and drawn.image.dtype == np.uint8
        assert drawn.parts.shape == size
        assert drawn.joints.dtype == np.float32 and np.isfinite(drawn.joints).all()


def test_solid_is_rendered_at_its_measured_distance():
    """A ball of radius 20 at a depth of 7: its silhouette's area and its nearest point."""
    middle, viewer = np.array([50.0, 48.0, 7.0]), np.array([0.0, 0.0, -1.0])
    canvas = Canvas((100, 100), LIGHT)
    canvas.lay(Solid("ball", "ball", middle, middle, (20, 20), viewer), 3, 0)
    assert (canvas.owner == 3).sum() == pytest.approx(math.pi * 20**2, rel=0.01)
    assert canvas.depth[48, 50] == pytest.approx(7 - 20) and canvas.depth.min() == canvas.depth[48, 50]
    # Pressed to a half along the line of sight it is as wide and half as deep.
    pressed = Canvas((100, 100), LIGHT)
    pressed.lay(Solid("ball", "ball", middle, middle, (20, 20), viewer, 0.5), 3, 0)
    np.testing.assert_array_equal(pressed.owner, canvas.owner)
    assert pressed.depth[48, 50] == pytest.approx(7 - 10)


def test_a_limb_is_the_hull_of_its_two_balls():
    start, end, viewer = np.array([30.0, 20.0, 0.0]), np.array([60.0, 70.0, 15.0]), np.array([0.0, 0.0, -1.0])
    canvas, balls = Canvas((100, 100), LIGHT), Canvas((100, 100), LIGHT)
    canvas.lay(Solid("limb", "skin", start, end, (14, 6), viewer), 0, 0)
    for share in np.linspace(0, 1, 200):
        middle, radius = start + share * (end - start), 14 + share * (6 - 14)
        balls.lay(Solid("limb", "skin", middle, middle, (radius, radius), viewer), 0, 0)
    assert ((canvas.owner >= 0) != (balls.owner >= 0)).sum() < 10
    both = (canvas.owner >= 0) & (balls.owner >= 0)
    assert np.abs(canvas.depth[both] - balls.depth[both]).mean() < 0.05


def test_texture_has_front_and_back_and_is_not_mirrored():
    cover = np.zeros((1, TEXELS, 2 * TEXELS, 3), np.uint8)
    cover[0, :, TEXELS // 2 : TEXELS, 0] = 255  # the right half of the front is red
    cover[0, :, TEXELS + TEXELS // 2 :, 1] = 255  # that of the back is green
    for depth, channel in ((-1.0, 0), (1.0, 1)):
        canvas = Canvas((60, 60), LIGHT)
        front = np.array([0.0, 0.0, depth])
        canvas.lay(Solid("backbone", "shirt", np.array([30.0, 15, 0]), np.array([30.0, 45, 0]), (12, 12), front), 0, 0)
        image = canvas.paint(cover)
        assert image[30, 36, channel] > 0.5 and image[30, 24].max() == 0
        assert image[20:40, 20:40, 1 - channel].max() == 0


def test_photos_of_a_folder_are_backgrounds_and_follow_the_splits(tmp_path):
    for split, value in (("train", 250), ("test", 5)):
        for number in range(2):
            write_image(tmp_path / split / f"{number}.png", np.full((60, 90, 3), value, np.uint8))
    (tmp_path / "terms.txt").write_text("research-only")
    for split, value in (("train", 250), ("test", 5)):
        dataset = open_dataset("synthetic-figures", tmp_path, split).with_size((48, 64))
        corners = np.array([dataset.read(index)["image"][0, 0].mean() for index in range(12)])
        assert np.mean(np.abs(corners - value) < 70) > 0.5
        assert "research-only" in dataset.terms
    assert "research-only" not in open_dataset("synthetic-figures").terms


def test_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(UserError, match="images for 'train'"):
        open_dataset("synthetic-figures", tmp_path)
