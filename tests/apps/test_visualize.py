"""The verbs of `densevision visualize`, and the page that shows what they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.apps.visualize.receptive_field import LONGEST, draw_fields, middle_frames
from densevision.backbones import create_backbone
from densevision.backbones.receptive_field import receptive_fields

PAGE = Path(__file__).resolve().parents[2] / "docs" / "receptive-fields.md"


@pytest.fixture
def visualize(run):
    """The table that `densevision visualize receptive-field` prints, or the mistake that it names."""

    def call(*words: object) -> str:
        said = run("visualize", "receptive-field", *words)
        return said.out if said.code == 0 else said.mistake

    return call


@pytest.fixture
def photograph(tmp_path, picture) -> Path:
    return picture(tmp_path / "photograph.png", 120, 160)


def cells(printed: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in printed.splitlines()]


def test_the_table_names_every_level_with_its_field(visualize):
    heading, *rows = cells(visualize("--network", "vgg16"))
    assert heading == ["level", "stride", "size", "first centre", "overlap", "global operation"]
    # facts 1.5
    assert [row[0] for row in rows] == ["block1", "block2", "block3", "block4", "block5", "pool5"]
    assert rows[-1] == ["pool5", "32", "212", "15.5", "180", "-"]


@pytest.mark.parametrize(("place", "size"), [("1x1", "483"), ("3x3", "427")])
def test_the_place_of_the_stride_is_the_users(visualize, place, size):
    assert cells(visualize("--network", "resnet50", "--stride-in", place))[-1][2] == size


def test_the_global_operation_is_named(visualize):
    *_, last = cells(visualize("--network", "timm:seresnet18"))
    assert last == ["layer4", "32", "all", "-", "all", "mean over positions in model.layer1.0.se"]


def test_layers_adds_convolutions_and_pools(visualize):
    printed = visualize("--network", "alexnet", "--layers")
    rows = {row[0]: row[1:3] for row in cells(printed)}
    assert rows["convolutions.pool1"] == ["8", "19"]  # facts 1.5
    assert "convolutions.relu1" not in rows


def test_the_drawing_shows_every_level(visualize, photograph, tmp_path):
    printed = visualize("--network", "resnet18", "--image", photograph, "--out", "drawn.png")
    assert printed.splitlines()[-1] == "Wrote drawn.png."
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.mode == "RGB"
        assert drawn.width > LONGEST and drawn.height == LONGEST  # a field of 435 pixels is a square, plus the legend


def test_frames_are_the_middle_units_fields():
    trunk = create_backbone("vgg11", classes=0, levels=2)
    first, second = middle_frames(trunk, (20, 30))
    # Unit (10, 15) of a field of 3 around itself, and unit (5, 7) of one of 8 around 2 * unit + 0.5 (facts 1.5).
    assert first.box == (15 - 1.5, 10 - 1.5, 15 + 1.5, 10 + 1.5)
    assert second.box == (14.5 - 4, 10.5 - 4, 14.5 + 4, 10.5 + 4)


def test_the_photograph_stays_visible_inside_and_grey_is_what_lies_outside():
    photograph = np.full((64, 64, 3), (200, 0, 0), np.uint8)
    drawn = draw_fields(create_backbone("vgg16", classes=0, levels=5), photograph)
    # block5 sees 196 pixels around 2 * 16 + 7.5 + ...: padding all around the 64.
    assert (drawn[8, LONGEST // 4] == drawn[8, LONGEST // 4, 0]).all()
    middle = drawn[: drawn.shape[0], :LONGEST].reshape(-1, 3)
    share = (middle == (200, 0, 0)).all(-1).mean()
    assert 0.5 * (64 / 196) ** 2 < share <= 1.1 * (64 / 196) ** 2


def test_a_level_behind_a_global_operation_has_no_frame():
    frames = middle_frames(create_backbone("timm:seresnet18", classes=0), (64, 64))
    assert frames[0].box is not None
    assert frames[-1].box is None and frames[-1].note.startswith("everything (mean over positions")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("--network", "resnet51"), "no backbone named 'resnet51'; did you mean 'resnet"),
        (("--network", "vgg16", "--stride-in", "1x1"), "vgg16 has no option 'stride_in'"),
        (("--network", "timm:swin_tiny_patch4_window7_224"), "cannot be followed"),
        (("--network", "vgg16", "--image", "missing.png"), "no picture 'missing.png'"),
        (("--network", "vgg16", "--image", "photograph.png", "--size", "8", "8"), "takes no picture of 8x8"),
        (("--network", "vgg16", "--size", "0", "8"), "--size is 0x8"),
        (("--network", "vgg16", "--image", "photograph.png", "--out", "drawn.txt"), "name a .png or .jpg file"),
    ],
)
def test_a_mistake_is_one_line(visualize, photograph, words, answer):
    assert answer in visualize(*words)


def test_help_of_the_methods_imports_no_torch():
    code = (
        "import sys\nfrom densevision.apps.cli import main\n"
        "main(['visualize', '--help']); main(['visualize', 'receptive-field', '--help'])\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "receptive-field" in done.stdout


def rows_of_the_page() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.count("|") == 7]


@pytest.mark.parametrize("row", rows_of_the_page(), ids=lambda row: row[0])
def test_the_page_shows_what_the_command_finds(row):
    name, *option = row[0].strip("`").split()
    fields = receptive_fields(create_backbone(name, classes=0, **({"stride_in": option[1]} if option else {})))
    assert row[1].split() == list(fields)
    found = [(field.size, field.jump, field.centre, field.overlap) for field in fields.values()]
    assert [tuple(map(float, numbers)) for numbers in zip(*(cell.split() for cell in row[2:]), strict=True)] == found
