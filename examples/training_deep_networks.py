"""Training deep networks: initialization, batch normalization, momentum and residual connections, measured.

python examples/training_deep_networks.py initialization    20 layers without normalization, three initializations
python examples/training_deep_networks.py normalization     20 layers with and without batch normalization
python examples/training_deep_networks.py momentum          gradient descent in a ravine, with and without momentum
python examples/training_deep_networks.py depth             plain and residual networks of 20 and 56 layers
python examples/training_deep_networks.py all               all four, and the tables
python examples/training_deep_networks.py tables            tables of docs/training-deep-networks.md, from the numbers
python examples/training_deep_networks.py figures           the figures of all four, from the numbers

--steps N overrides the steps of every training, --threads N sets the threads of torch. Each experiment writes
examples/training_deep_networks/NAME.json and NAME.png. The training loop is plain PyTorch; the package provides the
backbones and the synthetic images.
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
from densevision.atomic_io import write_json
from densevision.datasets import open_dataset
from densevision.tasks.device import choose_device, use_bf16

NUMBERS = Path(__file__).resolve().with_suffix("")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "training-deep-networks.md"

SIZE, CLASSES = 32, 10
TRAINING, TEST = 8192, 1000
BATCH, MOMENTUM, DECAY, SEED = 128, 0.9, 1e-4, 0
POINTS = 60  # of a stored curve; each is the mean of the steps since the previous one
LAST = 20  # steps over which the final loss is averaged
RAVINE = (1.0, 100.0)
START = (-1.0, 0.3)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        label: name in tables and figures.
        backbone: name of the backbone.
        lr: learning rate.
        norm: whether the backbone has batch normalization.
        init: initialization of the weights.
        drop: fraction of the steps after which the learning rate is divided by 10.
    """

    label: str
    backbone: str
    lr: float
    norm: bool = True
    init: str = "he_fan_in"
    drop: float = 1.0


RUNS: dict[str, tuple[Run, ...]] = {
    "initialization": (
        Run("He", "plain20_cifar", 0.02, norm=False, init="he_fan_in"),
        Run("Glorot (Xavier)", "plain20_cifar", 0.02, norm=False, init="glorot_normal"),
        Run("N(0, 0.01²)", "plain20_cifar", 0.02, norm=False, init="gaussian"),
    ),
    "normalization": tuple(
        Run("with BN" if norm else "without BN", "plain20_cifar", lr, norm=norm)
        for norm in (False, True)
        for lr in (0.01, 0.1, 0.5)
    ),
    "depth": (
        Run("plain-20", "plain20_cifar", 0.1, drop=0.75),
        Run("plain-56", "plain56_cifar", 0.1, drop=0.75),
        Run("ResNet-20", "resnet20_cifar", 0.1, drop=0.75),
        Run("ResNet-56", "resnet56_cifar", 0.1, drop=0.75),
    ),
}
STEPS = {"initialization": 600, "normalization": 400, "momentum": 100, "depth": 700}
WALKS = ((0.019, 0.0), (0.019, 0.9), (0.03, 0.0), (0.03, 0.9))  # learning rate, momentum


# Data and training loop


@dataclass(frozen=True)
class Images:
    """Images (N, 3, 32, 32), each channel with mean 0 and variance 1 over the training set, and classes (N,)."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load_images(device: torch.device, training: int = TRAINING, test: int = TEST) -> Images:
    """Load the first images of `synthetic-shapes`, which are the same in every run."""
    parts = []
    for split, count in (("train", training), ("test", test)):
        dataset = open_dataset("synthetic-shapes", split=split).with_size((SIZE, SIZE))
        samples = [dataset.read(index) for index in range(count)]
        images = torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2)
        classes = torch.from_numpy(np.stack([sample["category"] for sample in samples]))
        parts.append((images.float() / 255, classes))
    std, mean = torch.std_mean(parts[0][0], dim=(0, 2, 3), keepdim=True)
    train, held_out = (((images - mean) / std, classes) for images, classes in parts)
    return Images((train[0].to(device), train[1].to(device)), (held_out[0].to(device), held_out[1].to(device)))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pad each image of (B, C, H, W) by 4, crop it at random to its size and flip it at random."""
    count, _, height, width = images.shape
    down, right = torch.randint(0, 9, (2, count, 1), generator=generator)
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    across = torch.arange(width).expand(count, width)
    rows = down + torch.arange(height)
    columns = right + torch.where(flipped, width - 1 - across, across)
    padded = functional.pad(images, (4, 4, 4, 4))
    crops = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)  # channels last in memory, the fastest layout for convolutions on a CPU


def batches(samples: tuple[Tensor, Tensor], steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches (images, classes) of shuffled epochs, the same for every run."""
    generator = torch.Generator().manual_seed(SEED)
    images, classes = samples
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(images), generator=generator)
        chosen, order = order[:BATCH], order[BATCH:]
        yield augment(images[chosen], generator), classes[chosen]


def build(run: Run, device: torch.device) -> nn.Module:
    """The backbone of a run, in training mode, initialized with the same seed for every run."""
    torch.manual_seed(SEED)
    backbone = create_backbone(run.backbone, num_classes=CLASSES, norm=run.norm, init=run.init)
    return backbone.to(device).to(memory_format=torch.channels_last)


def train(run: Run, samples: Images, steps: int, evaluations: int = 1) -> dict[str, Any]:
    """Train one network with SGD and momentum, and measure its test error `evaluations` times.

    Returns:
        The run's fields, `loss` and `test_error` as [step, value] pairs, `final_loss`, `final_test_error` (a fraction),
        `signal_after`, `parameters`, `seconds`, and `diverged`: the step whose loss was not finite, or None.
    """
    device = samples.train[0].device
    network, started = build(run, device), time.perf_counter()
    optimizer = torch.optim.SGD(network.parameters(), run.lr, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(run.drop * steps)])
    losses, errors, diverged = [], [], None
    eval_steps = {round(steps * part / evaluations) for part in range(1, evaluations + 1)}
    for step, (images, classes) in enumerate(batches(samples.train, steps), 1):
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
        if step in eval_steps:
            errors.append([step, test_error(network, samples.test)])
    return asdict(run) | {
        "loss": thin(losses),
        "test_error": errors,
        "final_loss": None if diverged else float(np.mean(losses[-LAST:])),
        "final_test_error": None if diverged else errors[-1][1],
        "signal_after": None if diverged else signal(network, samples.train[0][:BATCH]),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": round(time.perf_counter() - started, 1),
        "diverged": diverged,
    }


@torch.no_grad()
def test_error(network: nn.Module, samples: tuple[Tensor, Tensor]) -> float:
    """The fraction of images that the network classifies wrongly; leaves the network in training mode."""
    images, classes = samples
    network.eval()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=use_bf16("auto", images.device)):
        predicted = torch.cat([network(part).argmax(1) for part in images.split(500)])
    network.train()
    return (predicted != classes).float().mean().item()


def thin(values: list[float]) -> list[list[float]]:
    """Thin a curve to at most `POINTS` pairs [step, mean of the steps since the previous pair]."""
    every = math.ceil(len(values) / POINTS) or 1
    chunks = [values[start : start + every] for start in range(0, len(values), every)]
    return [[index * every + len(chunk), round(float(np.mean(chunk)), 5)] for index, chunk in enumerate(chunks)]


@torch.no_grad()
def signal(network: nn.Module, images: Tensor) -> list[float]:
    """The standard deviation of the output of every ReLU, in the order of the forward pass."""
    stds: list[float] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: stds.append(output.std().item()))
        for layer in network.modules()
        if isinstance(layer, nn.ReLU)
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return stds


# Experiments


def initialization(samples: Images, steps: int) -> list[dict[str, Any]]:
    """A plain network without normalization, with three initializations."""
    images = samples.train[0][:BATCH]
    signals = [signal(build(run, images.device), images) for run in RUNS["initialization"]]
    runs = [train(run, samples, steps) for run in RUNS["initialization"]]
    return [run | {"signal": stds} for run, stds in zip(runs, signals, strict=True)]


def normalization(samples: Images, steps: int) -> list[dict[str, Any]]:
    """A plain network with and without batch normalization, at three learning rates."""
    return [train(run, samples, steps) for run in RUNS["normalization"]]


def depth(samples: Images, steps: int) -> list[dict[str, Any]]:
    """Plain and residual networks of 20 and 56 layers."""
    return [train(run, samples, steps, evaluations=16) for run in RUNS["depth"]]


def momentum(_samples: Images | None, steps: int) -> list[dict[str, Any]]:
    """Gradient descent in a ravine, with and without momentum, at two learning rates."""
    runs = []
    for lr, alpha in WALKS:
        path = ravine_path(lr, alpha, steps)
        distance = [math.hypot(*point) for point in path]
        label = f"{'with' if alpha else 'without'} momentum, learning rate {lr:g}"
        runs.append({"label": label, "lr": lr, "momentum": alpha, "path": path, "distance": distance})
    return runs


def ravine_path(lr: float, alpha: float, steps: int) -> list[tuple[float, float]]:
    """The `steps` + 1 points of gradient descent on ½ (x² + 100 y²): v ← α v + lr · gradient, w ← w − v."""
    point, velocity, points = np.array(START), np.zeros(2), [START]
    for _ in range(steps):
        velocity = alpha * velocity + lr * np.array(RAVINE) * point
        point = point - velocity
        points.append((float(point[0]), float(point[1])))
    return points


# Figures

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")
DASHES = ("-", "--", ":")  # so that overlapping curves are both visible


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


def draw_initialization(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels()
    for run, color, dashes in zip(runs, COLORS, DASHES, strict=False):
        plot_loss(left, run, run["label"], color=color, ls=dashes)
        right.plot(
            range(1, 1 + len(run["signal"])),
            run["signal"],
            marker=".",
            ms=6,
            color=color,
            ls=dashes,
            label=run["label"],
        )
    left.axhline(math.log(CLASSES), color="gray", ls=":", lw=1)
    left.set(title="training loss (dotted: chance)", xlabel="step")
    left.set_ylim(bottom=0)
    right.set(title="std of activations before training", xlabel="ReLU, counted from the input", yscale="log")
    right.legend()
    return figure


def draw_normalization(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels(sharey=True)
    for norm, axes in ((False, left), (True, right)):
        for run, color, dashes in zip([run for run in runs if run["norm"] == norm], COLORS, DASHES, strict=False):
            plot_loss(axes, run, f"learning rate {run['lr']:g}", color=color, ls=dashes)
        axes.axhline(math.log(CLASSES), color="gray", ls=":", lw=1)
        axes.set(title=f"{'with' if norm else 'without'} batch normalization", xlabel="step", ylim=(0, 3))
        axes.legend(loc="lower left")
    left.set_ylabel("training loss (dotted: chance)")
    return figure


def draw_depth(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels()
    for run in runs:
        style = {
            "color": "tab:red" if run["backbone"].startswith("plain") else "tab:blue",
            "ls": "-" if "56" in run["backbone"] else "--",
        }
        plot_loss(left, run, run["label"], **style)
        steps, errors = zip(*run["test_error"], strict=True) if run["test_error"] else ((), ())
        right.plot(steps, [100 * error for error in errors], label=run["label"], **style)
    left.set(title="training loss", xlabel="step")
    right.set(title="test error, %", xlabel="step")
    left.set_ylim(0, 2.5)  # the first steps of the residual networks can be far above chance
    right.set_ylim(0, 100)
    right.legend()
    return figure


def draw_momentum(runs: list[dict[str, Any]]) -> Figure:
    figure, left, right = two_panels()
    x, y = np.meshgrid(np.linspace(-1.1, 0.85, 200), np.linspace(-0.4, 0.4, 200))
    height = (RAVINE[0] * x**2 + RAVINE[1] * y**2) / 2
    left.contour(x, y, height, levels=[0.05, 0.2, 0.5, 1, 2, 4, 8], colors="lightgray", linewidths=0.8)
    for run, color in zip(runs, COLORS, strict=False):
        if run["lr"] == runs[0]["lr"]:  # at the larger learning rate one path leaves the figure
            left.plot(*zip(*run["path"], strict=True), "o-", ms=2.5, lw=0.9, color=color, alpha=0.8)
        right.plot(run["distance"], color=color, label=run["label"].replace("learning rate", "lr"))
    left.plot(0, 0, "k+", ms=10)
    left.set(
        title=f"paths at learning rate {runs[0]['lr']:g}", xlabel="x", ylabel="y", xlim=(-1.1, 0.85), ylim=(-0.4, 0.4)
    )
    left.grid(False)
    right.set(title="distance to the minimum", xlabel="step", yscale="log", ylim=(1e-4, 1e3))
    right.legend(fontsize=8)
    return figure


# Tables

Columns = dict[str, Callable[[dict[str, Any]], str]]


def loss_of(run: dict[str, Any]) -> str:
    return f"diverged at step {run['diverged']}" if run["diverged"] else f"{run['final_loss']:.3f}"


def error_of(run: dict[str, Any]) -> str:
    return "–" if run["diverged"] else f"{100 * run['final_test_error']:.1f}"


TRAINED: Columns = {"final loss": loss_of, "test error, %": error_of, "seconds": lambda run: f"{run['seconds']:.0f}"}
COLUMNS: dict[str, Columns] = {
    "initialization": {
        "initialization": lambda run: run["label"],
        "std, first ReLU": lambda run: f"{run['signal'][0]:.2g}",
        "std, last ReLU": lambda run: f"{run['signal'][-1]:.2g}",
        **TRAINED,
    },
    "normalization": {
        "plain-20": lambda run: run["label"],
        "learning rate": lambda run: f"{run['lr']:g}",
        **TRAINED,
        "std, last ReLU, after training": lambda run: "–" if run["diverged"] else f"{run['signal_after'][-1]:.2g}",
    },
    "momentum": {
        "learning rate": lambda run: f"{run['lr']:g}",
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
    """The runs of an experiment as a Markdown table, and below it in one line how they were made."""
    columns = COLUMNS[name]
    rows = [list(columns), ["---"] * len(columns)]
    rows += [[cell(run) for cell in columns.values()] for run in result["runs"]]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", f"*{result['how']}*"])


def write_tables(page: Path = PAGE, numbers: Path = NUMBERS) -> None:
    """Replace the tables between their marks on the page; one whose numbers are missing is left as it is."""
    text = page.read_text(encoding="utf-8")
    for name in COLUMNS:
        file = numbers / f"{name}.json"
        if file.is_file():
            content = table(name, json.loads(file.read_text(encoding="utf-8")))
            between = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            text = between.sub(lambda marks, content=content: f"{marks[1]}{content}\n{marks[2]}", text)
    page.write_text(text, encoding="utf-8")


# Commands

EXPERIMENTS: dict[str, tuple[Callable[..., list[dict[str, Any]]], Callable[[list[dict[str, Any]]], Figure]]] = {
    "initialization": (initialization, draw_initialization),
    "normalization": (normalization, draw_normalization),
    "momentum": (momentum, draw_momentum),
    "depth": (depth, draw_depth),
}


def how(name: str, steps: int, device: torch.device) -> str:
    """The settings of an experiment in one line."""
    if name == "momentum":
        return f"{steps} steps from ({START[0]:g}, {START[1]:g}); exact arithmetic, nothing is random."
    where = f"a CPU, threads: {torch.get_num_threads()}" if device.type == "cpu" else torch.cuda.get_device_name()
    precision = "bf16" if use_bf16("auto", device) else "float32"
    return (
        f"{steps} steps of {BATCH} images, {TRAINING:,} for training and {TEST:,} for the test; final loss: mean of "
        f"the last {LAST} steps; {precision}, {where}; torch {torch.__version__.split('+')[0]}, seed {SEED}."
    )


def draw_figures() -> None:
    """Draw the figure of every experiment whose numbers exist."""
    for name, (_, draw) in EXPERIMENTS.items():
        file = NUMBERS / f"{name}.json"
        if file.is_file():
            draw(json.loads(file.read_text(encoding="utf-8"))["runs"]).savefig(file.with_suffix(".png"), dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*EXPERIMENTS, "all", "tables", "figures"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    chosen = {"all": list(EXPERIMENTS), "tables": [], "figures": []}.get(options.command, [options.command])
    device = choose_device()
    samples = load_images(device) if any(name in RUNS for name in chosen) else None
    for name in chosen:
        measure, draw = EXPERIMENTS[name]
        steps = options.steps if options.steps and name in RUNS else STEPS[name]
        result = {"how": how(name, steps, device), "steps": steps, "runs": measure(samples, steps)}
        NUMBERS.mkdir(exist_ok=True)
        write_json(NUMBERS / f"{name}.json", result, ensure_ascii=False)
        draw(result["runs"]).savefig(NUMBERS / f"{name}.png", dpi=150)
        print(table(name, result), flush=True)
    if options.command in ("all", "tables"):
        write_tables()
    if options.command == "figures":
        draw_figures()


if __name__ == "__main__":
    main()
