"""`densevision visualize receptive-field`, and the table of its documentation page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.backbones import create_backbone
from densevision.backbones.receptive_field import receptive_fields
from densevision.visualize.correspondence.receptive_field import MAX_LENGTH, center_unit_frames, draw_fields

PAGE = Path(__file__).resolve().parents[3] / "docs" / "receptive-fields.md"


@pytest.fixture
def visualize(run):
    """Output of `densevision visualize receptive-field`, or its error message."""

    def call(*words: object) -> str:
        result = run("visualize", "receptive-field", *words)
        return result.out if result.code == 0 else result.error

    return call


@pytest.fixture
def photo(tmp_path, image) -> Path:
    return image(tmp_path / "photo.png", 120, 160)


def cells(printed: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in printed.splitlines()]


def test_the_table_contains_every_level(visualize):
    heading, *rows = cells(visualize("--model", "vgg16"))
    assert heading == ["level", "stride", "size", "first center", "overlap", "global operation"]
    # facts 1.5
    assert [row[0] for row in rows] == ["block1", "block2", "block3", "block4", "block5", "pool5"]
    assert rows[-1] == ["pool5", "32", "212", "15.5", "180", "-"]


@pytest.mark.parametrize(("stride_in", "size"), [("1x1", "483"), ("3x3", "427")])
def test_stride_in_changes_the_field(visualize, stride_in, size):
    assert cells(visualize("--model", "resnet50", "--stride-in", stride_in))[-1][2] == size


def test_the_global_operation_is_printed(visualize):
    *_, last = cells(visualize("--model", "timm:seresnet18"))
    assert last == ["layer4", "32", "all", "-", "all", "mean over positions in model.layer1.0.se"]


def test_layers_adds_convolutions_and_pools(visualize):
    printed = visualize("--model", "alexnet", "--layers")
    rows = {row[0]: row[1:3] for row in cells(printed)}
    assert rows["convolutions.pool1"] == ["8", "19"]  # facts 1.5
    assert "convolutions.relu1" not in rows


def test_the_drawing_has_a_legend(visualize, photo, tmp_path):
    printed = visualize("--model", "resnet18", "--image", photo, "--out", "drawn.png")
    assert printed.splitlines()[-1] == "Wrote drawn.png."
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.mode == "RGB"
        assert drawn.width > MAX_LENGTH and drawn.height == MAX_LENGTH  # a square field of 435 pixels, plus the legend


def test_frames_are_the_fields_of_the_center_units():
    backbone = create_backbone("vgg11", num_classes=0, levels=2)
    first, second = center_unit_frames(backbone, (20, 30))
    # Unit (10, 15) with a field of 3 around it, and unit (5, 7) with a field of 8 around 2 * unit + 0.5 (facts 1.5).
    assert first.box == (15 - 1.5, 10 - 1.5, 15 + 1.5, 10 + 1.5)
    assert second.box == (14.5 - 4, 10.5 - 4, 14.5 + 4, 10.5 + 4)


def test_the_drawing_contains_the_image_and_gray_padding():
    photo = np.full((64, 64, 3), (200, 0, 0), np.uint8)
    drawn = draw_fields(create_backbone("vgg16", num_classes=0, levels=5), photo)
    # The field of block5 is 196 pixels, around 2 * 16 + 7.5 + ...: the 64 pixels are surrounded by padding.
    assert (drawn[8, MAX_LENGTH // 4] == drawn[8, MAX_LENGTH // 4, 0]).all()
    center = drawn[: drawn.shape[0], :MAX_LENGTH].reshape(-1, 3)
    share = (center == (200, 0, 0)).all(-1).mean()
    assert 0.5 * (64 / 196) ** 2 < share <= 1.1 * (64 / 196) ** 2


def test_a_level_after_a_global_operation_has_no_frame():
    frames = center_unit_frames(create_backbone("timm:seresnet18", num_classes=0), (64, 64))
    assert frames[0].box is not None
    assert frames[-1].box is None and frames[-1].note.startswith("everything (mean over positions")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "resnet51"), "no backbone named 'resnet51'; did you mean 'resnet"),
        (("--model", "vgg16", "--stride-in", "1x1"), "vgg16 has no option 'stride_in'"),
        (("--model", "timm:swin_tiny_patch4_window7_224"), "cannot be traced"),
        (("--model", "vgg16", "--image", "missing.png"), "'missing.png'"),
        (("--model", "vgg16", "--image", "photo.png", "--size", "8", "8"), "does not accept images of 8x8"),
        (("--model", "vgg16", "--size", "0", "8"), "--size is 0x8"),
        (("--model", "vgg16", "--image", "photo.png", "--out", "drawn.txt"), "name a .png or .jpg file"),
    ],
)
def test_errors_are_one_line(visualize, photo, words, message):
    assert message in visualize(*words)


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom densevision.apps.cli import main\n"
        "main(['visualize', '--help']); main(['visualize', 'receptive-field', '--help'])\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "receptive-field" in done.stdout


def table_rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.count("|") == 7]


@pytest.mark.parametrize("row", table_rows(), ids=lambda row: row[0])
def test_the_page_has_the_computed_fields(row):
    name, *option = row[0].strip("`").split()
    fields = receptive_fields(create_backbone(name, num_classes=0, **({"stride_in": option[1]} if option else {})))
    assert row[1].split() == list(fields)
    expected = [(field.size, field.jump, field.center, field.overlap) for field in fields.values()]
    assert [tuple(map(float, numbers)) for numbers in zip(*(cell.split() for cell in row[2:]), strict=True)] == expected
