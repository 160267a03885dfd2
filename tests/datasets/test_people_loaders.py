"""Pose datasets: axes, flags and pixel origin of each format, and crops of people."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_dataset, check_samples
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.splits import is_test_sample
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.mat import read_mat, write_mat
from densevision.datasets.formats.tar import write_tar
from densevision.datasets.pose.mpii import EMPTY, FILE, example_points, example_release, structures
from densevision.datasets.pose.people import bounding_boxes, person_crop

NAMES = ("coco-people", "lsp", "lsp-extended", "lsp-observer", "mpii", "pose-folders")
GRAY = np.full((60, 80, 3), 90, np.uint8)


def example_of(name: str, root: Path) -> Path:
    dataset_class(name).write_example(root)
    return root


def labels(name: str, root: Path, split: str = "train") -> list[str]:
    dataset = open_dataset(name, root, split)
    return [dataset.sample_name(index) for index in range(len(dataset))]


@pytest.mark.parametrize("name", NAMES)
def test_every_pose_dataset_conforms_to_the_contract(name):
    check_dataset(dataset_class(name))


@pytest.mark.parametrize("name", NAMES)
def test_labeled_joints_are_on_their_dots_and_left_ones_on_red_dots(tmp_path, name):
    # An exchange of x and y, of left and right or of axes, or a wrong pixel origin, would miss the dots.
    example_of(name, tmp_path)
    for split in dataset_class(name).splits:
        dataset = open_dataset(name, tmp_path, split)
        names = dataset.fields["joints"].skeleton.names  # type: ignore[attr-defined]
        for index in range(len(dataset)):
            sample = dataset.read(index)
            for joint, (x, y, flag) in zip(names, sample["joints"], strict=True):
                if flag:
                    assert x == round(float(x)) and y == round(float(y))
                    column, row = int(x), int(y)
                    dot = sample["image"][row - 1 : row + 2, column - 1 : column + 2].reshape(-1, 3).mean(axis=0)
                    red, green, blue = dot
                    assert red > 200 and (max(green, blue) < 100 if "left" in joint else min(green, blue) > 200), joint
                else:
                    assert (x, y) == (0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_pickled_dataset_is_a_table_of_arrays(tmp_path, name):
    dataset = open_dataset(name, example_of(name, tmp_path))
    assert len(pickle.dumps(dataset)) < 20_000
    assert all(isinstance(value, np.ndarray) for value in vars(dataset)["_values"].values())


# --- The crop ----------------------------------------------------------------------------------------------------


def test_crop_of_a_person_of_150_px_is_about_that_of_the_authors():
    # facts 3.5: the box of the joints plus 20 px left and right, 10 px above and below, for a person of about 150 px.
    top, left, height, width = person_crop(np.array([100.0, 50, 139, 199]), (400, 400))
    assert (left, top) == (81, 31) and (width, height) == (78, 188)


def test_crop_of_a_square_box_is_a_quarter_larger():
    # facts 3.5, as Xiao et al.: scale * 1.25.
    assert person_crop(np.array([100.0, 100, 179, 179]), (400, 400)) == (90, 90, 100, 100)


@pytest.mark.parametrize(
    "box, expected",
    [
        ((-30.0, 10, 20, 50), (4, 0, 53, 27)),
        ((70.0, 50, 90, 70), (44, 64, 16, 16)),
        ((30.0, 30, 31, 30), (23, 23, 16, 16)),
        ((200.0, 20, 240, 30), (15, 64, 21, 16)),
        ((-90.0, -90, -80, -80), (0, 0, 16, 16)),
    ],
)
def test_crop_stays_in_the_image_and_has_at_least_16_pixels(box, expected):
    assert person_crop(np.array(box), (60, 80)) == expected


def test_image_smaller_than_the_minimum_crop_is_used_completely():
    assert person_crop(np.array([1.0, 1, 3, 3]), (6, 9)) == (0, 0, 6, 9)


def test_unlabeled_joints_do_not_affect_the_box():
    # trap of facts 3.5
    joints = np.array([[[3, 4, 2], [9, 7, 1], [-500, 900, 0]], [[1, 1, 0]] * 3], np.float32)
    np.testing.assert_array_equal(bounding_boxes(joints), [[3, 4, 9, 7], [np.nan] * 4])


# --- Leeds Sports Pose ------------------------------------------------------------------------------------------


def lsp(root: Path, name: str, joints: np.ndarray, flags: np.ndarray) -> None:
    """Images and a file of joints in the order of the official one; (N, 14, 2) positions, (N, 14) flags as stored."""
    every = np.concatenate([joints, flags[..., None]], axis=-1)
    stored = every.transpose(1, 2, 0) if name == "lsp-extended" else every.transpose(2, 1, 0)
    write_mat(root / ("jointsOC.mat" if name == "lsp-observer" else "joints.mat"), {"joints": stored})
    for number in range(len(joints)):
        write_image(root / f"images/im{number + 1:0{5 if name == 'lsp-extended' else 4}}.jpg", GRAY)


@pytest.mark.parametrize("name", ["lsp", "lsp-observer", "lsp-extended"])
def test_file_with_the_axes_of_the_other_dataset_is_refused(tmp_path, name):
    # facts 3.5: LSP 3 x 14 x 2000, LSPe 14 x 3 x 10000.
    example_of(name, tmp_path)
    file = next(tmp_path.glob("joints*.mat"))
    stored = read_mat(file)["joints"]
    assert stored.shape == ((14, 3, 24) if name == "lsp-extended" else (3, 14, 24))
    write_mat(file, {"joints": stored.transpose(1, 0, 2)})
    with pytest.raises(DatasetError, match=r"expected numbers 'joints' of \d+ x \d+ x images, found \d+x\d+x24 float"):
        open_dataset(name, tmp_path)


@pytest.mark.parametrize("name", ["lsp", "lsp-observer"])
def test_lsp_flag_is_occluded_and_all_joints_are_labeled(tmp_path, name):
    # facts 3.5: the third row is 1 where occluded.
    places = np.random.default_rng(0).uniform(10, 50, (2, 14, 2))
    flags = np.zeros((2, 14))
    flags[0, [2, 5]] = 1
    lsp(tmp_path, name, places, flags)
    found = open_dataset(name, tmp_path).read(0)["joints"][:, 2]
    np.testing.assert_array_equal(found, np.where(flags[0] == 1, 1, 2))


def test_lsp_extended_flag_is_visible_and_others_are_unlabeled(tmp_path):
    # facts 3.5: the third column is 1 where visible, 0 where not labeled.
    places = np.random.default_rng(0).uniform(10, 50, (2, 14, 2))
    flags = np.ones((2, 14))
    flags[0, [2, 5]] = 0
    lsp(tmp_path, "lsp-extended", places, flags)
    found = open_dataset("lsp-extended", tmp_path).read(0)["joints"]
    np.testing.assert_array_equal(found[:, 2], np.where(flags[0] == 1, 2, 0))


def test_coordinates_of_unlabeled_joints_of_lsp_extended_are_ignored(tmp_path):
    places = np.random.default_rng(0).uniform(10, 50, (1, 14, 2))
    flags = np.ones((1, 14))
    flags[0, 4] = 0
    samples = []
    for where in (0.0, -900.0, 79.0, np.nan):
        places[0, 4] = where
        lsp(tmp_path, "lsp-extended", places, flags)
        samples.append(open_dataset("lsp-extended", tmp_path).read(0))
    for sample in samples[1:]:
        for field, value in sample.items():
            np.testing.assert_array_equal(value, samples[0][field])


def test_joints_are_relative_to_the_corner_of_the_crop(tmp_path):
    places = np.random.default_rng(0).uniform(10, 50, (2, 14, 2))
    lsp(tmp_path, "lsp", places, np.zeros((2, 14)))
    sample = open_dataset("lsp", tmp_path).read(0)
    box = np.concatenate([places[0].min(0), places[0].max(0)])
    top, left, height, width = person_crop(box, (60, 80))
    assert sample["image"].shape == (height, width, 3) and (height, width) != (60, 80)
    np.testing.assert_allclose(sample["joints"][:, :2], places[0] - (left, top), atol=1e-5)
    np.testing.assert_allclose(sample["box"], box - (left, top, left, top), atol=1e-5)


def test_complete_images_have_joints_and_boxes_in_their_own_pixels(tmp_path):
    places = np.random.default_rng(0).uniform(10, 50, (2, 14, 2))
    lsp(tmp_path, "lsp", places, np.zeros((2, 14)))
    dataset = open_dataset("lsp", tmp_path)
    sample = dataset.complete_images().read(0)  # type: ignore[attr-defined]
    assert sample["image"].shape == (60, 80, 3) and dataset.read(0)["image"].shape != (60, 80, 3)
    np.testing.assert_allclose(sample["joints"][:, :2], places[0], atol=1e-5)
    np.testing.assert_allclose(sample["box"], [*places[0].min(0), *places[0].max(0)], atol=1e-5)


def test_the_first_1000_of_lsp_train_and_the_last_1000_test(tmp_path):
    # facts 3.5: images/im0001.jpg..im2000.jpg; first 1000 train, last 1000 test.
    (tmp_path / "images").mkdir()
    write_mat(tmp_path / "joints.mat", {"joints": np.ones((3, 14, 2000))})
    assert labels("lsp", tmp_path) == [f"images/im{number:04}.jpg" for number in range(1, 1001)]
    assert labels("lsp", tmp_path, "test") == [f"images/im{number:04}.jpg" for number in range(1001, 2001)]


def test_lsp_extended_uses_one_in_ten_for_testing(tmp_path):
    # facts 3.5: images/im00001.jpg..im10000.jpg (5 digits); training only.
    (tmp_path / "images").mkdir()
    write_mat(tmp_path / "joints.mat", {"joints": np.ones((14, 3, 10000))})
    train, test = labels("lsp-extended", tmp_path), labels("lsp-extended", tmp_path, "test")
    assert sorted(train + test) == [f"images/im{number:05}.jpg" for number in range(1, 10001)]
    assert 900 < len(test) < 1100 and all(is_test_sample(Path(name).stem) for name in test)


@pytest.mark.parametrize("name, digits", [("lsp", 4), ("lsp-extended", 5)])
def test_lists_override_the_split_of_lsp(tmp_path, name, digits):
    example_of(name, tmp_path)
    (tmp_path / "train.txt").write_text(f"im{20:0{digits}}\nim{3:0{digits}}.jpg\n")
    (tmp_path / "test.txt").write_text(f"im{1:0{digits}}\n")
    assert labels(name, tmp_path) == [f"images/im{number:0{digits}}.jpg" for number in (3, 20)]
    assert labels(name, tmp_path, "test") == [f"images/im{1:0{digits}}.jpg"]
    (tmp_path / "test.txt").write_text("im7\n")
    with pytest.raises(DatasetError, match=r"test.txt: expected names from im0+1 to im0+24, found 'im7'\."):
        open_dataset(name, tmp_path, "test")
    (tmp_path / "test.txt").unlink()
    with pytest.raises(DatasetError, match=r"test.txt: expected the name of an image per line, found no file"):
        open_dataset(name, tmp_path, "test")


def test_observer_centric_joints_are_read_from_the_distributed_folder(tmp_path):
    example_of("lsp", tmp_path)
    with pytest.raises(DatasetError, match=r"jointsOC.mat: expected"):
        open_dataset("lsp-observer", tmp_path)
    stored = read_mat(tmp_path / "joints.mat")["joints"]
    write_mat(tmp_path / "lsp_observer_centric/jointsOC.mat", {"joints": stored[:, ::-1]})
    own, observers = (open_dataset(name, tmp_path).read(0)["joints"] for name in ("lsp", "lsp-observer"))
    np.testing.assert_array_equal(observers, own[::-1])


def test_images_of_lsp_are_read_from_a_tar_and_missing_ones_reported(tmp_path):
    example_of("lsp-extended", tmp_path)
    expected = [open_dataset("lsp-extended", tmp_path).read(index) for index in range(21)]
    files = [(f"images/{file.name}", file.read_bytes()) for file in sorted((tmp_path / "images").iterdir())]
    shutil.rmtree(tmp_path / "images")
    write_tar(tmp_path / "images.tar", files)
    assert dataset_class("lsp-extended").validate(tmp_path) == []
    dataset = open_dataset("lsp-extended", tmp_path)
    assert dataset.sample_name(0) == "images.tar/images/im00001.jpg" and len(dataset) == 21
    for index, sample in enumerate(expected):
        np.testing.assert_array_equal(dataset.read(index)["joints"], sample["joints"])
        np.testing.assert_array_equal(dataset.read(index)["image"], sample["image"])
    write_tar(tmp_path / "images.tar", files[1:])
    problems = dataset_class("lsp-extended").validate(tmp_path)
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/images.tar/images/im00001.jpg: expected an image, found none."
    ]


def test_image_of_lsp_extended_without_labeled_joints_is_omitted(tmp_path):
    flags = np.ones((3, 14))
    flags[1] = 0
    lsp(tmp_path, "lsp-extended", np.full((3, 14, 2), 30.0), flags)
    (tmp_path / "train.txt").write_text("im00001\nim00002\n")
    (tmp_path / "test.txt").write_text("im00002\n")
    assert labels("lsp-extended", tmp_path) == ["images/im00001.jpg"]
    with pytest.raises(DatasetError, match="expected labeled images for 'test', found none"):
        open_dataset("lsp-extended", tmp_path, "test")


@pytest.mark.parametrize(
    "variables, found",
    [
        ({"points": np.ones((3, 14, 5))}, "found none"),
        ({"joints": np.array("joints")}, "found 1 <U6"),
        ({"joints": np.full((3, 14, 5), 2.0)}, "0 or 1 as the flag of every joint, found 2"),
    ],
)
def test_other_file_than_that_of_lsp_is_refused(tmp_path, variables, found):
    write_mat(tmp_path / "joints.mat", variables)
    with pytest.raises(DatasetError, match=found):
        open_dataset("lsp", tmp_path)


# --- MPII -------------------------------------------------------------------------------------------------------

PLACES = np.stack([np.arange(16) * 3 + 10, np.arange(16) + 20], axis=1).astype(float)
HEAD = {"x1": 20.0, "y1": 11.0, "x2": 30.0, "y2": 21.0}
STANDS = {"scale": 0.2, "objpos": structures([{"x": 41.0, "y": 31.0}])}
SEEN = {"annopoints": example_points(PLACES, ["1"] * 16)}


def mpii(root: Path, *frames: tuple[str, bool, list[dict]]) -> Path:
    """Write these frames, and one more for validation."""
    frames = (*frames, ("val.jpg", True, [HEAD | STANDS | SEEN]))
    write_mat(root / FILE, {"RELEASE": example_release(frames)})
    for name, _, _ in frames:
        write_image(root / "images" / name, GRAY)
    (root / "val.txt").write_text("val\n")
    return root


def test_visibility_in_mpii_may_be_text_a_number_or_empty(tmp_path):
    # trap of facts 3.5: is_visible may be a char, a number or an empty array.
    visible = ["1", "0", 1, 0, np.uint8(1), np.uint8(0), EMPTY, None, *["1"] * 8]
    mpii(tmp_path, ("a.jpg", True, [HEAD | STANDS | {"annopoints": example_points(PLACES, visible)}]))
    flags = open_dataset("mpii", tmp_path).read(0)["joints"][:, 2]
    np.testing.assert_array_equal(flags, [2, 1, 2, 1, 2, 1, 2, 0] + [2] * 8)


def test_joints_of_mpii_without_visibility_are_visible(tmp_path):
    stored = structures([{"point": structures([{"x": 30.0, "y": 20.0, "id": 9}, {"x": 31.0, "y": 29.0, "id": 8}])}])
    mpii(tmp_path, ("a.jpg", True, [HEAD | STANDS | {"annopoints": stored}]))
    flags = open_dataset("mpii", tmp_path).read(0)["joints"][:, 2]
    np.testing.assert_array_equal(np.flatnonzero(flags == 2), [8, 9])


def test_mpii_pixels_are_counted_from_1_and_in_samples_from_0(tmp_path):
    # facts 3.5: 1-based pixels.
    mpii(tmp_path, ("a.jpg", True, [HEAD | STANDS | SEEN]))
    sample = open_dataset("mpii", tmp_path).read(0)
    # facts 3.5: center y + 15 * scale, 200 px times the scale, enlarged by 1.25, - 1 for 0-based: (40, 33), 40 x 40.
    corner = np.array((16, 9))
    assert sample["image"].shape == (50, 50, 3)
    np.testing.assert_allclose(sample["box"] + (*corner, *corner), [20.5, 13.5, 59.5, 52.5])
    np.testing.assert_allclose(sample["joints"][:, :2] + corner, PLACES)
    np.testing.assert_allclose(sample["head"] + (*corner, *corner), [19, 10, 29, 20])


def test_numbers_that_matlab_packed_into_bytes_do_not_wrap_around(tmp_path):
    stored = structures([{"point": structures([{"x": np.uint8(0), "y": np.uint8(255), "id": np.uint8(3)}])}])
    packed = {key: np.uint8(value) for key, value in HEAD.items()} | {"x1": np.uint8(0), "scale": np.uint8(2)}
    place = structures([{"x": np.uint8(40), "y": np.uint8(250)}])
    mpii(tmp_path, ("a.jpg", True, [packed | {"objpos": place, "annopoints": stored}]))
    values = vars(open_dataset("mpii", tmp_path))["_values"]
    np.testing.assert_array_equal(values["joints"][0, 3], [-1, 254, 2])
    np.testing.assert_array_equal(values["head"][0], [-1, 10, 29, 20])
    np.testing.assert_array_equal(values["box"][0], [39 - 199.5, 279 - 199.5, 39 + 199.5, 279 + 199.5])


def test_incomplete_people_of_mpii_are_omitted(tmp_path):
    # trap of facts 3.5: persons without annopoints exist.
    nobody = {"annopoints": structures([{"point": EMPTY}])}
    whole = HEAD | STANDS | SEEN
    mpii(
        tmp_path,
        ("a.jpg", True, [HEAD, whole, HEAD | SEEN, STANDS | SEEN, HEAD | STANDS | nobody, whole]),
        ("c.jpg", True, [HEAD | STANDS]),
        ("d.jpg", True, []),
        ("e.jpg", True, [whole]),
    )
    assert labels("mpii", tmp_path) == ["images/a.jpg", "images/a.jpg person 2", "images/e.jpg"]


def test_test_frames_of_mpii_are_in_no_split(tmp_path):
    # facts 3.5: img_train; the test frames' joints are not published.
    someone = [HEAD | STANDS | SEEN]
    mpii(tmp_path, ("a.jpg", True, someone), ("c.jpg", False, someone))
    assert labels("mpii", tmp_path) == ["images/a.jpg"]
    assert labels("mpii", tmp_path, "val") == ["images/val.jpg"]
    (tmp_path / "val.txt").write_text("a.jpg\nc\n")
    with pytest.raises(DatasetError, match=r"val.txt: expected names of training frames, found 'c'\."):
        open_dataset("mpii", tmp_path, "val")


def test_mpii_without_a_list_splits_by_complete_frames(tmp_path):
    pair = [HEAD | STANDS | SEEN] * 2
    mpii(tmp_path, *((f"{number:09}.jpg", True, pair) for number in range(40)))
    (tmp_path / "val.txt").unlink()
    train, val = labels("mpii", tmp_path), labels("mpii", tmp_path, "val")
    assert len(train) + len(val) == 81 and val
    frames = {label.split()[0] for label in val}
    assert all(is_test_sample(Path(frame).stem) for frame in frames)
    assert frames.isdisjoint(label.split()[0] for label in train)


def test_mpii_is_read_from_the_distributed_folder(tmp_path):
    example_of("mpii", tmp_path)
    expected = labels("mpii", tmp_path)
    (tmp_path / "mpii_human_pose_v1_u12_2").mkdir()
    (tmp_path / FILE).rename(tmp_path / "mpii_human_pose_v1_u12_2" / FILE)
    assert labels("mpii", tmp_path) == expected


def test_damaged_frame_of_mpii_is_reported_and_the_others_open(tmp_path):
    wrong = {"annopoints": structures([{"point": structures([{"x": 1.0, "y": 1.0, "id": 16}])}])}
    whole = HEAD | STANDS | SEEN
    mpii(tmp_path, ("a.jpg", True, [whole]), ("c.jpg", True, [HEAD | STANDS | wrong]))
    problems = dataset_class("mpii").validate(tmp_path)
    assert [problem.file for problem in problems] == [f"{tmp_path / FILE} c.jpg"]
    write_mat(tmp_path / FILE, {"ANNOTATIONS": np.ones(3)})
    with pytest.raises(DatasetError, match=r"expected 'RELEASE' with 'annolist' and 'img_train' of one length, found"):
        open_dataset("mpii", tmp_path)


# --- Real samples -----------------------------------------------------------------------------------------------


def test_real_sample_of_lsp_extended_is_as_documented(shared_data):
    root = shared_data / "lsp_extended"
    assert dataset_class("lsp-extended").validate(root) == []
    train, test = (open_dataset("lsp-extended", root, split) for split in ("train", "test"))
    # Its readme: train im00001..im00900, test im00901..im01050; hips and shoulders visible, 10 of 14 joints at least.
    assert (len(train), len(test)) == (900, 150)
    assert train.sample_name(899).endswith("images/im00900.jpg") and test.sample_name(0).endswith("images/im00901.jpg")
    flags = np.stack(
        [dataset.read(index)["joints"][:, 2] for dataset in (train, test) for index in range(len(dataset))]
    )
    assert set(np.unique(flags)) == {0, 2}
    assert (flags[:, [2, 3, 8, 9]] == 2).all() and ((flags > 0).sum(axis=1) >= 10).all()
    # Measured with scipy.io.loadmat on the file itself: 14,061 of 14,700 flags are 1.
    assert (flags > 0).sum() == 14_061
    check_samples(test, [0, 75, 149])


def test_oracle_of_the_real_sample_has_the_documented_score(shared_data):
    # Its readme: the mean train pose placed with the true centroid and size has PCK@0.2 of 0.050 on the test images,
    # the torso being the mean of its two diagonals. Any mistake in axes, flags or crops gives another score.
    joints = {}
    for split in ("train", "test"):
        dataset = open_dataset("lsp-extended", shared_data / "lsp_extended", split)
        values = np.stack([dataset.read(index)["joints"] for index in range(len(dataset))]).astype(np.float64)
        joints[split] = np.where(values[..., 2:] > 0, values[..., :2], np.nan)

    def placed(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        center = np.nanmean(places, axis=1, keepdims=True)
        return center, np.sqrt(np.nanmean((places - center) ** 2, axis=(1, 2), keepdims=True))

    center, size = placed(joints["train"])
    mean = np.nanmean((joints["train"] - center) / size, axis=0)
    test = joints["test"]
    center, size = placed(test)
    error = np.linalg.norm(mean * size + center - test, axis=-1)
    torso = (np.linalg.norm(test[:, 8] - test[:, 3], axis=-1) + np.linalg.norm(test[:, 9] - test[:, 2], axis=-1)) / 2
    known = np.isfinite(error)
    assert (error <= 0.2 * torso[:, None])[known].mean() == pytest.approx(0.050, abs=0.0005)
