"""Translated images and label maps, their files, and the baseline."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.field_types import Image, SegmentationMask
from densevision.errors import UserError
from densevision.tasks.restoration.metrics import RestoredImage
from densevision.tasks.translation.metrics import find_protocol
from densevision.tasks.translation.predictions import LabelMap, MeanImage, TranslatedImage

CLASSES = SegmentationMask(("road", "car", "sky"), ignore=9)


def read_unchanged(path: Path) -> np.ndarray:
    """The stored values of an image file; three channels as BGR."""
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values is not None
    return values


def test_image_from_floats_is_clipped_rounded_and_saved_unchanged(tmp_path):
    image = TranslatedImage.from_floats(np.array([[[-0.2, 1.3, 0.5019]]]), "image")
    assert image.pixels.tolist() == [[[0, 255, 128]]] and image.pixels.dtype == np.uint8
    (path,) = image.save(tmp_path, "a")
    assert path.name == "a_translated.png"
    assert read_unchanged(path).tolist() == [[[128, 255, 0]]]
    assert RestoredImage(image.pixels).save(tmp_path, "a")[0].name == "a_restored.png"


def test_gray_image_is_stored_with_one_channel_and_displayed_with_three(tmp_path):
    gray = TranslatedImage.from_floats(np.linspace(0, 1, 12).reshape(3, 4, 1), "gray")
    assert gray.pixels.shape == (3, 4, 1) and gray.to_image().shape == (3, 4, 3)
    assert np.array_equal(read_unchanged(gray.save(tmp_path, "a")[0]), gray.pixels[..., 0])
    assert gray.summary() == "an image of 4x3"


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_ground_truth_image_can_have_any_stored_type(dtype, tmp_path):
    value = np.full((3, 4, 3), 0x8000 if dtype == np.uint16 else 128 / 255, dtype)
    image = TranslatedImage(value, "image")
    assert image.to_image().dtype == np.uint8 and (image.to_image() == 128).all()
    assert image.save(tmp_path, "a")[0].is_file()


def test_label_map_is_saved_as_classes_and_as_colors(tmp_path):
    classes = np.array([[0, 0, 0, 2], [2, 1, 9, 0]], np.int64)
    label_map = LabelMap(classes, CLASSES, "labels")
    labels, colors = label_map.save(tmp_path, "a")
    assert (labels.name, colors.name) == ("a_labels.png", "a_labels_colors.png")
    assert np.array_equal(read_unchanged(labels), classes)
    pixels = read_unchanged(colors)[..., ::-1]
    assert np.array_equal(pixels, CLASSES.colorize(classes)) and (pixels[1, 2] == 0).all()
    # Four, two and one of the seven labeled pixels.
    assert label_map.summary() == "road 57 %, sky 29 %, car 14 %"


def test_classes_above_255_are_stored_in_16_bits(tmp_path):
    field_type = SegmentationMask(tuple(map(str, range(400))), ignore=65535)
    classes = np.array([[3, 399]], np.int64)
    labels = LabelMap(classes, field_type, "labels").save(tmp_path, "a")[0]
    assert np.array_equal(read_unchanged(labels), classes)


def test_unlabeled_label_map_has_a_summary():
    assert LabelMap(np.full((2, 2), 9), CLASSES, "labels").summary() == "no class"


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_mean_image_of_samples_of_any_type(dtype, full):
    dark, bright = np.zeros((4, 6, 1), dtype), np.full((4, 6, 1), full, dtype)
    mean = MeanImage([{"photo": dark}, {"photo": bright}], "photo", Image(1))
    image = mean({"photo": np.zeros((8, 9, 1), np.uint8)})
    assert isinstance(image, TranslatedImage) and image.target_field == "photo"
    assert image.pixels.shape == (8, 9, 1) and set(np.unique(image.pixels)) == {128}
    assert (dark == 0).all()


def test_mean_image_has_the_size_of_the_first_sample():
    first = np.zeros((4, 4, 3), np.uint8)
    second = np.zeros((8, 12, 3), np.uint8)
    second[:, 6:] = 200
    mean = MeanImage([{"image": first}, {"image": second}], "image", Image())
    assert mean({"image": first}).to_image()[:, :, 0].tolist() == [[0, 0, 100, 100]] * 4


def test_baseline_label_map_is_the_most_frequent_class_of_each_position():
    maps = np.array([[[0, 1, 9]], [[0, 1, 9]], [[2, 9, 9]], [[9, 2, 9]], [[9, 2, 9]], [[9, 2, 9]]])
    baseline = MeanImage(({"labels": labels} for labels in maps), "labels", CLASSES)
    # Four of the nine labels are sky, the class of positions without labels.
    label_map = baseline({"labels": np.zeros((2, 3), np.uint8)})
    assert isinstance(label_map, LabelMap) and label_map.classes.tolist() == [[0, 2, 2]] * 2


def test_ignored_class_among_the_names_does_not_count_in_the_baseline():
    field_type = SegmentationMask(("nothing", "road"), ignore=0)
    baseline = MeanImage(({"labels": np.array([[value]])} for value in (0, 0, 1)), "labels", field_type)
    label_map = baseline({"labels": np.zeros((1, 1), np.uint8)})
    assert isinstance(label_map, LabelMap) and label_map.classes.item() == 1


def test_mean_of_no_samples_is_a_user_error():
    with pytest.raises(UserError, match="no training sample with 'labels'"):
        MeanImage([], "labels", CLASSES)


def test_baseline_on_camvid_has_the_published_scores(shared_data):
    train, test = (open_dataset("camvid", shared_data / "camvid", split) for split in ("train", "test"))
    baseline = MeanImage((train.read(index) for index in range(len(train))), "labels", train.fields["labels"])
    metrics = find_protocol("labels")()
    for index in range(len(test)):
        sample = test.read(index)
        metrics.update(baseline(sample), sample)
    scores = metrics.compute()
    # From the dataset sample's README: pixel accuracy 0.595, mean IoU over the 11 classes 0.165, on 60 images.
    assert scores["pixel_accuracy"] == pytest.approx(0.595, abs=5e-4)
    assert scores["mean_iou"] == pytest.approx(0.165, abs=5e-4)
    assert scores["samples"] == 60
