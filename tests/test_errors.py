"""What is said to a user who can mend something: one sentence, with the nearest name."""

from __future__ import annotations

import pickle

import pytest

from densevision.catalogue import look_up
from densevision.errors import UserError, unknown_name

TRUNKS = ["vgg16", "resnet50", "resnet18", "alexnet"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("resnet5O", "resnet50"), ("vgg-16", "vgg16"), ("alxnet", "alexnet"), ("VGG16", "vgg16")]
)
def test_a_mistyped_name_is_answered_with_the_nearest(typed, meant):
    mistake = unknown_name("backbone", typed, TRUNKS)
    assert isinstance(mistake, UserError)
    assert str(mistake) == f"There is no backbone named '{typed}'; did you mean '{meant}'?"


def test_a_name_that_is_near_nothing_is_answered_with_all_names_sorted():
    mistake = unknown_name("backbone", "zzz", TRUNKS)
    assert str(mistake) == "There is no backbone named 'zzz'; known: alexnet, resnet18, resnet50, vgg16."


def test_an_empty_catalogue_still_gives_a_sentence():
    assert str(unknown_name("recipe", "fast", [])) == "There is no recipe named 'fast'; known: none."


def test_a_catalogue_hands_out_the_attribute_of_its_line():
    assert look_up("error", "user", {"user": "errors:UserError"}) is UserError


def test_a_catalogue_raises_a_user_error_for_a_name_it_has_not():
    with pytest.raises(UserError, match="no error named 'usr'; did you mean 'user'"):
        look_up("error", "usr", {"user": "errors:UserError"})


def test_a_user_error_survives_the_way_out_of_a_worker():
    mistake = pickle.loads(pickle.dumps(UserError("mend this")))
    assert isinstance(mistake, UserError)
    assert str(mistake) == "mend this"
