"""What we claim about speed, measured beside what others do on the same machine. A benchmark is one file and its line.

`densevision bench` runs them; no timing is ever a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..catalogue import look_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from .measure import Report, Setting

BENCHMARKS: dict[str, str] = {
    "colorization-encoding": "benchmarks.colorization_encoding:measure",
    "correlation": "benchmarks.correlation:measure",
    "loader": "benchmarks.loader:measure",
    "occlusion": "benchmarks.occlusion:measure",
    "picture-pipeline": "benchmarks.picture_pipeline:measure",
    "predict": "benchmarks.predict:measure",
    "rooms": "benchmarks.rooms:measure",
    "training-step": "benchmarks.training_step:measure",
}


def list_benchmarks() -> list[str]:
    """The names that `densevision bench` knows."""
    return sorted(BENCHMARKS)


def find_benchmark(name: str) -> Callable[[Setting], Report]:
    """The function that measures, by name.

    Raises:
        UserError: no benchmark has this name.
    """
    return look_up("benchmark", name, BENCHMARKS)


__all__ = ["BENCHMARKS", "find_benchmark", "list_benchmarks"]
