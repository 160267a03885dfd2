"""What a translation answers, what it saves, and the trivial answer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.fields import Image, Labels
from densevision.errors import UserError
from densevision.tasks.restoration.restored import Restored
from densevision.tasks.translation.made import LabelMap, Made, MeanPicture
from densevision.tasks.translation.metrics import find_protocol

KIND = Labels(("road", "car", "sky"), ignore=9)


def stored_in(path: Path) -> np.ndarray:
    """A file's values as they are; three channels as BGR."""
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values is not None
    return values


def test_a_made_picture_is_clipped_rounded_and_saved_as_it_is(tmp_path):
    made = Made.of(np.array([[[-0.2, 1.3, 0.5019]]]), "image")
    assert made.pixels.tolist() == [[[0, 255, 128]]] and made.pixels.dtype == np.uint8
    (path,) = made.save(tmp_path, "a")
    assert path.name == "a_translated.png"
    assert stored_in(path).tolist() == [[[128, 255, 0]]]
    assert Restored(made.pixels).save(tmp_path, "a")[0].name == "a_restored.png"


def test_a_grey_picture_is_stored_grey_and_drawn_in_three_channels(tmp_path):
    grey = Made.of(np.linspace(0, 1, 12).reshape(3, 4, 1), "grey")
    assert grey.pixels.shape == (3, 4, 1) and grey.picture().shape == (3, 4, 3)
    assert np.array_equal(stored_in(grey.save(tmp_path, "a")[0]), grey.pixels[..., 0])
    assert grey.brief() == "a picture of 4x3"


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_true_picture_may_be_of_any_type_that_a_set_stores(dtype, tmp_path):
    value = np.full((3, 4, 3), 0x8000 if dtype == np.uint16 else 128 / 255, dtype)
    truth = Made(value, "image")
    assert truth.picture().dtype == np.uint8 and (truth.picture() == 128).all()
    assert truth.save(tmp_path, "a")[0].is_file()


def test_a_label_map_is_saved_as_its_classes_beside_its_colours(tmp_path):
    classes = np.array([[0, 0, 0, 2], [2, 1, 9, 0]], np.int64)
    answer = LabelMap(classes, KIND, "labels")
    labels, colours = answer.save(tmp_path, "a")
    assert (labels.name, colours.name) == ("a_labels.png", "a_labels_colours.png")
    assert np.array_equal(stored_in(labels), classes)
    drawn = stored_in(colours)[..., ::-1]
    assert np.array_equal(drawn, KIND.draw(classes)) and (drawn[1, 2] == 0).all()
    # Of the seven pixels of which something is said: four, two and one.
    assert answer.brief() == "road 57 %, sky 29 %, car 14 %"


def test_classes_beyond_eight_bits_are_stored_in_sixteen_instead_of_wrapping(tmp_path):
    kind = Labels(tuple(map(str, range(400))), ignore=65535)
    classes = np.array([[3, 399]], np.int64)
    labels = LabelMap(classes, kind, "labels").save(tmp_path, "a")[0]
    assert np.array_equal(stored_in(labels), classes)


def test_a_label_map_of_which_nothing_is_said_has_a_brief_too():
    assert LabelMap(np.full((2, 2), 9), KIND, "labels").brief() == "no class"


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_the_mean_picture_is_the_mean_of_the_samples_whatever_their_type(dtype, full):
    dark, bright = np.zeros((4, 6, 1), dtype), np.full((4, 6, 1), full, dtype)
    mean = MeanPicture([{"photo": dark}, {"photo": bright}], "photo", Image(1))
    answer = mean({"photo": np.zeros((8, 9, 1), np.uint8)})
    assert isinstance(answer, Made) and answer.goal == "photo"
    assert answer.pixels.shape == (8, 9, 1) and set(np.unique(answer.pixels)) == {128}
    assert (dark == 0).all()


def test_the_mean_picture_of_pictures_of_several_sizes_has_the_first_ones_places():
    first = np.zeros((4, 4, 3), np.uint8)
    second = np.zeros((8, 12, 3), np.uint8)
    second[:, 6:] = 200
    mean = MeanPicture([{"image": first}, {"image": second}], "image", Image())
    assert mean({"image": first}).picture()[:, :, 0].tolist() == [[0, 0, 100, 100]] * 4


def test_the_trivial_label_map_is_the_most_frequent_class_of_each_place():
    maps = np.array([[[0, 1, 9]], [[0, 1, 9]], [[2, 9, 9]], [[9, 2, 9]], [[9, 2, 9]], [[9, 2, 9]]])
    trivial = MeanPicture(({"labels": labels} for labels in maps), "labels", KIND)
    # Four of the nine labels are sky: what nothing is said of is called so.
    answer = trivial({"labels": np.zeros((2, 3), np.uint8)})
    assert isinstance(answer, LabelMap) and answer.classes.tolist() == [[0, 2, 2]] * 2


def test_an_ignored_class_among_the_names_has_no_vote():
    kind = Labels(("nothing", "road"), ignore=0)
    trivial = MeanPicture(({"labels": np.array([[value]])} for value in (0, 0, 1)), "labels", kind)
    answer = trivial({"labels": np.zeros((1, 1), np.uint8)})
    assert isinstance(answer, LabelMap) and answer.classes.item() == 1


def test_a_mean_of_nothing_is_a_users_mistake():
    with pytest.raises(UserError, match="no training sample whose 'labels'"):
        MeanPicture([], "labels", KIND)


def test_the_trivial_answer_on_camvid_scores_what_the_sample_states(shared_data):
    train, test = (open_dataset("camvid", shared_data / "camvid", split) for split in ("train", "test"))
    trivial = MeanPicture((train.read(index) for index in range(len(train))), "labels", train.fields["labels"])
    metrics = find_protocol("labels")()
    for index in range(len(test)):
        sample = test.read(index)
        metrics.update(trivial(sample), sample)
    scores = metrics.compute()
    # The sample's own page: pixel accuracy 0.595, mean IoU over the 11 classes 0.165, on 60 pictures.
    assert scores["pixel_accuracy"] == pytest.approx(0.595, abs=5e-4)
    assert scores["mean_iou"] == pytest.approx(0.165, abs=5e-4)
    assert scores["samples"] == 60
