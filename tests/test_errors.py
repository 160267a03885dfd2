"""User errors: one message, with the nearest name."""

from __future__ import annotations

import pickle

import pytest

from densevision.errors import UserError, printable, unknown_name
from densevision.registry import lookup

BACKBONES = ["vgg16", "resnet50", "resnet18", "alexnet"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("resnet5O", "resnet50"), ("vgg-16", "vgg16"), ("alxnet", "alexnet"), ("VGG16", "vgg16")]
)
def test_a_mistyped_name_suggests_the_nearest(typed, meant):
    mistake = unknown_name("backbone", typed, BACKBONES)
    assert isinstance(mistake, UserError)
    assert str(mistake) == f"There is no backbone named '{typed}'; did you mean '{meant}'?"


def test_a_name_near_nothing_lists_all_names_sorted():
    mistake = unknown_name("backbone", "zzz", BACKBONES)
    assert str(mistake) == "There is no backbone named 'zzz'; known: alexnet, resnet18, resnet50, vgg16."


def test_an_empty_registry_gives_a_message():
    assert str(unknown_name("recipe", "fast", [])) == "There is no recipe named 'fast'; known: none."


def test_lookup_imports_the_attribute():
    assert lookup("error", "user", {"user": "errors:UserError"}) is UserError


def test_lookup_of_an_object_returns_it_without_an_import():
    assert lookup("loss", "l1", {"l1": abs}) is abs


def test_lookup_of_an_unknown_name_raises():
    with pytest.raises(UserError, match="no error named 'usr'; did you mean 'user'"):
        lookup("error", "usr", {"user": "errors:UserError"})


def test_a_user_error_can_be_pickled():
    mistake = pickle.loads(pickle.dumps(UserError("fix this")))
    assert isinstance(mistake, UserError)
    assert str(mistake) == "fix this"


def test_names_of_an_input_are_printed_on_one_line_without_control_characters():
    assert printable("a\x1b[2J\n\u202eb\udcff é 写") == "a\\x1b[2J\\n\\u202eb\\udcff é 写"


def test_a_message_of_any_length_is_printed_with_both_ends():
    assert len(printable("a" * 10**6 + "end.")) < 5000 and printable("a" * 10**6 + "end.").endswith("end.")
