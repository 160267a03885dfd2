"""The check of the vocabulary, `.ci/dialect.py`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPT = CHECKOUT / ".ci" / "dialect.py"


@pytest.fixture(scope="module")
def dialect():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("dialect", SCRIPT)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("the trunk of a ResNet", ["trunk"]),
        ("def picture_of(file):", ["picture"]),
        ('"""What the network is asked."""', ["asked"]),
        ("the truth", ["truth"]),
        ("Trivial answer: the mean map.", ["Trivial answer"]),
        ("an embedded world", ["embedded world"]),
        ("batch normalisation", ["normalisation"]),
        ("the ground truth; ground_truth", []),
        ("Süsstrunk", []),
        ("the backbone of an image", []),
        ('metadata["licence"]', []),
    ],
)
def test_banned_words_are_found_as_whole_words(dialect, line, words):
    assert dialect.banned_words(line) == words


def test_the_package_has_no_banned_word():
    checked = subprocess.run([sys.executable, SCRIPT], cwd=CHECKOUT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout[-2000:]


def test_a_planted_word_fails_the_check(tmp_path):
    (tmp_path / "module.py").write_text("# the trunk\n")
    checked = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 1 and "module.py:1: 'trunk'" in checked.stdout
