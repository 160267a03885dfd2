"""Files of datasets: listing of folders, the same for every loader (hidden files, links, suffixes, Unicode forms);
reading with a `DatasetError` that names the file."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...limits import LimitExceeded, check_bytes, check_lines, read_file
from .problems import DatasetError, Problem

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".apng", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif"),
    *(".ppm", ".pgm", ".gif"),
)
"""Suffixes of images in lower case, for predictions and datasets; a file that is named may have any suffix. HEIC is
among them without pillow-heif, too: the reader then says that the package is missing."""

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

_OUTSIDE = re.compile(r"(^|[/\\])\.\.($|[/\\])|[\0\ud800-\udfff]")
"""A part `..` of a path, or characters that no name in UTF-8 has."""


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
    """Map the name of each file of `root / folder`, without suffix and in NFC, to the file relative to `root`.

    `suffixes` and `skipped` are as in `list_files`; `problems` receives names that more than one file has.
    """
    files: dict[str, str] = {}
    for file in list_files(root / folder, suffixes, skipped):
        name = normalize_name(os.path.splitext(file)[0])
        if name in files:
            problems.append(Problem(str(root / folder / file), "one file of each name", f"also '{files[name]}'"))
        files[name] = f"{folder}/{file}"
    return files


def natural_key(file: str | Path) -> tuple[Any, ...]:
    """Sort key for natural order, folder by folder, whatever the suffix: frame2 before frame10, and 09 before 9."""
    file = Path(file)
    # re.split with a group alternates text and digits, so only values of the same type are compared.
    *folders, stem = (
        [int(word) if index % 2 else word for index, word in enumerate(re.split(r"([0-9]+)", part))]
        for part in (*file.parent.parts, file.stem)
    )
    return folders, stem, file.name


@dataclass(frozen=True)
class FilePattern:
    """Pattern `folder/before KEY after` of one file of every sample; the files of a sample share the key."""

    folder: str
    before: str = ""
    after: str = ".png"

    def keys(self, root: Path) -> set[str]:
        """Keys of the existing files."""
        names = [file.name for file in (root / self.folder).glob(f"{self.before}*{self.after}")]
        return {name[len(self.before) : len(name) - len(self.after)] for name in names if name[0] != "."}

    def file(self, key: str) -> str:
        """File of a key, relative to the root, with forward slashes."""
        return f"{self.folder}/{self.before}{key}{self.after}".removeprefix("./")

    def pairs(self, root: Path, other: FilePattern) -> list[tuple[str, str]]:
        """Match the files of this pattern with those of another by key, sorted by length, then by name.

        A key of one pattern only remains in the list, so that reading it reports the missing file.
        """
        keys = self.keys(root) | other.keys(root)
        return [(self.file(key), other.file(key)) for key in sorted(keys, key=lambda key: (len(key), key))]


def existing_path(path: Path) -> Path:
    """The path, with the Unicode form of each name under which it is stored."""
    if path.exists() or path.parent == path:
        return path
    parent = existing_path(path.parent)
    names = (unicodedata.normalize(form, path.name) for form in ("NFC", "NFD"))
    return next((parent / name for name in names if (parent / name).exists()), parent / path.name)


def read_bytes(path: str | Path, expected: str) -> bytes:
    """Read all bytes of a file; its name may be stored in another Unicode form.

    Args:
        path: the file.
        expected: description of the file for the error message ("an image").

    Raises:
        DatasetError: the file is missing, cannot be opened, is not a regular file, is empty, or beyond `LIMITS`.
    """
    try:
        data = read_file(existing_path(Path(path)))
    except FileNotFoundError:
        raise DatasetError(path, expected, "no file") from None
    except OSError as error:
        raise DatasetError(path, expected, (error.strerror or str(error)).lower()) from None
    except LimitExceeded as error:
        raise DatasetError(path, expected, str(error)) from None
    except ValueError:
        raise DatasetError(path, expected, "a name that no file can have") from None
    if not data:
        raise DatasetError(path, expected, "an empty file")
    return data


def read_lines(path: str | Path, expected: str) -> list[str]:
    """Read the lines of a text file, stripped, without empty ones.

    Raises:
        DatasetError: as in `read_bytes`, or the file is not UTF-8 text, or all lines are empty.
    """
    data = read_bytes(path, expected)
    try:
        text = data.decode("utf-8-sig")
        check_lines(text)
    except UnicodeDecodeError:
        raise DatasetError(path, expected, "bytes that are not UTF-8 text") from None
    except LimitExceeded as error:
        raise DatasetError(path, expected, str(error)) from None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise DatasetError(path, expected, "only empty lines")
    return lines


def name_table(root: Path, names: Sequence[str]) -> np.ndarray:
    """(N,) bytes of the names of files, UTF-8: str arrays of NumPy take four bytes per character.

    Raises:
        DatasetError: a name is not below `root`, or no file can have it. Links in `root` may lead elsewhere.
    """
    problems = [
        Problem(str(root / name), f"a file in '{root}'", "a name that leads out of it, or that no file can have")
        for name in names
        if name.startswith("/") or os.path.isabs(name) or _OUTSIDE.search(name)
    ]
    if problems:
        raise DatasetError.from_problems(problems)
    encoded = [name.encode() for name in names]
    try:
        # All rows are as long as the longest.
        check_bytes(len(encoded) * max(map(len, encoded), default=0))
    except LimitExceeded as error:
        raise DatasetError(root, f"names of {len(names)} files", str(error)) from None
    return np.array(encoded, np.bytes_)


def data_offset(data: bytes, end: int, size: int) -> int:
    """Offset of `size` bytes of data behind a text header whose last byte, a line end, stands before the offset `end`.

    It is after both bytes of a Windows line end (CRLF), unless the second one is needed as data.
    """
    return end + (data[end - 1 : end + 1] == b"\r\n" and len(data) - end > size)
