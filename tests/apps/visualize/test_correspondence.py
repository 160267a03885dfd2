"""Patches in other pictures: what was put there is found, where it was put."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.apps.visualize.correspondence import correspondences, likeness
from densevision.apps.visualize.folder import at_scale, pictures_in, size_with
from densevision.apps.visualize.maximal import maximal
from densevision.apps.visualize.measures import Channel, Unit
from densevision.apps.visualize.patches import Window, fields_of
from densevision.apps.visualize.probes import gradients, parse_probe
from densevision.apps.visualize.subject import Subject, subject_of_trunk
from densevision.backbones.backbone import Level, Preprocessing
from densevision.backbones.layers import PooledBackbone
from densevision.datasets.formats.picture import read_picture, write_picture
from densevision.errors import UserError

from .toys import toy

SIDE = 40
FIELD = 12
"""Of the toy's level b: 3, a pool of 2, 3 and 3 again: 3 + 1 + 2 * 2 + 2 * 2, every 2 pixels."""


class Bright(PooledBackbone):
    """One channel: the sum of everything in 3 x 3 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.describe("bright", [Level("sum", 1, 1)], classes=0, in_channels=3, built=None)
        self.preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3, resize=16, crop=16)
        self.conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
        nn.init.ones_(self.conv.weight)

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.conv(image)]


def noise(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four pictures of noise; the third holds, at x = 17 and y = 23, the query's patch from 11 and 21."""
    query = noise(0)
    write_picture(tmp_path / "query.png", query)
    for seed in range(1, 5):
        made = noise(seed)
        if seed == 3:
            made[23 : 23 + FIELD, 17 : 17 + FIELD] = query[21 : 21 + FIELD, 11 : 11 + FIELD]
        write_picture(tmp_path / "others" / f"{seed}.png", made)
    return tmp_path


def sought(folder: Path, subject: Subject | None = None, **options) -> list:
    # The middle of the field whose first pixel is at 11, 21; fields of b start at every second pixel, from -5 on.
    options = {"places": [(16.5, 26.5)], "short": SIDE, "count": 2, **options}
    return correspondences(subject or toy(), folder / "query.png", pictures_in(folder / "others"), "b", **options)


def test_a_patch_is_found_where_it_was_put(folder):
    (found,) = sought(folder)
    assert found.query.window == Window(11, 21, 11 + FIELD, 21 + FIELD)
    best = found.neighbours[0]
    assert (best.path, best.window) == (folder / "others" / "3.png", Window(17, 23, 17 + FIELD, 23 + FIELD))
    assert best.likeness == pytest.approx(1, abs=1e-5) and found.neighbours[1].likeness < 0.9999
    assert np.array_equal(best.pixels, found.query.pixels)
    assert np.array_equal(found.query.pixels, noise(0)[21 : 21 + FIELD, 11 : 11 + FIELD])


def test_every_picture_gives_one_neighbour_the_most_alike_first(folder):
    (found,) = sought(folder, count=9)
    assert len({each.path for each in found.neighbours}) == len(found.neighbours) == 4
    alike = [each.likeness for each in found.neighbours]
    assert alike == sorted(alike, reverse=True)


def test_the_query_under_another_name_is_no_neighbour(folder):
    write_picture(folder / "others" / "copy.png", read_picture(folder / "query.png"))
    (found,) = sought(folder, count=9)
    assert folder / "others" / "copy.png" not in [each.path for each in found.neighbours]


def test_the_average_is_the_mean_of_the_neighbours(folder):
    (found,) = sought(folder)
    one, other = (each.pixels.astype(float) for each in found.neighbours)
    assert np.abs(found.average - (one + other) / 2).max() <= 0.5


def test_a_unit_is_found_by_its_activation_alone(folder):
    subject = toy()
    maps = subject.look(at_scale(subject, folder / "query.png", SIDE), ("b",), answer=False).levels["b"][0]
    channel = int(maps[:, 13, 8].argmax())
    (found,) = sought(folder, subject, places=(), units=[(channel, 8, 13)])
    assert found.query.unit == (8, 13) and found.query.likeness == 0
    for each in found.neighbours:
        there = subject.look(at_scale(subject, each.path, SIDE), ("b",), answer=False).levels["b"][0, channel]
        x, y = each.unit
        assert each.likeness == pytest.approx(-abs(float(there[y, x] - maps[channel, 13, 8])), abs=1e-6)


def test_the_same_question_has_the_same_answer(folder):
    one, same = sought(folder), sought(folder)
    assert [each.unit for each in one[0].neighbours] == [each.unit for each in same[0].neighbours]


def test_likeness_is_the_cosine():
    among, one = torch.tensor([[[1.0, 2.0, 0.0]], [[0.0, 2.0, -1.0]]]), torch.tensor([3.0, 0.0])
    assert likeness(among, one, None)[0].tolist() == pytest.approx([1, 0.5**0.5, 0])


def test_inactive_units_are_alike_to_nothing():
    among, one = torch.tensor([[[1.0, 0.0, 4.0]]]), torch.tensor([1.5])
    assert likeness(among, one, 0)[0].tolist() == [-0.5, -torch.inf, -2.5]


@pytest.mark.parametrize("level", ["a", "b", "conv2"])
def test_a_window_holds_the_pixels_that_change_the_unit(level):
    subject = toy()
    pixels = (torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),)
    # Over several channels, since one may be dead.
    total = sum((gradients(subject, pixels, Unit(level, k, 9, 7))[0].abs()[0].sum(0) for k in range(6)), torch.zeros(1))
    rows, columns = (total.sum(axis).nonzero().flatten() for axis in (1, 0))
    window = fields_of(subject, level).window(9, 7)
    # A pool leads to one of its pixels alone, so that the outermost ones may not be reached on one picture.
    reached = Window(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    assert window.left <= reached.left <= window.left + 1 and window.top <= reached.top <= window.top + 1
    assert window.right - 1 <= reached.right <= window.right and window.bottom - 1 <= reached.bottom <= window.bottom


@pytest.mark.parametrize("level", ["a", "b"])
@pytest.mark.parametrize("size", [(12, 13), (15, 30), (11, 40)])
def test_whole_fields_are_those_whose_windows_lie_inside(level, size):
    fields = fields_of(toy(), level)
    count = (size[0], size[1]) if level == "a" else (size[0] // 2, size[1] // 2)
    rows, columns = fields.whole(count, size)
    assert list(rows) == [
        y for y in range(count[0]) if fields.window(0, y).top >= 0 and fields.window(0, y).bottom <= size[0]
    ]
    assert list(columns) == [
        x for x in range(count[1]) if fields.window(x, 0).left >= 0 and fields.window(x, 0).right <= size[1]
    ]


def test_a_place_means_the_nearest_unit_that_sees_nothing_but_picture(folder):
    fields = fields_of(toy(), "b")
    among = fields.whole((20, 20), (SIDE, SIDE))
    for x, y in ((20.0, 11.0), (0.0, 39.0)):
        unit = fields.unit_at(x, y, among)
        far = {
            (column, row): abs(fields.columns.centre + 2 * column - x) + abs(fields.rows.centre + 2 * row - y)
            for row in among[0]
            for column in among[1]
        }
        assert far[unit] == min(far.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"places": [(40.0, 3.0)]}, "40,3 lies outside of the picture of 40 x 40 pixels"),
        ({"short": 11}, "sees 12 x 12 pixels, more than the picture of 11 x 11"),
        ({"places": (), "units": [(0, 0, 9)]}, "sees what is not in the picture; x goes from 3 to 16"),
        ({"places": (), "units": [(8, 9, 9)]}, "b has the channels 0 to 7, and no 8"),
        ({"count": 0}, "--count 0"),
    ],
)
def test_mistakes_are_named(folder, options, said):
    with pytest.raises(UserError, match=said):
        sought(folder, **options)


def test_an_inactive_unit_is_refused_with_one_that_is_active(folder):
    subject = toy()
    maps = subject.look(at_scale(subject, folder / "query.png", SIDE), ("b",), answer=False).levels["b"][0]
    channel, y, x = (int(each) for each in (maps[:, 3:17, 3:17] == 0).nonzero()[0])
    with pytest.raises(UserError, match=rf"b:{channel}@{x + 3},{y + 3} is not active on this picture") as refused:
        sought(folder, subject, places=(), units=[(channel, x + 3, y + 3)])
    offered = str(refused.value).split("; ")[1].split(" is most active")[0]
    if "@" in offered:
        probe = parse_probe(offered, subject)
        assert isinstance(probe, Unit) and float(maps[probe.index, probe.y, probe.x]) > 0


def test_an_unknown_level_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="no level of toy named 'conv9'; nearest: conv"):
        fields_of(toy(), "conv9")


def test_a_folder_is_read_by_name_and_thinned_evenly(tmp_path):
    for name in ("b/2.png", "a/1.png", "a/3.jpg", "c.PNG"):
        write_picture(tmp_path / name.replace("PNG", "png"), noise(0, 4, 4))
    (tmp_path / "notes.txt").write_text("no picture")
    names = [str(path.relative_to(tmp_path)) for path in pictures_in(tmp_path)]
    assert names == ["a/1.png", "a/3.jpg", "b/2.png", "c.png"]
    assert [path.name for path in pictures_in(tmp_path, 2)] == ["1.png", "2.png"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    for folder, said in ((tmp_path, "holds no picture"), (tmp_path / "none", "There is no folder")):
        with pytest.raises(UserError, match=said):
            pictures_in(folder)


def test_a_picture_is_shown_whole_with_the_short_side_that_is_asked():
    (pixels,) = at_scale(toy(), noise(0, 30, 45), 20)
    assert pixels.shape == (1, 3, 20, 30) and float(pixels.min()) >= 0 and float(pixels.max()) <= 1
    assert torch.equal(
        at_scale(toy(), noise(0), SIDE)[0][0] * 255, torch.from_numpy(noise(0).transpose(2, 0, 1)).float()
    )


def test_sizes_keep_the_aspect():
    assert size_with((30, 45), short=20) == (20, 30) and size_with((30, 45), long=30) == (20, 30)
    # A strip ends at eight times its short side.
    assert size_with((1, 900), short=4) == (4, 32) and size_with((1, 900), long=450) == (1, 450)


@pytest.fixture
def spots(tmp_path) -> list[Path]:
    """Dark pictures with one spot each: the brighter, the later; at x = 2, 5, 8 and y = 7."""
    for number, x in enumerate((2, 5, 8)):
        dark = np.zeros((16, 16, 3), np.uint8)
        dark[7, x] = 60 * (number + 1)
        write_picture(tmp_path / f"{number}.png", dark)
    return pictures_in(tmp_path)


def test_the_brightest_spot_excites_a_sum_most(spots):
    found = maximal(subject_of_trunk(Bright()), spots, Channel("sum", 0), 2)
    assert [one.path for one in found] == [spots[2], spots[1]]
    # The most active unit of the channel, and not its mean: three channels of 180 / 255.
    assert found[0].value == pytest.approx(3 * 180 / 255)
    assert found[0].patch.shape == (3, 3, 3) and found[0].patch.max() == 180


def test_a_unit_is_looked_at_where_it_is(spots):
    found = maximal(subject_of_trunk(Bright()), spots, Unit("sum", 0, 5, 7))
    # The spot of the second picture lies there, and no other one reaches it.
    assert [(one.path, one.window) for one in found] == [(spots[1], Window(4, 6, 7, 9))]


def test_pictures_that_do_not_excite_are_said(spots):
    trunk = Bright()
    nn.init.constant_(trunk.conv.weight, -1.0)
    for probe in (Channel("sum", 0), Unit("sum", 0, 0, 0)):
        with pytest.raises(UserError, match=f"None of the 3 pictures excites {probe}"):
            maximal(subject_of_trunk(trunk), spots, probe)


def test_classes_rank_whole_pictures(folder):
    subject = toy()
    subject = replace(subject, size=(SIDE, SIDE))
    pictures = pictures_in(folder / "others")
    found = maximal(subject, pictures, parse_probe("class:2", subject), 3)
    assert [one.value for one in found] == sorted((one.value for one in found), reverse=True) and len(found) == 3
    assert found[0].patch.shape == (SIDE, SIDE, 3)


def test_the_verb_writes_query_neighbours_and_average(run, folder):
    words = ("--network", "resnet20_cifar", "--image", "query.png", "--folder", "others", "--short", "40")
    asked = ("--level", "stage1", "--at", "10,10", "20,20", "--count", "3", "--out", "c.png")
    said = run("visualize", "correspond", *words, *asked)
    assert said.out.splitlines()[-1] == "Wrote c.png and c.npy.", said
    # Two rows of a query, three neighbours and their average; a unit of stage1 sees 3 + 6 * 2 pixels.
    assert np.load(folder / "c.npy").shape == (2, 5, 15, 15, 3)


def test_the_verb_takes_a_patch_or_a_unit(run, folder):
    words = ("--network", "resnet20_cifar", "--image", "query.png", "--folder", "others", "--out", "c.png")
    assert run("visualize", "correspond", *words, "--level", "stage1").mistake.startswith("Give either --level LEVEL")
    said = run("visualize", "correspond", *words, "--level", "stage1", "--at", "here").mistake
    assert said == "'here' is no place; write two numbers with a comma: 120,80."
    said = run("visualize", "correspond", *words, "--probe", "stage1:3")
    assert said.code == 2 and said.err.endswith("'stage1:3' is no single unit; write LEVEL:CHANNEL@X,Y.\n")


def test_the_verb_writes_the_most_exciting_pictures(run, folder):
    words = (
        "--network",
        "resnet20_cifar",
        "--folder",
        "others",
        "--probe",
        "stage1:3",
        "--count",
        "2",
        "--out",
        "m.png",
    )
    said = run("visualize", "maximal", *words)
    assert said.out.splitlines()[-1] == "Wrote m.png and m.npy.", said
    values = np.load(folder / "m.npy")
    assert values.shape == (2,) and values[0] >= values[1] > 0
