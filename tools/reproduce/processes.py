"""Difference of the weights between two processes of batch size 2 and one of batch size 4, on the CPU.

python tools/reproduce/processes.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import densevision

CASES: dict[str, dict[str, Any]] = {
    "LeNet-5, which has no BatchNorm": {"backbone": "lenet5"},
    "ResNet-20 with --freeze-bn": {"backbone": "resnet20_cifar", "freeze_bn": True},
    "ResNet-20": {"backbone": "resnet20_cifar"},
}
OPTIONS: dict[str, Any] = {
    "data": "synthetic-shapes", "image_size": (32, 32), "optimizer": "sgd", "lr": 0.01, "warmup_steps": 0, "steps": 6,
    "workers": 0, "threads": 1, "eval_every": 0, "eval_samples": 4, "device": "cpu", "amp": "off",
}  # fmt: skip


def train(out: Path, batch_size: int) -> None:
    """Train every case."""
    for number, options in enumerate(CASES.values()):
        densevision.train("classification", batch_size=batch_size, out=out / str(number), **OPTIONS, **options)


def weights(out: Path) -> dict[str, Any]:
    """The parameters after a run."""
    model = densevision.load(out / "last" / "checkpoint.safetensors", device="cpu").model
    return dict(model.named_parameters())


def main() -> None:
    if len(sys.argv) > 1:
        train(Path(sys.argv[1]) / os.environ["RANK"], 2)
        return
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        free.close()
        environments = [{**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        command = [sys.executable, __file__, name]
        processes = [subprocess.Popen(command, env=each, stderr=subprocess.DEVNULL) for each in environments]
        assert [process.wait() for process in processes] == [0, 0]
        train(folder / "one", 4)
        for number, case in enumerate(CASES):
            two, one = weights(folder / "0" / str(number)), weights(folder / "one" / str(number))
            gap = max(float((two[name] - one[name]).detach().abs().max()) for name in one)
            print(f"{case}: {gap:.0e}")


if __name__ == "__main__":
    main()
