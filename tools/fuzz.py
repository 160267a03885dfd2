"""Coverage-guided fuzzing of the readers of our own formats, with atheris (`pip install atheris`, Python up to 3.11).

python tools/fuzz.py --reader flo --minutes 10

A crash is any exception but `UserError`, more than 2 GB of memory, or more than 10 s on one input; libFuzzer stops
at the first, prints it, and leaves the input as `crash-HASH`. The last line counts the runs. Needs no GPU and no data.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(  # type: ignore[attr-defined]
    include=["densevision", "json", "zipfile"]
):
    import numpy as np
    import torch
    from safetensors.torch import save_file
    from scipy.io import savemat

    from densevision import create_task
    from densevision.apps.manifest import Manifest
    from densevision.backbones.weights import read_metadata
    from densevision.datasets.classification.cifar import load_pickled_batch, write_pickled_batch
    from densevision.datasets.classification.mnist import read_idx, write_idx
    from densevision.datasets.formats.arrays import read_npy, read_npz, read_pfm, write_npy, write_npz, write_pfm
    from densevision.datasets.formats.coco import read_keypoints
    from densevision.datasets.formats.flow import read_flo, write_flo
    from densevision.datasets.formats.mat import Mat73, read_mat, write_mat73
    from densevision.datasets.formats.tar import list_members, unpack_members, write_tar
    from densevision.datasets.pose.mpii import structures
    from densevision.datasets.pose.pose_folders import PoseFolders, read_csv
    from densevision.errors import UserError
    from densevision.tasks.checkpoint import read_header
    from densevision.tasks.training.log import _read_lines as read_log
    from densevision.tasks.training.options import Options
    from densevision.tasks.training.state import stored_task

MEMORY_MB, SECONDS = 2048, 10

Reader = tuple[str, Callable[[Path], Any], Callable[[Path], Any]]
"""(name of a file, function that reads it, function that writes a valid one)."""

FLOW = np.arange(24, dtype=np.float32).reshape(3, 4, 2)


def _coco(file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        PoseFolders.write_example(folder)
        file.write_bytes((Path(folder) / "people.json").read_bytes()[:4000])


def _mat73(file: Path) -> None:
    variable = Mat73(file)
    try:
        variable.read("depths", 0)
        variable.strings("scenes")
    finally:
        variable.close()


READERS: dict[str, Reader] = {
    "flo": ("a.flo", read_flo, lambda file: write_flo(file, FLOW)),
    "pfm": ("a.pfm", read_pfm, lambda file: write_pfm(file, FLOW[..., 0])),
    "npy": ("a.npy", read_npy, lambda file: write_npy(file, FLOW)),
    "npz": ("a.npz", lambda file: read_npz(file, "flow"), lambda file: write_npz(file, "flow", FLOW)),
    "idx": ("a.idx", read_idx, lambda file: write_idx(file, FLOW)),
    "tar": ("a.tar", list_members, lambda file: write_tar(file, [("a/b.txt", b"text"), ("c", b"")])),
    "tar.gz": (
        "a.tar.gz",
        lambda file: unpack_members(file, "a"),
        lambda file: write_tar(file, [("a/b.txt", b"text"), ("c", b"")]),
    ),
    "pickle": (
        "batch",
        lambda file: load_pickled_batch(file.read_bytes(), file),
        lambda file: write_pickled_batch(file, {"data": np.zeros((1, 3), np.uint8), "labels": [1]}),
    ),
    "mat": (
        "a.mat",
        read_mat,
        # Without compression, whose checksum would refuse every change.
        lambda file: savemat(file, {"a": structures([{"b": FLOW, "c": "text"}]), "d": np.ones((2, 2))}),
    ),
    "mat73": ("a.mat", _mat73, lambda file: write_mat73(file, {"depths": FLOW, "scenes": ["a"]})),
    "coco": ("people.json", lambda file: read_keypoints(file, [], []), _coco),
    "people": (
        "people.csv",
        lambda file: read_csv(file, [], []),
        lambda file: file.write_text("file,nose_x,nose_y,nose_flag\na.png,1,2,2\n"),
    ),
    "config": ("config.yaml", Options.read, lambda file: Options(steps=10, lr=0.1).write(file)),
    "task": (
        "task.json",
        lambda file: stored_task(create_task("depth"), file.parent),
        lambda file: file.write_text('{"task": "depth", "options": {}}'),
    ),
    "log": ("log.jsonl", read_log, lambda file: file.write_text('{"step": 1, "kind": "train", "loss": 0.5}\n')),
    "manifest": (
        "manifest.jsonl",
        lambda file: Manifest(file.parent, "depth", {}),
        lambda file: file.write_text('{"output": "a", "task": "depth", "config": {}, "inputs": {}, "files": {}}\n'),
    ),
    "safetensors": (
        "a.safetensors",
        read_metadata,
        lambda file: save_file({"a": torch.ones(2)}, str(file), {"densevision": '{"format": 1}'}),
    ),
    "checkpoint": (
        "a.safetensors",
        read_header,
        lambda file: save_file({"a": torch.ones(2)}, str(file), {"densevision": '{"format": 1, "task": "depth"}'}),
    ),
}
"""The readers by name."""


def main() -> None:
    """Fuzz one reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", choices=sorted(READERS), required=True)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    name, read, write_example = READERS[arguments.reader]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "corpus").mkdir()
    (folder / "run").mkdir()
    write_example(folder / "corpus" / name)
    file = folder / "run" / name

    def once(data: bytes) -> None:
        file.write_bytes(data)
        with contextlib.suppress(UserError):
            read(file)

    options = [f"-max_total_time={round(60 * arguments.minutes)}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SECONDS}"]
    print(f"Fuzzing {arguments.reader} for {arguments.minutes:g} min.", flush=True)
    atheris.Setup(
        [sys.argv[0], "-print_final_stats=1", "-max_len=8192", "-len_control=0", *options, str(folder / "corpus")], once
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
