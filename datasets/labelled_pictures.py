"""What sets of pictures share, most of them with one class each: kept as arrays, as files or inside tars."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from .dataset import Dataset, Sample, problems_of
from .formats.jpeg import jpeg_size
from .formats.picture import decode_picture
from .formats.reading import read_bytes
from .formats.tar import Member, read_member
from .geometry import Geometry, Size, cut_and_resize, scaling
from .problems import Problem
from .randomness import Purpose, generator
from .worlds.shapes import draw_shape


class Pictures(Dataset):
    """Samples of one picture each, and what belongs to it."""

    @abstractmethod
    def picture(self, index: int) -> np.ndarray:
        """The picture alone, (H, W, C) uint8."""

    @abstractmethod
    def with_picture(self, picture: np.ndarray, index: int) -> Sample:
        """The sample of a picture that was read, at whatever size."""

    def read(self, index: int) -> Sample:
        return self.with_picture(self.picture(index), index)

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)


class LabelledPictures(Pictures):
    """Pictures with one class each. A loader sets `fields` and `_categories`, and says where a picture is."""

    _categories: np.ndarray
    """(N,) integers: positions in the names of the field `category`."""

    def __len__(self) -> int:
        return len(self._categories)

    def with_picture(self, picture: np.ndarray, index: int) -> Sample:
        return {"image": picture, "category": np.array(self._categories[index], np.int64)}


class Encoded(Protocol):
    """Where the bytes of encoded pictures lie."""

    def name(self, index: int) -> str:
        """Relative to the root; of a picture inside an archive, the archive's name first."""
        ...

    def read(self, index: int) -> bytes: ...


class StoredPictures(Pictures):
    """Pictures that are decoded when they are read, no larger than needed. A loader sets `_encoded`."""

    _encoded: Encoded

    def label(self, index: int) -> str:
        return self._encoded.name(index)

    def picture(self, index: int) -> np.ndarray:
        return decode_picture(self._encoded.read(index), self.root / self.label(index))

    def read_for(self, index: int, draw: Callable[[Size], Geometry]) -> tuple[Sample, Geometry]:
        """A JPEG's size stands in its header, so that the geometry is drawn before anything is decoded."""
        data = self._encoded.read(index)
        source = jpeg_size(data)
        if source is None:
            return super().read_for(index, draw)
        geometry = draw(source)
        across, down = np.linalg.norm(geometry.matrix()[:2, :2], axis=0)
        suffices = math.ceil(source[0] * down - 1e-6), math.ceil(source[1] * across - 1e-6)
        picture = decode_picture(data, self.root / self.label(index), suffices)
        return self.with_picture(picture, index), for_smaller(geometry, round(source[0] / picture.shape[0]))


def for_smaller(geometry: Geometry, factor: int) -> Geometry:
    """A geometry for the same picture, decoded smaller by a factor; a window is brought to whole pixels of it."""
    if factor == 1:
        return geometry
    if geometry.window is None:
        matrices = tuple(matrix @ scaling(factor, factor) for matrix in geometry.matrices)
        return replace(geometry, matrices=matrices)
    top, left, height, width = geometry.window
    first = round(top / factor), round(left / factor)
    last = max(first[0] + 1, round((top + height) / factor)), max(first[1] + 1, round((left + width) / factor))
    mirrored = bool(geometry.matrix()[0, 0] < 0)
    window = (*first, last[0] - first[0], last[1] - first[1])
    return cut_and_resize(window, geometry.size, geometry.zoom, mirrored)


class EncodedPictures(StoredPictures, LabelledPictures):
    """Labelled pictures that are decoded when they are read. A loader also sets `_encoded`."""


class Files:
    """Pictures that are files.

    Args:
        root: the folder that the names are relative to.
        names: with forward slashes.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self._names = root, _table(names)

    def name(self, index: int) -> str:
        return self._names[index].decode()

    def read(self, index: int) -> bytes:
        return read_bytes(self.root / self.name(index), "a picture")


class TarMembers:
    """Pictures inside tar archives.

    Args:
        root: the folder that holds the archives.
        members: each with its archive's name.
    """

    def __init__(self, root: Path, members: Iterable[tuple[str, Member]]) -> None:
        self.root = root
        members = list(members)
        numbers: dict[str, int] = {}
        self._tar = np.array([numbers.setdefault(tar, len(numbers)) for tar, _ in members], np.int32)
        self._tars = list(numbers)
        self._names = _table([member.name for _, member in members])
        self._offsets = np.array([member.offset for _, member in members], np.int64)
        self._sizes = np.array([member.size for _, member in members], np.int64)

    def name(self, index: int) -> str:
        return f"{self._tars[self._tar[index]]}/{self._names[index].decode()}"

    def read(self, index: int) -> bytes:
        tar = self.root / self._tars[self._tar[index]]
        return read_member(tar, int(self._offsets[index]), int(self._sizes[index]))


def _table(names: Sequence[str]) -> np.ndarray:
    # numpy's text takes four bytes a letter: of a million names, 100 MB for every worker.
    return np.array([name.encode() for name in names], np.bytes_)


def picture_names(folder: Path, suffixes: frozenset[str]) -> dict[str, list[str]]:
    """The pictures of each folder inside a folder, at any depth below it, sorted; hidden ones are left out.

    Args:
        folder: for example of all classes.
        suffixes: in lower case, with their dot.

    Returns:
        The inner folder's name to names relative to it, with forward slashes; an empty list where it holds none.
    """
    found: dict[str, list[str]] = {}
    for inner in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        names = []
        for place, folders, files in os.walk(inner):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(place).relative_to(inner).as_posix()
            prefix = "" if below == "." else f"{below}/"
            names += [
                prefix + name for name in files if name[0] != "." and os.path.splitext(name)[1].lower() in suffixes
            ]
        found[inner.name] = sorted(names)
    return found


def drawn_jpeg(number: int, size: tuple[int, int] = (64, 80)) -> bytes:
    """A picture for miniature sets: a drawn shape as a JPEG file's bytes."""
    picture = draw_shape(generator(0, 0, number, Purpose.MINIATURE), *size).image
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
