"""`densevision visualize correspond`: the patches of other pictures that a network holds to be the same thing.

Long, Zhang, Darrell: Do Convnets Learn Correspondence? NIPS 2014, arXiv:1411.1091, section 3: a patch is described by
the channels of a level at one place; its neighbours are sought at all places of other pictures, cut out at their
receptive fields, and averaged.

Likeness is the cosine between descriptors. A single unit is described by its activation alone, and likeness is the
negative distance; inactive units are left out, which are all alike. Every picture gives its best place only. All
pictures have the same short side, the query is never its own neighbour, and no field leaves its picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from .asked import Network

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .patches import Window
    from .subject import Subject

CELL = 112
SAME = 1.5 / 255
"""Pictures whose pixels differ less than this on average are the same one under two names."""


class Patch(NamedTuple):
    """What one unit sees.

    Attributes:
        path: the picture's file; None for the query, which may be no file.
        likeness: to the query, larger is more alike; the query's own is the largest there is (1, or 0 for a unit).
        unit: x and y in its level.
        window: in pixels of the picture at the common scale.
        pixels: (h, w, 3) uint8.
    """

    path: Path | None
    likeness: float
    unit: tuple[int, int]
    window: Window
    pixels: np.ndarray


class Correspondence(NamedTuple):
    """A patch and its neighbours, the most alike first."""

    query: Patch
    neighbours: list[Patch]

    @property
    def average(self) -> np.ndarray:
        """The mean of the neighbours, (h, w, 3) uint8."""
        import numpy as np

        return np.round(np.mean([each.pixels for each in self.neighbours], axis=0)).astype(np.uint8)


def correspondences(
    subject: Subject,
    image: Any,
    pictures: Sequence[Path],
    level: str,
    places: Sequence[tuple[float, float]] = (),
    units: Sequence[tuple[int, int, int]] = (),
    count: int = 8,
    short: int = 256,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Correspondence]:
    """The nearest patches for several queries, in one pass over the pictures.

    Args:
        subject: a network that takes one picture.
        image: where the queries lie: a path or anything that inference takes.
        pictures: files among which neighbours are sought.
        level: whose channels describe.
        places: patches by x and y in pixels of the picture as it is stored; the nearest unit whose field lies inside.
        units: units by channel, x and y in the level.
        count: at most so many neighbours each.
        short: pixels of every picture's short side.
        report: called after every picture with how many are done, and of how many.

    Returns:
        Those of the places, then those of the units.

    Raises:
        UserError: a place or unit outside, an inactive unit, or pictures smaller than the level's field.
    """
    import numpy as np
    import torch

    from ...errors import UserError
    from ...tasks.pictures import any_picture
    from .drawing import photograph
    from .folder import at_scale
    from .patches import fields_of

    if count < 1 or short < 1:
        raise UserError(f"--count {count} --short {short}: both must be at least 1.")
    fields = fields_of(subject, level)

    def looked_at(source: Any) -> tuple[Tensor, Tensor, tuple[range, range]]:
        """Pixels (1, C, H, W), maps (N, h, w), and the units whose fields lie inside."""
        pixels = at_scale(subject, source, short)
        with torch.no_grad():
            maps = subject.look(pixels, (level,), answer=False).levels[level][0].float()
        height, width = pixels[0].shape[-2:]
        return pixels[0], maps, fields.whole((maps.shape[-2], maps.shape[-1]), (height, width))

    seen, maps, inside = looked_at(image)
    if not all(inside):
        raise UserError(
            f"A unit of {level} sees {fields.rows.size:g} x {fields.columns.size:g} pixels, more than the picture of "
            f"{seen.shape[-2]} x {seen.shape[-1]} has; give a larger --short or an earlier level."
        )
    source = any_picture(image)
    sought: list[tuple[int | None, int, int]] = []
    for x, y in places:
        if not (0 <= x < source.shape[1] and 0 <= y < source.shape[0]):
            raise UserError(f"{x:g},{y:g} lies outside of the picture of {source.shape[1]} x {source.shape[0]} pixels.")
        across, down = seen.shape[-1] / source.shape[1], seen.shape[-2] / source.shape[0]
        at = (x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5
        sought.append((None, *fields.unit_at(*at, inside)))
    sought += [checked_unit(level, unit, maps, inside) for unit in units]

    shown = photograph(seen)
    found: list[Correspondence] = []
    for channel, x, y in sought:
        window = fields.window(x, y)
        found.append(Correspondence(Patch(None, float(channel is None), (x, y), window, window.cut(shown)), []))
    for done, path in enumerate(pictures, 1):
        pixels, there, whole = looked_at(path)
        report(done, len(pictures))
        if not all(whole) or (pixels.shape == seen.shape and float((pixels - seen).abs().mean()) < SAME):
            continue
        rows, columns = whole
        among = there[:, rows.start : rows.stop, columns.start : columns.stop]
        for (channel, x, y), one in zip(sought, found, strict=True):
            alike = likeness(among, maps[:, y, x], channel)
            row, column = divmod(int(alike.argmax()), len(columns))
            value = float(alike[row, column])
            if value == -np.inf or (len(one.neighbours) == count and value <= one.neighbours[-1].likeness):
                continue
            unit = columns[column], rows[row]
            window = fields.window(*unit)
            one.neighbours.append(Patch(path, value, unit, window, window.cut(photograph(pixels))))
            one.neighbours.sort(key=lambda patch: -patch.likeness)
            del one.neighbours[count:]
    if not all(one.neighbours for one in found):
        raise UserError(
            f"None of the {len(pictures)} pictures has a patch to compare; give others, or a larger --short."
        )
    return found


def likeness(among: Tensor, one: Tensor, channel: int | None) -> Tensor:
    """How alike places are to a descriptor: (h, w) of (N, h, w) and (N,).

    The cosine; of a single channel the negative distance, and -inf where it is not active.
    """
    import torch
    from torch.nn import functional

    if channel is None:
        return functional.cosine_similarity(among, one[:, None, None], dim=0)
    values = among[channel]
    return torch.where(values == 0, -torch.inf, -(values - one[channel]).abs())


def checked_unit(
    level: str, unit: tuple[int, int, int], maps: Tensor, inside: tuple[range, range]
) -> tuple[int, int, int]:
    """A unit that is active and sees nothing but the picture.

    Raises:
        UserError: it is not, with one that is.
    """
    from ...errors import UserError

    channel, x, y = unit
    rows, columns = inside
    if not 0 <= channel < len(maps):
        raise UserError(f"{level} has the channels 0 to {len(maps) - 1}, and no {channel}.")
    if x not in columns or y not in rows:
        raise UserError(
            f"{level}:{channel}@{x},{y} sees what is not in the picture; x goes from {columns[0]} to {columns[-1]} "
            f"and y from {rows[0]} to {rows[-1]} here."
        )
    values = maps[channel]
    if not values[y, x]:
        among = values[rows.start : rows.stop, columns.start : columns.stop].abs()
        row, column = divmod(int(among.argmax()), len(columns))
        most = f"{level}:{channel}@{columns[column]},{rows[row]}"
        hint = f"{most} is most active" if among.any() else "no other of this channel is either; take another channel"
        raise UserError(f"{level}:{channel}@{x},{y} is not active on this picture; {hint}.")
    return channel, x, y


def draw_correspondences(found: Sequence[Correspondence]) -> np.ndarray:
    """(H, W, 3) uint8: a row a query: the patch, its neighbours with their likeness, and their average last."""
    from .tiles import captioned, fitted, grid

    longest = max(len(one.neighbours) for one in found)
    cells = []
    for one in found:
        row = [(one.query.pixels, "query"), *((each.pixels, f"{each.likeness:.3f}") for each in one.neighbours)]
        row += [(one.average, "average")]
        cells += [captioned(fitted(pixels, (CELL, CELL)), words) for pixels, words in row]
        blank = captioned(fitted(one.average * 0 + 255, (CELL, CELL)), "")
        cells += [blank] * (longest - len(one.neighbours))
    return grid(cells, longest + 2)


def show_correspondence(
    network: Annotated[Network, Parameter(name="*")],
    *,
    image: Path,
    folder: Path,
    out: Path,
    level: str | None = None,
    at: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    probe: str | None = None,
    count: int = 8,
    short: int = 256,
    subset: int | None = None,
) -> None:
    """Draw the patches of other pictures that are most like a patch: query, neighbours, and their average.

    Args:
        image: Photograph with the query.
        folder: Photographs among which neighbours are sought, in subfolders too.
        out: Picture to write (.png); query, neighbours and average lie beside it as one array (.npy).
        level: Level whose channels describe a patch, for --at; default: none.
        at: Places X,Y of the photograph, in its own pixels; a row each; default: none.
        probe: Instead, one unit (layer2:17@12,8), described by its activation alone; default: none.
        count: So many neighbours; default: 8.
        short: Pixels of every picture's short side; default: 256.
        subset: Look at so many of the folder's pictures only, spread evenly; default: all.
    """
    import numpy as np

    from ...errors import UserError
    from .drawing import checked_out, write_both
    from .folder import counted, pictures_in
    from .measures import Unit
    from .probes import parse_probe

    checked_out(out)
    if (probe is None) == (not at) or (level is None) == bool(at):
        raise UserError("Give either --level LEVEL --at X,Y for a patch, or --probe LEVEL:CHANNEL@X,Y for a unit.")
    places = [place_of(text) for text in at]
    pictures = [path for path in pictures_in(folder, subset) if path.resolve() != image.resolve()]
    subject = network.subject()
    units = []
    if probe is not None:
        unit = parse_probe(probe, subject)
        if not isinstance(unit, Unit):
            raise UserError(f"'{probe}' is no single unit; write LEVEL:CHANNEL@X,Y.")
        level, units = unit.level, [(unit.index, unit.x, unit.y)]
    assert level is not None
    found = correspondences(subject, image, pictures, level, places, units, count, short, counted)
    for one in found:
        print(
            f"Unit {one.query.unit[0]},{one.query.unit[1]} of {level}, pixels {', '.join(map(str, one.query.window))}:"
        )
        for each in one.neighbours:
            print(f"{each.likeness:9.4f}  {each.path}  {each.unit[0]},{each.unit[1]}")
    fewest = min(len(one.neighbours) for one in found)
    rows = [[one.query.pixels, *(n.pixels for n in one.neighbours[:fewest]), one.average] for one in found]
    print(f"Wrote {' and '.join(map(str, write_both(out, draw_correspondences(found), np.array(rows))))}.")


def place_of(text: str) -> tuple[float, float]:
    """X,Y as numbers.

    Raises:
        UserError: it is something else.
    """
    from ...errors import UserError

    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise UserError(f"'{text}' is no place; write two numbers with a comma: 120,80.") from None
    return x, y
