"""`densevision visualize maximal`: which pictures of a folder excite a unit most, and what of them it sees.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901, figure 2: of every
picture the channel's most active unit, and of all pictures the strongest of those, cut out at the receptive field.
Any other probe ranks whole pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from .asked import Network

if TYPE_CHECKING:
    import numpy as np

    from .measures import Probe
    from .patches import Window
    from .subject import Subject

CELL = 160


class Exciting(NamedTuple):
    """A picture that excites.

    Attributes:
        path: its file.
        value: how much the probe is there.
        picture: (H, W, 3) uint8, as the network saw it.
        window: what the unit sees of it, cut at the picture's border; the whole picture for other probes.
    """

    path: Path
    value: float
    picture: np.ndarray
    window: Window

    @property
    def patch(self) -> np.ndarray:
        """What the unit sees, (h, w, 3) uint8."""
        return self.window.cut(self.picture)


def maximal(
    subject: Subject,
    pictures: Sequence[Path],
    probe: Probe,
    count: int = 9,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Exciting]:
    """The pictures on which a probe is largest, the largest first; equal ones in the order in which they come.

    Args:
        subject: a network that takes one picture.
        pictures: files, shown as inference shows them.
        probe: a channel stands for its most active unit, and is not averaged; a unit is looked at where it is.
        count: at most so many.
        report: called after every picture with how many are done, and of how many.

    Raises:
        UserError: none of them excites the unit, or a file is no picture.
    """
    import torch

    from ...errors import UserError
    from .drawing import photograph
    from .measures import Channel, Unit
    from .patches import Fields, Window, fields_of
    from .sensitivity import score

    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1.")
    fields: Fields | None = fields_of(subject, probe.level) if isinstance(probe, Channel) else None
    best: list[Exciting] = []
    for done, path in enumerate(pictures, 1):
        pixels = subject.pixels(path)
        with torch.no_grad():
            measured, seen = score(subject, pixels, probe)
            value, x, y = float(measured), 0, 0
            if isinstance(probe, Channel):
                channel = probe.of(seen)[0]
                x, y = (
                    (probe.x, probe.y)
                    if isinstance(probe, Unit)
                    else divmod(int(channel.argmax()), channel.shape[-1])[::-1]
                )
                value = float(channel[y, x])
        picture = photograph(pixels[0])
        window = fields.window(x, y) if fields else Window(0, 0, picture.shape[1], picture.shape[0])
        best.append(Exciting(path, value, picture, window.clipped((picture.shape[0], picture.shape[1]))))
        best = sorted(best, key=lambda one: -one.value)[:count]
        report(done, len(pictures))
    if isinstance(probe, Channel):
        best = [one for one in best if one.value > 0]
        if not best:
            raise UserError(f"None of the {len(pictures)} pictures excites {probe}; take another channel or folder.")
    return best


def draw_maximal(found: Sequence[Exciting]) -> np.ndarray:
    """(H, W, 3) uint8: what the unit sees of each, with the value below."""
    import math

    from .tiles import captioned, fitted, grid

    cells = [captioned(fitted(one.patch, (CELL, CELL)), f"{one.value:.4g}") for one in found]
    return grid(cells, math.ceil(math.sqrt(len(cells))))


def show_maximal(
    network: Annotated[Network, Parameter(name="*")],
    *,
    folder: Path,
    probe: str,
    out: Path,
    count: int = 9,
    subset: int | None = None,
) -> None:
    """Draw which pictures of a folder excite a unit most, cut out where it looks.

    Args:
        folder: Photographs, in subfolders too.
        probe: Channel (layer3:17, its most active unit), unit (layer3:17@12,8), or any other probe, for whole pictures.
        out: Picture to write (.png); the values lie beside it (.npy).
        count: So many pictures; default: 9.
        subset: Look at so many of the folder's pictures only, spread evenly; default: all.
    """
    import numpy as np

    from .drawing import checked_out, write_both
    from .folder import counted, pictures_in
    from .probes import parse_probe

    checked_out(out)
    pictures = pictures_in(folder, subset)
    subject = network.subject()
    found = maximal(subject, pictures, parse_probe(probe, subject), count, counted)
    for one in found:
        print(f"{one.value:10.4g}  {one.path}")
    values = np.array([one.value for one in found], np.float32)
    print(f"Wrote {' and '.join(map(str, write_both(out, draw_maximal(found), values)))}.")
