"""Flow datasets: official layouts, direction of the flow, missing files."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_dataset, check_samples
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.splits import is_test_sample
from densevision.datasets.examples import fake_flow_sequence
from densevision.datasets.formats.flow import read_flow, write_flow
from densevision.datasets.formats.image import read_image, write_image

NAMES = (
    "flow-folders",
    "flying-chairs",
    "flying-things-clean",
    "flying-things-final",
    "kitti-flow-2012",
    "kitti-flow-2015",
    "middlebury-flow",
    "sintel-clean",
    "sintel-final",
)
SEQUENCE = fake_flow_sequence(0)


def example_of(name: str, root: Path) -> Path:
    dataset_class(name).write_example(root)
    return root


def labels(name: str, root: Path, split: str = "train") -> list[str]:
    dataset = open_dataset(name, root, split)
    return [dataset.sample_name(index) for index in range(len(dataset))]


@pytest.mark.parametrize("name", NAMES)
def test_every_flow_dataset_conforms_to_the_contract(name):
    check_dataset(dataset_class(name))


@pytest.mark.parametrize("name", NAMES)
def test_flow_matches_the_pixels_of_both_images(tmp_path, name):
    example_of(name, tmp_path)
    for split in dataset_class(name).splits:
        dataset = open_dataset(name, tmp_path, split)
        for index in range(len(dataset)):
            sample = dataset.read(index)
            height, width = sample["flow"].shape[:2]
            known = np.isfinite(sample["flow"]).all(axis=-1)
            rows, columns = np.nonzero(known)
            x, y = (sample["flow"][rows, columns] + np.stack([columns, rows], axis=-1)).astype(int).T
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            assert inside.mean() > 0.7 and np.abs(sample["flow"][known]).min() >= 1
            seen = sample["second"][y[inside], x[inside]]
            np.testing.assert_array_equal(seen, sample["first"][rows[inside], columns[inside]])
            if "visible" in sample:
                np.testing.assert_array_equal(sample["visible"][rows, columns], inside)
        assert dataset.fields.keys() == dataset.read(0).keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["second", "flow"])
def test_file_of_another_size_than_the_first_image_is_refused(tmp_path, name, part):
    example_of(name, tmp_path)
    dataset = open_dataset(name, tmp_path)
    file = tmp_path / getattr(dataset.pair(0), part)  # type: ignore[attr-defined]
    height, width = dataset.read(0)["first"].shape[:2]
    if part == "second":
        write_image(file, read_image(file)[:-1])
    else:
        write_flow(file, read_flow(file)[:-1])
    with pytest.raises(DatasetError) as error_info:
        dataset.read(0)
    assert error_info.value.problem.file == str(file)
    assert str(error_info.value).endswith(f"the size of the first image, {width}x{height}, found {width}x{height - 1}.")


# --- FlyingChairs -----------------------------------------------------------------------------------------------


def chairs(folder: Path, numbers: list[int], images: str = ".ppm", flow: str = ".flo") -> None:
    for number in numbers:
        for part, frame in zip(("img1", "img2"), SEQUENCE.frames, strict=True):
            write_image(folder / f"{number:05}_{part}{images}", frame)
        write_flow(folder / f"{number:05}_flow{flow}", SEQUENCE.flow)


@pytest.mark.parametrize(
    "list_name", ["FlyingChairs_train_val.txt", "FlyingChairs_release_test_train_split.list", "split.txt"]
)
@pytest.mark.parametrize("root, list_folder", [("", "FlyingChairs_release"), ("", ""), ("FlyingChairs_release", "")])
def test_chairs_open_with_any_list_name_from_the_release_or_its_parent(tmp_path, list_name, root, list_folder):
    chairs(tmp_path / "FlyingChairs_release" / "data", [1, 2, 3])
    (tmp_path / root / list_folder / list_name).write_text("1\n2\n1\n")
    within = "" if root else "FlyingChairs_release/"
    expected = [f"{within}data/0000{number}_flow.flo" for number in (1, 2, 3)]
    # facts 3.3: 1 = train, 2 = val.
    assert labels("flying-chairs", tmp_path / root) == [expected[0], expected[2]]
    assert labels("flying-chairs", tmp_path / root, "val") == [expected[1]]
    assert labels("flying-chairs", tmp_path / root, "all") == [f"{label} of all" for label in expected]


def test_chairs_are_evaluated_on_the_validation_pairs_by_default():
    assert dataset_class("flying-chairs").splits == ("train", "all", "val")


def test_chairs_may_be_png_and_npz(tmp_path):
    chairs(tmp_path / "data", [1, 2], ".png", ".npz")
    chairs(tmp_path / "data", [10])
    (tmp_path / "split.txt").write_text("1\n2\n2\n")
    assert labels("flying-chairs", tmp_path, "val") == ["data/00002_flow.npz", "data/00010_flow.flo"]
    np.testing.assert_array_equal(open_dataset("flying-chairs", tmp_path).read(0)["flow"], SEQUENCE.flow)
    assert dataset_class("flying-chairs").validate(tmp_path) == []


def test_list_of_another_length_than_the_pairs_is_refused(tmp_path):
    chairs(tmp_path / "data", [1, 2, 3])
    (tmp_path / "split.txt").write_text("1\n2\n")
    with pytest.raises(DatasetError, match=r"split.txt: expected a line for each of the 3 pairs in data, found 2\."):
        open_dataset("flying-chairs", tmp_path)


def test_chairs_without_list_or_with_unknown_code_are_refused(tmp_path):
    chairs(tmp_path / "data", [1, 2])
    with pytest.raises(
        DatasetError, match=r"FlyingChairs_train_val.txt: expected a line for each pair, 1 for training"
    ):
        open_dataset("flying-chairs", tmp_path)
    (tmp_path / "split.txt").write_text("1\n0\n")
    with pytest.raises(DatasetError, match=r"split.txt line 2: expected 1 \(training\) or 2 \(validation\), found '0'"):
        open_dataset("flying-chairs", tmp_path)


def test_one_damaged_pair_of_chairs_is_one_problem(tmp_path):
    example_of("flying-chairs", tmp_path)
    (tmp_path / "FlyingChairs_release/data/00003_img2.ppm").unlink()
    write_flow(tmp_path / "FlyingChairs_release/data/00001_flow.flo", SEQUENCE.flow[:-1])
    problems = dataset_class("flying-chairs").validate(tmp_path)
    assert [(Path(problem.file).name, problem.found) for problem in problems] == [
        ("00001_flow.flo", "64x47"),
        ("00003_img2.ppm", "no file"),
    ]


# --- FlyingThings3D ---------------------------------------------------------------------------------------------


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def test_ten_frames_of_flying_things_give_eighteen_pairs(tmp_path):
    # facts 3.3: 40,302 pairs per pass = 2,239 sequences x 18; into_past pairs frame i+1 -> i; only the left camera.
    for number in range(6, 16):
        touch(
            tmp_path,
            *(f"frames_cleanpass/TRAIN/A/0000/{side}/{number:04}.png" for side in ("left", "right")),
            f"optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_{number:04}_L.pfm",
            f"optical_flow/TRAIN/A/0000/into_past/left/OpticalFlowIntoPast_{number:04}_L.pfm",
            f"optical_flow/TRAIN/A/0000/into_past/right/OpticalFlowIntoPast_{number:04}_R.pfm",
        )
    dataset = dataset_class("flying-things-clean")(tmp_path, "train")
    assert len(dataset) == 18 and 40_302 == 2_239 * 18
    pairs = [dataset.pair(index) for index in range(18)]  # type: ignore[attr-defined]
    image, flow = "frames_cleanpass/TRAIN/A/0000/left", "optical_flow/TRAIN/A/0000"
    future, past = f"{flow}/into_future/left/OpticalFlowIntoFuture", f"{flow}/into_past/left/OpticalFlowIntoPast"
    assert pairs[0][:3] == (f"{image}/0006.png", f"{image}/0007.png", f"{future}_0006_L.pfm")
    assert pairs[8][:3] == (f"{image}/0014.png", f"{image}/0015.png", f"{future}_0014_L.pfm")
    assert pairs[9][:3] == (f"{image}/0007.png", f"{image}/0006.png", f"{past}_0007_L.pfm")
    assert pairs[17][:3] == (f"{image}/0015.png", f"{image}/0014.png", f"{past}_0015_L.pfm")


def test_both_passes_of_flying_things_share_their_flow(tmp_path):
    for name in ("flying-things-clean", "flying-things-final"):
        example_of(name, tmp_path)
    clean, final = (open_dataset(f"flying-things-{rendering}", tmp_path, "test") for rendering in ("clean", "final"))
    assert clean.sample_name(0) == final.sample_name(0)
    write_image(tmp_path / "frames_finalpass/TEST/A/0000/left/0006.png", np.zeros((48, 64, 3), np.uint8))
    assert not final.read(0)["first"].any() and clean.read(0)["first"].any()


def test_missing_frame_of_a_sequence_is_reported_and_not_skipped(tmp_path):
    for file in [*example_of("flying-things-clean", tmp_path).rglob("*0007*")]:
        if "TRAIN" in file.parts:
            file.unlink()
    problems = {Path(problem.file).name for problem in dataset_class("flying-things-clean").validate(tmp_path)}
    assert "0007.png" in problems and len(open_dataset("flying-things-clean", tmp_path)) == 4


# --- Sintel -----------------------------------------------------------------------------------------------------


def test_sintel_pairs_are_within_a_scene(tmp_path):
    example_of("sintel-final", tmp_path)
    expected = [
        f"training/flow/{scene}/frame_000{number}.flo" for scene in ("alley_1", "market_2") for number in (1, 2)
    ]
    assert labels("sintel-final", tmp_path) == expected


def test_sintel_occlusions_are_white_and_invalid_pixels_unknown(tmp_path):
    example_of("sintel-clean", tmp_path)
    occluded = np.zeros((48, 64), np.uint8)
    occluded[10, 20] = 255
    write_image(tmp_path / "training/occlusions/alley_1/frame_0001.png", occluded)
    invalid = np.zeros((48, 64), np.uint8)
    invalid[5, 7] = 255
    write_image(tmp_path / "training/invalid/alley_1/frame_0001.png", invalid)
    sample = open_dataset("sintel-clean", tmp_path).read(0)
    np.testing.assert_array_equal(np.argwhere(~sample["visible"]), [[10, 20]])
    np.testing.assert_array_equal(np.argwhere(np.isnan(sample["flow"][..., 0])), [[5, 7]])


@pytest.mark.parametrize(
    "lost",
    ["clean/alley_1/frame_0002.png", "flow/alley_1/frame_0001.flo", "clean/alley_1/frame_0003.png"]
    + [f"{folder}/market_2/frame_0002.png" for folder in ("occlusions", "invalid")],
)
def test_missing_file_of_sintel_is_reported(tmp_path, lost):
    (example_of("sintel-clean", tmp_path) / "training" / lost).unlink()
    (problem,) = dataset_class("sintel-clean").validate(tmp_path)
    assert problem.file.endswith(lost) and problem.found == "no file"


@pytest.mark.parametrize("folder", ["occlusions", "invalid"])
def test_sintel_masks_must_have_the_size_of_the_images(tmp_path, folder):
    file = example_of("sintel-clean", tmp_path) / "training" / folder / "alley_1" / "frame_0001.png"
    write_image(file, np.zeros((47, 64), np.uint8))
    with pytest.raises(DatasetError, match=rf"{folder}.*image, 64x48, found 64x47"):
        open_dataset("sintel-clean", tmp_path).read(0)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("sintel", "kitti", "middlebury"))])
def test_datasets_without_public_test_flow_have_one_split(name):
    assert dataset_class(name).splits == ("train",)


# --- KITTI ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, images", [("kitti-flow-2012", "colored_0"), ("kitti-flow-2015", "image_2")])
def test_kitti_ground_truth_is_flow_occ_and_flow_noc_is_visible(tmp_path, name, images):
    # facts 3.3: training/{colored_0 | image_2, flow_noc, flow_occ}/000000_10.png (+ _11 images).
    training = tmp_path / "training"
    for number, frame in zip((10, 11), SEQUENCE.frames, strict=True):
        write_image(training / images / f"000003_{number}.png", frame)
    flow = np.full((48, 64, 2), np.nan, np.float32)
    flow[20, 30] = 1.5, -2.25
    write_flow(training / "flow_noc/000003_10.png", flow)
    flow[40, 50] = -60, 0
    write_flow(training / "flow_occ/000003_10.png", flow)
    dataset = open_dataset(name, tmp_path)
    assert len(dataset) == 1 and dataset.sample_name(0) == "training/flow_occ/000003_10.png"
    sample = dataset.read(0)
    np.testing.assert_array_equal(sample["flow"], flow)
    np.testing.assert_array_equal(np.argwhere(sample["visible"]), [[20, 30]])
    np.testing.assert_array_equal(sample["second"], SEQUENCE.frames[1])


def test_8_bit_copy_of_kitti_flow_is_reported(tmp_path):
    file = example_of("kitti-flow-2015", tmp_path) / "training/flow_noc/000001_10.png"
    write_image(file, np.zeros((48, 160, 3), np.uint8))
    (problem,) = dataset_class("kitti-flow-2015").validate(tmp_path)
    assert problem.file == str(file) and problem.found == "8 bits, 3 channel(s)"


@pytest.mark.parametrize("lost", ["image_2/000000_11.png", "image_2/000000_10.png", "flow_noc/000001_10.png"])
def test_missing_file_of_kitti_is_reported(tmp_path, lost):
    (example_of("kitti-flow-2015", tmp_path) / "training" / lost).unlink()
    (problem,) = dataset_class("kitti-flow-2015").validate(tmp_path)
    assert problem.file.endswith(lost)


# --- Middlebury -------------------------------------------------------------------------------------------------


def test_middlebury_scenes_without_flow_are_ignored_and_missing_images_reported(tmp_path):
    example_of("middlebury-flow", tmp_path)
    for number in (10, 11):
        write_image(tmp_path / "other-data" / "Beanbags" / f"frame{number}.png", SEQUENCE.frames[0])
    assert labels("middlebury-flow", tmp_path) == [f"other-gt-flow/{name}/flow10.flo" for name in ("Grove2", "Venus")]
    (tmp_path / "other-data/Venus/frame11.png").unlink()
    (problem,) = dataset_class("middlebury-flow").validate(tmp_path)
    assert problem.file.endswith("other-data/Venus/frame11.png")


def test_middlebury_flow_may_be_an_npz(tmp_path):
    folder = example_of("middlebury-flow", tmp_path) / "other-gt-flow" / "Venus"
    expected = open_dataset("middlebury-flow", tmp_path).read(1)["flow"]
    write_flow(folder / "flow10.npz", expected)
    (folder / "flow10.flo").unlink()
    dataset = open_dataset("middlebury-flow", tmp_path)
    assert dataset.sample_name(1).endswith("Venus/flow10.npz")
    np.testing.assert_array_equal(dataset.read(1)["flow"], expected)


# --- folders of frames ------------------------------------------------------------------------------------------


def walk(folder: Path, frames: list[str], suffix: str = ".flo") -> None:
    """Write frames, with a flow file for each but the last."""
    for place, name in enumerate(frames):
        write_image(folder / f"{name}.jpg", SEQUENCE.frames[place % 2])
        if place < len(frames) - 1:
            write_flow(folder / f"{name}{suffix}", SEQUENCE.flow)


@pytest.mark.parametrize("suffix", [".flo", ".npz", ".pfm"])
def test_frames_are_paired_in_natural_order_and_the_last_needs_no_flow(tmp_path, suffix):
    walk(tmp_path / "train" / "a", ["f8", "f9", "f10"], suffix)
    walk(tmp_path / "test", ["1", "2"], suffix)
    train = open_dataset("flow-folders", tmp_path)
    pairs = [train.pair(index)[:3] for index in range(len(train))]  # type: ignore[attr-defined]
    assert pairs == [
        ("train/a/f8.jpg", "train/a/f9.jpg", f"train/a/f8{suffix}"),
        ("train/a/f9.jpg", "train/a/f10.jpg", f"train/a/f9{suffix}"),
    ]
    assert labels("flow-folders", tmp_path, "test") == [f"test/1{suffix}"]
    assert dataset_class("flow-folders").validate(tmp_path) == []


@pytest.mark.parametrize(
    "lost, named",
    [
        ("2.jpg", "train/2.png"),
        ("1.flo", "train/1.flo"),
        ("3.jpg", "train/the frame after 2.jpg"),
        ("1.jpg", "train/1.png"),
    ],
)
def test_missing_frame_or_flow_of_a_sequence_is_reported(tmp_path, lost, named):
    walk(tmp_path / "train", ["1", "2", "3"])
    walk(tmp_path / "test", ["1", "2"])
    (tmp_path / "train" / lost).unlink()
    problems = dataset_class("flow-folders").validate(tmp_path)
    assert {problem.file for problem in problems} == {str(tmp_path / named)}


def test_complete_sequences_are_for_testing(tmp_path):
    names = [f"walk-{number}" for number in range(30)]
    for name in names:
        touch(tmp_path, *(f"{name}/{file}" for file in ("1.jpg", "1.flo", "2.jpg", "2.flo", "3.jpg")))
    held = {label.split("/")[0] for label in labels("flow-folders", tmp_path, "test")}
    trained = {label.split("/")[0] for label in labels("flow-folders", tmp_path)}
    assert held == {name for name in names if is_test_sample(name)} and held | trained == set(names)
    assert held and not held & trained
    assert len(labels("flow-folders", tmp_path, "test")) == 2 * len(held)


def test_frames_in_the_root_are_split_one_by_one(tmp_path):
    numbers = [f"{number:03}" for number in range(60)]
    touch(tmp_path, *(f"{name}.jpg" for name in numbers), *(f"{name}.flo" for name in numbers[:-1]))
    held, trained = (labels("flow-folders", tmp_path, split) for split in ("test", "train"))
    assert held == [f"{name}.flo" for name in numbers[:-1] if is_test_sample(name)]
    assert len(held) + len(trained) == 59


def test_too_few_sequences_for_a_test_split_is_an_error_with_a_hint(tmp_path):
    walk(tmp_path / "walk", ["1", "2", "3"])
    assert not is_test_sample("walk")
    with pytest.raises(
        DatasetError, match=r"pairs for 'test', or folders train/ and test/ to separate the splits, found 2"
    ):
        open_dataset("flow-folders", tmp_path, "test")


def test_folders_without_flow_and_hidden_ones_are_ignored(tmp_path):
    walk(tmp_path / "train" / "walk", ["1", "2"])
    write_image(tmp_path / "train" / "stills" / "a.jpg", SEQUENCE.frames[0])
    walk(tmp_path / "train" / ".trash", ["1", "2"])
    assert labels("flow-folders", tmp_path) == ["train/walk/1.flo"]
    write_image(tmp_path / "train" / "walk" / "1.png", SEQUENCE.frames[0])
    with pytest.raises(DatasetError, match=r"1\.png: expected one file of each name, found also '1\.jpg'"):
        open_dataset("flow-folders", tmp_path)


# --- all datasets ---------------------------------------------------------------------------------------------


def test_file_table_of_a_full_release_is_small(tmp_path):
    # facts 3.3: 22,872 pairs.
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(1, 201):
        touch(folder, f"{number:05}_img1.ppm", f"{number:05}_img2.ppm", f"{number:05}_flow.flo")
    (tmp_path / "split.txt").write_text("1\n" * 200)
    assert len(pickle.dumps(open_dataset("flying-chairs", tmp_path))) / 200 * 22_872 < 3e6


# --- the real samples -------------------------------------------------------------------------------------------


def zero_flow_error(flow: np.ndarray) -> float:
    return float(np.nanmean(np.hypot(flow[..., 0], flow[..., 1])))


def photometric_ratio(sample: dict[str, np.ndarray]) -> float:
    """Mean |first - warped second| over |first - second|, gray, where the flow ends inside the image."""
    first, second = (cv2.cvtColor(sample[name], cv2.COLOR_RGB2GRAY).astype(np.float32) for name in ("first", "second"))
    height, width = first.shape
    rows, columns = np.indices(first.shape, np.float32)
    x, y = columns + sample["flow"][..., 0], rows + sample["flow"][..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    warped = cv2.remap(second, np.nan_to_num(x), np.nan_to_num(y), cv2.INTER_LINEAR)
    return float(np.abs(first - warped)[inside].mean() / np.abs(first - second)[inside].mean())


@pytest.mark.parametrize(
    "name, folder, split, errors, mean",
    [
        ("flying-chairs", "flying_chairs", "all", (6.05, 4.51, 4.35, 6.00, 25.56, 30.80), 12.88),
        ("middlebury-flow", "middlebury_flow", "train", (3.09, 1.26, 3.80), 2.72),
    ],
)
def test_real_flow_matches_the_real_images(shared_data, name, folder, split, errors, mean):
    # The data's README: end-point error of no motion, per pair and mean; photometric ratio below 0.49 for every pair.
    dataset = open_dataset(name, shared_data / folder, split)
    assert len(dataset) == len(errors)
    samples = [dataset.read(index) for index in range(len(dataset))]
    found = [zero_flow_error(sample["flow"]) for sample in samples]
    assert found == pytest.approx(errors, abs=0.006) and np.mean(found) == pytest.approx(mean, abs=0.006)
    assert max(photometric_ratio(sample) for sample in samples) < 0.49
    check_samples(dataset, [0, len(dataset) - 1])


def test_real_flow_samples_are_valid_and_have_the_stated_split(shared_data):
    assert dataset_class("flying-chairs").validate(shared_data / "flying_chairs") == []
    assert dataset_class("middlebury-flow").validate(shared_data / "middlebury_flow") == []
    sizes = [len(open_dataset("flying-chairs", shared_data / "flying_chairs", split)) for split in ("train", "val")]
    assert sizes == [4, 2]


def test_the_real_rubber_whale_has_unknown_pixels_and_opencv_reads_the_same(shared_data):
    file = shared_data / "middlebury_flow" / "other-gt-flow" / "RubberWhale" / "flow10.flo"
    ours, theirs = read_flow(file), cv2.readOpticalFlow(str(file))
    known = np.isfinite(ours).all(axis=-1)
    np.testing.assert_array_equal(known, (np.abs(theirs) <= 1e9).all(axis=-1))
    np.testing.assert_array_equal(ours[known], theirs[known])
    assert 0 < (~known).mean() < 0.05
