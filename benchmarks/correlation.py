"""Benchmark of the correlation of two feature maps: tiled matrix products against a loop over the displacements.

The reference follows the definition: pad, shift, multiply, mean, stack.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ..tasks.flow.correlation import correlation, correlation_by_shifts
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

ROUNDS = 3
NAMES = ("tiles and products of matrices", "pad, shift, multiply, mean, stack")


@dataclass(frozen=True)
class Case:
    """Shapes of a correlation.

    Attributes:
        name: model that uses it.
        shape: (B, C, H, W) of both feature maps.
        max_displacement, stride: see `tasks.flow.correlation.correlation`.
        calls: calls per round of ours and theirs, since a single one may be too short for precise timing.
        required: minimum ratios of forward with backward, and of forward alone.
    """

    name: str
    shape: tuple[int, int, int, int]
    max_displacement: int
    stride: int
    calls: int = 1
    required: tuple[float | None, float | None] = (None, None)


CASES = (
    Case("FlowNetC", (8, 256, 48, 64), max_displacement=20, stride=2, required=(10.0, 4.0)),
    Case("a level of the warping head", (8, 48, 24, 32), max_displacement=4, stride=1, calls=10),
)


def measure(setting: Setting, *, cases: tuple[Case, ...] = CASES, rounds: int = ROUNDS) -> Report:
    """Measure forward with backward, forward alone, and the memory of the forward pass."""
    figures, facts, remarks = [], {}, []
    with fixed_threads(setting.threads):
        for case in cases:
            figures += figures_of(case, setting, setting.rounds or rounds)
            ours, theirs = (peak_memory(forward(way, case, setting.device), setting.device) for way in IMPLEMENTATIONS)
            facts[case.name] = {"bytes": ours, "their_bytes": theirs, "share": ours / theirs}
            remarks.append(
                f"{case.name}: peak memory of a forward pass without its inputs: {ours / 2**20:.1f} MiB, "
                f"the reference's: {theirs / 2**20:.1f} MiB."
            )
    device, title = device_name(setting.device), "The correlation of two feature maps in float32"
    return Report("correlation", title, device, setting.threads, tuple(figures), facts, tuple(remarks))


def figures_of(case: Case, setting: Setting, rounds: int) -> list[Figure]:
    """The comparisons of a case: forward with backward, and forward alone."""
    watch, figures = Stopwatch(setting.device), []
    shapes = f"{'x'.join(map(str, case.shape))}, displacement {case.max_displacement}, stride {case.stride}"
    for passes, make, required in zip(
        ("forward and backward", "forward"), (both_passes, forward), case.required, strict=True
    ):
        ours, theirs = (watch.as_round(make(way, case, setting.device), case.calls) for way in IMPLEMENTATIONS)
        pairs = alternate(ours, theirs, rounds, warm_up=1)
        figures.append(
            Figure.from_pairs(f"{case.name}, {passes}", shapes, *NAMES, pairs, case.shape[0], required=required)
        )
    return figures


Implementation = Callable[[Tensor, Tensor, int, int], Tensor]
IMPLEMENTATIONS: tuple[Implementation, Implementation] = (correlation, correlation_by_shifts)


def forward(way: Implementation, case: Case, device: torch.device) -> Callable[[], Tensor]:
    """A forward pass that records the graph for a backward pass."""
    first, second = random_maps(case, device)
    return lambda: way(first, second, case.max_displacement, case.stride)


def both_passes(way: Implementation, case: Case, device: torch.device) -> Callable[[], object]:
    """A forward and backward pass with gradients of both maps."""
    first, second = random_maps(case, device)
    output = way(first.detach(), second.detach(), case.max_displacement, case.stride)
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(device)

    def passes() -> object:
        return torch.autograd.grad(way(first, second, case.max_displacement, case.stride), (first, second), gradient)

    return passes


def random_maps(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two random feature maps with a fixed seed."""
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(case.shape, generator=rng).to(device).requires_grad_() for _ in range(2))
    return first, second


def peak_memory(work: Callable[[], Tensor], device: torch.device) -> int:
    """Peak memory in bytes that a call allocates, including its result."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    return max(itertools.accumulate(amount for _, amount in changes))
