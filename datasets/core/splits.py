"""Training and test splits of your own files: by lists, or by a hash of the name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from .files import normalize_name, read_lines
from .problems import Problem

TEST_SHARE = 10
"""One name in this many is a test sample, if neither folders nor lists define the splits."""
SPLIT_FALLBACKS = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}
"""Split to the folders or lists that serve it; the first existing one is used."""


def is_test_sample(name: str) -> bool:
    """Whether a name belongs to the test split, by its hash: one in `TEST_SHARE`."""
    return _hash(name) % TEST_SHARE == 0


def in_split(names: Sequence[str], split: str, classes: Sequence[str] | None = None) -> list[bool]:
    """Whether each sample belongs to a split, by a hash of its name.

    The hash is the same on every machine, and adding files does not move others, with one exception: if the hash leaves
    a part without a sample of a class, the name with the smallest hash is for testing, that with the largest for
    training. A class with a single sample is in the training part.

    Args:
        names: name of each sample; equal names stay together.
        split: "train" is the training part, all others the test part.
        classes: class of each sample; None: all of one class.
    """
    units: dict[str, set[str]] = {}
    classes = [""] * len(names) if classes is None else classes
    for label, name in zip(classes, names, strict=True):
        units.setdefault(label, set()).add(name)
    test: set[tuple[str, str]] = set()
    for label, members in units.items():
        hashes = {name: _hash(name) for name in members}
        chosen = {name for name in members if hashes[name] % TEST_SHARE == 0} or {min(hashes, key=hashes.__getitem__)}
        if chosen == members:
            chosen.remove(max(hashes, key=hashes.__getitem__))
        test.update((label, name) for name in chosen)
    return [((label, name) in test) == (split != "train") for label, name in zip(classes, names, strict=True)]


def files_in_split(files: Sequence[str], split: str, classes: Sequence[str] | None = None) -> list[str]:
    """The files that belong to a split by a hash of their paths without suffix, see `in_split`."""
    return list(compress(files, in_split([file.rpartition(".")[0] for file in files], split, classes)))


def folder_of_split(parent: Path, split: str) -> str | None:
    """Name of the folder in `parent` for a split, or for its fallback; None if there are no such folders."""
    if not any((parent / name).is_dir() for name in SPLIT_FALLBACKS):
        return None
    return next((name for name in SPLIT_FALLBACKS[split] if (parent / name).is_dir()), split)


def empty_split(root: Path, samples: str, split: str, count: int = 0) -> Problem:
    """The problem that a split has none of its samples (a plural, such as "images").

    `count` is the number of samples of all splits, if `in_split` has split them.
    """
    found = f"{count}, all for training: add others, or state the split with folders 'train' and 'test'"
    return Problem(str(root), f"{samples} for '{split}'", found if count else "none")


def read_split_list(root: Path, split: str, expected: str, skipped: list[Problem]) -> tuple[Path, list[str]] | None:
    """Read the list of a split, such as `train.txt`; None if no split has one.

    Args:
        root: folder of the lists.
        split: the split; `val` and `test` serve each other.
        expected: description of the lines for the error message.
        skipped: receives repeated lines, which are omitted, and lines that are in the training list too.

    Returns:
        The file and its lines, in NFC.

    Raises:
        DatasetError: another split has a list, but this one has none.
    """
    if not any((root / f"{name}.txt").is_file() for name in SPLIT_FALLBACKS):
        return None
    lists = [root / f"{name}.txt" for name in SPLIT_FALLBACKS[split]]
    file = next((path for path in lists if path.is_file()), lists[0])
    lines = [normalize_name(line) for line in read_lines(file, expected)]
    unique = list(dict.fromkeys(lines))
    if len(unique) < len(lines):
        skipped.append(Problem(str(file), "every line once", f"{len(lines) - len(unique)} repeated, which are omitted"))
    training = root / "train.txt"
    if split != "train" and training.is_file():
        shared = set(unique) & set(map(normalize_name, read_lines(training, expected)))
        if shared:
            found = f"{len(shared)} lines that train.txt contains too, such as '{min(shared)}'"
            skipped.append(Problem(str(file), "samples that are not used for training", found))
    return file, unique


def _hash(name: str) -> int:
    # hash() of Python changes from process to process.
    return int(hashlib.sha1(normalize_name(name).encode()).hexdigest(), 16)
