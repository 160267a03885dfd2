"""Restoration datasets: official layouts, pairs by name, missing files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.files import FilePattern
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.examples import write_pair
from densevision.datasets.formats.image import read_image, write_image

NAMES = ("div2k-x2", "div2k-x3", "div2k-x4", "gopro", "gopro-gamma", "rain100", "raindrop")


@pytest.mark.parametrize("name", NAMES)
def test_every_paired_dataset_conforms_and_has_both_images(name):
    check_dataset(dataset_class(name))
    assert dataset_class(name).title


def pair(root: Path, degraded: str, clean: str, number: int = 0, factor: int = 1) -> None:
    write_pair(root / degraded, root / clean, number, factor)


def test_rain100_opens_in_the_new_and_in_the_older_layout(tmp_path):
    # Facts 3.4: rain/rain-001.png and norain/norain-001.png; older releases have both in one folder.
    new, old = tmp_path / "new", tmp_path / "old"
    for number in (2, 1, 10):
        name = f"{number:03}"
        pair(new, f"test/rain/rain-{name}.png", f"test/norain/norain-{name}.png", number)
        pair(old, f"rain_data_test_Light/rain-{name}.png", f"rain_data_test_Light/norain-{name}.png", number)
    first, second = (open_dataset("rain100", root, "test") for root in (new, old))
    assert [first.sample_name(index) for index in range(3)] == [
        f"test/rain/rain-{n}.png" for n in ("001", "002", "010")
    ]
    assert len(second) == 3
    for index in range(3):
        for field in ("degraded", "image"):
            assert np.array_equal(first.read(index)[field], second.read(index)[field])
    # "norain-001.png" does not begin with "rain-": the clean image is not mistaken for the rainy one.
    assert not np.array_equal(second.read(0)["degraded"], second.read(0)["image"])
    # A folder of pairs without the name of a split is the test split.
    assert len(open_dataset("rain100", new / "test", "test")) == 3
    with pytest.raises(DatasetError, match=r"pairs for 'train' such as rain/rain-001.png"):
        open_dataset("rain100", new, "train")


def test_raindrop_is_evaluated_on_test_a(tmp_path):
    dataset_class("raindrop").write_example(tmp_path)
    assert dataset_class("raindrop").splits == ("train", "test_b", "test_a")
    assert open_dataset("raindrop", tmp_path, "test_a").sample_name(1) == "test_a/data/1_rain.png"


def test_raindrop_files_are_in_numeric_order(tmp_path):
    for number in (0, 2, 10):
        pair(tmp_path, f"train/data/{number}_rain.png", f"train/gt/{number}_clean.png", number)
    labels = [Path(open_dataset("raindrop", tmp_path).sample_name(index)).name for index in range(3)]
    assert labels == ["0_rain.png", "2_rain.png", "10_rain.png"]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_div2k_is_enlarged_to_the_size_of_the_clean_image_without_a_shift(tmp_path, factor):
    clean = np.zeros((60, 72, 3), np.uint8)
    cv2.circle(clean, (37, 31), 14, (255, 255, 255), -1, cv2.LINE_AA)
    small = cv2.resize(clean, (72 // factor, 60 // factor), interpolation=cv2.INTER_AREA)
    write_image(_made(tmp_path / "DIV2K_train_HR" / "0001.png"), clean)
    write_image(_made(tmp_path / f"DIV2K_train_LR_bicubic/X{factor}" / f"0001x{factor}.png"), small)
    sample = open_dataset(f"div2k-x{factor}", tmp_path).read(0)
    assert sample["degraded"].shape == sample["image"].shape == clean.shape
    rows, columns = np.mgrid[: clean.shape[0], : clean.shape[1]]
    for places in (rows, columns):
        centers = [(places * sample[name][..., 0]).sum() / sample[name][..., 0].sum() for name in ("degraded", "image")]
        assert centers[0] == pytest.approx(centers[1], abs=0.05)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_a_reduction_by_another_factor_is_refused(tmp_path):
    dataset_class("div2k-x4").write_example(tmp_path)
    file = tmp_path / "DIV2K_train_LR_bicubic/X4/0001x4.png"
    write_image(file, read_image(file)[:-3])
    with pytest.raises(DatasetError, match=r"0001x4.png: expected a reduction by 4 of an image of 64x48, found 16x9"):
        open_dataset("div2k-x4", tmp_path).read(0)


def test_gopro_offers_its_two_kinds_of_blur_by_name(tmp_path):
    for name in ("gopro", "gopro-gamma"):
        dataset_class(name).write_example(tmp_path)
    plain, gamma = (open_dataset(name, tmp_path, "test") for name in ("gopro", "gopro-gamma"))
    assert plain.sample_name(0) == "test/GOPR0001_00_00/blur/000001.png"
    assert gamma.sample_name(0) == "test/GOPR0001_00_00/blur_gamma/000001.png"


def test_images_of_two_sizes_are_refused(tmp_path):
    dataset_class("gopro").write_example(tmp_path)
    file = tmp_path / "train/GOPR0000_00_00/blur/000001.png"
    write_image(file, read_image(file)[:-1])
    with pytest.raises(DatasetError, match=r"expected the size of the clean image, 64x48, found 64x47"):
        open_dataset("gopro", tmp_path).read(0)


def test_file_pattern_lists_its_keys_without_hidden_files(tmp_path):
    for name in ("rain-1.png", "norain-1.png", ".rain-2.png", "rain-3.jpg"):
        (tmp_path / name).touch()
    assert FilePattern(".", "rain-").keys(tmp_path) == {"1"}
    assert FilePattern(".", "norain-").file("1") == "norain-1.png"
