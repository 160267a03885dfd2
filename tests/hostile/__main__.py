"""Table of the hostile suite: cases that were survived of those tried, per kind and seed.

python -m densevision.tests.hostile --seeds 0 1 2 3 [--only images]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .generators import GENERATORS
from .harness import generate, run_case, table


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
