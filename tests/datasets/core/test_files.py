"""Listing of dataset folders: hidden files, links, suffixes, Unicode forms; the same in every loader."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.files import IMAGE_SUFFIXES, list_files, natural_key, normalize_name
from densevision.datasets.core.problems import DatasetError, Problem
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.formats.image import write_image
from densevision.datasets.rendering.shapes import draw_shape

FOLDERS = (
    *("class-folders", "image-folders", "depth-folders", "flow-folders", "pose-folders", "paired-folders"),
    *("side-by-side", "label-folders"),
)


def write(path: Path, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, draw_shape(generator(0, 0, number, Purpose.EXAMPLE), 24, 32).image)
    return path


def in_form(form: Any, name: str) -> str:
    return unicodedata.normalize(form, name)


def names(dataset: str, root: Path) -> list[list[str]]:
    """Sample names of every split."""
    opened = [open_dataset(dataset, root, split) for split in dataset_class(dataset).splits]
    return [[split.sample_name(index) for index in range(len(split))] for split in opened]


@pytest.fixture(params=FOLDERS)
def example(request, tmp_path):
    dataset_class(request.param).write_example(tmp_path / "data")
    return request.param, tmp_path / "data"


def test_hidden_and_system_files_are_ignored_by_every_loader(example):
    name, root = example
    expected = names(name, root)
    for file in [file for file in root.rglob("*") if file.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7" * 30)
    for folder in [root, *(folder for folder in root.rglob("*") if folder.is_dir())]:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        shutil.copytree(folder, folder / "__MACOSX") if folder != root else None
    assert names(name, root) == expected
    assert dataset_class(name).validate(root) == []


def test_linked_files_and_folders_are_read_by_every_loader(example):
    name, root = example
    expected = names(name, root)
    for entry in list(root.iterdir()):
        target = root.with_name("store") / entry.name
        target.parent.mkdir(exist_ok=True)
        entry.rename(target)
        entry.symlink_to(target)
    assert names(name, root) == expected
    assert dataset_class(name).validate(root) == []


def test_names_in_another_unicode_form_belong_together(tmp_path):
    root = tmp_path / "data"
    dataset_class("paired-folders").write_example(root)
    for folder, form in (("input", "NFC"), ("target", "NFD")):
        for file in [file for file in (root / folder).rglob("*.png")]:
            file.rename(file.with_name(in_form(form, f"Café {file.name}")))
    assert dataset_class("paired-folders").validate(root) == []


def test_tables_and_lists_in_another_unicode_form_name_the_files(tmp_path):
    composed, decomposed = (in_form(form, "jardín") for form in ("NFC", "NFD"))
    write(tmp_path / "pose" / "images" / decomposed / f"{decomposed}.png")
    (tmp_path / "pose/train.csv").write_text(f"file,a_x,a_y,a_flag\n{composed}/{composed}.png,4,5,2\n")
    assert open_dataset("pose-folders", tmp_path / "pose").read(0)["joints"][0, 2] == 2
    for split in ("train", "val"):
        for number, name in enumerate((decomposed, "cup")):
            write(tmp_path / "classes" / name / f"{split}.png", number)
        (tmp_path / f"classes/{split}.txt").write_text(f"{composed}/{split}.png\ncup/{split}.png\n")
    assert dataset_class("class-folders").validate(tmp_path / "classes") == []
    write(tmp_path / "images" / f"{decomposed}.png")
    for split in ("train", "val"):
        (tmp_path / f"images/{split}.txt").write_text(f"{composed}\n")
    assert len(open_dataset("image-folders", tmp_path / "images")) == 1


def test_classes_in_another_unicode_form_are_the_same_class(tmp_path):
    for split, form in (("train", "NFC"), ("val", "NFD")):
        for name in ("Ångström", "zebra"):
            write(tmp_path / split / in_form(form, name) / "1.png")
    assert dataset_class("class-folders").validate(tmp_path) == []
    assert len(open_dataset("class-folders", tmp_path, "val")) == 2


def test_links_to_a_containing_folder_end_and_are_reported(tmp_path):
    write(tmp_path / "a" / "b" / "1.PNG")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "twice").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    skipped: list[Problem] = []
    assert list_files(tmp_path, IMAGE_SUFFIXES, skipped) == ["a/b/1.PNG", "twice/1.PNG"]
    assert {Path(problem.file).name for problem in skipped} == {"up", "self"}


def test_passed_over_files_are_reported_and_documents_are_not(tmp_path):
    for file in ("cat.jpg", "cat.tar", "dog.jpg.part", "README", "LICENSE", "cat.xml", "notes.TXT"):
        (tmp_path / file).write_bytes(b"data")
    skipped: list[Problem] = []
    assert list_files(tmp_path, IMAGE_SUFFIXES, skipped) == ["cat.jpg"]
    assert [Path(problem.file).name for problem in skipped] == ["cat.tar", "dog.jpg.part"]
    for problem in skipped:
        assert ".jpg" in problem.expected and "passed over" in problem.found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder_is_reported(tmp_path):
    write(tmp_path / "a" / "1.png")
    (tmp_path / "a").chmod(0)
    skipped: list[Problem] = []
    assert list_files(tmp_path, IMAGE_SUFFIXES, skipped) == [] and len(skipped) == 1
    (tmp_path / "a").chmod(0o700)


def test_name_that_is_not_utf8_is_reported_and_printable(tmp_path):
    write(tmp_path / "1.png")
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    skipped: list[Problem] = []
    assert list_files(tmp_path, IMAGE_SUFFIXES, skipped) == ["1.png"]
    assert "caf\\xe9.png" in str(skipped[0]) and str(skipped[0]).encode()


def test_two_files_of_one_name_are_refused_by_every_paired_loader(tmp_path):
    for dataset, folder in (("paired-folders", "input/train"), ("depth-folders", "images")):
        root = tmp_path / dataset
        dataset_class(dataset).write_example(root)
        first = sorted(file for file in (root / folder).iterdir())[0]
        write(first.with_suffix(".bmp"))
        assert any("one file of each name" in problem.expected for problem in dataset_class(dataset).validate(root))
        with pytest.raises(DatasetError, match="one file of each name"):
            [open_dataset(dataset, root, split) for split in dataset_class(dataset).splits]


def test_natural_order_of_folders_and_numbers():
    expected = ["9.png", "10.png", "frame.png", "frame2.png", "frame10.png", "b2/x1.png", "b10/x0.png"]
    assert sorted(sorted(expected), key=natural_key) == expected
    expected = ["a", "frame1a2", "frame1a10", "frame1b", "frame09", "frame9", "frame10"]
    assert sorted(reversed(expected), key=natural_key) == expected


def test_normalized_name_is_composed():
    assert normalize_name("Cafe\u0301") == "Caf\u00e9"
