"""Hands: how the cube is cut, and the official layouts. Traps of facts-next, C.2, C.3 and C.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.geometry import hflip, plain_resize, rotation
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.field_types import Skeleton
from densevision.datasets.formats.depth_bin import read_depth_bin, write_depth_bin
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.png import read_packed_depth, write_packed_depth, write_png16
from densevision.datasets.hand import skeletons
from densevision.datasets.hand.cube import camera_matrix, cut_cube, project, unproject
from densevision.datasets.hand.hand_fields import Cube, CubeDepth, Joints
from densevision.datasets.rendering.hands import SENSOR, cast_capsules, draw_hand, palm_of

CAMERA = camera_matrix(241.42, 241.42, 160, 120)
STORED = ("hand-folders", "icvl", "nyu-hand", "msra-hand-0")


def scene(depth: float = 400.0) -> np.ndarray:
    """A square of 40 pixels around the optical axis."""
    image = np.zeros((240, 320), np.float32)
    image[100:140, 140:180] = depth
    return image


@pytest.mark.parametrize("name", ["synthetic-hands", *STORED, "msra-hand-8"])
def test_every_dataset_of_hands_conforms(name):
    check_dataset(dataset_class(name))


# --- the cube


def test_the_cube_is_the_window_of_its_side_at_the_depth_of_the_hand():
    cut = cut_cube(scene(), CAMERA, np.array([0, 0, 400.0]), 250)
    # 125 / 400 * 241.42 = 75.4 pixels on each side of the mean, 159.5: from 84 to 234, 150 pixels to 128.
    assert cut["camera"][0, 0] == pytest.approx(241.42 * 128 / 150)
    assert cut["cube"] == pytest.approx([-0.5 * 400 / 241.42, -0.5 * 400 / 241.42, 400, 250], abs=1e-3)
    inside = cut["depth"] < 1
    assert np.unique(cut["depth"][inside]).tolist() == [0.5]
    assert inside.sum() == pytest.approx((40 * 128 / 150) ** 2, rel=0.06)


def test_background_is_the_back_of_the_cube_and_what_is_before_it_its_front():
    image = scene()
    image[100:110, 140:180] = 400 + 126  # beyond the back
    image[110:120, 140:180] = 400 - 130  # before the front
    palm = np.array([0, 0, 400.0])
    cut = cut_cube(image, CAMERA, palm, 250)
    # The front is clamped for the center of mass, too: (2 * 400 + 275) / 3.
    center = (2 * 400 + 275) / 3
    assert cut["cube"][2] == pytest.approx(center)
    values = np.unique(cut["depth"])
    assert values == pytest.approx([(270 - center) / 250 + 0.5, (400 - center) / 250 + 0.5, 1], abs=1e-5)


@pytest.mark.parametrize("unknown", [0, 5, 1501, np.nan])
def test_depths_that_no_hand_has_are_unknown(unknown):
    image = scene()
    image[:90] = unknown
    for name, value in cut_cube(scene(), CAMERA, np.array([0, 0, 400.0]), 250).items():
        np.testing.assert_array_equal(cut_cube(image, CAMERA, np.array([0, 0, 400.0]), 250)[name], value)


def test_silhouettes_are_not_interpolated():
    # T: nearest, never bilinear: every depth of the result is one of the image.
    image = scene(380)
    image[100:140, 160:180] = 420
    cut = cut_cube(image, CAMERA, np.array([0, 0, 400.0]), 250)
    depths = np.unique((cut["depth"][cut["depth"] < 1] - 0.5) * 250 + cut["cube"][2])
    assert depths == pytest.approx([380, 420], abs=1e-3)


@pytest.mark.parametrize("palm", [(-220, -150, 400), (280, 190, 400), (2000, 0, 400), (0, 0, 12)])
def test_a_cube_beyond_the_image_is_padded(palm):
    # T: padding of negative starts; a window wholly outside is empty.
    image = np.full((240, 320), 400, np.float32)
    cut = cut_cube(image, CAMERA, np.array(palm, np.float64), 250)
    assert cut["depth"].shape == (128, 128) and CubeDepth().check(cut["depth"]) is None
    assert Cube().check(cut["cube"]) is None
    assert (cut["depth"] == 1).any()


def test_the_camera_of_the_cut_projects_joints_to_the_same_pixels():
    rng = np.random.default_rng(0)
    hand = draw_hand(rng, SENSOR)
    cut = cut_cube(hand.depth, hand.camera, palm_of(hand.joints), 250)
    hits = np.argwhere((hand.depth > 0) & (np.abs(hand.depth - cut["cube"][2]) < 100))
    points = unproject(hits[:, ::-1].astype(float), hand.depth[tuple(hits.T)], hand.camera)
    columns, rows = np.round(project(points, cut["camera"])).astype(int).T
    inside = (columns >= 0) & (columns < 128) & (rows >= 0) & (rows < 128)
    depths = (cut["depth"][rows[inside], columns[inside]] - 0.5) * 250 + cut["cube"][2]
    assert inside.mean() > 0.8 and np.mean(np.abs(depths - points[inside, 2]) < 8) > 0.85


def test_no_geometry_changes_joints_and_cubes():
    # T: a flip makes the other hand; joints in space stay as they are, and the camera tells.
    geometry = plain_resize((128, 128), (64, 64))
    joints = np.ones((16, 3), np.float32)
    for matrix in (hflip(64), rotation(30)):
        moved = type(geometry)((matrix @ geometry.matrix(),), (64, 64))
        np.testing.assert_array_equal(Joints(skeletons.ICVL).transform(joints, moved), joints)
        np.testing.assert_array_equal(Cube().transform(np.ones(4, np.float32), moved), np.ones(4))
    rotated = CubeDepth().transform(np.zeros((128, 128), np.float32), type(geometry)((rotation(30),), (128, 128)))
    assert set(np.unique(rotated)) == {0.0, 1.0}


def test_values_that_are_no_joints_or_cubes_are_found():
    assert Joints(skeletons.ICVL).check(np.zeros((14, 3), np.float32)) is not None
    assert Joints(skeletons.ICVL).check(np.full((16, 3), np.nan, np.float32)) is not None
    assert Cube().check(np.zeros(4, np.float32)) is not None
    assert CubeDepth().check(np.full((4, 4), np.nan, np.float32)) is not None
    assert CubeDepth().check(np.full((4, 4), 2, np.float32)) is not None


# --- rendering


def test_the_depth_of_a_capsule_is_exact():
    # The first capsule is seen from the side, the second along its axis; its cap is a ball.
    starts, ends = np.array([[-50.0, 0, 400], [80, 0, 300]]), np.array([[50.0, 0, 400], [80, 0, 500]])
    depth = cast_capsules(starts, ends, np.array([10.0, 12]), CAMERA, SENSOR)
    assert depth[120, 160] == pytest.approx(390)
    x, y = (190 - 160) / 241.42, (126 - 120) / 241.42
    # On the cylinder: y² + (z - 400)² = 10² with y = z times the ray's y.
    z = depth[126, 190]
    assert (z * y) ** 2 + (z - 400) ** 2 == pytest.approx(100) and abs(z * x) < 50
    u, v = project(np.array([80.0, 5, 290]), CAMERA).round().astype(int)
    z = depth[v, u]
    ball = z * np.array([(u - 160) / 241.42, (v - 120) / 241.42, 1]) - starts[1]
    assert np.linalg.norm(ball) == pytest.approx(12)
    assert np.isinf(depth[0, 0])


def test_a_right_hand_with_its_palm_to_the_camera_has_its_thumb_on_the_right():
    # T: y up or down, and mirrored hands: with the fingers up, the thumb is on the right of the image, the palm in
    # front of the back of the hand, and fingers bend towards the camera.
    from densevision.datasets.rendering.hands import pose_hand

    joints = np.mean([pose_hand(np.random.default_rng(number)) for number in range(20)], 0)
    assert joints[4, 0] > joints[8, 0] > joints[20, 0]
    assert (joints[[5, 9, 13, 17], 1] < joints[0, 1] - 50).all()
    assert (joints[[8, 12, 16, 20], 2] < -20).all()


def test_joints_lie_within_the_hand():
    dataset = open_dataset("synthetic-hands", None, "test")
    behind = []
    for index in range(10):
        sample = dataset.read(index)
        pixels = project(sample["joints"], sample["camera"]).round().astype(int).clip(0, 127)
        surface = (sample["depth"][pixels[:, 1], pixels[:, 0]] - 0.5) * 250 + sample["cube"][2]
        seen = sample["depth"][pixels[:, 1], pixels[:, 0]] < 1
        behind += list((sample["joints"][:, 2] - surface)[seen])
    assert np.mean(np.array(behind) > -6) > 0.95 and np.median(behind) < 25


# --- ICVL


def icvl(root: Path, lines: dict[str, str]) -> Path:
    for name in ("train", "test_seq_1", "test_seq_2"):
        (root / f"{name}.txt").write_text(lines.get(name, "\r\r\n"), newline="")
    return root


UVD = "160 120 400 " * 15 + "184.142 120 400 "


def test_icvl_lines_end_in_a_space_and_two_carriage_returns(tmp_path):
    # T: split(" ") leaves an empty word, and text mode a blank line after every line.
    lines = f"test_seq_1/image_0000.png {UVD}\r\r\ntest_seq_1/image_0001.png {UVD}\r\r\n"
    dataset: Any = open_dataset("icvl", icvl(tmp_path, {"test_seq_1": lines}), "test_seq_1")
    assert [dataset.sample_name(index) for index in range(len(dataset))] == [
        "Depth/test_seq_1/image_0000.png", "Depth/test_seq_1/image_0001.png",
    ]  # fmt: skip
    write_png16(_folder(tmp_path / "Depth/test_seq_1") / "image_0000.png", scene().astype(np.uint16))
    # 24.142 pixels at 400 mm are 40 mm to the right.
    assert dataset.read(0)["joints"][-1] == pytest.approx([40, 0, 400], abs=1e-3)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_rotated_copies_of_icvl_are_left_out(tmp_path):
    lines = "".join(f"{folder}/image_0000.png {UVD}\n" for folder in ("201403121135", "22-5/201403121135", "45/x"))
    dataset = open_dataset("icvl", icvl(tmp_path, {"train": lines}))
    assert [dataset.sample_name(index) for index in range(len(dataset))] == ["Depth/201403121135/image_0000.png"]


def test_the_y_axis_of_icvl_points_down(tmp_path):
    uvd = "160 120 400 " * 15 + "160 144.142 400"
    dataset: Any = open_dataset("icvl", icvl(tmp_path, {"test_seq_2": f"a/b.png {uvd}\n"}), "test_seq_2")
    write_png16(_folder(tmp_path / "Depth/a") / "b.png", scene().astype(np.uint16))
    assert dataset.read(0)["joints"][-1] == pytest.approx([0, 40, 400], abs=1e-3)


@pytest.mark.parametrize("line", ["a/b.png 1 2 3", f"a/b.png {UVD}7", "a/b.png " + "160 120 nan " * 16, "a/b.png"])
def test_a_line_of_icvl_that_is_no_pose_is_named(tmp_path, line):
    problems = dataset_class("icvl").validate(icvl(tmp_path, {"test_seq_1": f"{line}\n"}))
    assert any("test_seq_1.txt" in problem.file and "16 times" in problem.expected for problem in problems)


def test_icvl_images_of_8_bits_are_refused(tmp_path):
    dataset = open_dataset("icvl", icvl(tmp_path, {"test_seq_1": f"a/b.png {UVD}\n"}), "test_seq_1")
    write_image(_folder(tmp_path / "Depth/a") / "b.png", np.full((240, 320), 90, np.uint8))
    with pytest.raises(DatasetError, match="16-bit gray PNG, found 8 bits"):
        dataset.read(0)


# --- NYU


def test_depth_of_nyu_is_green_and_blue(tmp_path):
    # T: uint8 << 8 is 0, and OpenCV returns blue, green, red.
    stored = np.array([[0, 1, 255, 256, 700, 65535]], np.uint16)
    write_packed_depth(tmp_path / "a.png", stored)
    np.testing.assert_array_equal(read_packed_depth(tmp_path / "a.png"), stored)
    write_image(tmp_path / "b.png", np.array([[[200, 2, 188]]], np.uint8))  # RGB; the red channel is unused
    assert read_packed_depth(tmp_path / "b.png").tolist() == [[700]]
    write_png16(tmp_path / "c.png", stored)
    with pytest.raises(DatasetError, match="8-bit RGB PNG, found 16 bits, 1 channel"):
        read_packed_depth(tmp_path / "c.png")


def test_nyu_has_fourteen_joints_with_y_turned_down(tmp_path):
    dataset_class("nyu-hand").write_example(tmp_path)
    from densevision.datasets.formats.mat import read_mat

    stored = read_mat(tmp_path / "train/joint_data.mat")["joint_xyz"]
    sample = open_dataset("nyu-hand", tmp_path).read(1)
    ids = [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32]
    np.testing.assert_allclose(sample["joints"], stored[0, 1, ids] * (1, -1, 1), rtol=1e-6)
    # The joints are where the hand is: with y up, they would be mirrored at the middle row.
    pixels = project(sample["joints"], sample["camera"]).round().astype(int).clip(0, 127)
    assert (sample["depth"][pixels[:, 1], pixels[:, 0]] < 1).mean() > 0.7


def test_the_second_subject_of_nyu_has_a_smaller_cube(tmp_path):
    from densevision.datasets.formats.mat import write_mat

    for split in ("train", "test"):
        joints = np.ones((3, 2442, 36, 3))
        write_mat(_folder(tmp_path / split) / "joint_data.mat", {"joint_xyz": joints})
    datasets: dict[str, Any] = {split: open_dataset("nyu-hand", tmp_path, split) for split in ("train", "test")}
    sides = {split: dataset._sides for split, dataset in datasets.items()}
    assert sides["test"][[0, 2439]].tolist() == [300, 300] and sides["test"][2440:] == pytest.approx([249, 249])
    assert set(sides["train"]) == {300}
    assert open_dataset("nyu-hand", tmp_path, "test").sample_name(2440) == "test/depth_1_0002441.png"


# --- MSRA15


def test_a_rectangle_of_msra_ends_before_right_and_bottom(tmp_path):
    depth = np.zeros((6, 8), np.float32)
    depth[2:5, 3:7] = np.arange(12).reshape(3, 4) + 1
    write_depth_bin(tmp_path / "a.bin", depth)
    header = np.frombuffer((tmp_path / "a.bin").read_bytes(), "<i4", 6)
    assert header.tolist() == [8, 6, 3, 2, 7, 5]
    np.testing.assert_array_equal(read_depth_bin(tmp_path / "a.bin"), depth)


@pytest.mark.parametrize("header", [(8, 6, 3, 2, 9, 5), (8, 6, 7, 2, 7, 5), (10**6, 10**6, 0, 0, 9, 9), (-1,) * 6])
def test_a_damaged_rectangle_is_named(tmp_path, header):
    (tmp_path / "a.bin").write_bytes(np.array(header, "<i4").tobytes() + bytes(48))
    with pytest.raises(DatasetError, match=r"a\.bin"):
        read_depth_bin(tmp_path / "a.bin")


def msra(root: Path, frames: int, gesture: str = "P2/TIP") -> Path:
    for subject in range(9):
        _folder(root / f"P{subject}/1")
        (root / f"P{subject}/1/joint.txt").write_text("1\n" + "10 20 -300 " * 21 + "\n")
    _folder(root / gesture)
    (root / gesture / "joint.txt").write_text(f"{frames}\n" + ("10 20 -300 " * 21 + "\n") * frames)
    return root


def test_msra_has_y_up_and_negative_z_and_leaves_out_wrong_labels(tmp_path):
    dataset: Any = open_dataset("msra-hand-2", msra(tmp_path, 176), "test")
    names = [dataset.sample_name(index) for index in range(len(dataset))]
    assert len(names) == 1 + 173 and "P2/TIP/000171_depth.bin" in names and "P2/TIP/000173_depth.bin" not in names
    write_depth_bin(tmp_path / "P2/TIP/000000_depth.bin", scene(300))
    sample = dataset.read(names.index("P2/TIP/000000_depth.bin"))
    np.testing.assert_array_equal(sample["joints"], np.tile(np.array([10, -20, 300], np.float32), (21, 1)))
    assert sample["cube"][3] == 200


def test_a_subject_of_msra_is_tested_and_the_others_train(tmp_path):
    msra(tmp_path, 1)
    train, test = (open_dataset("msra-hand-8", tmp_path, split) for split in ("train", "test"))
    assert {train.sample_name(index)[:2] for index in range(len(train))} == {f"P{subject}" for subject in range(8)}
    assert [test.sample_name(index) for index in range(len(test))] == ["P8/1/000000_depth.bin"]


def test_the_number_of_frames_of_msra_is_checked(tmp_path):
    msra(tmp_path, 2)
    file = tmp_path / "P2/TIP/joint.txt"
    file.write_text(file.read_text().replace("2\n", "3\n", 1))
    with pytest.raises(DatasetError, match=r"joint\.txt.* found '3' and 2 lines"):
        open_dataset("msra-hand-2", tmp_path, "test")


# --- folders of your own


def own_hands(root: Path, table: str, camera: str = "241.42, 241.42, 160, 120") -> Path:
    (root / "camera.txt").write_text(camera)
    (root / "joints.csv").write_text(table)
    write_png16(_folder(root / "depths") / "a.png", scene().astype(np.uint16))
    (root / "train.txt").write_text("a.png")
    (root / "test.txt").write_text("a.png")
    return root


def test_your_own_hands_have_the_joints_of_the_table_and_the_cube_of_the_file(tmp_path):
    own_hands(tmp_path, "file,tip x,tip y,tip z,palm x,palm y,palm z\na.png,10,20,390,1,2,400\n")
    (tmp_path / "cube.txt").write_text("180")
    dataset = open_dataset("hand-folders", tmp_path, "test")
    sample = dataset.read(0)
    assert dataset.fields["joints"] == Joints(Skeleton(("tip", "palm"), (), ()))
    np.testing.assert_array_equal(sample["joints"], np.array([[10, 20, 390], [1, 2, 400]], np.float32))
    expected = cut_cube(scene(), CAMERA, np.array([1, 2, 400.0]), 180)
    np.testing.assert_array_equal(sample["depth"], expected["depth"])
    assert sample["cube"][3] == 180


def test_joints_of_a_known_skeleton_are_drawn_with_its_edges(tmp_path):
    dataset_class("hand-folders").write_example(tmp_path)
    field_type: Any = open_dataset("hand-folders", tmp_path).fields["joints"]
    assert field_type.skeleton.edges == skeletons.ICVL.edges


@pytest.mark.parametrize(
    ("table", "camera", "expected"),
    [
        ("file,palm x,palm y\n", "1 1 0 0", "three columns per joint"),
        ("name,palm x,palm y,palm z\n", "1 1 0 0", "a header 'file"),
        ("file,a x,a y,a z,a x,a y,a z\n", "1 1 0 0", "every joint once"),
        ("file,palm x,palm y,palm z\na.png,1,2\n", "1 1 0 0", "a file and 3 numbers"),
        ("file,palm x,palm y,palm z\na.png,1,2,nan\n", "1 1 0 0", "a file and 3 numbers"),
        ("file,palm x,palm y,palm z\na.png,1,2,-300\n", "1 1 0 0", "z above 0"),
        ("file,palm x,palm y,palm z\na.png,1,2,3\na.png,1,2,3\n", "1 1 0 0", "every file once"),
        ("file,palm x,palm y,palm z\nb.png,1,2,3\n", "1 1 0 0", "a line in joints.csv"),
        ("file,palm x,palm y,palm z\n../b.png,1,2,3\n", "0 1 0 0", "fx and fy above 0"),
        ("file,palm x,palm y,palm z\na.png,1,2,3\n", "1 1 0", "fx, fy, cx and cy"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path, table, camera, expected):
    problems = dataset_class("hand-folders").validate(own_hands(tmp_path, table, camera))
    assert any(expected in problem.expected for problem in problems), problems


@pytest.mark.parametrize("bits", [8, 0])
def test_depth_of_your_own_in_8_bits_or_without_a_measurement_is_named(tmp_path, bits):
    root = own_hands(tmp_path, "file,palm x,palm y,palm z\na.png,1,2,400\n")
    if bits == 8:
        write_image(root / "depths" / "a.png", np.full((240, 320), 90, np.uint8))
        expected = "16-bit gray PNG, found 8 bits"
    else:
        write_png16(root / "depths" / "a.png", np.zeros((240, 320), np.uint16))
        expected = "a depth from 10 to 1500 mm"
    with pytest.raises(DatasetError, match=expected):
        open_dataset("hand-folders", root).read(0)
