"""Cost of shards: CPU seconds to open 100,000 samples, and the shards that processes fetch in an epoch.

python tools/reproduce/shards.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from densevision.datasets.field_types import ClassLabel, Image
from densevision.datasets.formats.arrays import npz_bytes
from densevision.datasets.samples import Samples
from densevision.datasets.shards import COLUMNS, TYPES, Shards, write_shards
from densevision.tasks.training.lanes import Lanes

SAMPLES, PER = 100_000, 1000
IMAGENET, LANES = 1_281_167, 64


def index_of(count: int, per: int) -> dict[str, np.ndarray]:
    """The index of `count` samples of two fields, as of photos of 110 kB in random order."""
    rng = np.random.default_rng(0)
    sizes = np.stack([rng.integers(50_000, 170_000, count), np.full(count, 136)], axis=1)
    values = {"shard": rng.permutation(count) // per, "code": np.tile((0, 2), (count, 1)), "size": sizes}
    values["offset"] = (np.cumsum(sizes).reshape(count, 2) // 512 * 512) % (per * 220_000)
    table = {name: values[name].astype(kind) for name, kind in TYPES.items()}
    table["name"] = np.array([f"n{number % 1000:08}/n{number:08}.JPEG".encode() for number in range(count)])
    return {name: table[name] for name in COLUMNS}


def opening() -> tuple[float, float]:
    """CPU seconds to open the split, and size of its index in MB."""
    with tempfile.TemporaryDirectory() as folder:
        sample = {"image": np.zeros((8, 8, 3), np.uint8), "category": np.array(0)}
        write_shards(Samples([sample], {"image": Image(), "category": ClassLabel(("a", "b"))}), folder)
        description = Path(folder) / "dataset.json"
        text = description.read_text().replace('"samples": 1', f'"samples": {SAMPLES}')
        description.write_text(text.replace('"shards": 1', f'"shards": {SAMPLES // PER}'))
        index = Path(folder) / "train" / "index.npz"
        index.write_bytes(npz_bytes(index_of(SAMPLES, PER)))
        Shards(folder)
        started = time.process_time()
        Shards(folder)
        return time.process_time() - started, index.stat().st_size / 1e6


def fetched(processes: int) -> float:
    """Shards that all processes fetch in an epoch of ImageNet, as a multiple of the set."""
    shards = np.arange(IMAGENET) // PER
    lanes, share = Lanes(shards, LANES, 0), IMAGENET // LANES
    read = set()
    for lane in range(LANES):
        keys = lanes.keys(lane, share)
        read |= {(lane % processes, shard) for shard in np.unique(shards[[index for _, index in keys]]).tolist()}
    return len(read) / (int(shards.max()) + 1)


if __name__ == "__main__":
    seconds, size = opening()
    print(f"Opening {SAMPLES:,} samples: {seconds:.2f} CPU seconds, index of {size:.1f} MB")
    for processes in (1, 8, 64):
        print(f"Shards fetched by {processes} processes, {LANES} micro-batches: {fetched(processes):.3f} x the set")
