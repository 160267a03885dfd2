"""Malicious archives: tars of ImageNet, LNSIM and CIFAR, and the pickles of CIFAR."""

from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from densevision.datasets.classification.cifar import EXAMPLE_NAMES

from .arrays import BOMB, gzip_bomb
from .harness import Case
from .layouts import Layouts, case

BLOCK = 512


def header(name: str | bytes, size: int | bytes = 0, kind: bytes = b"0", link: bytes = b"") -> bytes:
    """A header of a tar archive with any values; bytes as size are the field itself."""
    name = name.encode() if isinstance(name, str) else name
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    text = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field.ljust(12, b"\0") + b"00000000000\0"
    text += b" " * 8 + kind + link.ljust(100, b"\0") + b"ustar\00000" + bytes(247)
    return text[:148] + b"%06o\0 " % sum(text) + text[156:]


def member(name: str | bytes, data: bytes, kind: bytes = b"0") -> bytes:
    """A header and the data of a member."""
    return header(name, len(data), kind) + data + bytes(-len(data) % BLOCK)


def pax(key: str, value: str) -> bytes:
    """A header with an additional value for the next member."""
    record = f" {key}={value}\n"
    length = next(total for total in range(9999) if total == len(str(total)) + len(record))
    return member("values", f"{length}{record}".encode(), b"x")


END = bytes(2 * BLOCK)


def generate_archives(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `data validate` on archives."""
    layouts = Layouts(folder, rng)
    yield from _tars(layouts)
    yield from _packed_tars(layouts)
    yield from _pickles(layouts)


def _tars(layouts: Layouts) -> Iterator[Case]:
    root = layouts.root("imagenet-shards")
    with tarfile.open(root / "imagenet-val-0000.tar") as opened:
        image = opened.extractfile("val_0_0.jpg")
        jpeg = image.read() if image else b""
    good = member("a.jpg", jpeg) + member("a.cls", b"1")
    negative = -int(layouts.rng.integers(1, 2**40))
    huge = int(layouts.rng.integers(2**33, 2**60))
    contents = {
        "negative size": good + header("b.jpg", b"\xff" + negative.to_bytes(11, "big", signed=True)) + END,
        "negative octal size": good + header("b.jpg", b"-0000001000\0") + END,
        "huge size": good + header("b.jpg", b"\x80" + huge.to_bytes(11, "big")) + END,
        "size back to the start": header("b.jpg", b"\xff" + (-BLOCK).to_bytes(11, "big", signed=True)) + good + END,
        "size of letters": good + header("b.jpg", b"zzzzzzzzzzz\0") + END,
        "size beyond the end": good + header("b.jpg", 2**30) + END,
        "huge size of PAX": good + pax("size", "9" * 18) + header("b.jpg") + END,
        "negative size of PAX": good + pax("size", "-512") + header("b.jpg") + END,
        "damaged PAX": good + member("values", b"99 path=x", b"x") + header("b.jpg") + END,
        "PAX of length 0": good + member("values", b"0 path=x\n" * 9, b"x") + header("b.jpg") + END,
        "sparse member": good + header("b.jpg", 0, b"S") + END,
        "sparse member of PAX": good + pax("GNU.sparse.realsize", "9" * 15) + header("b.jpg") + END,
        "link to a file": good + header("b.jpg", 0, b"2", b"/etc/passwd") + END,
        "hard link": good + header("b.jpg", 0, b"1", b"../../secret") + END,
        "device": good + header("b.jpg", 0, b"3") + END,
        "pipe": good + header("b.jpg", 0, b"6") + END,
        "long name without end": good + header("@LongLink", 2**31, b"L") + b"n" * 5000,
        "long name of a gigabyte": good + header("@LongLink", 2**30, b"L") + bytes(2**20),
        "names without end": good + member("@LongLink", b"n" * 4000, b"L") * 2000,
        "control characters": good + member("\x1b[2J\n\u202e.jpg", b"x") + END,
        "name of other bytes": good + member(b"\xff\xfe.jpg", jpeg) + member(b"\xff\xfe.cls", b"1") + END,
        "class of 5,000 digits": member("a.jpg", jpeg) + member("a.cls", b"9" * 5000) + END,
        "class of 64 MB": member("a.jpg", jpeg) + member("a.json", b"[" * 2**26) + END,
        "nested class": member("a.jpg", jpeg) + member("a.json", b'{"label":' + b"[" * 9999 + b"1") + END,
        "infinite class": member("a.jpg", jpeg) + member("a.json", b'{"label":1e999}') + END,
        "50,000 empty members": b"".join(header(f"{number}.txt") for number in range(50_000)) + END,
    }
    yield from layouts.replaced("tar", "imagenet-shards", "imagenet-val-0000.tar", contents)
    yield from layouts.damaged("tar", "imagenet-shards", "imagenet-val-0000.tar")
    root = layouts.root("imagenet-shards")
    (root / "imagenet-val-0000.tar").rename(root / f"imagenet-val-{layouts.rng.integers(10**9, 10**10)}.tar")
    yield case("tar", "shard of a huge number", "imagenet-shards", root)
    nested = {"nested tar beyond its member": member("n01440764.tar", header("a.JPEG", 2**20)) + bytes(2**21)}
    yield from layouts.replaced("tar", "imagenet", "ILSVRC2012_img_train.tar", nested)


def _packed_tars(layouts: Layouts) -> Iterator[Case]:
    folder = "ILSVRC2012_devkit_t12"
    first = header(f"{folder}/data/meta.mat", BOMB)
    contents = {
        "bomb of a member": gzip_bomb(BOMB, first),
        "bomb before a member": gzip_bomb(BOMB, header("other", b"\x80" + (2**60).to_bytes(11, "big"))),
        "bomb without a header": gzip_bomb(BOMB),
        "no tar": gzip.compress(b"text" * 999),
        "text": b"text" * 999,
        "link": gzip.compress(header(f"{folder}/data/meta.mat", 0, b"2", b"/etc/passwd") + END),
    }
    yield from layouts.replaced("tar.gz", "imagenet", f"{folder}.tar.gz", contents)
    yield from layouts.damaged("tar.gz", "imagenet", f"{folder}.tar.gz")


def _pickles(layouts: Layouts) -> Iterator[Case]:
    file = "cifar-10-batches-py/data_batch_1"
    count = int(layouts.rng.integers(10**6, 10**8))
    array = b"cnumpy\nndarray\n"
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n"
    integer = b"J" + struct.pack("<i", count)
    text = b"X" + struct.pack("<I", 9) + b"a" * 9
    encoded = b"c_codecs\nencode\n" * 40 + text + (b"X\3\0\0\0hex\x86R" * 40)
    batch = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 1, 2]}
    nested = b"\x80\2}(U\4data" + b"]" * 9 + b"K\1" + b"a" * 9
    contents = {
        "array of 10^11 bytes": b"\x80\2}U\4data" + array + integer + b"M\0\x0c\x86U\2u1\x86Rs.",
        "reconstructed array": b"\x80\2}U\4data" + reconstruct + array + integer + b"M\0\x0c\x86U\2u1\x87Rs.",
        "object number 10^9": b"\x80\2}r" + struct.pack("<I", 10**9) + b".",
        "object number as text": b"\x80\2}p999999999\n.",
        "bytes of 8 EB": b"\x80\4}\x8e" + struct.pack("<Q", 2**62) + b"a.",
        "frame of 8 EB": b"\x80\4\x95" + struct.pack("<Q", 2**62) + b"}.",
        "encoding in encoding": b"\x80\2}U\4data" + encoded + b"s.",
        "call of a program": b"\x80\2cos\nsystem\n(S'touch pwned'\ntR.",
        "call through two names": b"\x80\2cnumpy\nndarray\ncbuiltins\ngetattr\n(S'x'\ntR.",
        "integer of 5,000 digits": b"\x80\2}U\6labelsI" + b"9" * 5000 + b"\ns.",
        "label of 2,000 bytes": pickle.dumps({**batch, b"labels": [0, 1, 2**16000]}, 2),
        "labels of lists": pickle.dumps({**batch, b"labels": [0, 1, [2]]}, 2),
        "unfinished lists": nested + b"(" * 10**6,
        "lists in lists": b"\x80\2}U\6labels" + b"]" * 50_000 + b"a" * 49_999 + b"s.",
        "state of an array": b"\x80\2}U\4data" + reconstruct + array + b"K\0\x85U\1b\x87R(K\1)NNNtbs.",
        "recursive dictionary": b"\x80\2}q\0U\4datah\0s.",
    }
    yield from layouts.replaced("pickle", "cifar10", file, contents)
    names = {
        "meta of lists": pickle.dumps({b"label_names": [[b"a"]], b"num_cases_per_batch": [1]}, 2),
        "names of other bytes": pickle.dumps({b"label_names": [b"\xff\xfe\x1b[2J"] * 10}, 2),
        "count of a list": pickle.dumps(
            {b"label_names": [name.encode() for name in EXAMPLE_NAMES["label_names"]], b"num_cases_per_batch": [9]}, 2
        ),
    }
    for each in layouts.replaced("pickle", "cifar10", "cifar-10-batches-py/batches.meta", names):
        yield Case(each.kind, each.name, each.command, may_succeed=True)
    yield from layouts.damaged("pickle", "cifar10", file)
