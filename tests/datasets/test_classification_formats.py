"""Formats of classification datasets: IDX, pickled batches, tar archives."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import subprocess

import numpy as np
import pytest

from densevision.datasets.classification.cifar import load_pickled_batch, write_pickled_batch
from densevision.datasets.classification.mnist import read_idx, write_idx
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.formats.tar import (
    contains_folder,
    list_members,
    pack_members,
    read_member,
    unpack_members,
    write_tar,
)

# --- idx --------------------------------------------------------------------------------------------------------


def test_idx_is_written_byte_for_byte_as_lecuns_page_describes_it(tmp_path):
    # Magic 0x00000803: unsigned bytes, three axes; lengths as big-endian 32-bit integers.
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "images", images)
    assert (tmp_path / "images").read_bytes() == struct.pack(">IIII", 0x00000803, 2, 3, 4) + bytes(range(24))
    write_idx(tmp_path / "labels", images.ravel()[:5])
    assert (tmp_path / "labels").read_bytes() == struct.pack(">II", 0x00000801, 5) + bytes(range(5))
    np.testing.assert_array_equal(read_idx(tmp_path / "images"), images)


@pytest.mark.parametrize("field_type", [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64])
def test_idx_round_trip_of_every_type_compressed_or_not(tmp_path, field_type):
    array = np.array([[1, 2, 3], [4, 5, 100]], field_type)
    for name in ("plain", "packed.gz"):
        write_idx(tmp_path / name, array)
        back = read_idx(tmp_path / name)
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype and back.dtype.isnative
    assert (tmp_path / "packed.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_official_mnist_labels_round_trip_to_the_byte(tmp_path, shared_data):
    official = shared_data / "mnist" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    write_idx(tmp_path / "again", read_idx(official))
    again = (tmp_path / "again").read_bytes()
    assert again == gzip.decompress(official.read_bytes())
    # md5 of the compressed official file, as published with the dataset
    assert hashlib.md5(official.read_bytes()).hexdigest() == "ec29112dd5afa0611ce80d1b7f02629c"


@pytest.mark.parametrize("damage", ["cut", "cut packed", "longer", "no header", "empty"])
def test_damaged_idx_file_is_reported(tmp_path, damage):
    path = tmp_path / ("a.gz" if "packed" in damage else "a")
    write_idx(path, np.zeros((3, 4, 4), np.uint8))
    whole = path.read_bytes()
    broken = {
        "cut": whole[:-1],
        "cut packed": whole[:-9],
        "longer": whole + b"1",
        "no header": b"PK34567",
        "empty": b"",
    }
    path.write_bytes(broken[damage])
    words = {
        "cut": "48 bytes after the header of an IDX array 3x4x4, found 47",
        "cut packed": "a complete gzip file",
        "longer": "found 49",
        "no header": "an IDX header",
        "empty": "an empty file",
    }
    with pytest.raises(DatasetError, match=words[damage]) as error_info:
        read_idx(path)
    assert str(path) in str(error_info.value)


# --- pickled batches --------------------------------------------------------------------------------------------


class Intruder:
    """A pickle of this would create a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_would_execute_code_is_refused_and_not_executed(tmp_path, protocol):
    trace = tmp_path / "trace"
    data = pickle.dumps({b"data": Intruder(trace)}, protocol)
    with pytest.raises(DatasetError, match=r"without calls of other code, found a call of 'posix.mkdir'"):
        load_pickled_batch(data, "data_batch_1")
    assert not trace.exists()
    pickle.loads(data)  # the standard unpickler executes it
    assert trace.exists()


@pytest.mark.parametrize(
    "call", [b"cbuiltins\neval\n", b"cos\nsystem\n", b"cnumpy\nload\n", b"cnumpy.core\nmultiarray\n"]
)
def test_all_other_callables_are_refused_including_those_of_numpy(call):
    with pytest.raises(DatasetError, match="a call of"):
        load_pickled_batch(b"\x80\x02" + call + b"(S'1'\ntR.", "batch")


def test_batch_written_by_python_2_and_numpy_1_is_read():
    # The opcodes of the official files: strings as U (bytes of Python 2), the array from numpy.core.multiarray.
    short = b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"(K\x01K\x02K\x03\x86"
    field_type = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = b"\x80\x02}(" + short + shape + field_type + b"\x89U\x06abcdeftbU\x06labels](K\x06K\x09eu."
    batch = load_pickled_batch(data, "data_batch_1")
    np.testing.assert_array_equal(batch["data"], np.frombuffer(b"abcdef", np.uint8).reshape(2, 3))
    assert batch["labels"] == [6, 9]


@pytest.mark.parametrize("data", [b"", b"\x80\x02}(U\x04da", b"no pickle", pickle.dumps([1, 2], 2)])
def test_other_data_than_a_pickled_dictionary_is_refused(data):
    with pytest.raises(DatasetError, match=r"batch: expected a pickled dictionary of arrays.*, found "):
        load_pickled_batch(data, "batch")


def test_written_batch_has_bytes_keys_as_in_the_official_files(tmp_path):
    write_pickled_batch(tmp_path / "b", {"data": np.zeros((1, 3), np.uint8), "labels": [4]})
    data = (tmp_path / "b").read_bytes()
    assert data[:2] == b"\x80\x02"
    assert list(pickle.loads(data)) == [b"data", b"labels"]
    assert load_pickled_batch(data, "b")["labels"] == [4]


# --- tars -------------------------------------------------------------------------------------------------------

FILES = [("a/x.jpg", b"first"), ("a/y.jpg", b"s" * 600), ("z.jpg", b"third")]


def test_member_offsets_agree_with_tarfile(tmp_path):
    for name, data in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    long = "b/" + 120 * "n" + ".jpg"  # more than 100 characters: stored in an additional header
    (tmp_path / "b").mkdir()
    (tmp_path / long).write_bytes(b"long")
    for form in ("gnu", "pax"):
        subprocess.run(["tar", f"--format={form}", "-cf", "t.tar", "a", "z.jpg", "b"], cwd=tmp_path, check=True)
        members = {member.name: member for member in list_members(tmp_path / "t.tar")}
        assert sorted(members) == sorted([*(name for name, _ in FILES), long])
        for name, data in [*FILES, (long, b"long")]:
            assert read_member(tmp_path / "t.tar", members[name].offset, members[name].size) == data


def test_nested_tar_is_read_in_place(tmp_path):
    write_tar(tmp_path / "outer.tar", [("one.tar", pack_members(FILES)), ("two.tar", pack_members(FILES[:1]))])
    outer = list_members(tmp_path / "outer.tar")
    assert [member.name for member in outer] == ["one.tar", "two.tar"]
    inner = [list_members(tmp_path / "outer.tar", member.offset) for member in outer]
    assert [len(members) for members in inner] == [3, 1]
    for members, files in zip(inner, (FILES, FILES[:1]), strict=True):
        assert [read_member(tmp_path / "outer.tar", m.offset, m.size) for m in members] == [data for _, data in files]


@pytest.mark.parametrize("length", [0, 300, 512, 700, 1024, 1100, 2048, 2400, 3072])
def test_truncated_tar_is_detected(tmp_path, length):
    # Headers at 0, 1024 and 2560, final zeros from 3584 on; a truncation between two members leaves no partial member.
    whole = pack_members(FILES)
    (tmp_path / "t.tar").write_bytes(whole[:length])
    with pytest.raises(DatasetError, match="a complete tar archive"):
        list_members(tmp_path / "t.tar")


def test_tar_that_became_shorter_after_indexing_is_reported(tmp_path):
    write_tar(tmp_path / "t.tar", FILES)
    last = list_members(tmp_path / "t.tar")[-1]
    (tmp_path / "t.tar").write_bytes(b"short")
    with pytest.raises(DatasetError, match="5 bytes from byte"):
        read_member(tmp_path / "t.tar", last.offset, last.size)
    (tmp_path / "t.tar").unlink()
    with pytest.raises(DatasetError, match="no file"):
        read_member(tmp_path / "t.tar", last.offset, last.size)


def test_folder_of_a_compressed_archive_is_read_and_a_truncated_one_refused(tmp_path):
    write_tar(tmp_path / "t.tar.gz", [(f"./{name}", data) for name, data in FILES])
    assert unpack_members(tmp_path / "t.tar.gz", "a") == {"x.jpg": b"first", "y.jpg": b"s" * 600}
    assert contains_folder(tmp_path / "t.tar.gz", "a") and not contains_folder(tmp_path / "t.tar.gz", "b")
    whole = (tmp_path / "t.tar.gz").read_bytes()
    (tmp_path / "t.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="a complete archive"):
        unpack_members(tmp_path / "t.tar.gz", "a")
