"""Memorability by a ridge regression on frozen features: the choice of backbone, levels and statistics.

python tools/reproduce/ridge.py --root lnsim

Must be started in a folder that contains the weights files. Prints a Markdown table: five-fold cross-validation inside
the training split, which alone chooses, and for the record the test split, on which nothing is chosen. `--out DIR` also
writes DIR/result.json.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cyclopts import App

from densevision import create_backbone
from densevision.atomic_io import write_json
from densevision.datasets import open_dataset
from densevision.tasks.memorability.metrics import confidence_interval, spearman
from densevision.tasks.memorability.networks import RidgeScore
from densevision.tasks.memorability.ridge import Ridge, fit_ridge


@dataclass(frozen=True)
class Candidate:
    """A backbone with trained weights, its number of levels, and the height and width of its input."""

    backbone: str
    weights: str
    levels: int
    size: int


LITE0 = "efficientnet_lite0_imagenet_fp16.safetensors"
CANDIDATES = (
    Candidate("timm:tf_efficientnet_lite0", LITE0, 5, 224),
    Candidate("resnet18", "resnet18_imagenet_to_layer3_fp16.safetensors", 4, 224),
    Candidate("alexnet", "alexnet_caffe_conv_pruned8bit_fp16.safetensors", 3, 227),
    Candidate("timm:tf_efficientnet_lite0", LITE0, 5, 160),
    Candidate("timm:tf_efficientnet_lite0", LITE0, 5, 288),
    Candidate("resnet50", "resnet50_imagenet_pruned8bit_fp16.safetensors", 5, 224),
)
COLUMNS = (
    "backbone", "input", "levels", "statistics", "features", "rho (CV)", "mse (CV)", "rho (test, 95 % interval)",
    "mse (test)", "sd (test)",
)  # fmt: skip


def rows(candidate: Candidate, root: Path) -> list[dict[str, Any]]:
    """The scores of one candidate with its coarsest level, its coarsest two, three, ..., and all."""
    backbone = create_backbone(candidate.backbone, candidate.weights, num_classes=0, levels=candidate.levels)
    backbone.preprocessing = replace(backbone.preprocessing, resize=candidate.size, crop=candidate.size)
    model = RidgeScore(backbone, Ridge(backbone.levels))
    train, scores = model.measure(open_dataset("lnsim", root, "train"))
    test, test_scores = model.measure(open_dataset("lnsim", root, "test"))
    channels = np.array([level.channels for level in backbone.levels for _ in range(2)])
    level_of = np.repeat(np.arange(len(channels)) // 2, channels)
    is_mean = np.repeat(np.arange(len(channels)) % 2 == 0, channels)
    found = []
    for first in reversed(range(len(backbone.levels))):
        for statistics in ("means", "means and deviations"):
            used = (level_of >= first) & (is_mean | (statistics != "means"))
            fit = fit_ridge(train[:, used].astype(np.float64), scores)
            predicted = np.clip(test[:, used] @ fit.weight + fit.bias, 0, 1)
            found.append(
                {
                    **asdict(candidate),
                    "levels": [level.name for level in backbone.levels[first:]],
                    "statistics": statistics,
                    "features": int(used.sum()),
                    "penalty": fit.penalty,
                    "cv_rho": fit.rho,
                    "cv_mse": fit.mse,
                    "rho": float(spearman(predicted, test_scores)),
                    "interval": confidence_interval(predicted, test_scores),
                    "mse": float(((predicted - test_scores) ** 2).mean()),
                    "sd": float(predicted.std()),
                    "baseline": {
                        "cv_mse": float(scores.var()),
                        "mse": float(np.mean((test_scores - scores.mean()) ** 2)),
                    },
                }
            )
    return found


def line(row: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    low, high = row["interval"]
    cells = (
        row["backbone"], row["size"], ", ".join(row["levels"]), row["statistics"], row["features"],
        f"{row['cv_rho']:.3f}", f"{row['cv_mse']:.5f}", f"{row['rho']:.3f} ({low:.2f} to {high:.2f})",
        f"{row['mse']:.4f}", f"{row['sd']:.3f}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def ridge(*, root: Path, out: Path | None = None, only: str | None = None) -> None:
    """Print the table and the choice.

    Args:
        root: Folder of LNSIM, or of its parts.
        out: Folder for result.json; nothing is written if not stated.
        only: One of the candidates, as NAME@SIZE; all if not stated.
    """
    torch.set_num_threads(1)
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    found: list[dict[str, Any]] = []
    for candidate in CANDIDATES:
        if only in (None, f"{candidate.backbone}@{candidate.size}"):
            found += rows(candidate, root)
            print("\n".join(map(line, found[-2 * candidate.levels :])), flush=True)
    best = min(found, key=lambda row: row["cv_mse"])
    baseline = best["baseline"]
    print(f"\nMean score: mse {baseline['cv_mse']:.5f} (training split), {baseline['mse']:.4f} (test).")
    print(f"Least squared error in cross-validation:\n\n{line(best)}")
    if out is not None:
        write_json(out / "result.json", {"rows": found, "chosen": best}, indent=2)


if __name__ == "__main__":
    App(default_command=ridge)()
