"""Sets of image-to-image translation: what is given comes first, what is made last, and labels are never colours."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.augmentation import Augmentation, sample_geometry
from densevision.datasets.camvid import CLASSES, CamVid
from densevision.datasets.conformance import check_dataset
from densevision.datasets.dataset import Dataset
from densevision.datasets.fields import Image, Labels, move_sample
from densevision.datasets.folders import held_back
from densevision.datasets.formats.labels import read_labels
from densevision.datasets.formats.picture import read_picture, write_picture
from densevision.datasets.geometry import move_picture
from densevision.datasets.label_folders import LabelFolders
from densevision.datasets.photograph_edges import PhotographEdges, edges_of
from densevision.datasets.problems import DamagedData, Problem

# Facts 3.6: which half is A (left) and B (right), and which way people translate.
DIRECTIONS = {
    "cmp-facades": ({"labels": "right", "photo": "left"}, ("train", "val", "test")),
    "cityscapes-pairs": ({"labels": "right", "photo": "left"}, ("train", "val")),
    "maps": ({"aerial": "left", "map": "right"}, ("train", "val")),
    "edges2shoes": ({"edges": "left", "photo": "right"}, ("train", "val")),
    "edges2handbags": ({"edges": "left", "photo": "right"}, ("train", "val")),
    "night2day": ({"day": "right", "night": "left"}, ("train", "val", "test")),
    "side-by-side": ({"left": "left", "right": "right"}, ("train", "val", "test")),
}
NAMES = (*DIRECTIONS, "camvid", "label-folders", "matched-folders", "photograph-edges", "photograph-greys")
GREY = np.full((6, 8, 3), 90, np.uint8)
TWO = Labels(("ground", "shape"))


def write(path: Path, picture: np.ndarray = GREY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, picture)
    return path


def labels_of(dataset: Dataset) -> list[str]:
    return [dataset.label(index) for index in range(len(dataset))]


def assert_found(problems: list[Problem], expected: dict[str, str]) -> None:
    """Exactly these problems: a part of the file's name to a part of the sentence."""
    sentences = [str(problem) for problem in problems]
    for file, words in expected.items():
        assert any(file in problem.file and words in str(problem) for problem in problems), (file, sentences)
    assert len(sentences) == len(expected), sentences


@pytest.mark.parametrize("name", NAMES)
def test_every_set_of_translation_keeps_the_contract(name):
    check_dataset(dataset_class(name))


# --- Side by side -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIRECTIONS)
def test_each_half_is_the_field_that_the_sets_direction_says(tmp_path, name):
    halves, splits = DIRECTIONS[name]
    red, blue = (np.full((10, 12, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    for split in splits:
        write(tmp_path / split / "1.png", np.hstack([red, blue]))
    assert dataset_class(name).splits == splits
    for split in splits:
        dataset = open_dataset(name, tmp_path, split)
        sample = dataset.read(0)
        assert list(dataset.fields.items()) == [(field, Image(3)) for field in halves]
        for field, half in halves.items():
            assert np.array_equal(sample[field], red if half == "left" else blue), field


def test_a_picture_of_an_odd_width_has_no_halves(tmp_path):
    # Facts 3.6, trap: odd width.
    for width in (20, 21):
        write(tmp_path / "train" / f"{width}.png", np.zeros((6, width, 3), np.uint8))
    facades = open_dataset("cmp-facades", tmp_path)
    assert facades.read(0)["photo"].shape == (6, 10, 3)
    with pytest.raises(DamagedData, match=r"train/21.png: expected two pictures of one width.*odd width of 21 pixels"):
        facades.read(1)


def test_a_turned_picture_is_cut_as_people_see_it(tmp_path):
    # Facts 3.6, trap: EXIF. Orientation 6: the stored picture is shown turned clockwise by a quarter.
    seen = np.zeros((16, 64, 3), np.uint8)
    seen[:, :32, 0] = seen[:, 32:, 2] = 255
    exif = Pillow.Exif()
    exif[0x0112] = 6
    (tmp_path / "train").mkdir()
    Pillow.fromarray(np.rot90(seen)).save(tmp_path / "train" / "1.jpg", exif=exif, subsampling=0)
    sample = open_dataset("side-by-side", tmp_path).read(0)
    assert sample["left"].shape == sample["right"].shape == (16, 32, 3)
    assert sample["left"][..., 0].min() > 200 > 50 > sample["left"][..., 2].max()
    assert sample["right"][..., 2].min() > 200


def test_a_split_that_is_not_there_is_answered_and_pictures_elsewhere_are_not_taken(tmp_path):
    write(tmp_path / "train" / "1.png")
    write(tmp_path / "facades" / "val" / "1.png")
    with pytest.raises(DamagedData, match=r"expected pictures of two halves for 'val'.*found no folder 'val'"):
        open_dataset("cmp-facades", tmp_path, "val")
    (tmp_path / "val").mkdir()
    with pytest.raises(DamagedData, match=r"val/1.jpg: expected pictures .* found none"):
        open_dataset("cmp-facades", tmp_path, "val")


def test_ones_own_halves_lie_in_splits_or_one_in_ten_is_held_back(tmp_path):
    divided, plain = tmp_path / "divided", tmp_path / "plain"
    write(divided / "train" / "deep" / "1.png")
    write(divided / "val" / "2.png")
    assert labels_of(open_dataset("side-by-side", divided)) == ["train/deep/1.png"]
    assert labels_of(open_dataset("side-by-side", divided, "test")) == ["val/2.png"]
    names = [f"{number:02}.png" for number in range(40)]
    for name in names:
        write(plain / name)
    train, val, test = (labels_of(open_dataset("side-by-side", plain, split)) for split in ("train", "val", "test"))
    assert sorted(train + test) == names and 0 < len(test) < 12 and val == test
    assert all(held_back(name.removesuffix(".png")) for name in test)


# --- Two folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["{split}/{side}", "{side}/{split}", "{side}"])
@pytest.mark.parametrize("sides", ["ab", "AB"])
def test_two_folders_are_matched_in_every_layout(tmp_path, layout, sides):
    names = [f"{number:02}" for number in range(40)]
    for split, some in (("train", names[4:]), ("test", names[:4])):
        for side, suffix in zip(sides, ("png", "jpg"), strict=True):
            for number, name in enumerate(some):
                folder = tmp_path / layout.format(split=split, side=side)
                write(folder / "street" / f"{name}.{suffix}", GREY + np.uint8(number + 50 * (side in "bB")))
    write(tmp_path / ".hidden.png")
    train, test = (open_dataset("matched-folders", tmp_path, split) for split in ("train", "test"))
    assert list(train.fields.items()) == [("a", Image(3)), ("b", Image(3))]
    assert labels_of(open_dataset("matched-folders", tmp_path, "val")) == labels_of(test)
    if layout == "{side}":
        assert len(train) + len(test) == 40 and 0 < len(test) < 12
        assert all(held_back(f"street/{Path(label).stem}") for label in labels_of(test))
    else:
        assert (len(train), len(test)) == (36, 4)
        assert labels_of(test)[0] == layout.format(split="test", side=sides[0]) + "/street/00.png"
    for dataset in (train, test):
        for index in range(len(dataset)):
            sample = dataset.read(index)
            assert np.array_equal(sample["b"].astype(int) - 50, sample["a"]), dataset.label(index)


def test_folders_without_one_common_name_are_refused_with_what_they_hold(tmp_path):
    for name in ("a/001_left.png", "a/002_left.png", "b/001_right.png"):
        write(tmp_path / name)
    with pytest.raises(DamagedData) as refusal:
        open_dataset("matched-folders", tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path}: expected files of one name in 'a' and 'b', "
        "found no pair: 2 in 'a' such as a/001_left.png and 1 in 'b' such as b/001_right.png."
    )
    with pytest.raises(DamagedData, match="none in 'a' and none in 'b'"):
        open_dataset("matched-folders", tmp_path / "b")


def test_names_on_one_side_and_names_twice_are_all_told_at_once(tmp_path):
    for name in ("train/a/1.png", "train/b/1.jpg", "train/a/2.png", "train/b/3.png", "train/b/1.png", "test/a/9.png"):
        write(tmp_path / name)
    write(tmp_path / "test/b/9.png", GREY[:, :-1])
    problems = dataset_class("matched-folders").check(tmp_path)
    assert_found(
        problems,
        {
            "train/a/2.png": "expected a file of the same name in 'train/b', found none",
            "train/b/3.png": "expected a file of the same name in 'train/a', found none",
            "train/b/1.png": "expected one file of each name, found also 'train/b/1.jpg'",
            "test/b/9.png": "expected the size of test/a/9.png, 8x6, found 7x6",
        },
    )
    with pytest.raises(DamagedData, match=r"2 more: 'densevision data check' lists them"):
        open_dataset("matched-folders", tmp_path)


def test_a_split_for_which_no_name_is_held_back_says_how_to_divide(tmp_path):
    name = next(str(number) for number in range(9) if not held_back(str(number)))
    write(tmp_path / "a" / f"{name}.png")
    write(tmp_path / "b" / f"{name}.png")
    assert len(open_dataset("matched-folders", tmp_path)) == 1
    with pytest.raises(DamagedData, match=r"pairs for 'test': without folders 'train' and 'test', one name in ten"):
        open_dataset("matched-folders", tmp_path, "test")


def test_grey_and_16_bit_pictures_are_read_as_8_bit_rgb(tmp_path):
    deep = np.arange(0, 48 * 1000, 1000, dtype=np.uint16).reshape(6, 8)
    write(tmp_path / "train" / "a" / "1.png", deep)
    write(tmp_path / "train" / "b" / "1.png", (deep >> 8).astype(np.uint8))
    sample = open_dataset("matched-folders", tmp_path).read(0)
    assert np.array_equal(sample["a"], np.repeat((deep >> 8)[..., None], 3, axis=2))
    assert np.array_equal(sample["a"], sample["b"]) and sample["a"].dtype == np.uint8


# --- Label maps -------------------------------------------------------------------------------------------------


def test_the_index_of_a_palette_is_the_class_whatever_its_colour(tmp_path):
    labels = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    indexed = Pillow.fromarray(labels).convert("P")
    indexed.putpalette([7, 200, 7, 200, 7, 7] + 254 * [99, 99, 99])
    indexed.save(tmp_path / "palette.png")
    write(tmp_path / "grey.png", labels)
    for name in ("palette", "grey"):
        found = read_labels(tmp_path / f"{name}.png", 2, 255)
        assert found.dtype == np.uint8 and np.array_equal(found, labels)
    few = Pillow.fromarray(labels % 2).convert("P")
    few.putpalette([9, 9, 9, 5, 5, 5])
    few.save(tmp_path / "few.png", bits=1)
    assert np.array_equal(read_labels(tmp_path / "few.png", 2, 255), labels % 2)


def test_what_is_no_label_map_is_refused_with_what_one_is(tmp_path):
    labels = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    write(tmp_path / "rgb.png", np.repeat(labels[..., None], 3, axis=2))
    Pillow.fromarray(labels).convert("RGBA").save(tmp_path / "alpha.png")
    Pillow.fromarray(labels > 0).save(tmp_path / "bits.png")
    cv2.imwrite(str(tmp_path / "deep.png"), labels.astype(np.uint16))
    write(tmp_path / "smeared.jpg", labels)
    write(tmp_path / "many.png", labels + (labels == 1) * np.uint8(6))
    write(tmp_path / "cut.png", labels)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:50])
    wanted = "expected a label map, a PNG of one channel whose values are classes 0 to 1 or 255, found "
    for name, found in {
        "rgb.png": "an RGB picture",
        "alpha.png": "an RGBA picture",
        "bits.png": "1 bit a pixel",
        "deep.png": "16 bits a pixel",
        "smeared.jpg": "a file of another format",
        "many.png": "the value 7 (3 pixels are no class)",
        "cut.png": "a PNG cut off after 50 bytes",
        "gone.png": "no file",
    }.items():
        with pytest.raises(DamagedData) as refusal:
            read_labels(tmp_path / name, 2, 255)
        assert str(refusal.value) == f"{tmp_path / name}: {wanted}{found}."


def test_label_folders_name_their_classes_and_divide_as_matched_folders_do(tmp_path):
    (tmp_path / "classes.txt").write_text("road\n\nsky \ncar\n")
    labels = np.array([[0, 2, 255]], np.uint8)
    for split, name in (("train", "x/1"), ("val", "2")):
        write(tmp_path / "labels" / split / f"{name}.png", labels)
        write(tmp_path / "images" / split / f"{name}.jpg", GREY[:1, :3])
    train, test = (open_dataset("label-folders", tmp_path, split) for split in ("train", "test"))
    assert list(train.fields.items()) == [("labels", Labels(("road", "sky", "car"), 255)), ("image", Image(3))]
    assert np.array_equal(train.read(0)["labels"], labels)
    assert labels_of(train) == ["labels/train/x/1.png"] and labels_of(test) == ["labels/val/2.png"]


@pytest.mark.parametrize("text, found", [("a\nb\na\n", "3 names, 2 of them different"), ("\n", "only empty lines")])
def test_a_list_of_classes_that_names_none_or_one_twice_is_refused(tmp_path, text, found):
    LabelFolders.write_miniature(tmp_path)
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DamagedData, match=rf"classes.txt: expected .*, found {found}"):
        LabelFolders(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(map(str, range(256))))
    with pytest.raises(DamagedData, match="at most 255 names"):
        LabelFolders(tmp_path)


def test_five_kinds_of_damage_to_label_folders_are_found_in_one_pass(tmp_path):
    (tmp_path / "classes.txt").write_text("ground\nshape\n")
    for name in "abcde":
        write(tmp_path / "train" / "labels" / f"{name}.png", np.zeros((6, 8), np.uint8))
        write(tmp_path / "train" / "images" / f"{name}.png")
    write(tmp_path / "test" / "labels" / "z.png", np.full((6, 8), 255, np.uint8))
    write(tmp_path / "test" / "images" / "z.png")
    train = tmp_path / "train"
    write(train / "labels" / "a.png")
    write(train / "labels" / "b.png", np.full((6, 8), 2, np.uint8))
    write(train / "labels" / "c.png", np.zeros((6, 9), np.uint8))
    (train / "labels" / "d.png").unlink()
    (train / "images" / "e.png").write_bytes(b"")
    assert_found(
        LabelFolders.check(tmp_path),
        {
            "labels/a.png": "classes 0 to 1 or 255, found an RGB picture",
            "labels/b.png": "found the value 2 (48 pixels are no class)",
            "labels/c.png": "expected the size of train/images/c.png, 8x6, found 9x6",
            "images/d.png": "expected a file of the same name in 'train/labels', found none",
            "images/e.png": "found an empty file",
        },
    )


# --- CamVid -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["/SegNet/CamVid/{}", "CamVid/{}", "{}"])
@pytest.mark.parametrize("folder", ["", "CamVid"])
def test_camvids_lists_may_hold_the_tutorials_paths_or_ones_own(tmp_path, written, folder):
    CamVid.write_miniature(tmp_path)
    paths = [written.format(path) for path in ("val/0001TP_000000.png", "valannot/0001TP_000000.png")]
    (tmp_path / "CamVid" / "val.txt").write_text("  ".join(paths) + "\n")
    camvid = open_dataset("camvid", tmp_path / folder, "val")
    assert labels_of(camvid) == ["val/0001TP_000000.png" if folder else "CamVid/val/0001TP_000000.png"]
    assert set(np.unique(camvid.read(0)["labels"])) == {0, 1, 11}


def test_five_kinds_of_damage_to_camvid_are_found_in_one_pass(tmp_path):
    CamVid.write_miniature(tmp_path)
    folder = tmp_path / "CamVid"
    first, second = (folder / "trainannot" / f"0001TP_00000{number}.png" for number in range(2))
    write(first, np.full((64, 80), 12, np.uint8))
    write(second, read_picture(second))
    write(folder / "testannot" / "0001TP_000000.png", np.zeros((64, 79), np.uint8))
    (folder / "test" / "0001TP_000001.png").unlink()
    with open(folder / "val.txt", "a") as listed:
        listed.write("/SegNet/CamVid/val/0001TP_000002.png\n")
    assert_found(
        CamVid.check(tmp_path),
        {
            "trainannot/0001TP_000000.png": "classes 0 to 10 or 11, found the value 12 (5120 pixels are no class)",
            "trainannot/0001TP_000001.png": "found an RGB picture",
            "testannot/0001TP_000000.png": "expected the size of CamVid/test/0001TP_000000.png, 80x64, found 79x64",
            "test/0001TP_000001.png": "expected a picture, found no file",
            "val.txt": "expected two paths a line, a picture and its label map, found '/SegNet/CamVid/val/0001TP",
        },
    )


def test_camvid_without_its_lists_is_refused(tmp_path):
    write(tmp_path / "CamVid" / "train" / "1.png")
    with pytest.raises(DamagedData, match=r"CamVid/train.txt: expected two paths a line.*, found no file"):
        CamVid(tmp_path)


def test_the_real_camvid_has_the_counts_and_class_frequencies_of_its_readme(shared_data):
    # data/README.md: 160, 25 and 60 frames of 480x360; the training frequencies of the labels 0..11 to three digits.
    frequencies = (0.167, 0.237, 0.010, 0.314, 0.044, 0.095, 0.012, 0.011, 0.060, 0.006, 0.003, 0.040)
    root = shared_data / "camvid"
    train, val, test = (open_dataset("camvid", root, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (160, 25, 60)
    assert list(train.fields.items()) == [("labels", Labels(CLASSES, 11)), ("image", Image(3))]
    assert test.read(59)["image"].shape == (360, 480, 3)
    counts = np.zeros(12)
    for index in range(len(train)):
        counts += np.bincount(train.read(index)["labels"].ravel(), minlength=12)
    assert np.abs(counts / counts.sum() - frequencies).max() < 1e-3


# --- Photographs ------------------------------------------------------------------------------------------------


def house(height: int, width: int) -> np.ndarray:
    """A dark house on a light ground, of which Canny finds the outline alone."""
    picture = np.full((height, width, 3), 220, np.uint8)
    picture[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 40
    return picture


def test_edges_are_black_lines_on_white_where_the_picture_has_a_step():
    edges = edges_of(house(80, 120))
    assert edges.shape == (80, 120, 1) and edges.dtype == np.uint8
    lines = edges[..., 0] == 0
    assert set(np.unique(edges)) == {0, 255}
    # The outline is 2 (40 + 60) pixels long; Canny thins a line to one pixel.
    assert lines.sum() == pytest.approx(200, abs=12)
    rows, columns = np.nonzero(lines)
    for places, extent in ((rows, 80), (columns, 120)):
        assert places.min() == pytest.approx(extent / 4 - 0.5, abs=1)
        assert places.max() == pytest.approx(3 * extent / 4 - 0.5, abs=1)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_edges_are_found_at_the_size_that_is_used(tmp_path, suffix):
    write(tmp_path / "train" / f"a.{suffix}", house(801, 1003))
    edges, size = PhotographEdges(tmp_path), (96, 96)
    may = Augmentation(flip=0.5, scale=(100, 110))
    for number in range(4):
        sources = []

        def draw(source, number=number, sources=sources):
            sources.append(source)
            return sample_geometry(np.random.default_rng(number), source, size, may)

        sample, geometry = edges.read_for(0, draw)
        moved = move_sample(sample, edges.fields, geometry)
        assert sources == [(801, 1003)]
        assert moved["edges"].shape == (*size, 1) and moved["image"].shape == (*size, 3)
        # One pixel wide and black: shrinking the lines of the whole picture would leave a trace of grey.
        assert set(np.unique(moved["edges"])) == {0, 255}
        assert np.array_equal(moved["edges"], edges_of(moved["image"]))
        whole = move_picture(read_picture(tmp_path / "train" / f"a.{suffix}"), draw((801, 1003))).astype(int)
        assert np.abs(moved["image"] - whole).mean() < 3


def test_a_set_of_edges_at_a_size_reads_whole_photographs_that_just_cover_it(tmp_path):
    write(tmp_path / "test" / "a.jpg", house(160, 240))
    edges = PhotographEdges(tmp_path, "test")
    small = edges.at((80, 80))
    assert edges.read(0)["image"].shape == (160, 240, 3)
    for dataset in (small, pickle.loads(pickle.dumps(small))):
        sample = dataset.read(0)
        assert sample["edges"].shape == (80, 120, 1)
        assert np.array_equal(sample["edges"], edges_of(sample["image"]))
    assert edges.at((320, 320)).read(0)["image"].shape == (320, 480, 3)


def test_a_grey_field_is_the_luminance_of_its_photograph_at_any_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    write(tmp_path / "train" / "a.jpg", cv2.resize(noise, (1000, 800), interpolation=cv2.INTER_CUBIC))
    greys = open_dataset("photograph-greys", tmp_path)
    assert list(greys.fields.items()) == [("grey", Image(1)), ("image", Image(3))]
    sample, geometry = greys.read_for(
        0, lambda source: sample_geometry(np.random.default_rng(1), source, (48, 48), Augmentation(flip=0.5))
    )
    assert sample["image"].shape[0] <= 400, "A JPEG is decoded no larger than needed."
    moved = move_sample(sample, greys.fields, geometry)
    # ITU-R BT.601, as JPEG itself has it.
    luminance = moved["image"] @ np.array((0.299, 0.587, 0.114))
    assert np.abs(moved["grey"][..., 0] - luminance).max() < 2


def test_photographs_are_divided_as_the_plain_set_divides_them(tmp_path):
    for name in ("photographs", "photograph-edges", "photograph-greys"):
        root = tmp_path / name
        dataset_class("photographs").write_miniature(root)
        assert [len(open_dataset(name, root, split)) for split in ("train", "val", "test")] == [2, 2, 2]
        (root / "train.txt").write_text("000\n777\n")
        with pytest.raises(DamagedData, match=r"777: expected the photograph that train.txt names, found none"):
            open_dataset(name, root)
        assert len(dataset_class(name).check(root)) == 1
