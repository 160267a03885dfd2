"""Controlled comparisons of backbones, heads and losses: the same training except for one thing, three seeds each.

python tools/reproduce/comparisons.py run [NAME ...]    run the trainings that have no record yet (all, or these)
python tools/reproduce/comparisons.py speed             measure the throughput of the compared backbones
python tools/reproduce/comparisons.py write             write docs/comparisons.md and docs/compared-backbones.png

`run` must be started in a folder that contains what the commands name: data sets and weights files.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records import DOCS, RUNS, Record

from densevision import create_backbone, create_task
from densevision.atomic_io import write_json
from densevision.backbones.receptive_field import receptive_fields
from densevision.datasets.field_types import Depth, Image

SEEDS = (0, 1, 2)
SPEED = RUNS / "backbone" / "speed.json"
ONE_THREAD = "--eval-every 0 --threads 1 --workers 1"


@dataclass(frozen=True)
class Score:
    """A metric, its title on the page, and whether a higher value is better."""

    metric: str
    title: str
    higher_is_better: bool = False

    def heading(self) -> str:
        """The title with an arrow to better."""
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class Comparison:
    """Trainings that differ in one thing.

    Attributes:
        name: of the comparison, and of the folder of its records.
        title: heading on the page.
        discussion: what the comparison is about, and how to read it.
        command: what the trainings have in common.
        variants: options that each variant adds, by its name on the page.
        scores: metrics of the table.
    """

    name: str
    title: str
    discussion: str
    command: str
    variants: dict[str, str]
    scores: tuple[Score, ...]

    def runs(self, variant: str) -> list[Record]:
        """The trainings of a variant, one per seed."""
        label = re.sub("[^a-z0-9]+", "-", variant.lower())
        command = f"{self.command} {self.variants[variant]}"
        return [Record(f"{self.name}/{label}-{seed}", f"{command} --seed {seed}") for seed in SEEDS]

    def values(self, variant: str, score: Score) -> list[float]:
        """The scores of a variant, one per seed."""
        return [run.result()["metrics"][score.metric] for run in self.runs(variant)]


DEPTH = (Score("abs_rel", "abs_rel"), Score("rmse", "RMSE, m"), Score("delta1", "δ < 1.25", True))
RESNET_18 = "--backbone resnet18 --backbone-levels 4"

COMPARISONS = (
    Comparison(
        "backbone",
        "Backbones",
        "The same U-Net on every backbone: 150 steps of 8 frames of a kitchen (redkitchen of 7-Scenes), 120 frames for "
        "training and 30 for the test. With ImageNet weights, AlexNet and ResNet-50 have a lower abs_rel than from "
        "scratch in every seed. AlexNet's five convolutions have the lowest abs_rel at this image size and training "
        "time; the ResNet-50, at a quarter of the speed, reaches the abs_rel of `depth/kitchen` in "
        "[results](results.md) with 350 steps at four times the area. This is not a ranking of backbones at full "
        "length. The variants with and without ImageNet weights differ in more than the weights: with them, as in the "
        "recipe, the statistics of batch normalization are frozen and the backbone learns at a tenth of the head's "
        "learning rate, and the ResNet-50 from scratch has its strides in the 3x3 convolutions, the one from the file "
        "in the 1x1 convolutions.",
        "densevision train depth --data seven-scenes --root redkitchen --recipe indoor --image-size 96 128 --steps 150 "
        f"{ONE_THREAD}",
        {
            "AlexNet": "--backbone alexnet --no-freeze-bn",
            "VGG-16": "--backbone vgg16 --no-freeze-bn",
            "GoogLeNet": "--backbone googlenet --no-freeze-bn",
            "ResNet-18": "--backbone resnet18 --no-freeze-bn",
            "ResNet-50": "--backbone resnet50 --no-freeze-bn",
            "AlexNet, ImageNet": "--backbone alexnet --weights alexnet_caffe_conv_pruned8bit_fp16.safetensors",
            "ResNet-18 to layer3, ImageNet": f"{RESNET_18} --weights resnet18_imagenet_to_layer3_fp16.safetensors",
            "ResNet-50, ImageNet": "--backbone resnet50 --weights resnet50_imagenet_pruned8bit_fp16.safetensors",
        },
        DEPTH,
    ),
    Comparison(
        "head",
        "Heads for depth: up-convolution or up-projection",
        "Laina et al. report better scores with up-projections, with a ResNet-50 at 228x304 and 20 epochs of 12,000 "
        "frames. Here, on synthetic rooms, with a ResNet-18 to layer3 and forty seconds of training, they are slightly "
        "worse. The U-Net of the recipe, which also uses the backbone's finer levels, is the last row of the next "
        "table: the same training except for the head.",
        f"densevision train depth --steps 300 --image-size 64 96 {ONE_THREAD}",
        {"up-convolution": "--head up-convolution", "up-projection": "--head up-projection"},
        DEPTH,
    ),
    Comparison(
        "depth-loss",
        "Losses for depth",
        "berHu, L1 and L2 measure errors in meters; they are indistinguishable here. The recipe's loss measures "
        "relative errors and gradients, and is better in the metric of relative errors, as expected. The learning rate "
        "and the warm-up are those of its recipe, which the other losses borrow. The heads above also use the loss and "
        "the learning rate of the U-Net.",
        f"densevision train depth --steps 300 --image-size 64 96 {ONE_THREAD}",
        {
            "berHu": "--loss berhu",
            "L1": "--loss l1",
            "L2": "--loss l2",
            "log-L1 + gradient": "--loss log-l1+grad-strong",
        },
        DEPTH,
    ),
    Comparison(
        "pose-loss",
        "Losses for pose: Tukey's biweight or L2, with a fifth of the joints mislabeled",
        "The claim of Belagiannis et al. in its plainest form: the mislabeled fifth biases the mean that L2 fits, and "
        "Tukey's loss ignores it as outliers. The test figures have correct joints. This setting is the second one "
        "that was tried: in the first, from scratch with 600 steps at 64x64, Tukey's loss reached 0.102, the score of "
        "the mean pose, and the rest of that setting was not run.",
        "densevision train pose --data synthetic-mislabeled-figures --head regression "
        f"{RESNET_18} --image-size 96 96 --steps 500 "
        "--weights resnet18_imagenet_to_layer3_fp16.safetensors --backbone-lr-factor 0.5 --lr 1e-3 --ema-decay 0.98 "
        f"--eval-samples 200 {ONE_THREAD}",
        {"Tukey": "--loss tukey", "L2": "--loss l2"},
        (Score("score", "PCK@0.2", True),),
    ),
    Comparison(
        "color-loss",
        "Losses for colorization: rebalanced or plain cross-entropy",
        "As Zhang et al. report: the rebalanced loss gives more colorful images (the ground truth is more colorful "
        "than both) and a better rebalanced AuC, which weights rare colors up, and a slightly worse AuC, which weights "
        "all pixels alike.",
        f"densevision train colorization --no-fade --steps 400 --eval-samples 200 {ONE_THREAD}",
        {"rebalanced": "--loss rebalanced", "plain": "--loss cross-entropy"},
        (
            Score("auc_rebalanced", "rebalanced AuC", True),
            Score("auc", "AuC", True),
            Score("psnr", "PSNR, dB", True),
            Score("colorfulness", "colorfulness", True),
        ),
    ),
    Comparison(
        "adversarial-loss",
        "Losses for translation: with or without the adversarial loss",
        "Images are sharper with the adversarial loss and closer to the ground truth without it. The page of "
        "[translation](translation.md) says why labels agree less on this synthetic data set.",
        f"densevision train translation --steps 300 --eval-samples 100 {ONE_THREAD}",
        {"adversarial + L1": "--adversarial", "L1 only": "--no-adversarial"},
        (
            Score("l1", "L1"),
            Score("sharpness", "sharpness", True),
            Score("pixel_accuracy", "pixel accuracy", True),
            Score("mean_iou", "mean IoU", True),
        ),
    ),
)

HEAD = """# Comparisons of backbones, heads and losses

Trainings that are the same except for one thing, with three seeds each (`--seed 0`, `1`, `2`). Each cell is the mean
over the seeds with the range from the smallest to the largest value. Below each table, two variants are said to
differ in a metric only where their ranges do not overlap. Arrows point to better; the baseline is the prediction that
needs no network, under the same protocol on the same samples.

These are minutes of training on two CPU cores: the differences show a direction, not a ranking of full trainings.
The [appendix](#appendix-provenance) lists the commands and the digests of the records.
"""

APPENDIX = """## Appendix: provenance

`python tools/reproduce/comparisons.py run` runs the commands below, with the options of each variant and
`--seed 0`, `1`, `2`; `python tools/reproduce/comparisons.py write` generates this page. Records are stored under
`tools/reproduce/runs/`; a digest is the first eight hexadecimal digits of a record's SHA-256, one per seed. The
commands ran before the options and data sets got their present names; `tools/convert_runs.py` converted the records
once to these names, which left every number as it was and changed the digests. The commands are printed with the
present names.
"""


def run(*names: str) -> None:
    """Run the trainings that have no record yet, seed by seed, so that every variant has its first seed early."""
    chosen = [comparison for comparison in COMPARISONS if not names or comparison.name in names]
    for seed in SEEDS:
        for comparison in chosen:
            for variant in comparison.variants:
                comparison.runs(variant)[seed].run()


def speed() -> None:
    """Measure the throughput of the compared models: images of 96x128 in batches of 8, one thread, bf16."""
    import torch

    torch.set_num_threads(1)
    images = torch.rand(8, 3, 96, 128).to(memory_format=torch.channels_last)
    measured = {}
    for variant, options in COMPARISONS[0].variants.items():
        model = build_model(options).to(memory_format=torch.channels_last).eval()
        seconds = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for _ in range(8):
                started = time.perf_counter()
                model(images)
                seconds.append(time.perf_counter() - started)
        # The first two are warm-up.
        measured[variant] = round(len(images) / sorted(seconds[2:])[3], 1)
        print(f"{variant}: {measured[variant]} images/s", flush=True)
    write_json(SPEED, measured, indent=2)


def build_model(options: str) -> Any:
    """The untrained model that the options of a variant of the backbone comparison train."""
    levels = re.search(r"--backbone-levels (\d+)", options)
    name = options.split()[1]
    stride_in: dict[str, Any] = {"stride_in": "1x1"} if name == "resnet50" else {}
    backbone = create_backbone(name, num_classes=0, levels=int(levels[1]) if levels else None, **stride_in)
    return create_task("depth").build({"image": Image(), "depth": Depth()}, backbone, "unet", None)


def write() -> None:
    """Write the page and its plot."""
    (DOCS / "comparisons.md").write_text(page(), encoding="utf-8")
    draw_backbones(DOCS / "compared-backbones.png")


def page() -> str:
    """The page, from the records alone."""
    sections = (line for comparison in COMPARISONS for line in section(comparison))
    return "\n".join([HEAD, *sections, APPENDIX, *provenance()])


def section(comparison: Comparison) -> Iterator[str]:
    """The table of a comparison, and what the seeds allow to conclude."""
    backbones = comparison.name == "backbone"
    properties = ["parameters", "receptive field, px", "images/s"] if backbones else []
    yield f"## {comparison.title}\n"
    columns = ["", *properties, *(score.heading() for score in comparison.scores)]
    yield f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    for variant, options in comparison.variants.items():
        cells = [spread(comparison.values(variant, score)) for score in comparison.scores]
        measured = backbone_properties(variant, options) if backbones else []
        yield f"| {' | '.join([variant, *measured, *cells])} |"
    baseline = comparison.runs(next(iter(comparison.variants)))[0].result()["baseline"]
    cells = [number(baseline[score.metric]) if score.metric in baseline else "" for score in comparison.scores]
    yield f"| {' | '.join(['baseline', *([''] * len(properties)), *cells])} |\n"
    yield from conclusions(comparison)
    yield f"\n{comparison.discussion}\n"
    if backbones:
        yield "![abs_rel against speed, mean and range over three seeds](compared-backbones.png)\n"


def conclusions(comparison: Comparison) -> Iterator[str]:
    """For each metric, the variant with the best mean, and the variants whose range over the seeds is apart from it."""
    for score in comparison.scores:
        values = {variant: comparison.values(variant, score) for variant in comparison.variants}
        sign = 1 if score.higher_is_better else -1
        best, *others = sorted(values, key=lambda variant: -sign * sum(values[variant]))
        worse = [
            other
            for other in others
            if min(sign * value for value in values[best]) > max(sign * value for value in values[other])
        ]
        if not worse:
            apart = "the ranges of the others overlap with it"
        elif len(worse) == len(others):
            apart = f"no overlap with {'any other' if len(others) > 1 else others[0]}"
        else:
            apart = f"no overlap with {'; '.join(worse)}"
        yield f"- {score.title}: best mean {best}, {spread(values[best])}; {apart}."


def provenance() -> Iterator[str]:
    """The commands of all comparisons, and the digests of their records."""
    for comparison in COMPARISONS:
        yield f"### {comparison.title}\n\n```bash\n{comparison.command}\n```\n"
        yield f"| | options of the variant | digests |\n|{' --- |' * 3}"
        for variant, options in comparison.variants.items():
            digests = " ".join(f"`{run.digest()}`" for run in comparison.runs(variant))
            yield f"| {variant} | `{options}` | {digests} |"
        yield ""


def backbone_properties(variant: str, options: str) -> list[str]:
    """Parameters of the whole model, receptive field of the deepest level, images per second."""
    model = build_model(options)
    field = list(receptive_fields(model.backbone).values())[-1].size
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return [f"{count:.1f} M", f"{field:g}", f"{json.loads(SPEED.read_text())[variant]:g}"]


def spread(values: list[float]) -> str:
    """The mean with the range from the smallest to the largest value."""
    return f"**{number(sum(values) / len(values))}** ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    """Three digits after the point below 10, one above."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def draw_backbones(path: Path) -> None:
    """Plot abs_rel over speed: the mean with a bar over the range of the seeds, filled with ImageNet weights."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    comparison, speeds = COMPARISONS[0], json.loads(SPEED.read_text())
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for variant in comparison.variants:
        values = comparison.values(variant, comparison.scores[0])
        mean = sum(values) / len(values)
        pretrained = "ImageNet" in variant
        axes.errorbar(
            speeds[variant], mean, [[mean - min(values)], [max(values) - mean]],
            fmt="o", color="tab:blue" if pretrained else "tab:gray", mfc="tab:blue" if pretrained else "white",
            capsize=3,
        )  # fmt: skip
        # Labels are placed towards the middle.
        fast = speeds[variant] > 150
        axes.annotate(
            variant.removesuffix(", ImageNet"), (speeds[variant], mean), xytext=(-7 if fast else 7, 4),
            textcoords="offset points", fontsize=8, ha="right" if fast else "left",
        )  # fmt: skip
    axes.set(xscale="log", xlabel="images/s, one CPU thread", ylabel="abs_rel on test frames")
    axes.set_title("blue: backbone with ImageNet weights; gray: from scratch", fontsize=9)
    axes.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.1)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    commands = {"run": run, "speed": speed, "write": write}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
