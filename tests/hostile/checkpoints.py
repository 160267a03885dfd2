"""Malicious checkpoints and weights files: headers, metadata, tensors, archives, pickles, files that are no files."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch._utils import _rebuild_tensor_v2

from densevision.backbones import create_backbone
from densevision.backbones.state_dict_matching import save_weights
from densevision.datasets import open_dataset
from densevision.tasks import create_task
from densevision.tasks.checkpoint import HEADER, write_model
from densevision.tasks.model_spec import ModelSpec

from .harness import Case
from .images import png

NAME = "resnet20_cifar"
LONG = "9" * 5000
TEXTS = (
    "", "{", "null", "7", "[]", '"text"', "{}", '{"format": 2', "\ufeff{}", "NaN", '{"format": 2, "format": 3}',
    '{"format": "2"}', '{"format": true}', '{"format": 1e400}', '{"format": -1}', f'{{"format": {LONG}}}',
    "[" * 100_000, '{"a":' * 100_000, "[" + "{}," * 2_000_000 + "{}]", '{"format": 2, "x": "\\ud800"}',
)  # fmt: skip
"""Texts that are no header."""
WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 2**70, 0.5, float("nan"), float("inf"), "", "x", "\x1b[31m\x07", "\0", "x" * 100_000, [],
    {}, [[]], [1, 2, 3], {"a": {}}, ["x"], [None], [-1, -1], [60_000, 60_000], [1e300, 1], {"\x1b]0;title\x07": 1},
)  # fmt: skip
"""Values of which most are of a wrong type for any key."""


def keys_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested tables and lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*path, key) for key, _ in entries]
    return found + [
        deeper
        for key, inner in (value.items() if isinstance(value, dict) else enumerate(value))
        if isinstance(inner, (dict, list))
        for deeper in keys_of(inner, (*path, key))
    ]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a path."""
    copy = inner = deepcopy(value)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return copy


def without(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy that lacks the value at a path."""
    copy = inner = deepcopy(value)
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copy


def flipped(content: bytes, rng: np.random.Generator, first: int = 0, last: int | None = None) -> bytes:
    """A copy with one bit changed, in a byte of first..last-1."""
    position = int(rng.integers(first, len(content) if last is None else last))
    return content[:position] + bytes([content[position] ^ 1 << int(rng.integers(8))]) + content[position + 1 :]


@cache
def valid_checkpoint() -> bytes:
    """A small checkpoint of the task depth."""
    task = create_task("depth")
    spec = ModelSpec(task, open_dataset(task.defaults.data).fields, NAME, {"levels": 2}, "unet")
    data = {"name": "synthetic-rooms", "title": "Rooms", "terms": "none"}
    origin = {"file": "best.safetensors", "data": data, "init_from": None}
    metadata = {
        "size": [16, 16], "step": 3, "data": data, "init_from": origin, "loss": "l1", "recipe": "indoor",
        "backbone_weights": {"weights": "a.safetensors", "origin": "here", "license": "MIT"},
        "metrics": {"protocol": "all-pixels", "samples": 3, "split": "test", "abs_rel": 0.5},
    }  # fmt: skip
    model = spec.build()
    return saved(lambda path: write_model(path, model, spec.with_weights_options(model), metadata))


@cache
def valid_backbone() -> bytes:
    """A small backbone with its classifier."""
    backbone = create_backbone(NAME, num_classes=4)
    terms: dict[str, Any] = {"origin": "here", "licence": "MIT"}
    return saved(lambda path: save_weights(backbone, path, **terms))


def saved(write: Callable[[str], None]) -> bytes:
    """The bytes that a function writes to a path."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(f"{folder}/a.safetensors")
        return Path(folder, "a.safetensors").read_bytes()


def parts(content: bytes, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    (folder / "parts.safetensors").write_bytes(content)
    with safe_open(folder / "parts.safetensors", "pt") as file:
        return load_file(folder / "parts.safetensors"), file.metadata()


def commands_on(checkpoint: Path, image: Path) -> list[tuple[str, ...]]:
    """Commands that read a whole checkpoint."""
    return [
        ("predict", str(checkpoint), str(image)),
        ("weights", "verify", str(checkpoint)),
        ("evaluate", str(checkpoint), "--samples", "1"),
    ]


def train_on(option: str, file: Path, *others: str) -> tuple[str, ...]:
    """A training of one step that reads a file first."""
    return (
        "train", "depth", "--backbone", NAME, option, str(file), "--steps", "1", "--image-size", "16", "16",
        "--batch-size", "2", "--workers", "0", "--eval-samples", "1", "--warmup-steps", "0", *others,
    )  # fmt: skip


def generate_headers(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Headers of checkpoints: no JSON, keys missing or of another type, values that nothing could be built from."""
    image = folder / "image.png"
    image.write_bytes(png(8, 8, packed=zlib.compress(bytes(8 * 25))))
    tensors, metadata = parts(valid_checkpoint(), folder)
    header = json.loads(metadata[HEADER])

    def case(kind: str, name: str, text: str, may_succeed: bool = False, readers: bool = False) -> Case:
        path = folder / f"{kind}-{name}.safetensors".replace("/", "_")
        path.write_bytes(save(tensors, {HEADER: text}))
        commands = commands_on(path, image)
        if readers:
            commands += [
                ("weights", "show", str(path)),
                ("weights", "to-fp16", str(path), "out.safetensors"),
                train_on("--init-from", path, "--backbone-levels", "2"),
            ]
        command = commands[int(rng.integers(len(commands)))]
        return Case(f"checkpoint {kind}", f"{name} ({' '.join(command[:2])})", command, may_succeed)

    for number, text in enumerate(TEXTS):
        yield case("text", str(number), text, readers=True)
        path = folder / f"text-{number}.safetensors"
        if number % 4 == 0:
            yield Case("checkpoint text", f"{number} (convert)", ("weights", "convert", str(path), "out.safetensors"))
    optional = ("version", "step", "loss", "recipe", "metrics", "digest")
    for key in header:
        text = json.dumps(without(header, (key,)))
        yield case("key missing", key, text, may_succeed=key in optional, readers=True)
    for number, index in enumerate(rng.integers(len(keys_of(header)), size=12)):
        path = keys_of(header)[index]
        name = f"{number} {'.'.join(map(str, path))}"
        yield case("inner key missing", name, json.dumps(without(header, path)), may_succeed=True, readers=True)
    for number, index in enumerate(rng.integers(len(keys_of(header)), size=60)):
        path, value = keys_of(header)[index], WRONG[int(rng.integers(len(WRONG)))]
        name = f"{number} {'.'.join(map(str, path))}"
        yield case("value", name, json.dumps(changed(header, path, value)), may_succeed=True, readers=True)
    image_field = {"kind": "Image", "channels": 10**9}
    huge: dict[str, tuple[tuple[Any, ...], Any]] = {
        "size": (("size",), [60_000, 60_000]),
        "one side": (("size",), [1, 10**9]),
        "negative size": (("size",), [-16, -16]),
        "channels": (("fields", "image"), image_field),
        "frames": (("fields", "image", "frame"), 10**9),
        "joints": (("fields", "depth"), {"kind": "Keypoints", "skeleton": {"names": [], "edges": [[0, 1]]}}),
        "labels": (("fields", "depth"), {"kind": "SegmentationMask", "names": ["x"] * 200_000}),
        "giant": (("backbone",), "timm:vit_giant_patch14_dinov2"),
        "deep": (("backbone",), "preact1001_cifar"),
        "levels": (("backbone_options", "levels"), 10**9),
        "options": (("backbone_options", "width"), 10**9),
        "task": (("task",), "../../etc/passwd"),
        "task options": (("task_options",), {"width": 10**9}),
        "head": (("head",), "deeplabv3plus"),
        "model": (("model",), "fcrn"),
        "means": (("preprocessing",), json.dumps({"mean": [0.5] * 4, "std": [0.5] * 4})),
        "deviations": (("preprocessing",), json.dumps({"mean": [0.5] * 3, "std": [0.0, 0.5, 0.5]})),
        "crop": (("preprocessing",), json.dumps({"crop": 10**9})),
        "preprocessing text": (("preprocessing",), "[" * 50_000),
        "control characters": (("task",), "\x1b[2J\x07depth"),
        "origins": (("init_from",), nested_origin(header["init_from"], 90)),
    }
    for name, (path, value) in huge.items():
        options = {"backbone_options": {}} if path == ("backbone",) else {}
        yield case("hostile value", name, json.dumps(changed({**header, **options}, path, value)))


def nested_origin(origin: dict[str, Any], times: int) -> dict[str, Any]:
    """An origin with origins inside, and an invalid one at the end."""
    chain: dict[str, Any] = {**origin, "init_from": 7}
    for _ in range(times):
        chain = {**origin, "init_from": chain}
    return chain


def generate_tensors(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Checkpoints whose tensors are not those of their header, damaged safetensors files, and no files at all."""
    image = folder / "image.png"
    image.write_bytes(png(8, 8, packed=zlib.compress(bytes(8 * 25))))
    content = valid_checkpoint()
    tensors, metadata = parts(content, folder)
    names, start = sorted(tensors), 8 + int.from_bytes(content[:8], "little")

    def case(kind: str, name: str, content: bytes, may_succeed: bool = False) -> Case:
        path = folder / f"{kind}-{name}.safetensors"
        path.write_bytes(content)
        commands = commands_on(path, image)
        command = commands[int(rng.integers(len(commands)))]
        return Case(f"checkpoint {kind}", f"{name} ({' '.join(command[:2])})", command, may_succeed)

    name = names[int(rng.integers(len(names)))]
    yield case("tensors", "missing", save({key: tensors[key] for key in names if key != name}, metadata))
    yield case("tensors", "unexpected", save({**tensors, "other": torch.zeros(3)}, metadata))
    yield case("tensors", "longer", save({**tensors, name: torch.zeros(7, 7, 7)}, metadata))
    yield case("tensors", "empty", save({**tensors, name: torch.zeros(0)}, metadata))
    yield case("tensors", "none", save({}, metadata))
    yield case("tensors", "escapes", save({**tensors, "\x1b[31m\x07\n": torch.zeros(3)}, metadata))
    for number in range(10):
        yield case("tensor bit", str(number), flipped(content, rng, start))
    for number in range(10):
        yield case("header bit", str(number), flipped(content, rng, 0, start), may_succeed=True)
    for number in range(6):
        yield case("truncated", str(number), content[: int(rng.integers(len(content)))])
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for name, value in {
        "negative shape": {"a": {**entry, "shape": [-2]}},
        "large shape": {"a": {**entry, "shape": [10**12]}},
        "overflow": {"a": {**entry, "shape": [2**33, 2**33]}},
        "backwards": {"a": {**entry, "data_offsets": [8, 0]}},
        "beyond": {"a": {**entry, "data_offsets": [0, 10**12]}},
        "overlap": {"a": entry, "b": entry},
        "dtype": {"a": {**entry, "dtype": "F1024"}},
        "list": [entry],
        "metadata": {"__metadata__": {HEADER: 7}},
        "empty": {},
        "many": {f"tensor{number}": {**entry, "shape": [0], "data_offsets": [0, 0]} for number in range(150_000)},
    }.items():
        text = json.dumps(value).encode()
        yield case("layout", name, len(text).to_bytes(8, "little") + text + bytes(8))
    yield case("layout", "long header", (2**62).to_bytes(8, "little") + b"{}")
    yield case("layout", "lies about length", (10**8).to_bytes(8, "little") + b"{}" + bytes(1000))
    yield case("layout", "deep", (200_000).to_bytes(8, "little") + b'{"a":' * 40_000)
    sparse = folder / "layout-sparse.safetensors"
    sparse.write_bytes((90_000_000).to_bytes(8, "little") + b"{")
    os.truncate(sparse, 5 * 2**30)
    yield Case("checkpoint layout", "sparse", ("predict", str(sparse), str(image)))
    for name, make in {
        "pipe": os.mkfifo,
        "zero": lambda path: path.symlink_to("/dev/zero"),
        "null": lambda path: path.symlink_to("/dev/null"),
        "loop": lambda path: path.symlink_to(path),
        "folder": lambda path: path.mkdir(),
    }.items():
        path = folder / f"{name}.safetensors"
        make(path)
        for command in (*commands_on(path, image)[:2], train_on("--weights", path)):
            yield Case("checkpoint no file", f"{name} ({' '.join(command[:2])})", command)


def generate_backbones(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Metadata of backbone files."""
    image = folder / "image.png"
    image.write_bytes(png(8, 8, packed=zlib.compress(bytes(8 * 25))))
    content = valid_backbone()
    tensors, metadata = parts(content, folder)
    preprocessing = json.loads(metadata["preprocessing"])

    def case(name: str, metadata: dict[str, str], content: bytes | None = None, may_succeed: bool = False) -> Case:
        path = folder / f"{name}.safetensors"
        path.write_bytes(save(tensors, metadata) if content is None else content)
        commands = [
            ("predict", str(path), str(image)),
            ("weights", "verify", str(path)),
            train_on("--weights", path),
        ]
        command = commands[int(rng.integers(len(commands)))]
        return Case("backbone file", f"{name} ({' '.join(command[:2])})", command, may_succeed)

    path = folder / "no-preprocessing.safetensors"
    path.write_bytes(save(tensors, {key: metadata[key] for key in metadata if key != "preprocessing"}))
    yield Case("backbone file", "no preprocessing", ("predict", str(path), str(image)))
    path = folder / "no-classes.safetensors"
    path.write_bytes(save(tensors, {key: metadata[key] for key in metadata if key != "classes"}))
    yield Case("backbone file", "no classes", ("predict", str(path), str(image)))
    path = folder / "many-classes.safetensors"
    path.write_bytes(save(tensors, {**metadata, "classes": "99999"}))
    yield Case("backbone file", "many classes", ("predict", str(path), str(image)))
    for number, (key, value) in enumerate(
        (
            ("network", "resnet999"), ("network", "\x1b[2J"), ("network", "timm:vit_giant_patch14_dinov2"),
            ("network", "timm:../x"), ("network", "vgg19"), ("network", "lenet5"), ("classes", "-1"),
            ("classes", "1000000000"), ("classes", LONG), ("classes", "many"), ("classes", "4.0"),
            ("classes", "\u0664"),
            ("preprocessing", "["), ("preprocessing", "[]"), ("preprocessing", "7"), ("preprocessing", "[" * 99_999),
            ("preprocessing", '{"mean": 3}'), ("preprocessing", '{"unknown": 3}'), ("preprocessing", '{"std": [0]}'),
            ("preprocessing", '{"mean": [1e400, 0, 0]}'), ("preprocessing", '{"order": "\\u001b"}'),
            ("preprocessing", "[" + "{}," * 999_999 + "{}]"), ("stride_in", "9x9"), ("lrn", "{"),
            ("lrn", '{"size": 0}'),
            ("lrn", '{"size": 1e9, "alpha": 1, "beta": 1, "k": 1}'), ("lrn", '{"n": 0, "alpha_is": "divided by n"}'),
            ("lrn", "[" * 99_999), ("digest", "sha256:0"),
        )
    ):  # fmt: skip
        yield case(f"{key} {number}", {**metadata, key: value}, may_succeed=key in ("stride_in", "digest"))
    for number in range(12):
        key = sorted(preprocessing)[int(rng.integers(len(preprocessing)))]
        value = json.dumps({**preprocessing, key: WRONG[int(rng.integers(len(WRONG)))]})
        yield case(f"preprocessing.{key} random {number}", {**metadata, "preprocessing": value}, may_succeed=True)
    for number in range(6):
        yield case(f"bit {number}", {}, flipped(content, rng), may_succeed=True)


class _Storage:
    """Stands for a storage of floats in a pickle."""

    def __init__(self, count: int) -> None:
        self.count = count


class _Tensor:
    """Stands for a tensor that is a view of a storage."""

    def __init__(self, count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> None:
        self.arguments = (_Storage(count), offset, size, stride, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", obj.count) if isinstance(obj, _Storage) else None


class _Trap:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch sprung",)


def archive(value: Any = None, data: bytes | None = None, stored: int = 16, method: int = zipfile.ZIP_STORED) -> bytes:
    """A torch file as torch.save writes it, of any pickle and storage."""
    stream = io.BytesIO()
    if data is None:
        _Pickler(stream, protocol=2).dump(value)
        data = stream.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as members:
        members.writestr("a/data.pkl", data)
        members.writestr("a/byteorder", "little")
        with members.open("a/data/0", "w") as member:
            for _ in range(0, stored, 2**20):
                member.write(bytes(min(stored, 2**20)))
        members.writestr("a/version", "3\n")
    return file.getvalue()


def torch_bytes(value: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def twice(levels: int) -> dict[str, Any]:
    """A table that contains a table twice, and so on."""
    table: dict[str, Any] = {"a": torch.zeros(1)}
    for _ in range(levels):
        table = {"a": table, "b": table}
    return table


def hostile_torch_files(rng: np.random.Generator, valid: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Name, content, and whether it may be accepted, of torch files."""
    side = int(rng.integers(10**5, 10**6))
    yield "inflation", archive({"a": _Tensor(4, (4,), (1,))}, stored=2**28, method=zipfile.ZIP_DEFLATED), False
    yield "stride 0", archive({"a": _Tensor(4, (side, side), (0, 0))}), False
    yield "giant storage", archive({"a": _Tensor(10**11, (1,), (1,))}), False
    yield "beyond its storage", archive({"a": _Tensor(4, (side,), (1,))}), False
    yield "negative size", archive({"a": _Tensor(4, (-1, 4), (1, 1))}), False
    yield "negative stride", archive({"a": _Tensor(4, (2, 2), (-1, 1))}), False
    yield "negative offset", archive({"a": _Tensor(4, (2,), (1,), -4)}), False
    yield "negative storage", archive({"a": _Tensor(-4, (2,), (1,))}), False
    yield "overflow", archive({"a": _Tensor(2**62, (2**31, 2**31), (2**31, 1))}), False
    yield "sparse", torch_bytes({"a": torch.sparse_coo_tensor(torch.zeros(2, 1), torch.ones(1), (side, side))}), False
    yield "meta", torch_bytes({"conv1.weight": torch.zeros(side, side, device="meta")}), False
    yield "trap", torch_bytes({"a": _Trap()}), False
    yield "trap, legacy", torch_bytes({"a": _Trap()}, _use_new_zipfile_serialization=False), False
    yield "doubled tables", torch_bytes(twice(40)), False
    looped: dict[str, Any] = {}
    looped["a"] = looped
    yield "looped table", torch_bytes(looped), False
    yield "list", torch_bytes([1, 2, 3]), False
    yield "number", torch_bytes(7), False
    yield "other keys", torch_bytes({1: torch.zeros(1), (2, 3): torch.zeros(1), None: 3}), False
    yield "escapes", torch_bytes({"conv1.weight\x1b[31m\x07": torch.zeros(3)}), False
    yield "deep pickle", archive(data=b"\x80\x02" + b"(" * 300_000 + b"."), False
    yield "deep lists", archive(data=b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b"."), False
    yield "bytes", archive(data=b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0b\x54\x02\x85R."), False
    yield "long number", archive(data=b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little")), False
    yield "no pickle", archive(data=b""), False
    yield "legacy cut", torch_bytes({"a": torch.zeros(99)}, _use_new_zipfile_serialization=False)[:200], False
    two = io.BytesIO(archive({"a": _Tensor(4, (4,), (1,))}))
    with zipfile.ZipFile(two, "a") as members:
        members.writestr("a/data/../../../escape", b"x")
    yield "foreign member", two.getvalue(), False
    for number in range(4):
        yield f"truncated {number}", valid[: int(rng.integers(1, len(valid)))], False
    for number in range(6):
        yield f"bit {number}", flipped(valid, rng), True


def generate_torch_files(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """`.pth` files: bombs, views, traps, damage."""
    valid = torch_bytes(create_backbone(NAME, num_classes=4).state_dict())
    for name, content, may_succeed in hostile_torch_files(rng, valid):
        path = folder / f"{name}.pth"
        path.write_bytes(content)
        commands = [
            ("weights", "verify", str(path)),
            train_on("--weights", path),
            ("weights", "import", "restoration", "eigen", str(path), "out.safetensors"),
        ]
        # `weights verify` accepts tensors of any names.
        known = name not in ("foreign member", "escapes", "other keys")
        command = commands[int(rng.integers(len(commands)) if known else rng.integers(1, len(commands)))]
        yield Case("torch file", f"{name} ({' '.join(command[:2])})", command, may_succeed)


def generate_checkpoints(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """All cases of this file."""
    for name, generator in {
        "headers": generate_headers,
        "tensors": generate_tensors,
        "backbones": generate_backbones,
        "torch": generate_torch_files,
    }.items():
        (folder / name).mkdir()
        yield from generator(rng, folder / name)
