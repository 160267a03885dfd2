"""Train on a Ray cluster, whose workers come and go: python examples/cluster/ray_train.py

Ray Train starts the processes and connects them; the run folder on a file system of all machines does the rest.
"""

from __future__ import annotations

import os
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig  # pyright: ignore[reportMissingImports]
from ray.train.torch import TorchTrainer  # pyright: ignore[reportMissingImports]

OPTIONS: dict[str, Any] = {"out": "/shared/run7", "micro_batches": 64, "save_every": "300s"}


def train(options: dict[str, Any]) -> None:
    """What each worker runs; a restarted group of workers continues the run."""
    import densevision

    densevision.train("depth", resume="auto", **options)


def main(options: dict[str, Any], workers: int | tuple[int, int], gpus: bool) -> None:
    """Run the training on so many workers, or between a minimum and a maximum of them."""
    # Ray lowers the priority of workers, and sends usage statistics, unless it is disabled.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    TorchTrainer(
        train,
        train_loop_config=options,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=100)),
    ).fit()


if __name__ == "__main__":
    main(OPTIONS, workers=(1, 64), gpus=True)
