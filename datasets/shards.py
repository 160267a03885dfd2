"""Shards: samples of any dataset in tar files of some thousand each (WebDataset's format), and an index beside them.

A sample is one file per field, `KEY.FIELD.SUFFIX`, and the same to the bit as in the dataset it is from. The index has
the place of every file, so that opening reads no tar. Samples keep their numbers; a training split is stored in a
random order, so that a shard is a random part of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import cv2
import numpy as np
from pydantic import Field

from ..atomic_io import json_text
from ..errors import UserError, unknown_name
from ..schema import Closed, Text, validate_json
from .classification.class_folders import ClassFolders
from .core.geometry import Geometry, Size
from .core.problems import DatasetError
from .core.randomness import Purpose, generator
from .core.storage import FileCache, Storage
from .dataset import Dataset, Sample, map_sizes
from .field_types import FieldType, Mask, fields_from_json, fields_to_json, transform_sample
from .formats.arrays import npy_bytes, npz_bytes, parse_npy, parse_npz
from .formats.image import EncodedImage, decode
from .formats.tar import list_members, write_tar
from .stored_images import StoredImages, scaled_image

DESCRIPTION = "dataset.json"
CODES = ("image", "png", "npy", "npz")
"""Forms of a value: an image file of the dataset as it is; a PNG of 8 or 16 bits; an array, and a compressed one."""
COLUMNS = ("shard", "code", "offset", "size", "name")
"""Arrays of the index: number of the tar (N,); form, first byte and size of every field (N, F); name (N,)."""
TYPES = {"shard": np.uint32, "code": np.uint8, "offset": np.int64, "size": np.uint32}
SMALL = 1024
"""Bytes of an array that is not worth compressing."""


class StoredSplit(Closed):
    """A split in `dataset.json`.

    Attributes:
        fields: what `fields_to_json` returned.
        samples, shards: their numbers.
        reducible: whether the image is decoded at a reduced size if that suffices, as in the dataset it is from.
    """

    fields: dict[str, dict[str, Any]]
    samples: Annotated[int, Field(ge=0)]
    shards: Annotated[int, Field(ge=0)]
    reducible: bool


class Description(Closed):
    """`dataset.json`: what the samples are."""

    title: Text
    terms: Text
    default_protocol: Text
    splits: dict[str, StoredSplit]


class Shards(Dataset):
    """Samples of any dataset in shards, as `densevision data shard` writes them; for every task.

    The root is a folder or an address (`s3://bucket/imagenet`), with `dataset.json`, and for every split
    `SPLIT/index.npz` and `SPLIT/00000.tar`, ... with files `KEY.FIELD.SUFFIX`, which WebDataset reads too.

    Attributes:
        shards: (N,) number of the shard of every sample: training goes from shard to shard, see `training.lanes`.
    """

    title: ClassVar[str] = "Shards"
    terms: ClassVar[str] = "those of the dataset in the shards"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    remote: ClassVar[bool] = True
    shards: np.ndarray

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__("", split)
        self.root, self._storage = Path(root), Storage(root)
        self._cache: FileCache | None = None
        description = read_description(self._storage)
        if split not in description.splits:
            raise unknown_name("split", split, description.splits)
        where, stored = f"{self._storage.path(DESCRIPTION)}, split {split}", description.splits[split]
        self.splits: tuple[str, ...] = tuple(description.splits)  # type: ignore[misc]
        self.title: str = description.title  # type: ignore[misc]
        self.terms: str = description.terms  # type: ignore[misc]
        self.default_protocol: str = description.default_protocol  # type: ignore[misc]
        self.fields = fields_from_json(stored.fields, where)
        self._reducible, self._index_path = stored.reducible, self._storage.path(f"{split}/index.npz")
        data = self._storage.read(f"{split}/index.npz", "the index of the shards")
        self._version = data[-4096:]
        self.shards, self._code, self._offset, self._size, self._name = (
            parse_npz(data, self._index_path, column) for column in COLUMNS
        )
        self._check_index(stored)

    def _check_index(self, stored: StoredSplit) -> None:
        """Check that the index has a place of every field of every sample."""
        count, fields = stored.samples, len(self.fields)
        tables = (self._code, self._offset, self._size)
        shapes = {table.shape for table in tables} == {(count, fields)}
        shapes = shapes and self.shards.shape == self._name.shape == (count,)
        kinds = [table.dtype.kind for table in (self.shards, *tables)]
        if not (shapes and set(kinds) <= {"i", "u"} and self._name.dtype.kind == "S"):
            raise DatasetError(self._index_path, f"places of {count} samples with {fields} fields", "other arrays")
        ends = (stored.shards, len(CODES), 2**62, 2**62)
        for table, end in zip((self.shards, *tables), ends, strict=True):
            if not ((table >= 0) & (table < end)).all():
                raise DatasetError(self._index_path, "places of files in the shards", "numbers that are none")

    @classmethod
    def splits_in(cls, root: str | Path | None) -> tuple[str, ...]:
        return cls.splits if root is None else tuple(read_description(Storage(root)).splits)

    def with_cache(self, folder: Path) -> Self:
        self._cache = FileCache(folder, self._storage, self._version)
        return self

    def __len__(self) -> int:
        return len(self.shards)

    def sample_name(self, index: int) -> str:
        return self._name[index].decode(errors="backslashreplace")

    def read(self, index: int) -> Sample:
        stored = self._stored(index)
        return {name: self._decoded(name, code, data, index) for name, (code, data) in stored.items()}

    def image_size(self, index: int) -> Size:
        stored = self._stored(index)
        self._kept = index, stored
        image = self._image(stored)
        if image is not None:
            return EncodedImage(stored[image][1], self._path(index, image)).size
        sample = {name: self._decoded(name, code, data, index) for name, (code, data) in stored.items()}
        self._kept = index, sample
        return next(size for _, size in map_sizes(sample, self.fields).values())

    def read_transformed(self, index: int, geometry: Geometry, fields: dict[str, FieldType] | None = None) -> Sample:
        (number, kept), self._kept = self._kept, (-1, None)
        stored: dict[str, Any] = kept if number == index else self._stored(index)
        image = self._image(stored)
        sample: Sample = {}
        for name, kind in (fields or self.fields).items():
            if name not in stored:
                continue
            of_field = geometry
            if isinstance(stored[name], np.ndarray):
                value = stored[name]
            elif name == image:
                value, of_field = scaled_image(EncodedImage(stored[name][1], self._path(index, name)), geometry)
            else:
                code, data = stored[name]
                value = self._decoded(name, code, data, index)
            sample |= transform_sample({name: value}, {name: kind}, of_field)
        return sample

    def _image(self, stored: Mapping[str, Any]) -> str | None:
        """The field that is decoded at a reduced size."""
        if not self._reducible:
            return None
        return next((name for name, value in stored.items() if isinstance(value, tuple) and value[0] == "image"), None)

    def _stored(self, index: int) -> dict[str, tuple[str, bytes]]:
        """Form and bytes of every field of a sample, which stand beside each other in its shard."""
        offsets, sizes = self._offset[index].astype(np.int64), self._size[index].astype(np.int64)
        start, end = int(offsets.min()), int((offsets + sizes).max())
        data = self._read(f"{self.split}/{shard_name(int(self.shards[index]))}", start, end - start)
        places = zip(self.fields, self._code[index].tolist(), (offsets - start).tolist(), sizes.tolist(), strict=True)
        return {name: (CODES[code], data[first : first + size]) for name, code, first, size in places}

    def _read(self, name: str, start: int, size: int) -> bytes:
        if self._cache is None:
            return self._storage.read(name, "a shard", start, size)
        path = self._cache.path(name)
        try:
            return Storage(path.parent).read(path.name, "a shard", start, size)
        except DatasetError:
            if path.exists():
                raise
            # Another process has made room meanwhile.
            path = self._cache.path(name)
            return Storage(path.parent).read(path.name, "a shard", start, size)

    def _path(self, index: int, field: str) -> str:
        """Where a value is, for messages."""
        shard = self._storage.path(f"{self.split}/{shard_name(int(self.shards[index]))}")
        return f"{shard}/{self.sample_name(index)} ({field})"

    def _decoded(self, name: str, code: str, data: bytes, index: int) -> np.ndarray:
        return decode_value(code, data, self.fields[name], self._path(index, name))

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ClassFolders.write_example(folder)
            for split in cls.splits:
                write_shards(ClassFolders(folder, split), root, per=4)


def shard_name(number: int) -> str:
    """File of a shard, in the folder of its split."""
    return f"{number:05}.tar"


def read_description(storage: Storage) -> Description:
    """What `dataset.json` says."""
    text = storage.read(DESCRIPTION, "the description of shards (densevision data shard writes it)")
    return validate_json(Description, text, storage.path(DESCRIPTION), "write the shards again")


def encode_value(value: np.ndarray, images: Sequence[bytes]) -> tuple[str, str, bytes]:
    """Form, suffix and bytes of a value, from which `decode_value` makes the same to the bit.

    Args:
        value: the value.
        images: image files of the sample; one of them may be the value.
    """
    for data in images:
        try:
            pixels = EncodedImage(data, "an image").decode()
        except DatasetError:
            continue
        if same(pixels, value):
            return "image", "png" if data.startswith(b"\x89PNG") else "jpg" if data[:2] == b"\xff\xd8" else "img", data
    colors = value.ndim == 3 and value.shape[2] in (1, 3)
    if (value.ndim == 2 or colors) and value.dtype in (np.uint8, np.uint16, np.bool_) and value.size:
        pixels = value.astype(np.uint8) if value.dtype == np.bool_ else value
        if colors:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if value.shape[2] == 3 else pixels[..., 0]
        return "png", "png", cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()
    if value.nbytes <= SMALL:
        return "npy", "npy", npy_bytes(value)
    return "npz", "npz", npz_bytes({"value": value})


def decode_value(code: str, data: bytes, kind: FieldType, path: str) -> np.ndarray:
    """A value from the bytes of `encode_value`.

    Raises:
        DatasetError: they are damaged; the message names `path`.
    """
    if code == "image":
        return EncodedImage(data, path).decode()
    if code == "npy":
        return parse_npy(data, path)
    if code == "npz":
        return parse_npz(data, path, "value")
    pixels = decode(data, path, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if isinstance(kind, Mask):
        return pixels.astype(np.bool_)
    return pixels[..., None] if kind.rank == 3 else pixels


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays are equal to the bit, nan included."""
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def write_shards(
    dataset: Dataset,
    root: str | Path,
    per: int = 1000,
    samples: int | None = None,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a split of a dataset as shards, and add it to `dataset.json`; returns the number of shards.

    Args:
        dataset: the split.
        root: folder or address; it may have other splits of the dataset.
        per: samples of a shard.
        samples: the first so many; None: all of them.
        processes: that read and write at the same time.
        progress: called with the shards that are written, and the number of all.

    Raises:
        UserError: an endless dataset without `samples`, or the split is there already.
    """
    if dataset.infinite and samples is None:
        raise UserError(f"The split {dataset.split} of {dataset.title} never ends: state --samples N.")
    storage, split = Storage(root), dataset.split
    splits = read_description(storage).splits if storage.exists(DESCRIPTION) else {}
    if split in splits:
        raise UserError(f"'{root}' has the split {split} already; give a new folder: nothing is overwritten.")
    count = len(dataset) if samples is None else min(samples, len(dataset))
    order = np.arange(count)
    if split == "train":
        generator(0, 0, 0, Purpose.SHUFFLE).shuffle(order)
    parts = np.split(order, range(per, count, per)) if count else []
    table: dict[str, Any] = {name: np.zeros((count, len(dataset.fields)), kind) for name, kind in TYPES.items()}
    table["shard"] = table["shard"][:, 0]
    for number, rows in enumerate(_written(dataset, storage, parts, processes)):
        table["shard"][parts[number]] = number
        table["code"][parts[number]], table["offset"][parts[number]], table["size"][parts[number]] = rows
        if progress is not None:
            progress(number + 1, len(parts))
    table["name"] = np.array([dataset.sample_name(index).encode() for index in range(count)], np.bytes_)
    storage.write(f"{split}/index.npz", npz_bytes({name: table[name] for name in COLUMNS}))
    maps = [name for name, kind in dataset.fields.items() if kind.input_channels]
    splits[split] = StoredSplit(
        fields=fields_to_json(dataset.fields),
        samples=count,
        shards=len(parts),
        reducible=isinstance(dataset, StoredImages) and len(maps) == 1,
    )
    description = Description(
        title=dataset.title, terms=dataset.terms, default_protocol=dataset.default_protocol, splits=splits
    )
    storage.write(DESCRIPTION, json_text(description.model_dump(), indent=1).encode())
    return len(parts)


def _written(
    dataset: Dataset, storage: Storage, parts: Sequence[np.ndarray], processes: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    if min(processes, len(parts)) < 2:
        yield from map(partial(_write_shard, dataset, storage), range(len(parts)), parts)
        return
    # The dataset is sent once to every process, not once for every shard.
    with ProcessPoolExecutor(processes, initializer=_set_source, initargs=(dataset, storage)) as pool:
        yield from pool.map(_write_from_source, range(len(parts)), parts)


_source: tuple[Any, ...] = ()
"""Dataset and storage of a process that writes shards."""


def _set_source(*source: Any) -> None:
    global _source
    _source = source


def _write_from_source(number: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dataset, storage = _source
    return _write_shard(dataset, storage, number, indices)


def _write_shard(
    dataset: Dataset, storage: Storage, number: int, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write one shard; returns form, offset and size of every field of its samples, (n, F) each."""
    codes: list[int] = []

    def files() -> Iterator[tuple[str, bytes]]:
        for index in indices.tolist():
            sample, images = dataset.read(index), dataset.encoded_images(index)
            for name in dataset.fields:
                code, suffix, data = encode_value(np.asarray(sample[name]), images)
                codes.append(CODES.index(code))
                yield f"{index:09}.{name}.{suffix}", data

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.tar"
        write_tar(path, files())
        storage.copy_from(f"{dataset.split}/{shard_name(number)}", path)
        members = list_members(path)
    shape = len(indices), len(dataset.fields)
    places = ([getattr(member, name) for member in members] for name in ("offset", "size"))
    code, offset, size = (np.reshape(np.array(values, np.int64), shape) for values in (codes, *places))
    return code, offset, size
