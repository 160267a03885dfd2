"""Table of the hostile suite: cases that were survived of those tried, per kind and seed.

python -m densevision.tests.hostile.table --seeds 0 1 2 3 [--only images]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .annotations import generate_annotations
from .archives import generate_archives
from .arrays import generate_arrays
from .checkpoints import generate_checkpoints
from .harness import Generator, generate, run_case, table
from .images import generate_images
from .matlab import generate_matlab
from .run_folders import generate_run_folders
from .videos import generate_videos

GENERATORS: dict[str, Generator] = {
    "annotations": generate_annotations,
    "archives": generate_archives,
    "arrays": generate_arrays,
    "checkpoints": generate_checkpoints,
    "images": generate_images,
    "matlab": generate_matlab,
    "run_folders": generate_run_folders,
    "videos": generate_videos,
}
"""The generators by name."""


def main() -> None:
    """Run every case of every seed, and print a table each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=sorted(GENERATORS), default=sorted(GENERATORS))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            cases = generate({name: GENERATORS[name] for name in arguments.only}, Path(folder), seed)
            outcomes = [run_case(case) for case in cases]
        print(f"seed {seed}\n{table(outcomes)}\n", flush=True)
        longest = max(outcomes, key=lambda outcome: outcome.cpu_seconds)
        largest = max(outcomes, key=lambda outcome: outcome.peak_gib)
        print(f"most CPU: {longest.cpu_seconds:.1f} s ({longest.case.name})")
        print(f"most memory: {largest.peak_gib:.2f} GiB ({largest.case.name})\n", flush=True)


if __name__ == "__main__":
    main()
