"""The rooms' depth is exact: every number here follows from geometry, none from the renderer."""

import math

import numpy as np
import pytest

from densevision.datasets.rendering.lighting import Scene, photo
from densevision.datasets.rendering.materials import Dice, Material
from densevision.datasets.rendering.raycast import BOX, CYLINDER, ELLIPSOID, Camera, Solids, cast, look, recast
from densevision.datasets.rendering.rooms import Room, furnish, render_room
from densevision.datasets.rendering.textures import TEXTURES, lookup

KEY = (0, 0, 12, 5)


def one(field_type: int, center: tuple, half: tuple, yaw: float = 0.0) -> Solids:
    return Solids(np.array([field_type]), np.array([center], float), np.array([half], float), np.array([yaw]))


def eye(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0, height: int = 61, width: int = 81) -> Camera:
    """A camera at (1, 2, 1.5) that looks along +x; its middle pixel is on the axis, as both sizes are odd."""
    return Camera(np.array([1.0, 2.0, 1.5]), look(yaw, pitch, roll), 60.0, height, width)


def empty_room() -> Scene:
    half = (0.5, 0.5, 0.5)
    gray = Material(TEXTURES["plain"], half, half, half, 1.0)
    nothing = Solids(np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    return Scene(
        size=np.array([6.0, 5.0, 2.5]),
        solids=nothing,
        faces=np.zeros((1, 6), int),
        casts_shadow=np.zeros(0, bool),
        materials=[gray],
        lights=[],
        ambient=np.ones((2, 3)),
    )


def furnished(key=KEY) -> tuple[Scene, Room]:
    dice = Dice(np.random.default_rng(key))
    room = Room.draw(dice)
    return furnish(room, dice), room


def test_same_seed_gives_the_same_room_and_another_seed_another():
    first, again, other = (render_room(np.random.default_rng(key), 48, 64) for key in (KEY, KEY, (0, 0, 13, 5)))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


@pytest.mark.parametrize(("height", "width"), [(48, 64), (37, 53), (64, 48)])
def test_fields_have_their_shapes_types_and_ranges(height, width):
    for index in range(6):
        sample = render_room(np.random.default_rng((1, 0, index, 5)), height, width)
        assert set(sample) == {"image", "depth", "camera"}
        assert sample["image"].shape == (height, width, 3)
        assert sample["image"].dtype == np.uint8
        assert sample["depth"].shape == (height, width)
        assert sample["depth"].dtype == np.float32
        assert np.isfinite(sample["depth"]).all()
        assert sample["depth"].min() > 0.3
        assert sample["depth"].max() < 10.5
        assert sample["depth"].max() > 1.3 * sample["depth"].min()
        assert sample["image"].std() > 8
        matrix = sample["camera"]
        assert matrix.dtype == np.float64
        assert matrix[0, 2] == (width - 1) / 2  # pixel centers at integers
        assert matrix[1, 2] == (height - 1) / 2
        angle = math.degrees(2 * math.atan(max(height, width) / 2 / matrix[0, 0]))
        assert 50 <= angle <= 75


def test_depth_is_along_the_camera_axis_and_not_along_the_ray():
    """Facts 3.8: with the wrong one of the two, walls and floor bend when they are put back into space."""
    scene, camera = empty_room(), eye(pitch=-0.4, yaw=0.5, roll=0.05)
    depth, solid = scene.see(camera)
    assert (solid == -1).all()
    points = camera.points(*camera.pixels(), depth)
    on_a_face = np.minimum(np.abs(points), np.abs(points - scene.size[:, None])).min(0)
    assert on_a_face.max() < 1e-4
    rays = np.linalg.inv(camera.matrix) @ np.stack([*camera.pixels(), np.ones_like(depth)])
    bent = camera.points(*camera.pixels(), depth * np.linalg.norm(rays, axis=0).astype(np.float32))
    assert np.minimum(np.abs(bent), np.abs(bent - scene.size[:, None])).min(0).max() > 0.1


def test_floor_backprojected_from_a_sample_is_flat():
    scene, room = furnished()
    camera = room.viewpoint.camera(96, 128)
    depth, solid = scene.see(camera)
    sample = render_room(np.random.default_rng(KEY), 96, 128)
    np.testing.assert_array_equal(sample["depth"].ravel(), depth)
    u, v = camera.pixels()
    rays = np.linalg.inv(sample["camera"]) @ np.stack([u, v, np.ones_like(u)])
    height = camera.points(u, v, depth)[2]
    floor = (solid == -1) & (height < 0.01)
    assert floor.sum() > 200
    points = (rays * depth)[:, floor]
    points -= points.mean(1, keepdims=True)
    normal = np.linalg.svd(points, full_matrices=False)[0][:, 2]
    assert np.abs(normal @ points).max() < 1e-3


def test_front_of_a_box_has_its_distance_at_every_pixel():
    depth, solid = cast(eye(), one(BOX, (3.5, 2.0, 1.5), (0.5, 0.39, 0.29)))
    depth, solid = depth.reshape(61, 81), solid.reshape(61, 81)
    seen = np.zeros((61, 81), bool)
    seen[30 - 8 : 30 + 9, 40 - 11 : 40 + 12] = True  # 60 px * 0.29 m / 2 m = 8.7, 60 * 0.39 / 2 = 11.7
    np.testing.assert_array_equal(solid == 0, seen)
    np.testing.assert_allclose(depth[seen], 2.0, rtol=1e-6)
    assert np.isinf(depth[~seen]).all()


def test_edge_of_a_turned_box_is_nearer_by_half_its_diagonal():
    depth, _ = cast(eye(), one(BOX, (4.0, 2.0, 1.5), (0.5, 0.5, 0.5), yaw=math.pi / 4))
    assert depth.reshape(61, 81)[30, 40] == pytest.approx(3 - 0.5 * math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize("column", [30, 40, 47])
def test_ball_and_cylinder_are_hit_where_the_quadratic_says(column):
    ray = np.array([1.0, -(column - 40) / 60])  # in the horizontal plane through both middles
    to_axis = np.array([3.0, 0.0])
    a, b, c = ray @ ray, ray @ to_axis, to_axis @ to_axis - 0.6**2
    expected = (b - math.sqrt(b * b - a * c)) / a
    for field_type in (ELLIPSOID, CYLINDER):
        depth, _ = cast(eye(), one(field_type, (4.0, 2.0, 1.5), (0.6, 0.6, 0.6)))
        assert depth.reshape(61, 81)[30, column] == pytest.approx(expected, rel=1e-5)


def test_lid_of_a_cylinder_is_hit_from_above():
    camera = eye(pitch=-math.pi / 2)
    depth, _ = cast(camera, one(CYLINDER, (1.0, 2.0, 0.4), (0.3, 0.3, 0.4)))
    assert depth.reshape(61, 81)[30, 40] == pytest.approx(1.5 - 0.8, rel=1e-6)


def test_solids_behind_the_camera_or_across_its_plane_are_cut_off_correctly():
    behind, around = one(BOX, (0.0, 2.0, 1.5), (0.5, 1.0, 1.0)), one(BOX, (1.0, 2.5, 1.5), (4.0, 0.1, 0.2))
    assert np.isinf(cast(eye(), behind)[0]).all()
    depth = cast(eye(), around)[0].reshape(61, 81)
    assert depth[30, 0] == pytest.approx(0.4 * 60 / 40, rel=1e-5)  # the side at y = 2.4, on a ray of slope 40 / 60


def test_culling_by_rectangles_does_not_lose_hits():
    scene, room = furnished((3, 0, 1, 5))
    camera = room.viewpoint.camera(30, 40)
    depth, solid = cast(camera, scene.solids)
    everything = np.tile(np.arange(len(scene.solids)), (30 * 40, 1))
    slow_depth, slow_solid = recast(camera, scene.solids, *camera.pixels(), everything)
    np.testing.assert_allclose(depth, slow_depth, rtol=1e-5)
    assert (solid == slow_solid).mean() > 0.99  # solids that touch share their surface: either name is right


def test_anti_aliasing_leaves_depth_at_the_pixel_center():
    """Facts 3.8: averaged depth at an outline invents surfaces."""
    scene, room = furnished()
    camera = room.viewpoint.camera(48, 64)
    depth, colors = photo(scene, camera, exposure=0.3)
    np.testing.assert_array_equal(depth.ravel(), scene.see(camera)[0])
    assert colors.min() >= 0
    assert colors.max() <= 1


def test_larger_image_shows_the_same_room():
    small, large = (render_room(np.random.default_rng(KEY), 48 * scale, 64 * scale) for scale in (1, 2))
    mean_of_four = large["depth"].reshape(48, 2, 64, 2).mean((1, 3))
    assert np.median(np.abs(mean_of_four / small["depth"] - 1)) < 2e-3
    coarse = large["image"].reshape(48, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(coarse - small["image"]).mean() < 8
    np.testing.assert_allclose(large["camera"][:2, :2], 2 * small["camera"][:2, :2])


def test_rooms_differ_from_their_mean_depth_map():
    """Facts 3.8: the mean depth of a pixel over many rooms is a strong baseline; it must leave something to learn."""
    depths = np.stack([render_room(np.random.default_rng((5, 0, index, 5)), 24, 32)["depth"] for index in range(60)])
    mean_map = np.exp(np.log(depths[:30]).mean(0))
    assert (np.abs(mean_map - depths[30:]) / depths[30:]).mean() > 0.2


def test_far_textures_fade_to_their_mean():
    along, across = np.random.default_rng(0).random((2, 4000)).astype(np.float32)
    for number in TEXTURES.values():
        texture = np.full(4000, number)
        near, _ = lookup(texture, along, across, np.full(4000, 1e-4, np.float32))
        far, _ = lookup(texture, along, across, np.full(4000, 4.0, np.float32))
        assert np.ptp(far) == 0
        assert near.mean() == pytest.approx(far[0], abs=0.03)
