"""Base classes of image datasets, most of them with one class per image; images in arrays, files or tar archives."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .core.files import is_hidden, list_files, name_table, normalize_name, read_bytes
from .core.geometry import Geometry, Size, crop_and_resize, scaling
from .core.problems import Problem
from .dataset import Dataset, Sample
from .field_types import FieldType, transform_sample
from .formats.image import EncodedImage
from .formats.tar import Member, read_member


class Files:
    """Images in files, by their names relative to `root`, with forward slashes."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self._names = root, name_table(root, names)

    def name(self, index: int) -> str:
        """Name of an image relative to the root."""
        return self._names[index].decode()

    def read(self, index: int) -> bytes:
        return read_bytes(self.root / self.name(index), "an image")


class TarMembers:
    """Images in tar archives in `root`, by the name of the archive and the member."""

    def __init__(self, root: Path, members: Iterable[tuple[str, Member]]) -> None:
        self.root = root
        members = list(members)
        numbers: dict[str, int] = {}
        self._tar = np.array([numbers.setdefault(tar, len(numbers)) for tar, _ in members], np.int32)
        self._tars = list(numbers)
        self._names = name_table(root, [member.name.lstrip("/") for _, member in members])
        self._offsets = np.array([member.offset for _, member in members], np.int64)
        self._sizes = np.array([member.size for _, member in members], np.int64)

    def name(self, index: int) -> str:
        """Name of an image relative to the root, beginning with the name of its archive."""
        return f"{self._tars[self._tar[index]]}/{self._names[index].decode()}"

    def read(self, index: int) -> bytes:
        tar = self.root / self._tars[self._tar[index]]
        return read_member(tar, int(self._offsets[index]), int(self._sizes[index]))


class JoinedSources:
    """Images of several sources, one source after the other.

    Args:
        sources: each with its number of images.
    """

    def __init__(self, sources: Sequence[tuple[Files | TarMembers, int]]) -> None:
        self._sources = [source for source, _ in sources]
        self._ends = np.cumsum([count for _, count in sources])

    def _find(self, index: int) -> tuple[Files | TarMembers, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[number], index - int(self._ends[number - 1] if number else 0)

    def name(self, index: int) -> str:
        """Name of an image relative to the root of its source."""
        source, number = self._find(index)
        return source.name(number)

    def read(self, index: int) -> bytes:
        source, number = self._find(index)
        return source.read(number)


EncodedSource = Files | TarMembers | JoinedSources
"""Source of the bytes of encoded images."""


class ImageDataset(Dataset):
    """Samples of one image each, and data that belong to it."""

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Read the image, (H, W, C) uint8."""

    @abstractmethod
    def with_image(self, image: np.ndarray, index: int) -> Sample:
        """Complete the sample of an image that was read at any size."""

    def read(self, index: int) -> Sample:
        return self.with_image(self.image(index), index)


class LabeledImages(ImageDataset):
    """Images with one class each. Subclasses set `fields` and `_categories`, and implement `image`."""

    _categories: np.ndarray
    """(N,) integers: indices into the names of the field `category`."""

    def __len__(self) -> int:
        return len(self._categories)

    def with_image(self, image: np.ndarray, index: int) -> Sample:
        return {"image": image, "category": np.array(self._categories[index], np.int64)}


class StoredImages(ImageDataset):
    """Images that are decoded when they are read, at a reduced size if that suffices. Subclasses set `_encoded`."""

    _encoded: EncodedSource

    def sample_name(self, index: int) -> str:
        return self._encoded.name(index)

    def image(self, index: int) -> np.ndarray:
        return self.open(index).decode()

    def open(self, index: int) -> EncodedImage:
        """The image, not decoded yet; the size of a JPEG is in its header."""
        return EncodedImage(self._encoded.read(index), self.root / self.sample_name(index))

    def image_size(self, index: int) -> Size:
        encoded = self.open(index)
        self._kept = index, encoded
        return encoded.size

    def read_transformed(self, index: int, geometry: Geometry, fields: dict[str, FieldType] | None = None) -> Sample:
        (number, encoded), self._kept = self._kept, (-1, None)
        if number != index:
            encoded = self.open(index)
        image, geometry = scaled_image(encoded, geometry)
        return self.transformed(image, index, geometry, fields or self.fields)

    def encoded_images(self, index: int) -> list[bytes]:
        return [self._encoded.read(index)]

    def transformed(self, image: np.ndarray, index: int, geometry: Geometry, fields: dict[str, FieldType]) -> Sample:
        """Complete the sample of an image and apply a geometry to it."""
        return transform_sample(self.with_image(image, index), fields, geometry)


def scaled_image(encoded: EncodedImage, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """Decode an image at the size that a geometry needs; returns the geometry from its pixels, too."""
    height, width = encoded.size
    scale_x, scale_y = np.linalg.norm(geometry.matrix()[:2, :2], axis=0)
    image = encoded.decode((math.ceil(height * scale_y - 1e-6), math.ceil(width * scale_x - 1e-6)))
    return image, rescale_geometry(geometry, round(height / image.shape[0]))


def rescale_geometry(geometry: Geometry, factor: int) -> Geometry:
    """Adapt a geometry to the same image decoded smaller by a factor; a window is rounded to its pixels."""
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
    return crop_and_resize(window, geometry.size, geometry.zoom, mirrored)


class EncodedImages(StoredImages, LabeledImages):
    """Labeled images that are decoded when they are read. Subclasses also set `_encoded`."""


def list_class_folders(folder: Path, suffixes: Collection[str], skipped: list[Problem]) -> dict[str, list[str]]:
    """List the images of each subfolder, at any depth below it, sorted.

    Args:
        folder: folder of the class folders.
        suffixes, skipped: see `list_files`; `skipped` also receives images beside the class folders.

    Returns:
        Name of the subfolder in NFC to its images relative to `folder`, with forward slashes; may be empty.
    """
    subfolders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    classes: dict[str, list[str]] = {normalize_name(name): [] for name in subfolders}
    for file in list_files(folder, suffixes, skipped):
        name, slash, _ = file.partition("/")
        if slash:
            classes[normalize_name(name)].append(file)
        else:
            skipped.append(Problem(str(folder / file), "an image in the folder of its class", "one beside the folders"))
    return classes
