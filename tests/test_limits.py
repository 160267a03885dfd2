"""Limits of input files: what a file states is refused before memory is allocated for it."""

from __future__ import annotations

import gzip
import io
import os

import pytest

from densevision import limits
from densevision.datasets.core.files import name_table, read_lines
from densevision.datasets.core.problems import DatasetError
from densevision.errors import UserError
from densevision.limits import LIMITS, LimitExceeded, check_bytes, check_json, open_file, read_stream


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"[" * 65 + b"]" * 65, "more than 64 lists and objects in each other"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "more than 64"),
        (b"[" + b"{}," * 3_000_000 + b"{}]", "3000002 entries, more than 3,000,000 .DENSEVISION_MAX_ENTRIES"),
        (b"[" + b"0," * 100_000_000 + b"0]", "MiB, more than 640 MiB .DENSEVISION_MAX_FILE_MB"),
    ],
)
def test_json_that_would_exhaust_stack_or_memory_is_refused_before_it_is_parsed(data, found):
    with pytest.raises(LimitExceeded, match=found):
        check_json(data)


@pytest.mark.slow
def test_json_with_the_counts_of_coco_passes():
    # The training annotations of COCO's keypoints: 380,000 objects, 1 million lists, 39 million commas, 287 MiB.
    person = b'{"segmentation":[[' + b"123.45," * 130 + b'1]],"keypoints":[],"bbox":[0]},'
    check_json(b"[" + person * 270_000 + b"0]")


def test_a_stream_is_read_to_the_limit_only(monkeypatch):
    monkeypatch.setattr(LIMITS, "max_file_mb", 2)
    small, large = (gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(bytes(size)))) for size in (2**21, 2**26))
    assert read_stream(small) == bytes(2**21)
    with pytest.raises(LimitExceeded, match="3 MiB, more than 2 MiB"):
        read_stream(large)


def test_a_size_of_any_length_has_a_short_message():
    with pytest.raises(LimitExceeded, match=r"more than 2\^70 bytes"):
        check_bytes(10**400)


def test_lines_are_counted_before_they_are_split(tmp_path, monkeypatch):
    (tmp_path / "train.txt").write_text("a\n" * 20)
    monkeypatch.setattr(limits.LIMITS, "max_entries", 19)
    with pytest.raises(DatasetError, match="20 entries, more than 19"):
        read_lines(tmp_path / "train.txt", "a name per line")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_file(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["../a", "a/../../b", "..", "/etc/passwd", "a\0b", "\ud800", "..\\a"])
def test_a_list_cannot_name_files_outside_the_root(tmp_path, name):
    with pytest.raises(DatasetError, match="a name that leads out of it, or that no file can have"):
        name_table(tmp_path, ["good.png", name])


def test_a_single_long_name_does_not_enlarge_a_table_of_many(tmp_path, monkeypatch):
    monkeypatch.setattr(LIMITS, "max_file_mb", 1)
    assert name_table(tmp_path, ["a..b"] * 1000 + ["c" * 1000]).tolist()[-1] == b"c" * 1000
    with pytest.raises(DatasetError, match="more than 1 MiB"):
        name_table(tmp_path, ["a"] * 1000 + ["c" * 2000])


@pytest.mark.parametrize("value", ["many", "", "0", "-3", "nan", "inf"])
def test_a_limit_of_the_environment_that_is_no_number_is_refused(monkeypatch, value):
    monkeypatch.setenv("DENSEVISION_MAX_ENTRIES", value)
    with pytest.raises(UserError, match=r"DENSEVISION_MAX_ENTRIES is '.*'; it must be a finite number above 0"):
        limits._limit("DENSEVISION_MAX_ENTRIES", 5)
