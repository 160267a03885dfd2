"""How many rooms one core draws a second: a world must outrun the training step that it feeds."""

from __future__ import annotations

import itertools
import time

import torch

from ..datasets.geometry import Size
from ..datasets.randomness import Purpose, generator
from ..datasets.worlds.rooms import render_room
from .measure import Figure, Report, Setting, Stopwatch, device_name, fixed_threads, repeat

SIZES: tuple[tuple[Size, float | None], ...] = (((128, 160), 60.0), ((96, 128), None))
"""(height, width) and the pictures a second that are asked for."""
ROUNDS = 5
PICTURES = 100


def measure(
    setting: Setting,
    *,
    sizes: tuple[tuple[Size, float | None], ...] = SIZES,
    pictures: int = PICTURES,
    rounds: int = ROUNDS,
) -> Report:
    """Pictures per second of processor time, which others do not share; every round of rooms never drawn before.

    Args:
        setting: its threads are not used: this is about one core.
        sizes: (height, width) of the pictures, and the rate that is asked for.
        pictures: rooms per round.
        rounds: repetitions, where the setting says nothing.
    """
    cpu = torch.device("cpu")
    watch, figures, facts = Stopwatch(cpu, time.process_time), [], {}
    with fixed_threads(1):
        for (height, width), least in sizes:
            numbers = itertools.count()

            def draw(height: int = height, width: int = width, numbers: itertools.count = numbers) -> None:
                for _ in range(pictures):
                    render_room(generator(0, 0, next(numbers), Purpose.TRAINING_WORLD), height, width)

            wall, busy = time.perf_counter(), time.process_time()
            seconds = repeat(watch.rounds_of(draw), setting.rounds or rounds)
            used = (time.process_time() - busy) / (time.perf_counter() - wall)
            facts[f"cores_used_{height}x{width}"] = used
            shapes = f"{height}x{width} (height x width), {pictures} rooms a round"
            figures.append(Figure.of_rate("render_room", shapes, "one core", seconds, pictures, least))
    most = max(facts.values())
    remarks = (f"Seconds are processor time; at most {most:.2f} cores were busy with it, and 1 is all it may use.",)
    title = "Rooms drawn on one core"
    return Report("rooms", title, device_name(cpu), 1, tuple(figures), facts, remarks)
