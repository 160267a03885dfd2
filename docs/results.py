"""What each network reaches, in one table: docs/results.md and what it stands on.

python docs/results.py run [NAME ...]    run the commands that have no result yet (all, or these)
python docs/results.py write             write docs/results.md from the results

`run` belongs into a folder that holds what the commands name: data sets and weights' files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kept import Kept

PAGE = Path(__file__).parent / "results.md"
TOGETHER = "--threads 1 --workers 1"

NAMES = {
    "top1": "top-1",
    "abs_rel": "abs_rel",
    "auc_rebalanced": "rebalanced AuC",
    "psnr": "PSNR, dB",
    "epe": "EPE, px",
    "score": "PCK@0.2",
    "l1": "L1",
    "mean_iou": "mean IoU",
}
"""What the metrics are called on the page."""

CLASSICAL = {
    "classical/weather": "restoration --data weather",
    "classical/photographs": "restoration --data photographs --root photographs",
    "classical/chairs": "flow --data flying-chairs --root flying_chairs --split all",
    "classical/middlebury": "flow --data middlebury-flow --root middlebury_flow",
}
"""What methods without a network score, by `docs/classical.py`."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        score: the metric that is shown.
        command: after `densevision`.
        classical: a result of CLASSICAL, and its method to stand beside the score.
    """

    score: str
    command: str
    classical: tuple[str, str] | None = None


@dataclass(frozen=True)
class Part:
    """A task: its picture, what that shows, and its rows by the names of their results."""

    picture: str
    caption: str
    rows: dict[str, Row]


@dataclass(frozen=True)
class Aim:
    """What was wanted: a row whose score reaches a bound, by itself or as a gain over the trivial answer.

    Attributes:
        cause: why it is missed, and the command that shows it.
    """

    wanted: str
    row: str
    bound: float
    above: bool
    gain: bool = False
    cause: str = ""

    def reached(self, value: float, baseline: float) -> bool:
        found = value - baseline if self.gain else value
        return found >= self.bound if self.above else found <= self.bound


PARTS = {
    "Classification": Part(
        "shapes.png",
        "Unseen shapes of the embedded world, their names and the five most probable ones.",
        {
            "classification/world": Row("top1", "train classification"),
            "classification/digits": Row("top1", "evaluate classification --root mnist --amp off"),
            "classification/imagenet": Row(
                "top1",
                "evaluate resnet50_imagenet_pruned8bit_fp16.safetensors --data imagenet --root imagenet_sample "
                "--split train",
            ),
        },
    ),
    "Depth": Part(
        "photographs.png",
        "scikit-image's photographs above, what the shipped network sees below.",
        {
            "depth/world": Row("abs_rel", "train depth"),
            "depth/rooms": Row("abs_rel", "evaluate depth --data rooms"),
            "depth/kitchen": Row(
                "abs_rel",
                "train depth --backbone resnet50 --weights resnet50_imagenet_pruned8bit_fp16.safetensors "
                f"--data seven-scenes --root redkitchen --recipe indoor --evaluate-every 0 {TOGETHER}",
            ),
            "depth/kitchen-unseen": Row(
                "abs_rel", "evaluate depth --data seven-scenes --root redkitchen --protocol all-pixels+median"
            ),
        },
    ),
    "Colorization": Part(
        "coloured.jpg",
        "scikit-image's photographs: grey, truth, answer, sureness.",
        {
            "colorization/world": Row("auc_rebalanced", "train colorization"),
            "colorization/photographs": Row("auc_rebalanced", "evaluate colorization --root photographs"),
        },
    ),
    "Restoration": Part(
        "windows.jpg",
        "scikit-image's photographs behind dirt and rain, and restored.",
        {
            "restoration/world": Row("psnr", "train restoration", ("classical/weather", "non-local means, h = 5")),
            "restoration/photographs": Row(
                "psnr", "evaluate restoration --root photographs", ("classical/photographs", "non-local means, h = 5")
            ),
        },
    ),
    "Optical flow": Part(
        "flow.jpg",
        "Scenes drawn with scikit-image's photographs: the pair, truth, answer, arrows.",
        {
            "flow/world": Row("epe", "train flow"),
            "flow/chairs": Row(
                "epe",
                "evaluate flow --data flying-chairs --root flying_chairs --split all",
                ("classical/chairs", "DIS, medium"),
            ),
            "flow/middlebury": Row(
                "epe",
                "evaluate flow --data middlebury-flow --root middlebury_flow",
                ("classical/middlebury", "Farnebäck"),
            ),
        },
    ),
    "Human pose": Part(
        "figures.jpg",
        "Unseen figures of the embedded world, and the answers.",
        {
            "pose/world": Row("score", "train pose"),
            "pose/sports": Row("score", "evaluate pose --data lsp-extended --root lsp_extended --flip"),
        },
    ),
    "Translation": Part(
        "street.jpg",
        "Labels drawn by hand, and the street made of them.",
        {
            "translation/world": Row("l1", "train translation"),
            "translation/judge": Row(
                "mean_iou",
                "train translation --from image --to labels --data camvid --root camvid --norm frozen --levels 4 "
                "--weights resnet18_imagenet_to_layer3_fp16.safetensors --size 192 256 --batch 8 --steps 500 --lr 1e-3 "
                f"--trunk-lr 0.3 --ema 0.98 --zoom 1.5 --eval-split val --evaluate-every 250 {TOGETHER}",
            ),
            "translation/streets": Row(
                "mean_iou",
                "evaluate translation --data camvid --root camvid "
                "--protocol judge=runs/translation/judge/best.safetensors",
            ),
        },
    ),
}

AIMS = (
    Aim("depth, redkitchen: abs_rel at most 0.10", "depth/kitchen", 0.10, above=False),
    Aim("colorization, photographs: 0.05 above grey", "colorization/photographs", 0.05, above=True, gain=True),
    Aim("restoration, photographs: 4 dB above what came", "restoration/photographs", 4.0, above=True, gain=True),
    Aim("flow, FlyingChairs: below DIS, 3.93 px", "flow/chairs", 3.93, above=False),
    Aim("flow, Middlebury: below Farnebäck, 0.94 px", "flow/middlebury", 0.94, above=False),
    Aim(
        "pose, LSP-Extended: PCK@0.2 at least 0.60",
        "pose/sports",
        0.60,
        above=True,
        cause="0.783 of the joints of 200 people it learned from are found, 0.557 of the 150 unseen ones' (0.633 at "
        "best, were exchanged sides put right), which speaks for too few people "
        "(`python docs/pose.py mistakes pose lsp_extended`)",
    ),
)

HEAD = """# Results

What each network reaches, each number out of the `result.json` that a command wrote: `python docs/results.py run`
types the commands, `python docs/results.py write` makes this page. A digest is the beginning of the SHA-256 of that
file, which lies under `docs/results/`. "Trivial" is the answer that needs no network (the mean depth, grey, the
picture as it came, no motion, the mean pose, the mean picture) under the same protocol on the same samples.

Machine: 2 cores of an AMD EPYC with AVX-512-BF16, shared with other work, no GPU. `redkitchen`, `flying_chairs`,
`camvid` and the like are samples of the public sets, named in the pages of the tasks; worlds are drawn by this
package: their rows need nothing. `pose/world`, `translation/world` and `translation/judge` are files of an
earlier run of the same commands; the others were all run for this page.
"""


def rows() -> Iterator[tuple[str, Row]]:
    """Every row of every table, by the name of its result."""
    for part in PARTS.values():
        yield from part.rows.items()


def kept() -> dict[str, Kept]:
    """Every command with its result, by name."""
    classical = {name: Kept(name, f"python docs/classical.py {words}") for name, words in CLASSICAL.items()}
    return classical | {name: Kept(name, f"densevision {row.command}") for name, row in rows()}


def run(*names: str) -> None:
    """Run what has no result yet."""
    for name, one in kept().items():
        if not names or name in names:
            one.run()


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page, from the results alone."""
    found = kept()
    return "\n".join([HEAD, *aims(found), *(table(title, part, found) for title, part in PARTS.items())])


def aims(found: dict[str, Kept]) -> Iterator[str]:
    """What was wanted beside what is reached."""
    yield "## What was aimed at\n\n| aim | reached | trivial | |\n| --- | --- | --- | --- |"
    scores = {name: row.score for name, row in rows()}
    for aim in AIMS:
        value, baseline = both(found[aim.row].result(), scores[aim.row])
        verdict = "reached" if aim.reached(value, baseline) else f"**missed**: {aim.cause}"
        yield f"| {aim.wanted} | {number(value)} | {number(baseline)} | {verdict} |"
    yield (
        "| translation, CamVid: streets recognisable | [looked at](translation.md): road, sky, cars and trees in all "
        "of eight unseen pictures | | reached, windows and people are smears |\n"
    )


def table(title: str, part: Part, found: dict[str, Kept]) -> str:
    """A task's table, its commands and its picture."""
    lines = [
        f"## {title}\n",
        "| | network | trunk from | learned from | scored on | protocol, samples | score | trivial | classical | steps"
        " | minutes, device |\n|" + " --- |" * 11,
    ]
    lines += [line(mark, row, found) for mark, row in zip(range(1, 99), part.rows.items(), strict=False)]
    lines.append("\n```bash")
    for mark, name in enumerate(part.rows, 1):
        lines += [f"# {mark}: {name}, {found[name].digest()}", found[name].command]
    compared = [row.classical[0] for row in part.rows.values() if row.classical]
    lines += [f"{found[name].command}    # {name}, {found[name].digest()}" for name in compared]
    return "\n".join([*lines, f"```\n\n![{part.caption}]({part.picture})\n\n*{part.caption}*\n"])


def line(mark: int, named: tuple[str, Row], found: dict[str, Kept]) -> str:
    """One row of a task's table."""
    name, row = named
    result = found[name].result()
    value, baseline = both(result, row.score)
    trained = row.command.startswith("train")
    cells = [
        str(mark),
        result["network"] or " + ".join(filter(None, (result["backbone"], result["head"]))),
        "ImageNet" if result["weights"] else "scratch",
        result["trained_on"] or "ImageNet",
        f"{result['data']}, {result['split']}",
        f"{result['protocol'].partition('=')[0]}, {result['samples']}",
        f"{NAMES[row.score]} **{number(value)}**",
        number(baseline),
        classical(row, found),
        str(result["steps"] or ""),
        f"{result['seconds'] / 60:.1f}, {result['device']}" if trained else "its card" if result["steps"] else "",
    ]
    return f"| {' | '.join(cells)} |"


def classical(row: Row, found: dict[str, Kept]) -> str:
    """What a method without a network scores."""
    if row.classical is None:
        return ""
    name, method = row.classical
    return f"{method}: {number(found[name].result()['methods'][method][row.score])}"


def both(result: dict[str, Any], score: str) -> tuple[float, float]:
    """The score, and the trivial answer's; nan where there is none."""
    return result["metrics"][score], (result["baseline"] or {}).get(score, float("nan"))


def number(value: float) -> str:
    """Three digits where they matter."""
    return "" if value != value else f"{value:.2f}" if value >= 1.5 else f"{value:.3f}"


if __name__ == "__main__":
    {"run": run, "write": write}[sys.argv[1]](*sys.argv[2:])
