"""Malicious run folders: config.yaml, task.json, log.jsonl and state.pt damaged, cut, or of other content."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from densevision.tasks.training.setup import train

from .checkpoints import LONG, NAME, WRONG, archive, changed, flipped, hostile_torch_files, keys_of, torch_bytes
from .harness import Case
from .images import png

LINKED = ("state.pt", "previous.pt", "checkpoint.safetensors", "best.safetensors")
"""Files that a run replaces and never changes, so that all cases may have the same."""


def make_run(folder: Path) -> Path:
    """A finished run of three steps, in some seconds."""
    with contextlib.redirect_stderr(io.StringIO()):
        train(
            "depth", out=folder / "run", backbone=NAME, backbone_levels=2, image_size=(16, 16), batch_size=2, steps=3,
            save_every=1, log_every=1, eval_every=0, eval_samples=1, ema_decay=0.5, warmup_steps=0, workers=0,
            device="cpu", amp="off",
        )  # fmt: skip
    return folder / "run"


def link_or_copy(source: str, target: str) -> None:
    """For `copytree`: hard links of large files."""
    if Path(source).name in LINKED:
        os.link(source, target)
    else:
        shutil.copy(source, target)


def data_bit(content: bytes, rng: np.random.Generator) -> bytes:
    """A torch file with one bit changed in the content of a random part."""
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        parts = [part for part in members.infolist() if part.file_size > 8]
        part = parts[int(rng.integers(len(parts)))]
    # The local header has 30 bytes; in the last four, the lengths of the name and of what follows before the content.
    start = part.header_offset + 30
    start += sum(int.from_bytes(content[at : at + 2], "little") for at in (start - 4, start - 2))
    return flipped(content, rng, start, start + part.file_size)


def hostile_configs(rng: np.random.Generator, options: dict[str, Any]) -> Iterator[tuple[str, str | bytes, bool]]:
    """Name, content, and whether it may be accepted, of config.yaml."""
    names = sorted(options)
    for number in range(8):
        name = names[int(rng.integers(len(names)))]
        lines = {key: value for key, value in options.items() if key != name}
        yield f"without {name} {number}", yaml.safe_dump(lines), True
    for number in range(16):
        name, value = names[int(rng.integers(len(names)))], WRONG[int(rng.integers(len(WRONG)))]
        yield f"{name} random {number}", yaml.safe_dump({**options, name: value}), True
    for name, value in (
        ("image_size", [60_000, 60_000]), ("image_size", [2**40, 2**40]), ("batch_size", 10**9), ("workers", 10**6),
        ("threads", 10**9), ("steps", 10**30), ("seed", -1), ("seed", 2**200), ("lr", float("nan")),
        ("lr", float("inf")), ("momentum", -3.0), ("lr", 10**400), ("image_size", [10_000, 10_000]),
        ("train_samples", 10**18), ("micro_batches", 10**9), ("backbone", "timm:\x1b[2J"),
        ("backbone_levels", 10**9), ("data", "../../etc"), ("loss", "\0"), ("device", "cuda:99"), ("device", "\x1b"),
        ("optimizer", "adam\n"), ("weights", "/dev/zero"), ("init_from", "/dev/zero"), ("recipe", "\x07"),
    ):  # fmt: skip
        # The --steps of the command replace those of the file.
        yield f"{name} hostile {short_number(value)}", yaml.safe_dump({**options, name: value}), name == "steps"
    level = "a0: &a0 [x, x]\n"
    level += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    for name, text in {
        "aliases": level + "lr: *a11\n",
        "looped": "lr: &a [*a]\n",
        "deep": "lr: " + "[" * 5_000,
        "object": "lr: !!python/object/apply:os.system ['touch sprung']\n",
        "digits": f"seed: {LONG}\n",
        "hexadecimal digits": f"seed: 0x{'f' * 9999}\n",
        "sexagesimal digits": f"seed: {'59:' * 5000}59\n",
        "date": "lr: 2001-99-99\n",
        "list as key": "? [a, b]\n: 3\n",
        "binary": b"\xff\xfe\x00\x81" * 99,
        "NUL": "lr: 0.1\n\0\n",
        "control characters": '"\\e[2J": 3\n',
        "long": "# " + "x" * 3_000_000,
        "long word": "x" * 900_000,
        "list": "- 1\n- 2\n",
        "empty": "",
        "merge": "<<: 7\n",
        "number": "1e400",
    }.items():
        yield name, text, False


def short_number(value: Any) -> str:
    """A value for a file name."""
    return "".join(each for each in repr(value) if each.isalnum())[:20]


def hostile_states(rng: np.random.Generator, content: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Name, content, and whether it may be accepted, of state.pt."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    for key in state:
        yield f"without {key}", torch_bytes({name: value for name, value in state.items() if name != key}), False
    for number in range(16):
        key, value = list(state)[int(rng.integers(len(state)))], WRONG[int(rng.integers(len(WRONG)))]
        yield f"{key} random {number}", torch_bytes({**state, key: value}), True
    for number in range(8):
        yield f"data bit {number}", data_bit(content, rng), False
    for number in range(4):
        yield f"any bit {number}", flipped(content, rng), True
    for number in range(4):
        yield f"truncated {number}", content[: int(rng.integers(1, len(content)))], False

    def optimizer(change: Callable[[dict[Any, Any]], object]) -> bytes:
        copy = torch.load(io.BytesIO(content), weights_only=True)
        change(copy["optimizers"][0])
        return torch_bytes(copy)

    entries = sorted(state["optimizers"][0]["state"])
    index = entries[int(rng.integers(len(entries)))]
    for name, tensor in {
        "empty": torch.zeros(0), "short": torch.zeros(1), "long": torch.zeros(10**6), "integers": torch.zeros(3).int(),
        "none": None, "text": "x", "number": 7, "scalar": torch.tensor(0.0),
    }.items():  # fmt: skip
        for part in ("exp_avg", "exp_avg_sq"):
            new = optimizer(lambda stored, part=part, tensor=tensor: stored["state"][index].update({part: tensor}))
            yield f"optimizer {part} {name}", new, False
    repeated = torch.zeros(1).expand(state["optimizers"][0]["state"][index]["exp_avg"].shape)
    yield "optimizer repeated", optimizer(lambda stored: stored["state"][index].update(exp_avg=repeated)), True
    for step in (torch.zeros(9), torch.tensor(float("nan")), torch.tensor(-5.0)):
        new = optimizer(lambda stored, step=step: stored["state"][index].update(step=step))
        yield f"optimizer step {step.sum():g}", new, False
    yield "optimizer entry", optimizer(lambda stored: stored["state"][index].pop("exp_avg")), False
    yield "optimizer index", optimizer(lambda stored: stored["state"].update({10**6: {}})), False
    yield "optimizer groups", optimizer(lambda stored: stored["param_groups"].pop()), False
    yield "optimizer rate", optimizer(lambda stored: stored["param_groups"][0].update(lr="x")), False
    yield "optimizer option", optimizer(lambda stored: stored["param_groups"][0].update(betas=(9, "x"))), True
    yield "no optimizers", torch_bytes({**state, "optimizers": []}), False
    name = sorted(state["model"])[int(rng.integers(len(state["model"])))]
    for key in ("model", "ema"):
        path = (key, name) if key == "model" else (key, "average", name)
        yield f"{key} shape", torch_bytes(changed(state, path, torch.zeros(7, 7, 7))), False
    yield "step beyond", torch_bytes({**state, "step": 10**9}), False


def hostile_logs(rng: np.random.Generator, text: str) -> Iterator[tuple[str, str | bytes]]:
    """Name and content of log.jsonl, of which all but the valid lines are dropped."""
    lines = [json.loads(line) for line in text.splitlines()]
    for number in range(8):
        path = keys_of(lines)[int(rng.integers(len(keys_of(lines))))]
        new = changed(lines, path, WRONG[int(rng.integers(len(WRONG)))])
        yield f"value {number}", "\n".join(json.dumps(line) for line in new)
    for number in range(3):
        yield f"bit {number}", flipped(text.encode(), rng)
    yield "deep", text + "[" * 100_000
    yield "digits", text + f'{{"step": {LONG}, "kind": "train"}}\n'
    yield "infinite", text + '{"step": 1, "kind": "train", "l1": 1e400}\n{"step": 1, "kind": "train", "l1": NaN}\n'
    yield "tables", text + '{"step": 1, "kind": "train", "l1": [' + "{}," * 3_000_000 + "{}]}\n"
    yield "texts", text + '{"step": 1, "kind": "train", "l1": "x", "\\u001b[2J": 3}\n'
    yield "binary", b"\xff\xfe\x00" * 9999


def hostile_tasks() -> Iterator[tuple[str, str | bytes]]:
    """Name and content of task.json."""
    for number, value in enumerate(
        (
            [], 7, None, {}, {"task": "depth"}, {"options": {}}, {"task": 7, "options": {}},
            {"task": "flow", "options": {}}, {"task": "\x1b[2J", "options": {}}, {"task": "depth", "options": []},
            {"task": "depth", "options": {"width": 3}}, {"task": "depth", "options": {"\x1b": 3}},
        )
    ):  # fmt: skip
        yield f"value {number}", json.dumps(value)
    yield "empty", ""
    yield "binary", b"\xff\x00" * 99
    yield "deep", '{"task": ' + "[" * 100_000
    yield "tables", '{"task": "depth", "options": {}, "x": [' + "{}," * 6_000_000 + "{}]}"


def hostile_records(rng: np.random.Generator) -> Iterator[tuple[str, str | bytes]]:
    """Name and content of predictions.jsonl, of which all but the valid lines are skipped."""
    record = {"output": "image", "task": "depth", "config": "0", "inputs": {"/a.png": [3, 4]}, "files": {"a": [3, 4]}}
    for number in range(6):
        path = keys_of(record)[int(rng.integers(len(keys_of(record))))]
        yield f"value {number}", json.dumps(changed(record, path, WRONG[int(rng.integers(len(WRONG)))]))
    yield "NUL", json.dumps({**record, "files": {"a\0b": [3, 4]}, "inputs": {"\0": []}})
    yield "surrogates", json.dumps({**record, "output": "\ud800", "files": {"\udcff": [3, 4], "../../x": 7}})
    yield "deep", '{"output": ' + "[" * 100_000
    yield "binary", b"\xff\xfe\x00\n" * 999
    yield "digits", f'{{"output": {LONG}}}'


def generate_run_folders(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `train --resume` and `train --config`."""
    run = make_run(folder)

    def resume(kind: str, name: str, may_succeed: bool) -> tuple[Path, Case]:
        out = folder / f"{kind}-{name}".replace("/", "_")
        shutil.copytree(run, out, copy_function=link_or_copy, ignore=shutil.ignore_patterns("events", "images"))
        command = ("train", "depth", "--resume", "--out", str(out), "--steps", "4")
        return out, Case(f"run folder {kind}", name, command, may_succeed)

    def replaced(kind: str, file: str, name: str, content: str | bytes, may_succeed: bool = False) -> Case:
        out, case = resume(kind, name, may_succeed)
        (out / file).unlink()
        (out / file).write_bytes(content.encode() if isinstance(content, str) else content)
        return case

    options = yaml.safe_load((run / "config.yaml").read_text())
    for number, (name, content, may_succeed) in enumerate(hostile_configs(rng, options)):
        case = replaced("config.yaml", "config.yaml", name, content, may_succeed)
        if number % 3 == 0:
            # A config that states nothing is one of defaults.
            path = folder / f"config.yaml-{name}" / "config.yaml"
            may_succeed = may_succeed or name in ("empty", "long")
            yield Case("run folder --config", name, ("train", "depth", "--config", str(path), "--dry-run"), may_succeed)
        else:
            yield case
    for name, content, may_succeed in hostile_states(rng, (run / "last" / "state.pt").read_bytes()):
        yield replaced("state.pt", "last/state.pt", name, content, may_succeed)
    for name, content, _ in hostile_torch_files(rng, archive({})):
        yield replaced("state.pt", "last/state.pt", f"torch file, {name}", content)
    for name, content in hostile_logs(rng, (run / "log.jsonl").read_text()):
        yield replaced("log.jsonl", "log.jsonl", name, content, may_succeed=True)
    for name, content in hostile_tasks():
        yield replaced("task.json", "task.json", name, content)
    (folder / "image.png").write_bytes(png(8, 8, packed=zlib.compress(bytes(8 * 25))))
    for name, content in hostile_records(rng):
        out = folder / f"predictions.jsonl-{name}"
        out.mkdir()
        (out / "predictions.jsonl").write_bytes(content.encode() if isinstance(content, str) else content)
        command = ("predict", str(run), str(folder / "image.png"), "--out", str(out))
        yield Case("predictions.jsonl", name, command, may_succeed=True)
    for file in ("config.yaml", "task.json", "log.jsonl", "last/state.pt"):
        for name, make in {
            "pipe": os.mkfifo,
            "zero": lambda path: path.symlink_to("/dev/zero"),
            "loop": lambda path: path.symlink_to(path),
            "folder": lambda path: path.mkdir(),
        }.items():
            out, case = resume("no file", f"{file} {name}", file == "log.jsonl" and name == "loop")
            (out / file).unlink()
            make(out / file)
            yield case
