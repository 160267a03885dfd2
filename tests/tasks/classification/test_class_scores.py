from __future__ import annotations

import json

import numpy as np
import pytest

from densevision.datasets.formats.image import read_image
from densevision.tasks.classification import Classification
from densevision.tasks.classification.metrics import RIGHT, ClassScores

from .toys import fields

SEVEN = ClassScores(tuple("abcdefg"), np.array([0.05, 0.4, 0.0, 0.25, 0.2, 0.1, 0.0], np.float32))


def test_the_name_is_that_of_the_largest_probability():
    assert SEVEN.name == "b"
    assert SEVEN.unit == "probability"


def test_the_best_come_first_and_the_impossible_not_at_all():
    assert [name for name, _ in SEVEN.top()] == ["b", "d", "e", "f", "a"]
    assert [name for name, _ in SEVEN.top(7)] == ["b", "d", "e", "f", "a"]
    assert SEVEN.top(1) == [("b", pytest.approx(0.4))]
    assert SEVEN.summary() == "b 0.400, d 0.250, e 0.200"


def test_equal_probabilities_keep_the_order_of_the_classes():
    assert [name for name, _ in ClassScores(tuple("abc"), np.full(3, 1 / 3)).top()] == ["a", "b", "c"]


def test_saving_writes_the_names_best_first_and_the_image(tmp_path):
    listed, drawn = SEVEN.save(tmp_path, "cat")
    assert (listed.name, drawn.name) == ("cat_classes.json", "cat_classes.png")
    assert list(json.loads(listed.read_text()).items())[:2] == [("b", 0.4), ("d", 0.25)]
    assert read_image(drawn).shape == (180, 300, 3)


def test_the_true_names_bar_is_green_given_a_target():
    def green(page: np.ndarray, row: int) -> bool:
        return bool((page[row * 36 : row * 36 + 36] == RIGHT).all(-1).any())

    target = ClassScores(SEVEN.names, np.eye(7)[3])
    page = SEVEN.to_image(target)
    assert [green(page, row) for row in range(5)] == [False, True, False, False, False]
    assert not any(green(SEVEN.to_image(), row) for row in range(5))
    assert green(target.to_image(target), 0)


@pytest.mark.parametrize("names", [("a",), ("a" * 200, "é, ü, 漢", "c")])
def test_few_long_and_foreign_names_are_drawn(names):
    page = ClassScores(names, np.full(len(names), 1 / len(names))).to_image()
    assert page.shape == (180, 300, 3) and page.dtype == np.uint8


def test_the_target_is_all_on_the_true_class():
    target = Classification().ground_truth({"category": np.array(2)}, fields())
    assert isinstance(target, ClassScores)
    assert target.probabilities.tolist() == [0, 0, 1] and target.name == "blue"
