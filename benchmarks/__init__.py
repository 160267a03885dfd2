"""Benchmarks against reference implementations on the same machine.

To add one, add a file and its line in `BENCHMARKS`. `densevision bench` runs them. Tests never depend on timings.
`measure` takes the setting, and by name the sizes, which tests reduce, and the rounds, if the setting has none.
"""

from __future__ import annotations

BENCHMARKS: dict[str, str] = {
    "attribution": "benchmarks.attribution:measure",
    "colorization-encoding": "benchmarks.colorization_encoding:measure",
    "correlation": "benchmarks.correlation:measure",
    "default-runs": "benchmarks.default_runs:measure",
    "flow-data": "benchmarks.flow_data:measure",
    "image-pipeline": "benchmarks.image_pipeline:measure",
    "int8": "benchmarks.quantized:measure",
    "loader": "benchmarks.loader:measure",
    "occlusion": "benchmarks.occlusion:measure",
    "onnxruntime": "benchmarks.exported:measure",
    "predict": "benchmarks.predict:measure",
    "synthetic-rooms": "benchmarks.loader:measure_rendering",
    "training-loop": "benchmarks.training_loop:measure",
    "training-step": "benchmarks.training_step:measure",
}


def list_benchmarks() -> list[str]:
    """Sorted names of the benchmarks."""
    return sorted(BENCHMARKS)


__all__ = ["BENCHMARKS", "list_benchmarks"]
