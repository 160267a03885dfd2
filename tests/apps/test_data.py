"""`densevision data`: valid and damaged dataset folders, and examples."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image


def test_an_example_is_valid_and_damage_is_listed_with_exit_code_1(run, scenes, tmp_path):
    result = run("data", "validate", "seven-scenes", scenes)
    assert (result.code, result.out) == (0, "seven-scenes: no problems.\n")
    shutil.copytree(scenes, tmp_path / "damaged")
    first, second = sorted((tmp_path / "damaged").rglob("*.color.png"))[:2]
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    result = run("data", "validate", "seven-scenes", tmp_path / "damaged")
    assert result.code == 1
    assert str(first.name) in result.out and str(second.name) in result.out
    assert result.out.splitlines()[-1] == "seven-scenes: 2 problem(s)."


def test_a_synthetic_dataset_is_validated_by_name(run):
    assert run("data", "validate", "synthetic-rooms").out == "synthetic-rooms: no problems.\n"


def test_a_depth_map_of_another_shape_than_its_image_is_a_problem(run, tmp_path, image):
    assert run("data", "make-example", "depth-folders", tmp_path / "mine").code == 0
    odd = next((tmp_path / "mine" / "images").iterdir())
    image(odd, 10, 12)
    result = run("data", "validate", "depth-folders", tmp_path / "mine")
    assert result.code == 1
    assert odd.stem in result.out and "10" in result.out and "12" in result.out


def test_a_sheet_has_a_row_for_every_sample_and_its_augmentations(run, tmp_path, scenes):
    result = run("data", "show", "seven-scenes", scenes, "--samples", "2")
    assert result.code == 0 and "augmented as by the recipe indoor of depth" in result.out
    height, width = np.asarray(Image.open(tmp_path / "samples.png")).shape[:2]
    # Two rows of three times image and depth, with a caption, and gaps between them.
    assert (height, width) == (2 * (160 + 18) + 4, 6 * 160 + 5 * 4)


def test_statistics_name_what_two_splits_share(run, tmp_path):
    assert run("data", "make-example", "class-folders", tmp_path / "mine").code == 0
    first = next((tmp_path / "mine" / "arrow").glob("train*"))
    shutil.copy(first, tmp_path / "mine" / "heart" / "test-0.jpg")
    result = run("data", "stats", "class-folders", tmp_path / "mine")
    assert "train: 4 samples, 4 read" in result.out and "arrow                     50.0 %" in result.out
    assert f"train and test share 1 image(s): arrow/{first.name} and heart/test-0.jpg" in result.out
    assert "it must be at least 1" in run("data", "stats", "class-folders", tmp_path / "mine", "--samples", "0").error


@pytest.mark.parametrize("name", ["depth-folders", "class-folders", "pose-folders"])
def test_a_layout_of_ones_own_is_described_with_the_files_of_an_example(run, name):
    result = run("data", "layout", name)
    assert result.code == 0 and "Splits: train" in result.out
    assert (
        f"densevision data make-example {name} FOLDER" in result.out and ".png" in result.out
    ) or ".jpg" in result.out


def test_a_dataset_that_no_task_can_use_is_one_sentence(run):
    assert "no dataset named 'nyu-dept'" in run("data", "show", "nyu-dept").error
