"""Does the trunk matter, does the loss: the same training but for one thing, three seeds each.

python docs/comparisons.py run [NAME ...]    train what has no result yet (all, or these comparisons)
python docs/comparisons.py speed             measure how many pictures a second the compared trunks take
python docs/comparisons.py write             docs/comparisons.md and docs/compared-trunks.png, from the results

`run` belongs into a folder that holds what the commands name: data sets and weights' files.
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

from kept import DOCS, RESULTS, Kept

from densevision import create_backbone, create_task
from densevision.backbones.receptive_field import receptive_fields
from densevision.datasets.fields import Depth, Image
from densevision.writing import write_text

SEEDS = (0, 1, 2)
SPEED = RESULTS / "trunk" / "speed.json"
ONE_THREAD = "--evaluate-every 0 --threads 1 --workers 1"


@dataclass(frozen=True)
class Score:
    """A metric, what it is called on the page, and whether more of it is better."""

    metric: str
    title: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Comparison:
    """Trainings that differ in one thing.

    Attributes:
        name, title: of the comparison.
        said: what it is about, and what one sees.
        command: what the trainings share.
        variants: what each adds, by its name on the page.
        scores: that are shown; the first decides.
    """

    name: str
    title: str
    said: str
    command: str
    variants: dict[str, str]
    scores: tuple[Score, ...]

    def runs(self, variant: str) -> list[Kept]:
        """One training a seed."""
        label = re.sub("[^a-z0-9]+", "-", variant.lower())
        command = f"{self.command} {self.variants[variant]}"
        return [Kept(f"{self.name}/{label}-{seed}", f"{command} --seed {seed}") for seed in SEEDS]

    def values(self, variant: str, score: Score) -> list[float]:
        """A score of every seed."""
        return [run.result()["metrics"][score.metric] for run in self.runs(variant)]


DEPTH = (Score("abs_rel", "abs_rel"), Score("rms", "rms, m"), Score("delta1", "δ < 1.25", True))
RESNET_18 = "--backbone resnet18 --levels 4"

COMPARISONS = (
    Comparison(
        "trunk",
        "Does the trunk matter?",
        "The same U-Net on every trunk, 150 steps of 8 frames of a kitchen, 120 to learn from and 30 unseen ones. "
        "AlexNet and the ResNet-50 are each ahead of themselves from scratch, in every seed, once they have seen "
        "ImageNet. AlexNet's five convolutions lead in abs_rel at this size and in this time; the ResNet-50, four "
        "times as slow, comes to the abs_rel of `depth/kitchen` in [results](results.md) with 350 steps at four times "
        "the area: no verdict about trunks at full length. ImageNet's trunks also keep their normalisation's "
        "statistics and learn at a tenth of the head's rate, as the recipe has it, and the ResNet-50 from scratch has "
        "its strides in the 3x3, the one from the file in the 1x1: with and without weights differ in more than the "
        "weights.",
        "densevision train depth --data seven-scenes --root redkitchen --recipe indoor --size 96 128 --steps 150 "
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
        "Up-convolutions or up-projections?",
        "Laina et al. found up-projections ahead, with a ResNet-50 at 228x304 and 20 passes over 12,000 "
        "frames. Here, on drawn rooms, with a ResNet-18 to layer3 in forty seconds, they are behind, by "
        "little. The U-Net of the recipe, which also sees the trunk's finer levels, is the last row of the "
        "next table: the same training but for the head.",
        f"densevision train depth --steps 300 --size 64 96 {ONE_THREAD}",
        {"up-convolution": "--head up-convolution", "up-projection": "--head up-projection"},
        DEPTH,
    ),
    Comparison(
        "depth-loss",
        "Which loss for depth?",
        "berHu, L1 and L2 count metres and cannot be told apart here. The recipe counts relative errors, and "
        "edges: it leads where relative errors are measured, as it should, with the rate and warm-up of its own "
        "recipe, which the others borrow. The heads above borrow the loss and the rate of the U-Net alike.",
        f"densevision train depth --steps 300 --size 64 96 {ONE_THREAD}",
        {
            "berHu": "--loss berhu",
            "L1": "--loss l1",
            "L2": "--loss l2",
            "L1 of logarithms, and edges": "--loss log-edges",
        },
        DEPTH,
    ),
    Comparison(
        "pose-loss",
        "Tukey's biweight or L2, a fifth of the joints mislabelled",
        "What Belagiannis et al. claim, at its plainest: the wrong fifth draws the mean of L2, and Tukey's "
        "loss stops listening to it. The unseen figures have their true joints. The setting is the second one: from "
        "scratch, 600 steps at 64x64, Tukey's loss came to 0.102, the mean pose's score, and the rest of that was "
        "not run.",
        f"densevision train pose --data mislabelled-figures --head regression {RESNET_18} --size 96 96 --steps 500 "
        "--weights resnet18_imagenet_to_layer3_fp16.safetensors --trunk-lr 0.5 --lr 1e-3 --ema 0.98 "
        f"--eval-samples 200 {ONE_THREAD}",
        {"Tukey": "--loss tukey", "L2": "--loss l2"},
        (Score("score", "PCK@0.2", True),),
    ),
    Comparison(
        "colour-loss",
        "Rebalanced or plain cross-entropy for colours?",
        "As Zhang et al. say: the rebalanced loss gives more colourful pictures (the truth's colourfulness is "
        "above both), better where rare colours count, slightly worse where every pixel counts alike.",
        f"densevision train colorization --steps 400 --eval-samples 200 {ONE_THREAD}",
        {"rebalanced": "--loss rebalanced", "plain": "--loss classification"},
        (
            Score("auc_rebalanced", "rebalanced AuC", True),
            Score("auc", "AuC", True),
            Score("psnr", "PSNR, dB", True),
            Score("colourfulness", "colourfulness", True),
        ),
    ),
    Comparison(
        "adversary",
        "With and without the adversary",
        "Sharper with it, nearer to the truth without it. [The page of translation](translation.md) says why "
        "labels agree less in this world.",
        f"densevision train translation --steps 300 --eval-samples 100 {ONE_THREAD}",
        {"with": "--adversarial", "without": "--no-adversarial"},
        (
            Score("l1", "L1"),
            Score("sharpness", "sharpness", True),
            Score("pixel_accuracy", "pixel accuracy", True),
            Score("mean_iou", "mean IoU", True),
        ),
    ),
)

HEAD = """# Does the trunk matter, does the loss?

The same training but for one thing, three seeds each (`--seed 0`, `1`, `2`), as `python docs/comparisons.py run`
types the commands. Each number is the mean over the seeds, with the least and the largest; the files it comes from
lie under `docs/results/`, and digests are the beginnings of their SHA-256. "X is ahead" is said where the worst
seed of X is better than the best seed of the other, and nothing where they overlap. These are minutes of training
on two CPU cores: what holds here is a direction, no ranking of full trainings.
"""


def run(*names: str) -> None:
    """Every training that has no result yet, seed by seed, so that what is cut short has a first seed everywhere."""
    chosen = [comparison for comparison in COMPARISONS if not names or comparison.name in names]
    for seed in SEEDS:
        for comparison in chosen:
            for variant in comparison.variants:
                comparison.runs(variant)[seed].run()


def speed() -> None:
    """Write how fast the compared networks answer: pictures of 96x128 in batches of 8, one thread, bf16."""
    import torch

    torch.set_num_threads(1)
    pictures = torch.rand(8, 3, 96, 128).to(memory_format=torch.channels_last)
    found = {}
    for variant, words in COMPARISONS[0].variants.items():
        model = network(words).to(memory_format=torch.channels_last).eval()
        seconds = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for _ in range(8):
                started = time.perf_counter()
                model(pictures)
                seconds.append(time.perf_counter() - started)
        # The first two warm up.
        found[variant] = round(len(pictures) / sorted(seconds[2:])[3], 1)
        print(f"{variant}: {found[variant]} pictures/s", flush=True)
    write_text(SPEED, json.dumps(found, indent=2) + "\n")


def network(words: str) -> Any:
    """The network that the options of a variant train, untrained."""
    levels = re.search(r"--levels (\d+)", words)
    name = words.split()[1]
    placed: dict[str, Any] = {"stride_in": "1x1"} if name == "resnet50" else {}
    trunk = create_backbone(name, classes=0, levels=int(levels[1]) if levels else None, **placed)
    return create_task("depth").build({"image": Image(), "depth": Depth()}, trunk, "unet", None)


def write() -> None:
    """Write the page and its plot."""
    write_text(DOCS / "comparisons.md", page())
    draw_trunks(DOCS / "compared-trunks.png")


def page() -> str:
    """The page, from the results alone."""
    return "\n".join([HEAD, *(line for comparison in COMPARISONS for line in section(comparison))])


def section(comparison: Comparison) -> Iterator[str]:
    """One comparison: its table, what the seeds allow to say, its command."""
    trunks = comparison.name == "trunk"
    facts = ["parameters", "field, px", "pictures/s"] if trunks else []
    yield f"## {comparison.title}\n"
    yield f"```bash\n{comparison.command}\n```\n"
    yield f"| | added | {' | '.join([*facts, *(score.title for score in comparison.scores)])} | digests |"
    yield "|" + " --- |" * (3 + len(facts) + len(comparison.scores))
    for variant, words in comparison.variants.items():
        cells = [f"{spread(comparison.values(variant, score))}" for score in comparison.scores]
        known = of_trunk(variant, words) if trunks else []
        digests = " ".join(run.digest() for run in comparison.runs(variant))
        yield f"| {variant} | `{words}` | {' | '.join([*known, *cells])} | {digests} |"
    baseline = comparison.runs(next(iter(comparison.variants)))[0].result()["baseline"]
    cells = [number(baseline[score.metric]) if score.metric in baseline else "" for score in comparison.scores]
    yield f"| trivial answer | | {' | '.join([*([''] * len(facts)), *cells])} | |\n"
    yield " ".join(conclusions(comparison)) or "The seeds overlap: nothing can be said."
    yield ""
    if comparison.said:
        yield f"{comparison.said}\n"
    if trunks:
        yield "![abs_rel against speed, three seeds each](compared-trunks.png)\n"


def conclusions(comparison: Comparison) -> Iterator[str]:
    """For each score, who is ahead of whom on every pair of seeds."""
    for score in comparison.scores:
        ranges = {variant: comparison.values(variant, score) for variant in comparison.variants}
        sign = 1 if score.more_is_better else -1
        order = sorted(ranges, key=lambda variant: -sign * sum(ranges[variant]))
        best = order[0]
        behind = [
            other
            for other in order[1:]
            if min(sign * value for value in ranges[best]) > max(sign * value for value in ranges[other])
        ]
        if behind:
            whom = "all others" if len(behind) == len(order) - 1 > 1 else ", ".join(behind)
            yield f"{score.title}: {best} is ahead of {whom}."


def of_trunk(variant: str, words: str) -> list[str]:
    """Parameters, receptive field of the deepest level, pictures a second."""
    model = network(words)
    field = list(receptive_fields(model.backbone).values())[-1].size
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return [f"{count:.1f} M", f"{field:g}", f"{json.loads(SPEED.read_text())[variant]:g}"]


def spread(values: list[float]) -> str:
    """The mean with the least and the largest."""
    return f"**{number(sum(values) / len(values))}** ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    """Three digits where they matter."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def draw_trunks(path: Path) -> None:
    """abs_rel over speed: a bar from the least to the largest seed, filled where the trunk knew ImageNet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    comparison, speeds = COMPARISONS[0], json.loads(SPEED.read_text())
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for variant in comparison.variants:
        values = comparison.values(variant, comparison.scores[0])
        mean = sum(values) / len(values)
        known = "ImageNet" in variant
        axes.errorbar(
            speeds[variant], mean, [[mean - min(values)], [max(values) - mean]],
            fmt="o", color="tab:blue" if known else "tab:grey", mfc="tab:blue" if known else "white", capsize=3,
        )  # fmt: skip
        # Names stand towards the middle.
        fast = speeds[variant] > 150
        axes.annotate(
            variant.removesuffix(", ImageNet"), (speeds[variant], mean), xytext=(-7 if fast else 7, 4),
            textcoords="offset points", fontsize=8, ha="right" if fast else "left",
        )  # fmt: skip
    axes.set(xscale="log", xlabel="pictures/s, one CPU thread", ylabel="abs_rel on unseen frames")
    axes.set_title("blue: the trunk knew ImageNet; grey: from scratch", fontsize=9)
    axes.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.1)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    {"run": run, "speed": speed, "write": write}[sys.argv[1]](*sys.argv[2:])
