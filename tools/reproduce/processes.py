"""The same training on one to four processes, on the CPU: differences of the weights, and CPU time relative to one.

python tools/reproduce/processes.py [STEPS]

Eleven steps, or as many as stated, of four micro-batches of two images; three processes share them as 2, 1 and 1.
Prints a table. The time is that of the steps after the first, summed over the processes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import densevision

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "LeNet-5": ("classification", {"backbone": "lenet5", "data": "synthetic-shapes"}),
    "ResNet-20": ("classification", {"backbone": "resnet20_cifar", "data": "synthetic-shapes"}),
    "pix2pix, two players": ("translation", {"backbone": "resnet20_cifar", "head": "unet", "eval_samples": 2}),
}
OPTIONS: dict[str, Any] = {
    "image_size": (32, 32), "optimizer": "sgd", "lr": 0.01, "warmup_steps": 0, "batch_size": 2,
    "micro_batches": 4, "workers": 0, "threads": 1, "eval_every": 0, "eval_samples": 4, "device": "cpu", "amp": "off",
}  # fmt: skip
COUNTS = (1, 2, 3, 4)


def train(out: Path, steps: int) -> None:
    """Train every case for so many steps."""
    for number, (task, options) in enumerate(CASES.values()):
        times: list[float] = []
        measure = partial(_append_time, times)
        densevision.train(task, out=out / str(number), steps=steps, on_step=measure, **OPTIONS | options)
        (out / f"{number}-{os.environ['RANK']}.txt").write_text(f"{times[-1] - times[0]}")


def _append_time(times: list[float], step: int) -> None:
    times.append(time.process_time())


def run(folder: Path, count: int, steps: int) -> None:
    """Train every case in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
        group["MASTER_PORT"] = str(free.getsockname()[1])
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    command = [sys.executable, __file__, str(steps), str(folder)]
    processes = [subprocess.Popen(command, env={**os.environ, **group, **rank}) for rank in ranks]
    assert [process.wait() for process in processes] == [0] * count


def weights(out: Path) -> dict[str, Any]:
    """The weights and statistics after a run, as stored in fp32."""
    return densevision.load(out / "last" / "checkpoint.safetensors", device="cpu").model.state_dict()


def gap(one: dict[str, Any], other: dict[str, Any], statistics: bool) -> str:
    """The largest difference of the parameters, or of the BatchNorm statistics."""
    names = [name for name in one if ("running_" in name) == statistics and one[name].is_floating_point()]
    largest = max((float((one[name] - other[name]).abs().max()) for name in names), default=None)
    return "" if largest is None else f"{largest:.0e}" if largest else "0"


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    if len(sys.argv) > 2:
        train(Path(sys.argv[2]), steps)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in COUNTS:
            run(folder / str(count), count, steps)
        print("| network | processes | weights | BatchNorm statistics | CPU time |\n| --- | --- | --- | --- | --- |")
        for number, case in enumerate(CASES):
            outs = {count: folder / str(count) / str(number) for count in COUNTS}
            times = {
                count: sum(float(path.read_text()) for path in (folder / str(count)).glob(f"{number}-*.txt"))
                for count in COUNTS
            }
            for count in COUNTS[1:]:
                one, several = weights(outs[1]), weights(outs[count])
                gaps = f"{gap(one, several, False)} | {gap(one, several, True)}"
                print(f"| {case} | {count} | {gaps} | × {times[count] / times[1]:.2f} |")


if __name__ == "__main__":
    main()
