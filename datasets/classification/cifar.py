"""CIFAR-10 and CIFAR-100: 60,000 images of 32x32 (Krizhevsky: Learning Multiple Layers of Features from Tiny
Images, 2009).

The files are pickled dictionaries of numpy arrays (`formats/pickled_arrays.py`).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...atomic_io import atomic_path
from ..core.files import read_bytes
from ..core.problems import DatasetError
from ..core.randomness import Purpose, generator
from ..field_types import ClassLabel, Image
from ..formats.pickled_arrays import load_pickled_arrays
from ..formats.tar import contains_folder, unpack_members
from ..rendering.shapes import draw_shape
from ..stored_images import LabeledImages


def load_pickled_batch(data: bytes, path: str | Path) -> dict[str, Any]:
    """Load a pickled dictionary of numbers, lists, bytes and arrays.

    Args:
        data: the pickle, of Python 2 or 3.
        path: its file, for the error message.

    Returns:
        The dictionary with str keys; other strings of Python 2 remain bytes.

    Raises:
        DatasetError: the pickle is truncated, uses a name that arrays do not need, or is not a dictionary.
    """
    expected = "a pickled dictionary of arrays, without calls of other code"
    try:
        batch = load_pickled_arrays(data)
    except ValueError as error:
        raise DatasetError(path, expected, str(error)) from None
    if not isinstance(batch, dict):
        raise DatasetError(path, expected, f"a {type(batch).__name__}")
    return {
        name.decode("latin-1") if isinstance(name, bytes) else str(name): getattr(value, "array", value)
        for name, value in batch.items()
    }


def write_pickled_batch(path: str | Path, batch: dict[str, Any]) -> None:
    """Write a dictionary in the format of the official files (protocol 2, keys as bytes), atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps({name.encode(): value for name, value in batch.items()}, protocol=2))


VALUES = 3 * 32 * 32
"""Length of a row of a batch: the red, green and blue planes, row by row."""

Source = tuple[Path, Callable[[str], bytes], list[str]]
"""(folder or archive, function that reads a file of it, names of its files)."""


class CIFAR(LabeledImages):
    """Base class of the two datasets: pickled batches in a folder, or in the archive as downloaded.

    The images are stored in memory: 150 MB for the training split. In a subset, whose first batch contains fewer images
    than the meta file states, the last batches may be missing.
    """

    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"
    photos: ClassVar[bool] = False
    folder: ClassVar[str]
    archive: ClassVar[str]
    meta: ClassVar[str]
    names: ClassVar[str]
    labels: ClassVar[str]
    batches: ClassVar[dict[str, tuple[str, ...]]]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self._source, read, files = _open(self.root, self.folder, self.archive)
        meta = load_pickled_batch(read(self.meta), self._source / self.meta)
        names = meta.get(self.names)
        if not isinstance(names, list) or not all(isinstance(name, bytes) and name.isascii() for name in names):
            raise DatasetError(self._source / self.meta, f"a list of names '{self.names}'", f"{type(names).__name__}")
        self.fields = {"image": Image(), "category": ClassLabel(tuple(name.decode() for name in names))}
        stated = meta.get("num_cases_per_batch")
        batch_size = stated if isinstance(stated, int) else 0
        images, categories, sample_names = [], [], []
        for number, name in enumerate(self.batches[split]):
            is_subset = bool(images) and len(images[0]) < batch_size
            if is_subset and not any(later in files for later in self.batches[split][number:]):
                break
            rows, labels = self._batch(name, read, len(names))
            images.append(rows)
            categories.append(labels)
            sample_names += [f"{name}/{row:05}" for row in range(len(rows))]
        # Planes are converted to pixels once, here, so that reading an image is only a copy.
        planes = np.concatenate(images).reshape(-1, 3, 32, 32)
        self._images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        self._categories, self._sample_names = np.concatenate(categories), np.array(sample_names, np.bytes_)

    def _batch(self, name: str, read: Callable[[str], bytes], classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, 3072) uint8 and labels (N,) int64 of a batch."""
        path = self._source / name
        batch = load_pickled_batch(read(name), path)
        rows, labels = batch.get("data"), batch.get(self.labels)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (VALUES,):
            found = f"{rows.shape} {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
            raise DatasetError(path, f"'data' of shape Nx{VALUES} uint8", found)
        if not isinstance(labels, list) or len(labels) != len(rows):
            found = f"{len(labels)}" if isinstance(labels, list) else type(labels).__name__
            raise DatasetError(path, f"{len(rows)} numbers in '{self.labels}'", found)
        invalid = [label for label in labels if not isinstance(label, int) or not 0 <= label < classes]
        if invalid:
            raise DatasetError(path, f"labels from 0 to {classes - 1}", _described(invalid[0]))
        return rows, np.array(labels, np.int64)

    def sample_name(self, index: int) -> str:
        return f"{self.folder}/{self._sample_names[index].decode()}"

    def image(self, index: int) -> np.ndarray:
        return self._images[index].copy()

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        folder = Path(root) / cls.folder
        classes = EXAMPLE_NAMES[cls.names]
        meta = {"num_cases_per_batch": 10000, cls.names: [name.encode() for name in classes], "num_vis": VALUES}
        write_pickled_batch(folder / cls.meta, meta)
        for number, name in enumerate(name for batches in cls.batches.values() for name in batches):
            labels = list(range(6 if number == 0 else 3))
            images = [draw_shape(generator(0, number, label, Purpose.EXAMPLE), 32, 32).image for label in labels]
            rows = np.stack(images).transpose(0, 3, 1, 2).reshape(-1, VALUES)
            files = [f"drawn_{number}_{label}.png".encode() for label in labels]
            write_pickled_batch(folder / name, {"data": rows, cls.labels: labels, "filenames": files})


class CIFAR10(CIFAR):
    """Ten classes: 50,000 training images in five batches, 10,000 test images.

    The root contains the folder `cifar-10-batches-py`, is this folder, or contains an archive (`.tar.gz`) of it.
    """

    title: ClassVar[str] = "CIFAR-10"
    folder, archive, meta = "cifar-10-batches-py", "cifar-10-python.tar.gz", "batches.meta"
    names, labels = "label_names", "labels"
    batches: ClassVar = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}


class CIFAR100(CIFAR):
    """A hundred classes (the fine labels): 50,000 training images, 10,000 test images.

    The root contains the folder `cifar-100-python`, is this folder, or contains an archive (`.tar.gz`) of it.
    """

    title: ClassVar[str] = "CIFAR-100"
    folder, archive, meta = "cifar-100-python", "cifar-100-python.tar.gz", "meta"
    names, labels = "fine_label_names", "fine_labels"
    batches: ClassVar = {"train": ("train",), "test": ("test",)}


EXAMPLE_NAMES = {
    "label_names": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "fine_label_names": ("apple", "aquarium_fish", "baby", "bear", "beaver", "bed"),
}


def _described(label: Any) -> str:
    return f"{label}" if isinstance(label, int) and abs(label) < 2**60 else f"a {type(label).__name__}"


def _open(root: Path, folder: str, archive: str) -> Source:
    """Open the folder, or else an archive that contains it."""
    path = root if root.name == folder else root / folder
    if path.is_dir():
        return path, lambda name: read_bytes(path / name, "a pickled batch"), [file.name for file in path.iterdir()]
    for tar in sorted(root.glob("[!.]*.tar.gz"), key=lambda file: (file.name != archive, file.name)):
        if tar.name == archive or contains_folder(tar, folder):
            members = unpack_members(tar, folder)

            def read(name: str, path: Path = tar / folder, members: dict[str, bytes] = members) -> bytes:
                if not members.get(name):
                    raise DatasetError(
                        path / name, "a pickled batch", "an empty file" if name in members else "no file"
                    )
                return members[name]

            return tar / folder, read, list(members)
    raise DatasetError(root / folder, f"this folder, or '{archive}' beside it", "neither")
