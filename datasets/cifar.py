"""CIFAR-10 and CIFAR-100: 60,000 pictures of 32x32 (Krizhevsky: Learning Multiple Layers of Features from Tiny
Images, 2009)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from .fields import Category, Image
from .formats.pickled_batch import load_pickled_batch, write_pickled_batch
from .formats.reading import read_bytes
from .formats.tar import holds_folder, unpack_members
from .labelled_pictures import LabelledPictures
from .problems import DamagedData
from .randomness import Purpose, generator
from .worlds.shapes import draw_shape

VALUES = 3 * 32 * 32
"""A row of a batch: the red, the green and the blue plane, row by row."""

Stored = tuple[Path, Callable[[str], bytes], list[str]]
"""The folder or archive, what reads a file in it, and its files."""


class CIFAR(LabelledPictures):
    """What the two sets share: pickled batches in a folder, or in the archive as it is downloaded.

    The pickles are read without running anything they may hold (`formats.pickled_batch`). The pictures are kept in
    memory: 150 MB for the whole training split. A sample of a set, whose first batch holds fewer pictures than its
    meta file says, may leave off the last ones.
    """

    terms: ClassVar[str] = "no explicit licence, cite: treat as research-only"
    folder: ClassVar[str]
    archive: ClassVar[str]
    meta: ClassVar[str]
    names: ClassVar[str]
    labels: ClassVar[str]
    batches: ClassVar[dict[str, tuple[str, ...]]]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self._place, read, files = _open(self.root, self.folder, self.archive)
        meta = load_pickled_batch(read(self.meta), self._place / self.meta)
        names = meta.get(self.names)
        if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
            raise DamagedData(self._place / self.meta, f"a list of names '{self.names}'", f"{type(names).__name__}")
        self.fields = {"image": Image(), "category": Category(tuple(name.decode() for name in names))}
        whole = int(meta.get("num_cases_per_batch", 0))
        images, categories, places = [], [], []
        for number, name in enumerate(self.batches[split]):
            a_sample = bool(images) and len(images[0]) < whole
            if a_sample and not any(later in files for later in self.batches[split][number:]):
                break
            rows, labels = self._batch(name, read, len(names))
            images.append(rows)
            categories.append(labels)
            places += [f"{name}/{place:05}" for place in range(len(rows))]
        # Planes to pixels once, here, so that reading a picture copies it and no more.
        planes = np.concatenate(images).reshape(-1, 3, 32, 32)
        self._images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        self._categories, self._places = np.concatenate(categories), np.array(places, np.bytes_)

    def _batch(self, name: str, read: Callable[[str], bytes], classes: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3072) uint8 and (N,) int64."""
        place = self._place / name
        batch = load_pickled_batch(read(name), place)
        rows, labels = batch.get("data"), batch.get(self.labels)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (VALUES,):
            found = f"{rows.shape} {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
            raise DamagedData(place, f"'data' of shape Nx{VALUES} uint8", found)
        if not isinstance(labels, list) or len(labels) != len(rows):
            found = f"{len(labels)}" if isinstance(labels, list) else type(labels).__name__
            raise DamagedData(place, f"{len(rows)} numbers in '{self.labels}'", found)
        odd = [label for label in labels if not isinstance(label, int) or not 0 <= label < classes]
        if odd:
            raise DamagedData(place, f"labels from 0 to {classes - 1}", f"{odd[0]!r}")
        return rows, np.array(labels, np.int64)

    def label(self, index: int) -> str:
        return f"{self.folder}/{self._places[index].decode()}"

    def picture(self, index: int) -> np.ndarray:
        return self._images[index].copy()

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        folder = Path(root) / cls.folder
        classes = MINIATURE_NAMES[cls.names]
        meta = {"num_cases_per_batch": 10000, cls.names: [name.encode() for name in classes], "num_vis": VALUES}
        write_pickled_batch(folder / cls.meta, meta)
        for number, name in enumerate(name for batches in cls.batches.values() for name in batches):
            labels = list(range(6 if number == 0 else 3))
            drawn = [draw_shape(generator(0, number, label, Purpose.MINIATURE), 32, 32).image for label in labels]
            rows = np.stack(drawn).transpose(0, 3, 1, 2).reshape(-1, VALUES)
            files = [f"drawn_{number}_{label}.png".encode() for label in labels]
            write_pickled_batch(folder / name, {"data": rows, cls.labels: labels, "filenames": files})


class CIFAR10(CIFAR):
    """Ten classes: 50,000 pictures to train in five batches, 10,000 to test.

    The root holds the folder `cifar-10-batches-py`, is this folder, or holds an archive (`.tar.gz`) of it.
    """

    title: ClassVar[str] = "CIFAR-10"
    folder, archive, meta = "cifar-10-batches-py", "cifar-10-python.tar.gz", "batches.meta"
    names, labels = "label_names", "labels"
    batches: ClassVar = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}


class CIFAR100(CIFAR):
    """A hundred classes, the fine labels: 50,000 pictures to train, 10,000 to test.

    The root holds the folder `cifar-100-python`, is this folder, or holds an archive (`.tar.gz`) of it.
    """

    title: ClassVar[str] = "CIFAR-100"
    folder, archive, meta = "cifar-100-python", "cifar-100-python.tar.gz", "meta"
    names, labels = "fine_label_names", "fine_labels"
    batches: ClassVar = {"train": ("train",), "test": ("test",)}


MINIATURE_NAMES = {
    "label_names": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "fine_label_names": ("apple", "aquarium_fish", "baby", "bear", "beaver", "bed"),
}


def _open(root: Path, folder: str, archive: str) -> Stored:
    """The folder, or else the archive that holds it."""
    place = root if root.name == folder else root / folder
    if place.is_dir():
        return place, lambda name: read_bytes(place / name, "a pickled batch"), [file.name for file in place.iterdir()]
    for packed in sorted(root.glob("*.tar.gz"), key=lambda file: (file.name != archive, file.name)):
        if packed.name == archive or holds_folder(packed, folder):
            members = unpack_members(packed, folder)

            def read(name: str, place: Path = packed / folder, members: dict[str, bytes] = members) -> bytes:
                if not members.get(name):
                    raise DamagedData(
                        place / name, "a pickled batch", "an empty file" if name in members else "no file"
                    )
                return members[name]

            return packed / folder, read, list(members)
    raise DamagedData(root / folder, f"this folder, or '{archive}' beside it", "neither")
