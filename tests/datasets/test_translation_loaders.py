"""Translation datasets: direction, layouts, label maps."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.augmentation import Augmentation, sample_geometry
from densevision.datasets.core.geometry import transform_image
from densevision.datasets.core.problems import DatasetError, Problem
from densevision.datasets.core.splits import is_test_sample
from densevision.datasets.dataset import Dataset
from densevision.datasets.field_types import Image, SegmentationMask
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.formats.png import read_labels
from densevision.datasets.paired_folders import LabelFolders
from densevision.datasets.translation.camvid import CLASSES, CamVid
from densevision.datasets.translation.edges_to_photos import EdgesToPhotos, edges_of

from .test_scaled_decoding import record_decoded

# Facts 3.6: which half is A (left) and B (right), and the customary direction.
DIRECTIONS = {
    "cmp-facades": ({"labels": "right", "photo": "left"}, ("train", "val", "test")),
    "cityscapes-pairs": ({"labels": "right", "photo": "left"}, ("train", "val")),
    "maps": ({"aerial": "left", "map": "right"}, ("train", "val")),
    "edges2shoes": ({"edges": "left", "photo": "right"}, ("train", "val")),
    "edges2handbags": ({"edges": "left", "photo": "right"}, ("train", "val")),
    "night2day": ({"day": "right", "night": "left"}, ("train", "val", "test")),
    "side-by-side": ({"left": "left", "right": "right"}, ("train", "val", "test")),
}
NAMES = (*DIRECTIONS, "camvid", "label-folders", "paired-folders", "edges-to-photos", "gray-to-photos")
GRAY = np.full((6, 8, 3), 90, np.uint8)
TWO = SegmentationMask(("ground", "shape"))


def write(path: Path, image: np.ndarray = GRAY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
    return path


def labels_of(dataset: Dataset) -> list[str]:
    return [dataset.sample_name(index) for index in range(len(dataset))]


def assert_found(problems: list[Problem], expected: dict[str, str]) -> None:
    """Check for exactly these problems: part of the file name to part of the message."""
    messages = [str(problem) for problem in problems]
    for file, words in expected.items():
        assert any(file in problem.file and words in str(problem) for problem in problems), (file, messages)
    assert len(messages) == len(expected), messages


@pytest.mark.parametrize("name", NAMES)
def test_every_translation_dataset_conforms_to_the_contract(name):
    check_dataset(dataset_class(name))


# --- Side by side -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIRECTIONS)
def test_halves_follow_the_direction_of_the_dataset(tmp_path, name):
    halves, splits = DIRECTIONS[name]
    red, blue = (np.full((10, 12, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
    for split in splits:
        write(tmp_path / split / "1.png", np.hstack([red, blue]))
    assert dataset_class(name).splits == splits
    for split in splits:
        dataset = open_dataset(name, tmp_path, split)
        sample = dataset.read(0)
        assert list(dataset.fields.items()) == [(field, Image(3)) for field in halves]
        for field, half in halves.items():
            assert np.array_equal(sample[field], red if half == "left" else blue), field


def test_image_of_odd_width_is_refused(tmp_path):
    # Facts 3.6, trap: odd width.
    for width in (20, 21):
        write(tmp_path / "train" / f"{width}.png", np.zeros((6, width, 3), np.uint8))
    facades = open_dataset("cmp-facades", tmp_path)
    assert facades.read(0)["photo"].shape == (6, 10, 3)
    with pytest.raises(
        DatasetError, match=r"train/21.png: expected two images of the same width.*odd width of 21 pixels"
    ):
        facades.read(1)


def test_exif_rotated_image_is_split_as_displayed(tmp_path):
    # Facts 3.6, trap: EXIF. Orientation 6: the stored image is displayed rotated clockwise by 90 degrees.
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


def test_missing_split_is_an_error_and_other_folders_are_not_used(tmp_path):
    write(tmp_path / "train" / "1.png")
    write(tmp_path / "facades" / "val" / "1.png")
    with pytest.raises(DatasetError, match=r"expected images of two halves for 'val'.*found no folder 'val'"):
        open_dataset("cmp-facades", tmp_path, "val")
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match=r"val/1.jpg: expected images .* found none"):
        open_dataset("cmp-facades", tmp_path, "val")


def test_own_halves_use_split_folders_or_one_in_ten_for_testing(tmp_path):
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
    assert all(is_test_sample(name.removesuffix(".png")) for name in test)


# --- Label maps -------------------------------------------------------------------------------------------------


def test_palette_index_is_the_class(tmp_path):
    labels = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    indexed = Pillow.fromarray(labels).convert("P")
    indexed.putpalette([7, 200, 7, 200, 7, 7] + 254 * [99, 99, 99])
    indexed.save(tmp_path / "palette.png")
    write(tmp_path / "gray.png", labels)
    for name in ("palette", "gray"):
        found = read_labels(tmp_path / f"{name}.png", 2, 255)
        assert found.dtype == np.uint8 and np.array_equal(found, labels)
    few = Pillow.fromarray(labels % 2).convert("P")
    few.putpalette([9, 9, 9, 5, 5, 5])
    few.save(tmp_path / "few.png", bits=1)
    assert np.array_equal(read_labels(tmp_path / "few.png", 2, 255), labels % 2)


def test_other_file_than_a_label_map_is_refused(tmp_path):
    labels = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    write(tmp_path / "rgb.png", np.repeat(labels[..., None], 3, axis=2))
    Pillow.fromarray(labels).convert("RGBA").save(tmp_path / "alpha.png")
    Pillow.fromarray(labels > 0).save(tmp_path / "bits.png")
    cv2.imwrite(str(tmp_path / "deep.png"), labels.astype(np.uint16))
    write(tmp_path / "smeared.jpg", labels)
    write(tmp_path / "many.png", labels + (labels == 1) * np.uint8(6))
    write(tmp_path / "cut.png", labels)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:50])
    wanted = "expected a label map, a PNG with one channel whose values are classes 0 to 1 or 255, found "
    for name, found in {
        "rgb.png": "an RGB image",
        "alpha.png": "an RGBA image",
        "bits.png": "1 bit per pixel",
        "deep.png": "16 bits per pixel",
        "smeared.jpg": "a file of another format",
        "many.png": "the value 7 (3 pixels without a valid class)",
        "cut.png": "a PNG truncated after 50 bytes",
        "gone.png": "no file",
    }.items():
        with pytest.raises(DatasetError) as error_info:
            read_labels(tmp_path / name, 2, 255)
        assert str(error_info.value) == f"{tmp_path / name}: {wanted}{found}."


def test_label_folders_read_classes_and_split_as_paired_folders(tmp_path):
    (tmp_path / "classes.txt").write_text("road\n\nsky \ncar\n")
    labels = np.array([[0, 2, 255]], np.uint8)
    for split, name in (("train", "x/1"), ("val", "2")):
        write(tmp_path / "labels" / split / f"{name}.png", labels)
        write(tmp_path / "images" / split / f"{name}.jpg", GRAY[:1, :3])
    train, test = (open_dataset("label-folders", tmp_path, split) for split in ("train", "test"))
    assert list(train.fields.items()) == [
        ("labels", SegmentationMask(("road", "sky", "car"), 255)),
        ("image", Image(3)),
    ]
    assert np.array_equal(train.read(0)["labels"], labels)
    assert labels_of(train) == ["labels/train/x/1.png"] and labels_of(test) == ["labels/val/2.png"]


@pytest.mark.parametrize("text, found", [("a\nb\na\n", "3 names, 2 of them different"), ("\n", "only empty lines")])
def test_empty_or_repeated_class_names_are_refused(tmp_path, text, found):
    LabelFolders.write_example(tmp_path)
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DatasetError, match=rf"classes.txt: expected .*, found {found}"):
        LabelFolders(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(map(str, range(256))))
    with pytest.raises(DatasetError, match="at most 255 names"):
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
        LabelFolders.validate(tmp_path),
        {
            "labels/a.png": "classes 0 to 1 or 255, found an RGB image",
            "labels/b.png": "found the value 2 (48 pixels without a valid class)",
            "labels/c.png": "expected the size of train/images/c.png, 8x6, found 9x6",
            "images/d.png": "expected a file of the same name in 'train/labels', found none",
            "images/e.png": "found an empty file",
        },
    )


# --- CamVid -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["/SegNet/CamVid/{}", "CamVid/{}", "{}"])
@pytest.mark.parametrize("folder", ["", "CamVid"])
def test_camvid_lists_may_have_any_paths(tmp_path, written, folder):
    CamVid.write_example(tmp_path)
    paths = [written.format(path) for path in ("val/0001TP_000000.png", "valannot/0001TP_000000.png")]
    (tmp_path / "CamVid" / "val.txt").write_text("  ".join(paths) + "\n")
    camvid = open_dataset("camvid", tmp_path / folder, "val")
    assert labels_of(camvid) == ["val/0001TP_000000.png" if folder else "CamVid/val/0001TP_000000.png"]
    assert set(np.unique(camvid.read(0)["labels"])) == {0, 1, 11}


def test_five_kinds_of_damage_to_camvid_are_found_in_one_pass(tmp_path):
    CamVid.write_example(tmp_path)
    folder = tmp_path / "CamVid"
    first, second = (folder / "trainannot" / f"0001TP_00000{number}.png" for number in range(2))
    write(first, np.full((64, 80), 12, np.uint8))
    write(second, read_image(second))
    write(folder / "testannot" / "0001TP_000000.png", np.zeros((64, 79), np.uint8))
    (folder / "test" / "0001TP_000001.png").unlink()
    with open(folder / "val.txt", "a") as listed:
        listed.write("/SegNet/CamVid/val/0001TP_000002.png\n")
    assert_found(
        CamVid.validate(tmp_path),
        {
            "trainannot/0001TP_000000.png": "0 to 10 or 11, found the value 12 (5120 pixels without a valid class)",
            "trainannot/0001TP_000001.png": "found an RGB image",
            "testannot/0001TP_000000.png": "expected the size of CamVid/test/0001TP_000000.png, 80x64, found 79x64",
            "test/0001TP_000001.png": "expected an image, found no file",
            "val.txt": "expected two paths per line, an image and its label map, found '/SegNet/CamVid/val/0001TP",
        },
    )


def test_camvid_without_its_lists_is_refused(tmp_path):
    write(tmp_path / "CamVid" / "train" / "1.png")
    with pytest.raises(DatasetError, match=r"CamVid/train.txt: expected two paths per line.*, found no file"):
        CamVid(tmp_path)


def test_the_real_camvid_has_the_counts_and_class_frequencies_of_its_readme(shared_data):
    # data/README.md: 160, 25 and 60 frames of 480x360; the training frequencies of the labels 0..11 to three digits.
    frequencies = (0.167, 0.237, 0.010, 0.314, 0.044, 0.095, 0.012, 0.011, 0.060, 0.006, 0.003, 0.040)
    root = shared_data / "camvid"
    train, val, test = (open_dataset("camvid", root, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (160, 25, 60)
    assert list(train.fields.items()) == [("labels", SegmentationMask(CLASSES, 11)), ("image", Image(3))]
    assert test.read(59)["image"].shape == (360, 480, 3)
    counts = np.zeros(12)
    for index in range(len(train)):
        counts += np.bincount(train.read(index)["labels"].ravel(), minlength=12)
    assert np.abs(counts / counts.sum() - frequencies).max() < 1e-3


# --- Photos ------------------------------------------------------------------------------------------------


def rectangle(height: int, width: int) -> np.ndarray:
    """A dark rectangle on a light background, of which Canny finds only the outline."""
    image = np.full((height, width, 3), 220, np.uint8)
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 40
    return image


def test_edges_are_black_on_white():
    edges = edges_of(rectangle(80, 120))
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
def test_edges_are_computed_at_the_final_size(tmp_path, suffix):
    write(tmp_path / "train" / f"a.{suffix}", rectangle(801, 1003))
    edges, size = EdgesToPhotos(tmp_path), (96, 96)
    may = Augmentation(hflip=0.5, resize_short_side=(100, 110))
    for number in range(4):
        assert edges.image_size(0) == (801, 1003)
        geometry = sample_geometry(np.random.default_rng(number), (801, 1003), size, may)
        moved = edges.read_transformed(0, geometry)
        assert moved["edges"].shape == (*size, 1) and moved["image"].shape == (*size, 3)
        # One pixel wide and black: resizing the edges of the full image would give gray.
        assert set(np.unique(moved["edges"])) == {0, 255}
        assert np.array_equal(moved["edges"], edges_of(moved["image"]))
        whole = transform_image(read_image(tmp_path / "train" / f"a.{suffix}"), geometry).astype(int)
        assert np.abs(moved["image"] - whole).mean() < 3


def test_edges_with_size_read_full_photos_that_cover_it(tmp_path):
    write(tmp_path / "test" / "a.jpg", rectangle(160, 240))
    edges = EdgesToPhotos(tmp_path, "test")
    small = edges.with_size((80, 80))
    assert edges.read(0)["image"].shape == (160, 240, 3)
    for dataset in (small, pickle.loads(pickle.dumps(small))):
        sample = dataset.read(0)
        assert sample["edges"].shape == (80, 120, 1)
        assert np.array_equal(sample["edges"], edges_of(sample["image"]))
    assert edges.with_size((320, 320)).read(0)["image"].shape == (320, 480, 3)


def test_a_gray_field_is_the_luminance_of_its_photo_at_any_size(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    write(tmp_path / "train" / "a.jpg", cv2.resize(noise, (1000, 800), interpolation=cv2.INTER_CUBIC))
    grays = open_dataset("gray-to-photos", tmp_path)
    assert list(grays.fields.items()) == [("gray", Image(1)), ("image", Image(3))]
    decoded = record_decoded(monkeypatch)
    geometry = sample_geometry(np.random.default_rng(1), grays.image_size(0), (48, 48), Augmentation(hflip=0.5))
    moved = grays.read_transformed(0, geometry)
    assert decoded[0].shape[0] <= 400, "A JPEG is decoded no larger than needed."
    # ITU-R BT.601, as in JPEG.
    luminance = moved["image"] @ np.array((0.299, 0.587, 0.114))
    assert np.abs(moved["gray"][..., 0] - luminance).max() < 2


def test_edges_have_the_splits_of_image_folders(tmp_path):
    for name in ("image-folders", "edges-to-photos", "gray-to-photos"):
        root = tmp_path / name
        dataset_class("image-folders").write_example(root)
        assert [len(open_dataset(name, root, split)) for split in ("train", "val", "test")] == [2, 2, 2]
        (root / "train.txt").write_text("000\n777\n")
        with pytest.raises(DatasetError, match=r"777: expected the image that train.txt lists, found none"):
            open_dataset(name, root)
        assert len(dataset_class(name).validate(root)) == 1
