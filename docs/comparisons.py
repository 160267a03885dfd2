"""Does the trunk matter, does the loss: the same training but for one thing, three seeds each.

python docs/comparisons.py run [NAME ...]    train what has no result yet (all, or these comparisons)
python docs/comparisons.py speed             measure how many pictures a second the compared trunks take
python docs/comparisons.py write             docs/comparisons.md and docs/trunks.png, from the results
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from kept import Kept

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Comparison:
    """Trainings that differ in one thing.

    Attributes:
        name, title: of the comparison.
        command: what they share.
        variants: what each adds, by its name on the page.
        scores: of the results' metrics, with what they are called on the page.
    """

    name: str
    title: str
    command: str
    variants: dict[str, str]
    scores: dict[str, str]

    def runs(self, variant: str) -> list[Kept]:
        """One training a seed."""
        label = re.sub("[^a-z0-9]+", "-", variant.lower())
        command = f"{self.command} {self.variants[variant]}"
        return [Kept(f"{self.name}/{label}-{seed}", f"{command} --seed {seed}") for seed in SEEDS]


ONE_THREAD = "--evaluate-every 0 --threads 1 --workers 1"
RESNET_18 = "--backbone resnet18 --levels 4"

COMPARISONS = (
    Comparison(
        "depth-loss",
        "Which loss for depth?",
        f"densevision train depth --steps 300 --size 64 96 {ONE_THREAD}",
        {
            "berHu": "--loss berhu",
            "L1": "--loss l1",
            "L2": "--loss l2",
            "L1 of logarithms, and edges": "--loss log-edges",
        },
        {"abs_rel": "abs_rel", "rms": "rms, m", "delta1": "δ < 1.25"},
    ),
    Comparison(
        "head",
        "Plain up-convolutions or up-projections?",
        f"densevision train depth --steps 300 --size 64 96 {ONE_THREAD}",
        {
            "up-convolution": "--head up-convolution",
            "up-projection": "--head up-projection",
        },
        {"abs_rel": "abs_rel", "rms": "rms, m", "delta1": "δ < 1.25"},
    ),
    Comparison(
        "trunk",
        "Does the trunk matter?",
        f"densevision train depth --data seven-scenes --root redkitchen --recipe indoor --size 96 128 --steps 150 "
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
        {"abs_rel": "abs_rel", "rms": "rms, m", "delta1": "δ < 1.25"},
    ),
    Comparison(
        "pose-loss",
        "Tukey's biweight or L2, a fifth of the joints mislabelled",
        "densevision train pose --data mislabelled-figures --head regression --size 64 64 --steps 600 --batch 32 "
        f"--lr 1e-3 --eval-samples 200 {ONE_THREAD}",
        {"Tukey": "--loss tukey", "L2": "--loss l2"},
        {"score": "PCK@0.2"},
    ),
    Comparison(
        "colour-loss",
        "Rebalanced or plain cross-entropy for colours?",
        f"densevision train colorization --steps 400 --eval-samples 200 {ONE_THREAD}",
        {"rebalanced": "--loss rebalanced", "plain": "--loss classification"},
        {"auc_rebalanced": "rebalanced AuC", "auc": "AuC", "psnr": "psnr, dB", "colourfulness": "colourfulness"},
    ),
    Comparison(
        "adversary",
        "With and without the adversary",
        f"densevision train translation --steps 300 --eval-samples 100 {ONE_THREAD}",
        {"with": "--adversarial", "without": "--no-adversarial"},
        {"l1": "L1", "sharpness": "sharpness", "pixel_accuracy": "pixel accuracy", "mean_iou": "mean IoU"},
    ),
)


def run(*names: str) -> None:
    """Every training that has no result yet, seed by seed, so that what is cut short has a first seed everywhere."""
    chosen = [comparison for comparison in COMPARISONS if not names or comparison.name in names]
    for seed in SEEDS:
        for comparison in chosen:
            for variant in comparison.variants:
                comparison.runs(variant)[seed].run()


if __name__ == "__main__":
    {"run": run}[sys.argv[1]](*sys.argv[2:])
