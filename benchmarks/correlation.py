"""The correlation of two feature maps by tiles and products of matrices, against one displacement after the other.

The peer is the definition as one writes it down: pad, shift, multiply, mean, stack.
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
    """What is correlated.

    Attributes:
        what: for which network.
        shape: (B, C, H, W) of both maps.
        reach, stride: see `tasks.flow.correlation.correlation`.
        times: how often a round is repeated: once may be too short to be timed beside other work.
        least: the ratios that are asked for, forward with backward and forward alone.
    """

    what: str
    shape: tuple[int, int, int, int]
    reach: int
    stride: int
    times: int = 1
    least: tuple[float | None, float | None] = (None, None)


CASES = (
    Case("FlowNetC", (8, 256, 48, 64), reach=20, stride=2, least=(10.0, 4.0)),
    Case("a level of the warping head", (8, 48, 24, 32), reach=4, stride=1, times=10),
)


def measure(setting: Setting, *, cases: tuple[Case, ...] = CASES, rounds: int = ROUNDS) -> Report:
    """Forward with backward, forward alone, and the memory of the forward pass.

    Args:
        setting: device and threads.
        cases: what is correlated.
        rounds: pairs, where the setting says nothing.
    """
    figures, facts, remarks = [], {}, []
    with fixed_threads(setting.threads):
        for case in cases:
            figures += figures_of(case, setting, setting.rounds or rounds)
            ours, theirs = (peak(forward(way, case, setting.device), setting.device) for way in WAYS)
            facts[case.what] = {"bytes": ours, "their_bytes": theirs, "share": ours / theirs}
            remarks.append(
                f"{case.what}: beside its inputs a forward pass holds {ours / 2**20:.1f} MiB at most, "
                f"the peer's {theirs / 2**20:.1f} MiB."
            )
    device, title = device_name(setting.device), "The correlation of two feature maps in float32"
    return Report("correlation", title, device, setting.threads, tuple(figures), facts, tuple(remarks))


def figures_of(case: Case, setting: Setting, rounds: int) -> list[Figure]:
    """Both comparisons of a case."""
    watch, figures = Stopwatch(setting.device), []
    shapes = f"{'x'.join(map(str, case.shape))}, reach {case.reach}, stride {case.stride}"
    for passes, make, least in zip(
        ("forward and backward", "forward"), (both_passes, forward), case.least, strict=True
    ):
        ours, theirs = (watch.rounds_of(make(way, case, setting.device), case.times) for way in WAYS)
        pairs = alternate(ours, theirs, rounds, warm_up=1)
        figures.append(Figure.of_pairs(f"{case.what}, {passes}", shapes, *NAMES, pairs, case.shape[0], least=least))
    return figures


Way = Callable[[Tensor, Tensor, int, int], Tensor]
WAYS: tuple[Way, Way] = (correlation, correlation_by_shifts)


def forward(way: Way, case: Case, device: torch.device) -> Callable[[], Tensor]:
    """A forward pass that could be followed by a backward pass."""
    first, second = maps_of(case, device)
    return lambda: way(first, second, case.reach, case.stride)


def both_passes(way: Way, case: Case, device: torch.device) -> Callable[[], object]:
    """A forward and a backward pass to both maps."""
    first, second = maps_of(case, device)
    made = way(first.detach(), second.detach(), case.reach, case.stride)
    gradient = torch.randn(made.shape, generator=torch.Generator().manual_seed(1)).to(device)

    def passes() -> object:
        return torch.autograd.grad(way(first, second, case.reach, case.stride), (first, second), gradient)

    return passes


def maps_of(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both maps, always the same."""
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(case.shape, generator=rng).to(device).requires_grad_() for _ in range(2))
    return first, second


def peak(work: Callable[[], Tensor], device: torch.device) -> int:
    """Bytes that a piece of work holds at most beside what was there before, its result included."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        watched.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    taken = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    return max(itertools.accumulate(amount for _, amount in taken))
