"""Listing of dataset folders, the same for every loader: hidden files, links, suffixes and Unicode forms."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from .problems import Problem

SYSTEM_NAMES = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
)
"""Files and folders that operating systems create, in lower case; they are treated as hidden."""
DOCUMENTS = re.compile(
    r"readme|licen[cs]e|copying|notice|citation|.*\.(txt|md|rst|pdf|html?|xml|json|jsonl|ya?ml|toml|csv|tsv|py|sh)",
    re.IGNORECASE,
)
"""Names of files that accompany a dataset without being samples."""
NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""Bytes of a file name that are not UTF-8, as Python represents them."""


def is_hidden(name: str) -> bool:
    """Whether a name begins with a dot, as the `._NAME` companions of macOS do, or is one of `SYSTEM_NAMES`."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def normalize_name(name: str) -> str:
    """The composed Unicode form (NFC) of a name: file systems store an accented letter in one or two characters."""
    return unicodedata.normalize("NFC", name)


def walk(
    folder: Path,
    skipped: list[Problem],
    hidden: list[str] | None = None,
    prefix: str = "",
    parents: tuple[str, ...] = (),
) -> Iterator[tuple[str, list[str]]]:
    """Iterate over a folder and all folders below it, sorted, without hidden ones; linked folders are followed.

    Args:
        folder: the folder; nothing if it does not exist.
        skipped: receives folders that cannot be read, and links to a folder that contains them.
        hidden: receives the hidden files and folders, relative to the first folder.
        prefix, parents: position in the recursion.

    Yields:
        Path relative to the first folder, empty or with a final slash, and the names of the files in it.
    """
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        real = os.path.realpath(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        skipped.append(Problem(str(folder), "a folder that can be read", (error.strerror or str(error)).lower()))
        return
    if any(Path(parent).is_relative_to(real) for parent in parents):
        skipped.append(Problem(str(folder), "no link to a folder that contains it", f"a link to '{real}'"))
        return
    folders, files = [], []
    for entry in entries:
        if is_hidden(entry.name):
            if hidden is not None:
                hidden.append(prefix + entry.name)
        else:
            # A link to itself raises an error in entry.is_dir().
            is_folder = os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()
            (folders if is_folder else files).append(entry.name)
    yield prefix, files
    for name in folders:
        yield from walk(folder / name, skipped, hidden, f"{prefix}{name}/", (*parents, real))


def list_files(folder: Path, suffixes: Collection[str], skipped: list[Problem]) -> list[str]:
    """List the files of a folder and all folders below it, see `walk`.

    Args:
        folder: the folder.
        suffixes: in lower case, with their dot; the case of those of the files does not matter.
        skipped: receives what is passed over, except for documents: other suffixes, and names that are not UTF-8.

    Returns:
        Sorted paths relative to the folder, with forward slashes.
    """
    files = []
    for prefix, names in walk(folder, skipped):
        for name in names:
            path = prefix + name
            if NOT_UTF8.search(path):
                escaped = os.fsencode(folder / path).decode(errors="backslashreplace")
                skipped.append(Problem(escaped, "a file name in UTF-8", "other bytes"))
            elif os.path.splitext(name)[1].lower() in suffixes:
                files.append(path)
            elif not DOCUMENTS.fullmatch(name):
                expected = f"a file {', '.join(sorted(suffixes))}"
                skipped.append(Problem(str(folder / path), expected, "another suffix, which is passed over"))
    return sorted(files)


def files_by_name(
    root: Path, folder: str, suffixes: Collection[str], problems: list[Problem], skipped: list[Problem]
) -> dict[str, str]:
    """Map the name of each file of a folder, relative to it, without suffix and in NFC, to the file relative to root.

    Args:
        root, folder: the folder is `root / folder`.
        suffixes, skipped: see `list_files`.
        problems: receives names that more than one file has.
    """
    files: dict[str, str] = {}
    for file in list_files(root / folder, suffixes, skipped):
        name = normalize_name(os.path.splitext(file)[0])
        if name in files:
            problems.append(Problem(str(root / folder / file), "one file of each name", f"also '{files[name]}'"))
        files[name] = f"{folder}/{file}"
    return files


def existing_path(path: Path) -> Path:
    """The path, with the Unicode form of each name under which it is stored."""
    if path.exists() or path.parent == path:
        return path
    parent = existing_path(path.parent)
    names = (unicodedata.normalize(form, path.name) for form in ("NFC", "NFD"))
    return next((parent / name for name in names if (parent / name).exists()), parent / path.name)
