"""Shards: written by `data shard`, read as the dataset they are from, from a folder, an address, or copies."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.core.augmentation import Augmentation, sample_geometry
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.core.storage import FileCache, Storage
from densevision.datasets.dataset import Dataset
from densevision.datasets.field_types import ClassLabel, Image, Mask, SegmentationMask
from densevision.datasets.samples import Samples
from densevision.datasets.shards import Shards, shard_name, write_shards
from densevision.errors import UserError


def numbered(count: int) -> Dataset:
    """Samples that are images of their own number."""
    images = [{"image": np.full((4, 5, 3), number, np.uint8)} for number in range(count)]
    return Samples(images, {"image": Image()})


@pytest.fixture
def remote():
    files = fsspec.filesystem("memory")
    yield "memory://bucket/set"
    files.rm("/", recursive=True)


@pytest.fixture
def photos(tmp_path) -> Dataset:
    from densevision.datasets.classification.class_folders import ClassFolders

    ClassFolders.write_example(tmp_path / "photos")
    return ClassFolders(tmp_path / "photos")


def test_the_command_writes_every_split_and_another_run_overwrites_none(run, tmp_path, photos):
    result = run("data", "shard", "class-folders", photos.root, tmp_path / "shards", "--per", "3")
    assert result.code == 0
    assert [line.partition(" samples")[0] for line in result.out.splitlines()] == ["train: 4", "val: 4", "test: 4"]
    assert sorted(file.name for file in (tmp_path / "shards" / "train").iterdir()) == [
        "00000.tar",
        "00001.tar",
        "index.npz",
    ]
    again = run("data", "shard", "class-folders", photos.root, tmp_path / "shards")
    assert again.code == 2 and "has the split train already; give a new folder" in again.error
    assert run("data", "validate", "shards", tmp_path / "shards").out == "shards: no problems.\n"


def test_a_synthetic_dataset_needs_the_number_of_its_samples(run, tmp_path):
    assert "never ends: state --samples N" in run("data", "shard", "synthetic-shapes", tmp_path / "a").error
    assert run("data", "shard", "synthetic-shapes", tmp_path / "b", "--samples", "3").code == 0
    assert len(open_dataset("shards", tmp_path / "b", "test")) == 3
    assert "needs 2 folder(s): densevision data shard mnist ROOT OUT" in run("data", "shard", "mnist", tmp_path).error


def test_jpeg_files_are_stored_as_they_are_and_any_reader_of_tar_finds_them(tmp_path, photos):
    write_shards(photos, tmp_path / "shards")
    with tarfile.open(tmp_path / "shards" / "train" / "00000.tar") as archive:
        stored = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    assert {name.partition(".")[2] for name in stored} == {"image.jpg", "category.npy"}
    assert stored["000000002.image.jpg"] == photos.encoded_images(2)[0]
    assert np.load(io.BytesIO(stored["000000002.category.npy"])) == photos.read(2)["category"]


def test_training_sees_the_samples_of_the_files_to_the_bit(tmp_path, photos):
    write_shards(photos, tmp_path / "shards")
    shards = Shards(tmp_path / "shards")
    for index in range(len(photos)):
        size = photos.image_size(index)
        assert shards.image_size(index) == size
        # Small enough that the JPEG is decoded at a reduced size.
        geometry = sample_geometry(
            generator(0, 0, index, Purpose.GEOMETRY), size, (16, 16), Augmentation(hflip=0.5, max_rotation=5)
        )
        expected, found = photos.read_transformed(index, geometry), shards.read_transformed(index, geometry)
        assert all(np.array_equal(expected[name], found[name]) for name in photos.fields)


def test_every_type_of_map_keeps_its_type(tmp_path):
    rng = np.random.default_rng(0)
    fields = {
        "deep": Image(1),
        "wide": Image(5),
        "mask": Mask(),
        "labels": SegmentationMask(("a", "b")),
        "category": ClassLabel(("a", "b")),
    }
    sample = {
        "deep": rng.integers(0, 65536, (4, 5, 1), np.uint16),
        "wide": rng.random((4, 5, 5), np.float32),
        "mask": rng.random((4, 5)) > 0.5,
        "labels": rng.integers(0, 2, (4, 5), np.int64),
        "category": np.array(1, np.int64),
    }
    write_shards(Samples([sample], fields), tmp_path)
    found = Shards(tmp_path).read(0)
    for name, value in sample.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value)


def test_a_training_split_is_stored_in_random_order_under_its_own_numbers(tmp_path):
    write_shards(numbered(100), tmp_path, per=10)
    shards = Shards(tmp_path)
    assert [int(shards.read(index)["image"][0, 0, 0]) for index in (0, 57, 99)] == [0, 57, 99]
    assert np.bincount(shards.shards).tolist() == [10] * 10
    # In order, the samples of a shard would be neighbors.
    assert np.ptp(np.flatnonzero(shards.shards == 0)) > 50


def test_several_processes_write_the_same_bytes_as_one(tmp_path):
    for processes in (1, 2):
        write_shards(numbered(7), tmp_path / str(processes), per=2, processes=processes)
    files = [file.relative_to(tmp_path / "1") for file in (tmp_path / "1").rglob("*.tar")]
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_an_address_is_read_as_a_folder_is_and_a_cache_fetches_each_shard_once(tmp_path, remote, monkeypatch):
    write_shards(numbered(6), remote, per=2)
    assert [int(open_dataset("shards", remote).read(index)["image"][0, 0, 0]) for index in range(6)] == [*range(6)]
    fetched: list[str] = []
    original = Storage.copy_to
    monkeypatch.setattr("shutil.disk_usage", lambda _: (1000, 0, 1000))
    monkeypatch.setattr(Storage, "copy_to", lambda *args: (fetched.append(args[1]), original(*args)))
    for _ in range(2):
        cached = open_dataset("shards", remote).with_cache(tmp_path / "cache")
        assert [int(cached.read(index)["image"][0, 0, 0]) for index in range(6)] == [*range(6)]
    assert sorted(fetched) == [f"train/{shard_name(number)}" for number in range(3)]


def test_a_full_disk_makes_room_by_the_oldest_copies(tmp_path, monkeypatch):
    write_shards(numbered(6), tmp_path / "set", per=2)
    shards = Shards(tmp_path / "set").with_cache(tmp_path / "cache")
    monkeypatch.setattr("shutil.disk_usage", lambda _: (1000, 1000, 0))
    for index in (0, *range(6)):
        assert int(shards.read(index)["image"][0, 0, 0]) == index
    assert len(list((tmp_path / "cache").rglob("*.tar"))) == 1


def test_other_shards_at_the_same_address_are_not_mistaken_for_the_copies(tmp_path, remote):
    for value in (1, 2):
        fsspec.filesystem("memory").rm("/", recursive=True)
        write_shards(Samples([{"image": np.full((4, 4, 3), value, np.uint8)}], {"image": Image()}), remote)
        assert Shards(remote).with_cache(tmp_path).read(0)["image"].max() == value


def test_what_is_missing_or_damaged_is_one_sentence(tmp_path, run, remote):
    with pytest.raises(DatasetError, match=r"dataset.json: expected the description of shards"):
        open_dataset("shards", tmp_path)
    with pytest.raises(DatasetError, match=r"memory://bucket/set/dataset.json.* found no file"):
        open_dataset("shards", remote)
    with pytest.raises(UserError, match="Protocol not known: nowhere"):
        open_dataset("shards", "nowhere://bucket")
    with pytest.raises(UserError, match="'mnist' is read from a folder, not from 's3://bucket'"):
        open_dataset("mnist", "s3://bucket")
    write_shards(numbered(3), tmp_path)
    with pytest.raises(UserError, match="splits train; there is no 'val'"):
        open_dataset("shards", tmp_path, "val")
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["splits"]["train"]["samples"] = 4
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(DatasetError, match="expected places of 4 samples with 1 fields"):
        open_dataset("shards", tmp_path)
    with pytest.raises(UserError, match="is not in shards: leave out --cache"):
        numbered(1).with_cache(Path())


def test_a_local_copy_that_another_process_deletes_is_fetched_again(tmp_path):
    write_shards(numbered(2), tmp_path / "set")
    shards = Shards(tmp_path / "set").with_cache(tmp_path / "cache")
    original = FileCache.path

    def path_of_a_deleted_copy(cache: FileCache, name: str) -> Path:
        path = original(cache, name)
        if not deleted:
            deleted.append(path)
            path.unlink()
        return path

    deleted: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileCache, "path", path_of_a_deleted_copy)
        assert int(shards.read(1)["image"][0, 0, 0]) == 1
    assert deleted
