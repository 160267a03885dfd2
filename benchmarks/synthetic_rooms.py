"""Rendering benchmark of synthetic rooms on one core: generation must be faster than the training step."""

from __future__ import annotations

import itertools
import time

import torch

from ..datasets.core.geometry import Size
from ..datasets.core.randomness import Purpose, generator
from ..datasets.rendering.rooms import render_room
from .measure import Figure, Report, Setting, Stopwatch, device_name, fixed_threads, repeat

SIZES: tuple[tuple[Size, float | None], ...] = (((128, 160), 60.0), ((96, 128), None))
"""(height, width), and the required images per second."""
ROUNDS = 5
IMAGES = 100


def measure(
    setting: Setting,
    *,
    sizes: tuple[tuple[Size, float | None], ...] = SIZES,
    num_images: int = IMAGES,
    rounds: int = ROUNDS,
) -> Report:
    """Measure images per second of CPU time, which excludes other processes; every round renders new rooms.

    Args:
        setting: its threads are ignored, since this measures one core.
        sizes: (height, width) of the images, and the required rate.
        num_images: rooms per round.
        rounds: number of repetitions if the setting has none.
    """
    cpu = torch.device("cpu")
    watch, figures, facts = Stopwatch(cpu, time.process_time), [], {}
    with fixed_threads(1):
        for (height, width), required in sizes:
            numbers = itertools.count()

            def draw(height: int = height, width: int = width, numbers: itertools.count = numbers) -> None:
                for _ in range(num_images):
                    render_room(generator(0, 0, next(numbers), Purpose.TRAINING_SYNTHESIS), height, width)

            wall, busy = time.perf_counter(), time.process_time()
            seconds = repeat(watch.as_round(draw), setting.rounds or rounds)
            used = (time.process_time() - busy) / (time.perf_counter() - wall)
            facts[f"cores_used_{height}x{width}"] = used
            shapes = f"{height}x{width} (height x width), {num_images} rooms a round"
            figures.append(Figure.from_rate("render_room", shapes, "one core", seconds, num_images, required))
    cores = max(facts.values())
    remarks = (f"Rates are per second of CPU time; at most {cores:.2f} cores were used, and 1 is allowed.",)
    title = "Rooms rendered on one core"
    return Report("synthetic-rooms", title, device_name(cpu), 1, tuple(figures), facts, remarks)
