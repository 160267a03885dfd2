"""Memorability datasets: LaMem's lists, LNSIM in parts, folders with scores. Traps of facts-next, B.2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.datasets import dataset_class, list_datasets, open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.dataset import Dataset
from densevision.datasets.examples import fake_jpeg

NAMES = (*(name for name in list_datasets() if name.startswith("lamem-")), "lnsim", "score-folders")


def names_and_scores(dataset: Dataset) -> list[tuple[str, float]]:
    return [(dataset.sample_name(index), float(dataset.read(index)["score"])) for index in range(len(dataset))]


def problems_of(name: str, root: Path) -> list[str]:
    return [str(problem) for problem in dataset_class(name).validate(root)]


@pytest.mark.parametrize("name", NAMES)
def test_every_memorability_dataset_conforms(name):
    check_dataset(dataset_class(name))


def lamem(root: Path, **lists: str) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "splits").mkdir()
    for number in range(1, 5):
        (root / f"images/{number:08}.jpg").write_bytes(fake_jpeg(number))
    for name, text in lists.items():
        (root / f"splits/{name}.txt").write_text(text)
    return root


def test_a_lamem_list_has_no_header_and_one_space(tmp_path):
    # T: pandas with its defaults eats the first image and yields one column.
    root = lamem(tmp_path / "lamem", train_1="00000001.jpg 0.833333\n00000003.jpg 0.500000\n00000002.jpg 1.000000\n")
    assert names_and_scores(open_dataset("lamem-1", root)) == [
        ("images/00000001.jpg", 0.833333), ("images/00000003.jpg", 0.5), ("images/00000002.jpg", 1.0),
    ]  # fmt: skip


def test_lamem_reads_as_the_fixed_columns_of_the_public_readers(tmp_path):
    # B.2 [code]: name = line[:12], score = line[13:21]
    dataset_class("lamem-2").write_example(tmp_path)
    lines = (tmp_path / "splits/test_2.txt").read_text().splitlines()
    expected = [(f"images/{line[:12]}", float(line[13:21])) for line in lines]
    assert names_and_scores(open_dataset("lamem-2", tmp_path, "test")) == expected


def test_the_validation_and_test_parts_of_lamem_are_different_files(tmp_path):
    # T: public code validates on test_1.
    root = lamem(
        tmp_path / "lamem", train_1="00000001.jpg 0.1\n", val_1="00000002.jpg 0.2\n", test_1="00000003.jpg 0.3\n"
    )
    parts = [names_and_scores(open_dataset("lamem-1", root, split)) for split in ("train", "val", "test")]
    assert [score for ((_, score),) in parts] == [0.1, 0.2, 0.3]
    (root / "splits/val_1.txt").unlink()
    with pytest.raises(DatasetError, match=r"val_1\.txt"):
        open_dataset("lamem-1", root, "val")


def test_the_number_of_a_lamem_split_is_in_the_name_of_the_dataset(tmp_path):
    root = lamem(tmp_path / "lamem", **{f"train_{n}": f"0000000{n}.jpg 0.{n}\n" for n in range(1, 5)})
    for number in range(1, 5):
        assert names_and_scores(open_dataset(f"lamem-{number}", root)) == [(f"images/0000000{number}.jpg", number / 10)]
    with pytest.raises(DatasetError, match=r"train_5\.txt"):
        open_dataset("lamem-5", root)


@pytest.mark.parametrize(
    "line", ["name score", "00000002.jpg", "00000002.jpg 1.5", "00000002.jpg nan", "00000001.jpg 0.2"]
)
def test_a_line_that_is_no_score_is_reported_and_others_are_read(tmp_path, line):
    root = lamem(tmp_path / "lamem", train_1=f"00000001.jpg 0.5\n{line}\n00000003.jpg 0.7\n")
    with pytest.raises(DatasetError, match=r"train_1\.txt") as caught:
        open_dataset("lamem-1", root)
    assert [score for _, score in names_and_scores(caught.value.dataset)] == [0.5, 0.7]


def test_lnsim_joins_parts_in_folders_and_archives(tmp_path):
    dataset_class("lnsim").write_example(tmp_path)
    joined = open_dataset("lnsim", tmp_path)
    assert [name for name, _ in names_and_scores(joined)] == [
        "a/images.tar/images/0001.jpg", "a/images.tar/images/0002.jpg", "b/images/0011.jpg", "b/images/0012.jpg",
    ]  # fmt: skip
    alone = open_dataset("lnsim", tmp_path / "a")
    assert [alone.sample_name(index) for index in range(2)] == [
        "images.tar/images/0001.jpg",
        "images.tar/images/0002.jpg",
    ]
    np.testing.assert_array_equal(alone.read(1)["image"], joined.read(1)["image"])
    with (tmp_path / "a/train.txt").open("a") as file:
        file.write("0099.jpg 0.5\n")
    assert any("images.tar" in problem and "0099.jpg" in problem for problem in problems_of("lnsim", tmp_path))


def test_the_shared_lnsim_images_can_be_used_together(tmp_path, shared_data):
    for name in ("lnsim", "lnsim_more"):
        if not (shared_data / name).is_dir():
            pytest.skip(f"{name} is not among the real samples")
        (tmp_path / name).symlink_to(shared_data / name)
    # README: 135 + 660 training and 45 + 160 test images; train mean 0.6021 and sd 0.1348 of the 660.
    for split, count in (("train", 795), ("test", 205)):
        assert len(open_dataset("lnsim", tmp_path, split)) == count
    more = open_dataset("lnsim", tmp_path / "lnsim_more")
    scores = [float(more.read(index)["score"]) for index in range(len(more))]
    assert (np.mean(scores), np.std(scores)) == pytest.approx((0.6021, 0.1348), abs=1e-4)
    assert more.read(0)["image"].shape[-1] == 3
    train, test = (open_dataset("lnsim", tmp_path, split) for split in ("train", "test"))
    train_names, test_names = ({Path(part.sample_name(i)).name for i in range(len(part))} for part in (train, test))
    assert not train_names & test_names


def score_folder(root: Path, text: str, images: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg")) -> Path:
    for number, name in enumerate(images):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fake_jpeg(number))
    (root / "scores.csv").write_text(text)
    return root


def all_scores(root: Path) -> dict[str, float]:
    return dict(
        row for split in ("train", "test") for row in names_and_scores(open_dataset("score-folders", root, split))
    )


@pytest.mark.parametrize("header", ["", "name,score\n", "image, memorability\n"])
def test_the_header_of_a_csv_is_optional_and_no_image_is_lost(tmp_path, header):
    root = score_folder(tmp_path / "mine", f"{header}a.jpg,0.5\nb.jpg, 0.25\nc.jpg,1\n")
    assert all_scores(root) == {"a.jpg": 0.5, "b.jpg": 0.25, "c.jpg": 1.0}


def test_names_with_commas_and_spaces_are_quoted(tmp_path):
    root = score_folder(tmp_path / "mine", '"x/a, b.jpg",0.5\nc d.jpg,0.75\n', ("x/a, b.jpg", "c d.jpg"))
    assert all_scores(root) == {"x/a, b.jpg": 0.5, "c d.jpg": 0.75}


@pytest.mark.parametrize("line", ["b.jpg;0.5", "b.jpg", "b.jpg,0.5,0.6", "b.jpg,50", "a.jpg,0.1"])
def test_a_row_that_is_no_score_is_a_problem(tmp_path, line):
    root = score_folder(tmp_path / "mine", f"name,score\na.jpg,0.5\n{line}\nc.jpg,0.7\n")
    assert any("scores.csv" in problem for problem in problems_of("score-folders", root))


def test_a_listed_name_without_score_is_a_problem(tmp_path):
    root = score_folder(tmp_path / "mine", "a.jpg,0.5\nb.jpg,0.6\n")
    (root / "train.txt").write_text("a.jpg\n")
    (root / "test.txt").write_text("b.jpg\nc.jpg\n")
    assert any("'c.jpg'" in problem for problem in problems_of("score-folders", root))
