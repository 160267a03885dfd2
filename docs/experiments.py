"""What the lecture says of training deep networks, each claim measured once, on pictures that this package draws.

python docs/experiments.py initialisation    20 layers without normalisation, started by three rules
python docs/experiments.py normalisation     20 layers with and without batch normalisation, at three rates
python docs/experiments.py momentum          a ravine, walked down with and without momentum
python docs/experiments.py depth             plain and residual networks of 20 and 56 layers
python docs/experiments.py all               the four of them, and the tables
python docs/experiments.py tables            the tables of docs/training-deep-networks.md, written anew from the numbers

--steps N overrides the steps of every training, --threads N is for torch. Each experiment writes
docs/experiments/NAME.json and NAME.png. The training loop is plain PyTorch; the package gives the trunks and the data.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from densevision import create_backbone
from densevision.datasets import open_dataset
from densevision.tasks.device import choose_device, use_bf16

DOCS = Path(__file__).parent
NUMBERS = DOCS / "experiments"
PAGE = DOCS / "training-deep-networks.md"

SIZE, CLASSES = 32, 10
TRAINING, TEST = 8192, 1000
BATCH, MOMENTUM, DECAY, SEED = 128, 0.9, 1e-4, 0
POINTS = 60  # of a stored curve: every point is the mean of the steps since the one before
LAST = 20  # steps whose mean is called the final loss
RAVINE = (1.0, 100.0)
START = (-1.0, 0.3)


@dataclass(frozen=True)
class Run:
    """One training: a trunk with its options, a rate, and the part of the steps after which it is divided by 10."""

    label: str
    network: str
    rate: float
    norm: bool = True
    init: str = "he_fan_in"
    drop: float = 1.0


RUNS: dict[str, tuple[Run, ...]] = {
    "initialisation": (
        Run("He", "plain20_cifar", 0.02, norm=False, init="he_fan_in"),
        Run("Glorot (Xavier)", "plain20_cifar", 0.02, norm=False, init="glorot_normal"),
        Run("N(0, 0.01²)", "plain20_cifar", 0.02, norm=False, init="gaussian"),
    ),
    "normalisation": tuple(
        Run("with BN" if norm else "without BN", "plain20_cifar", rate, norm=norm)
        for norm in (False, True)
        for rate in (0.01, 0.1, 0.5)
    ),
    "depth": (
        Run("plain-20", "plain20_cifar", 0.1, drop=0.75),
        Run("plain-56", "plain56_cifar", 0.1, drop=0.75),
        Run("ResNet-20", "resnet20_cifar", 0.1, drop=0.75),
        Run("ResNet-56", "resnet56_cifar", 0.1, drop=0.75),
    ),
}
STEPS = {"initialisation": 600, "normalisation": 400, "momentum": 100, "depth": 700}
WALKS = ((0.019, 0.0), (0.019, 0.9), (0.03, 0.0), (0.03, 0.9))  # rate, momentum


# The data and the loop


@dataclass(frozen=True)
class Pictures:
    """(N, 3, 32, 32) pictures, each channel of mean 0 and variance 1 over the training set, and (N,) classes."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def draw_pictures(device: torch.device, training: int = TRAINING, test: int = TEST) -> Pictures:
    """The first so many pictures of the world `shapes`, always the same ones."""
    parts = []
    for split, count in (("train", training), ("test", test)):
        world = open_dataset("shapes", split=split).at((SIZE, SIZE))
        samples = [world.read(index) for index in range(count)]
        images = torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2)
        classes = torch.from_numpy(np.stack([sample["category"] for sample in samples]))
        parts.append((images.float() / 255, classes))
    std, mean = torch.std_mean(parts[0][0], dim=(0, 2, 3), keepdim=True)
    train, held_out = (((images - mean) / std, classes) for images, classes in parts)
    return Pictures((train[0].to(device), train[1].to(device)), (held_out[0].to(device), held_out[1].to(device)))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each of (B, C, H, W) padded by 4, a random part of its old size taken, mirrored by chance."""
    count, _, height, width = images.shape
    down, right = torch.randint(0, 9, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    across = torch.arange(width).expand(count, width)
    rows = down + torch.arange(height)
    columns = right + torch.where(mirrored, width - 1 - across, across)
    padded = functional.pad(images, (4, 4, 4, 4))
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)  # channels last in memory, which is what convolutions on a CPU like best


def batches(pictures: tuple[Tensor, Tensor], steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same augmented batches for every run, epoch by epoch."""
    generator = torch.Generator().manual_seed(SEED)
    images, classes = pictures
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(images), generator=generator)
        chosen, order = order[:BATCH], order[BATCH:]
        yield augment(images[chosen], generator), classes[chosen]


def build(run: Run, device: torch.device) -> nn.Module:
    """The trunk of a run, in training mode."""
    torch.manual_seed(SEED)
    trunk = create_backbone(run.network, classes=CLASSES, norm=run.norm, init=run.init)
    return trunk.to(device).to(memory_format=torch.channels_last)


def train(run: Run, pictures: Pictures, steps: int, watched: int = 1) -> dict[str, Any]:
    """Train one network with the momentum of the lecture, and measure its test error `watched` times.

    Returns:
        The run's fields, `loss` and `test_error` as [step, value] pairs, `final_loss`, `final_test_error` (parts of
        one), `signal_after`, `parameters`, `seconds`, and `diverged`, the step whose loss was no number, or None.
    """
    device = pictures.train[0].device
    network, began = build(run, device), time.perf_counter()
    optimizer = torch.optim.SGD(network.parameters(), run.rate, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(run.drop * steps)])
    losses, errors, diverged = [], [], None
    watch_at = {round(steps * part / watched) for part in range(1, watched + 1)}
    for step, (images, classes) in enumerate(batches(pictures.train, steps), 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16("auto", device)):
            logits = network(images)
        loss = functional.cross_entropy(logits.float(), classes)
        if not math.isfinite(loss.item()):
            diverged = step
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step in watch_at:
            errors.append([step, test_error(network, pictures.test)])
    return asdict(run) | {
        "loss": thin(losses),
        "test_error": errors,
        "final_loss": None if diverged else float(np.mean(losses[-LAST:])),
        "final_test_error": None if diverged else errors[-1][1],
        "signal_after": None if diverged else signal(network, pictures.train[0][:BATCH]),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": round(time.perf_counter() - began, 1),
        "diverged": diverged,
    }


@torch.no_grad()
def test_error(network: nn.Module, pictures: tuple[Tensor, Tensor]) -> float:
    """The part of the pictures that the network names wrongly; it is in training mode before and after."""
    images, classes = pictures
    network.eval()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=use_bf16("auto", images.device)):
        named = torch.cat([network(part).argmax(1) for part in images.split(500)])
    network.train()
    return (named != classes).float().mean().item()


def thin(values: list[float]) -> list[list[float]]:
    """At most `POINTS` pairs [step, mean of the steps since the last pair]."""
    every = math.ceil(len(values) / POINTS) or 1
    chunks = [values[start : start + every] for start in range(0, len(values), every)]
    return [[index * every + len(chunk), round(float(np.mean(chunk)), 5)] for index, chunk in enumerate(chunks)]


@torch.no_grad()
def signal(network: nn.Module, images: Tensor) -> list[float]:
    """The standard deviation of what leaves every ReLU, in the order of their turn."""
    found: list[float] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _taken, given: found.append(given.std().item()))
        for layer in network.modules()
        if isinstance(layer, nn.ReLU)
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


# The experiments


def initialisation(pictures: Pictures, steps: int) -> list[dict[str, Any]]:
    images = pictures.train[0][:BATCH]
    signals = [signal(build(run, images.device), images) for run in RUNS["initialisation"]]
    runs = [train(run, pictures, steps) for run in RUNS["initialisation"]]
    return [run | {"signal": stds} for run, stds in zip(runs, signals, strict=True)]


def normalisation(pictures: Pictures, steps: int) -> list[dict[str, Any]]:
    return [train(run, pictures, steps) for run in RUNS["normalisation"]]


def depth(pictures: Pictures, steps: int) -> list[dict[str, Any]]:
    return [train(run, pictures, steps, watched=16) for run in RUNS["depth"]]


def momentum(_pictures: Pictures | None, steps: int) -> list[dict[str, Any]]:
    runs = []
    for rate, alpha in WALKS:
        path = ravine_path(rate, alpha, steps)
        far = [math.hypot(*point) for point in path]
        label = f"{'with' if alpha else 'without'} momentum, rate {rate:g}"
        runs.append({"label": label, "rate": rate, "momentum": alpha, "path": path, "distance": far})
    return runs


def ravine_path(rate: float, alpha: float, steps: int) -> list[tuple[float, float]]:
    """Points of gradient descent on ½ (x² + 100 y²), the first included: v ← α v + rate · gradient, w ← w − v."""
    at, velocity, points = np.array(START), np.zeros(2), [START]
    for _ in range(steps):
        velocity = alpha * velocity + rate * np.array(RAVINE) * at
        at = at - velocity
        points.append((float(at[0]), float(at[1])))
    return points


# The pictures

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")
DASHES = ("-", "--", ":")  # where curves lie on each other, both are seen


def two_panels(**options: Any) -> tuple[Figure, Any, Any]:
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, **options)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    return figure, left, right


def plot_loss(axes: Any, run: dict[str, Any], label: str, **style: Any) -> None:
    steps, losses = zip(*run["loss"], strict=True) if run["loss"] else ((), ())
    axes.plot(
        steps, losses, label=f"{label} (diverged at step {run['diverged']})" if run["diverged"] else label, **style
    )


def draw_initialisation(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels()
    for run, colour, dashes in zip(runs, COLOURS, DASHES, strict=False):
        plot_loss(left, run, run["label"], color=colour, ls=dashes)
        right.plot(
            range(1, 1 + len(run["signal"])),
            run["signal"],
            marker=".",
            ms=6,
            color=colour,
            ls=dashes,
            label=run["label"],
        )
    left.axhline(math.log(CLASSES), color="grey", ls=":", lw=1)
    left.set(title="training loss (dotted: chance)", xlabel="step")
    left.set_ylim(bottom=0)
    right.set(title="std of activations at the start", xlabel="ReLU, counted from the picture", yscale="log")
    right.legend()
    return figure


def draw_normalisation(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels(sharey=True)
    for norm, axes in ((False, left), (True, right)):
        for run, colour, dashes in zip([run for run in runs if run["norm"] == norm], COLOURS, DASHES, strict=False):
            plot_loss(axes, run, f"rate {run['rate']:g}", color=colour, ls=dashes)
        axes.axhline(math.log(CLASSES), color="grey", ls=":", lw=1)
        axes.set(title=f"{'with' if norm else 'without'} batch normalisation", xlabel="step", ylim=(0, 3))
        axes.legend(loc="lower left")
    left.set_ylabel("training loss (dotted: chance)")
    return figure


def draw_depth(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels()
    for run in runs:
        style = {
            "color": "tab:red" if run["network"].startswith("plain") else "tab:blue",
            "ls": "-" if "56" in run["network"] else "--",
        }
        plot_loss(left, run, run["label"], **style)
        steps, errors = zip(*run["test_error"], strict=True) if run["test_error"] else ((), ())
        right.plot(steps, [100 * error for error in errors], label=run["label"], **style)
    left.set(title="training loss", xlabel="step")
    right.set(title="test error, %", xlabel="step")
    left.set_ylim(0, 2.5)  # the first steps of the residual networks may lie far above chance
    right.set_ylim(0, 100)
    right.legend()
    return figure


def draw_momentum(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels()
    x, y = np.meshgrid(np.linspace(-1.1, 0.85, 200), np.linspace(-0.4, 0.4, 200))
    height = (RAVINE[0] * x**2 + RAVINE[1] * y**2) / 2
    left.contour(x, y, height, levels=[0.05, 0.2, 0.5, 1, 2, 4, 8], colors="lightgrey", linewidths=0.8)
    for run, colour in zip(runs, COLOURS, strict=False):
        if run["rate"] == runs[0]["rate"]:  # of the larger rate one path leaves the picture
            left.plot(*zip(*run["path"], strict=True), "o-", ms=2.5, lw=0.9, color=colour, alpha=0.8)
        right.plot(run["distance"], color=colour, label=run["label"])
    left.plot(0, 0, "k+", ms=10)
    left.set(title=f"paths at rate {runs[0]['rate']:g}", xlabel="x", ylabel="y", xlim=(-1.1, 0.85), ylim=(-0.4, 0.4))
    left.grid(False)
    right.set(title="distance to the minimum", xlabel="step", yscale="log", ylim=(1e-4, 1e3))
    right.legend(fontsize=8)
    return figure


# The tables

Columns = dict[str, Callable[[dict[str, Any]], str]]


def loss_of(run: dict[str, Any]) -> str:
    return f"diverged at step {run['diverged']}" if run["diverged"] else f"{run['final_loss']:.3f}"


def error_of(run: dict[str, Any]) -> str:
    return "–" if run["diverged"] else f"{100 * run['final_test_error']:.1f}"


TRAINED: Columns = {"final loss": loss_of, "test error, %": error_of, "seconds": lambda run: f"{run['seconds']:.0f}"}
COLUMNS: dict[str, Columns] = {
    "initialisation": {
        "start": lambda run: run["label"],
        "std, first ReLU": lambda run: f"{run['signal'][0]:.2g}",
        "std, last ReLU": lambda run: f"{run['signal'][-1]:.2g}",
        **TRAINED,
    },
    "normalisation": {
        "plain-20": lambda run: run["label"],
        "rate": lambda run: f"{run['rate']:g}",
        **TRAINED,
        "std, last ReLU, after training": lambda run: "–" if run["diverged"] else f"{run['signal_after'][-1]:.2g}",
    },
    "momentum": {
        "rate": lambda run: f"{run['rate']:g}",
        "momentum": lambda run: f"{run['momentum']:g}",
        "distance after 10 steps": lambda run: f"{run['distance'][10]:.2g}",
        "after 50": lambda run: f"{run['distance'][50]:.2g}",
        "after 100": lambda run: f"{run['distance'][100]:.2g}",
    },
    "depth": {
        "network": lambda run: run["label"],
        "parameters": lambda run: f"{run['parameters']:,}",
        **TRAINED,
    },
}


def table(name: str, result: dict[str, Any]) -> str:
    """The runs of an experiment as Markdown, and below them in one line how they were trained."""
    columns = COLUMNS[name]
    rows = [list(columns), ["---"] * len(columns)]
    rows += [[cell(run) for cell in columns.values()] for run in result["runs"]]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", f"*{result['how']}*"])


def write_tables(page: Path = PAGE, numbers: Path = NUMBERS) -> None:
    """Put every table whose numbers are there between its two marks on the page."""
    text = page.read_text(encoding="utf-8")
    for name in COLUMNS:
        file = numbers / f"{name}.json"
        if file.is_file():
            written = table(name, json.loads(file.read_text(encoding="utf-8")))
            between = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            text = between.sub(lambda marks, written=written: f"{marks[1]}{written}\n{marks[2]}", text)
    page.write_text(text, encoding="utf-8")


# The commands

EXPERIMENTS: dict[str, tuple[Callable[..., list[dict[str, Any]]], Callable[[list[dict[str, Any]]], Figure]]] = {
    "initialisation": (initialisation, draw_initialisation),
    "normalisation": (normalisation, draw_normalisation),
    "momentum": (momentum, draw_momentum),
    "depth": (depth, draw_depth),
}


def how(name: str, steps: int, device: torch.device) -> str:
    """One line that says how an experiment was made."""
    if name == "momentum":
        return f"{steps} steps from ({START[0]:g}, {START[1]:g}); exact arithmetic, nothing is random."
    where = f"a CPU, threads: {torch.get_num_threads()}" if device.type == "cpu" else torch.cuda.get_device_name()
    precision = "bf16" if use_bf16("auto", device) else "float32"
    return (
        f"{steps} steps of {BATCH} pictures, {TRAINING:,} for training and {TEST:,} for the test; final loss: mean of "
        f"the last {LAST} steps; {precision}, {where}; torch {torch.__version__.split('+')[0]}, seed {SEED}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*EXPERIMENTS, "all", "tables"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = choose_device()
    chosen = {"all": list(EXPERIMENTS), "tables": []}.get(asked.command, [asked.command])
    pictures = draw_pictures(device) if any(name in RUNS for name in chosen) else None
    for name in chosen:
        measure, draw = EXPERIMENTS[name]
        steps = asked.steps if asked.steps and name in RUNS else STEPS[name]
        result = {"how": how(name, steps, device), "steps": steps, "runs": measure(pictures, steps)}
        NUMBERS.mkdir(exist_ok=True)
        (NUMBERS / f"{name}.json").write_text(json.dumps(result, ensure_ascii=False) + "\n", encoding="utf-8")
        draw(result["runs"]).savefig(NUMBERS / f"{name}.png", dpi=150)
        print(table(name, result), flush=True)
    if asked.command in ("all", "tables"):
        write_tables()


if __name__ == "__main__":
    main()
