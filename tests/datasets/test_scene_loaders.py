"""Readers of scenes: conventions of poses, splits, binary COLMAP models, and files that are not as they should be."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.examples import fake_views
from densevision.datasets.field_types import DepthRange, Extrinsics
from densevision.datasets.formats.arrays import read_npy, write_npy
from densevision.datasets.formats.image import read_image
from densevision.datasets.views.colmap import quaternion_of, rotation_of
from densevision.datasets.views.detect import read_scene
from densevision.datasets.views.middlebury_stereo import read_depth
from densevision.datasets.views.paths import along, spiral
from densevision.errors import UserError

SCENES = {"colmap": "", "kitti-odometry": "sequences/00", "llff": "fern", "nerf-transforms": "", "view-folders": ""}


@pytest.fixture
def example(tmp_path):
    """Writes the example of a dataset; returns its scene folder."""

    def write(name: str) -> Path:
        (tmp_path / name).mkdir()
        dataset_class(name).write_example(tmp_path / name)
        return tmp_path / name / SCENES[name]

    return write


@pytest.mark.parametrize("name", SCENES)
def test_every_layout_gives_the_poses_that_it_was_written_with(name, example):
    scene = read_scene(example(name))
    expected = fake_views(len(scene), forward=name == "kitti-odometry")
    views = sorted(scene.views, key=lambda view: int("".join(filter(str.isdigit, view.name))))
    for view, (_, camera, pose) in zip(views, expected, strict=True):
        np.testing.assert_allclose(view.pose, pose, atol=1e-6)
        np.testing.assert_allclose(view.camera_at((48, 64)), camera, atol=1e-6)


def test_the_nearest_photos_come_first_without_the_target(example):
    scene = read_scene(example("view-folders"))
    target = scene.view("4.png")
    assert {view.name for view in scene.nearest(target, 2)} <= {"2", "3", "5", "6", "7", "1"}
    assert "4" not in [view.name for view in scene.nearest(target, 8)]


def test_test_views_are_predicted_from_training_views(example):
    root = example("nerf-transforms")
    train, test = (open_dataset("nerf-transforms", root, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 1)
    assert train.read(0)["views"].shape == (7, 48, 64, 3) and test.read(0)["views"].shape == (8, 48, 64, 3)


def test_llff_reads_a_list_of_test_views(example):
    folder = example("llff")
    names = [f"image{number:03} {'test' if number == 3 else 'train'}" for number in range(24)]
    (folder / "views.txt").write_text("\n".join(names))
    assert [view.name for view in read_scene(folder).views if view.name in read_scene(folder).test_names] == [
        "image003"
    ]


def test_kitti_drives_forward_and_camera_2_is_beside_camera_0(example, shared_data):
    # X_2 = X_0 + K^-1 p: 6 cm in x, whatever the car's direction.
    folder = example("kitti-odometry")
    to_scene = np.array([[0, 0, 1, 5], [0, 1, 0, 0], [-1, 0, 0, 2.0]])
    poses = folder.parent.parent / "poses" / "00.txt"
    poses.write_text(" ".join(map(str, to_scene.ravel())) + "\n" + poses.read_text())
    turned = read_scene(folder).views[0]
    np.testing.assert_allclose(turned.pose @ [*to_scene[:, 3], 1], [0.06, 0, 0], atol=1e-8)
    centers = [view.center for view in read_scene(shared_data / "kitti_odometry" / "sequences" / "s1").views]
    assert (np.diff(np.array(centers)[:, 2]) > 0.5).all()


def test_a_binary_colmap_model_equals_the_text(example):
    root = example("colmap")
    text = read_scene(root)
    folder = root / "sparse" / "0"
    cameras, images, points = b"", b"", b""
    view = text.views[0]
    parameters = view.camera[0, 0], view.camera[1, 1], view.camera[0, 2] + 0.5, view.camera[1, 2] + 0.5
    cameras = struct.pack("<QiiQQ4d", 1, 1, 1, 64, 48, *parameters)
    images = struct.pack("<Q", len(text))
    for number, each in enumerate(text.views, 1):
        images += struct.pack("<i7di", number, *quaternion_of(each.pose[:, :3]), *each.pose[:, 3], 1)
        images += f"{each.name}.png".encode() + b"\0" + struct.pack("<Q2dq2dq", 2, 1, 1, 1, 2, 2, -1)
    points = struct.pack("<Q", 2)
    for number, depth in ((1, 1.5), (2, 6.0)):
        points += struct.pack("<Q3d3BdQii", number, 0, 0, depth, 9, 9, 9, 0.5, 1, 1, 0)
    for name, data in (("cameras", cameras), ("images", images), ("points3D", points)):
        (folder / f"{name}.bin").write_bytes(data)
    binary = read_scene(root)
    np.testing.assert_allclose([each.pose for each in binary.views], [each.pose for each in text.views], atol=1e-9)
    # Each photo sees point 1 only.
    assert binary.views[0].depth_range == pytest.approx((0.9 * 1.5, 1.2 * 1.5))
    for name, data in (("cameras", cameras), ("images", images), ("points3D", points)):
        for damaged in (data[: len(data) // 2], struct.pack("<Q", 2**60) + data[8:], data[:3]):
            (folder / f"{name}.bin").write_bytes(damaged)
            with pytest.raises(UserError, match=f"{name}.bin"):
                read_scene(root)
        (folder / f"{name}.bin").write_bytes(data)


def test_distorted_photos_are_refused(example):
    root = example("colmap")
    (root / "sparse/0/cameras.txt").write_text("1 RADIAL 64 48 60 32 24 -0.2 0.01\n")
    with pytest.raises(UserError, match="undistorted photos"):
        read_scene(root)


def test_quaternions():
    rotation = rotation_of(np.array([0.9, 0.1, -0.3, 0.2]))
    assert Extrinsics().check(np.column_stack([rotation, (1, 2, 3)])) is None
    np.testing.assert_allclose(rotation_of(quaternion_of(rotation)), rotation, atol=1e-12)


def test_poses_and_depth_ranges_are_checked():
    assert Extrinsics().check(np.diag([1.0, 1, -1])[:, [0, 1, 2, 2]]) is not None
    assert Extrinsics().check(np.full((3, 4), np.nan)) is not None
    assert DepthRange().check(np.array([2, 1], np.float32)) == ("depths 0 < near < far", "2 and 1")


def test_photos_of_two_sizes_are_named(example):
    from densevision.datasets.formats.image import write_image

    root = example("view-folders")
    write_image(root / "8.png", np.zeros((30, 40, 3), np.uint8))
    scene = read_scene(root)
    with pytest.raises(UserError, match=r"expected the size of the other photos .*, 64x48, found 40x30"):
        scene.sample(scene.view("4"), scene.nearest(scene.view("4"), 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored["views"]["0.png"].update(pose=[[1, 0, 0, 0]] * 3), "a rotation R"),
        (lambda stored: stored.update(near=9.0), "depths 0 < near < far"),
        (lambda stored: stored["views"]["0.png"].update(camera=[0, 1, 1, 1]), "focal lengths above 0"),
        (lambda stored: stored["views"].update({"../a.png": stored["views"]["0.png"]}), "photos below it"),
        (lambda stored: stored.update(views={"0.png": stored["views"]["0.png"]}), "at least two photos"),
        (lambda stored: stored.pop("near"), "lacks 'near' and 'far'"),
        (lambda stored: stored["views"]["0.png"].pop("pose"), "lacks 'views.0.png.pose'"),
    ],
)
def test_bad_cameras_get_a_sentence(change, message, example):
    root = example("view-folders")
    stored = json.loads((root / "cameras.json").read_text())
    change(stored)
    (root / "cameras.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=message):
        read_scene(root)


def test_disparities_of_middlebury_are_depths_in_steps(tmp_path):
    dataset_class("middlebury-stereo").write_example(tmp_path)
    scene = read_scene(tmp_path / "cones")
    assert [view.name for view in scene.views] == [f"im{number}" for number in range(9)]
    depth = read_depth(tmp_path / "cones" / "disp2.png")
    # 4 m are 26.7 steps of 0.15 m; the assumed focal length is 64 instead of 60.
    assert depth.shape == (48, 64) and depth.mean() == pytest.approx(4 / 0.15 * 64 / 60, rel=2e-3)
    second, sixth = scene.view("im2"), scene.view("im6")
    point = np.array([3.0, 2.0, depth[0, 0], 1.0])
    x = [float((view.camera @ (view.pose @ point))[0] / point[2]) for view in (second, sixth)]
    assert x[0] - x[1] == pytest.approx(4 * 2.25, rel=2e-3)


def test_a_stereo_pair_is_a_scene_of_two_views(shared_data):
    folder = shared_data / "middlebury_stereo" / "cones"
    scene = read_scene(folder)
    left, right = scene.view("im2"), scene.view("im6")
    photos = [read_image(view.file).astype(np.float32) for view in (left, right) if view.file is not None]
    depth = read_depth(folder / "disp2.png")
    # The right photo, warped by the true depth, is the left one.
    rows, columns = np.indices(depth.shape)
    rays = np.linalg.inv(left.camera) @ np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    seen = right.camera @ (right.pose_from(left) @ np.vstack([rays * depth.ravel(), np.ones(depth.size)]))
    x, y = (seen[axis].reshape(depth.shape) / depth for axis in (0, 1))
    warped = cv2.remap(photos[1], x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    known = np.isfinite(depth) & (x >= 0)
    errors = [float(np.abs(photos[0] - other)[known].mean()) for other in (warped, photos[1])]
    assert errors[0] < 0.25 * errors[1]


def test_a_damaged_table_of_poses_is_named(example):
    folder = example("llff")
    write_npy(folder / "poses_bounds.npy", read_npy(folder / "poses_bounds.npy")[:, :15])
    with pytest.raises(UserError, match="expected N x 17 finite numbers, found 24x15 float64"):
        read_scene(folder)


def test_paths_look_into_the_scene(example):
    scene = read_scene(example("llff"))
    path = spiral(scene, 12)
    steps = np.linalg.norm(np.diff([view.center for view in (*path, path[0])], axis=0), axis=1)
    assert steps.max() < 0.25 and all(view.pose[2, 2] > 0.9 for view in path)
    walked = along(scene, 5)
    np.testing.assert_allclose(walked[0].pose, scene.views[0].pose, atol=1e-9)
    np.testing.assert_allclose(walked[-1].pose, scene.views[-1].pose, atol=1e-9)
