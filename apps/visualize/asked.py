"""What every verb of `densevision visualize` asks for, once: which network, which picture, which probe, and where to.

Like the verbs' own files, this imports nothing heavy before a verb is called.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .measures import Probe
    from .subject import Shown, Subject


class Opened(NamedTuple):
    """A question with everything read: the network, the pictures as it sees them, and what is measured."""

    subject: Subject
    shown: Shown
    probe: Probe

    @property
    def pixels(self) -> tuple[Tensor, ...]:
        """What goes into the network, (1, C, H, W) in [0, 1] each."""
        return self.shown.pixels


@dataclass(kw_only=True)
class Network:
    """Which network is looked into."""

    network: str
    """Trunk by name (`densevision list backbones`, or timm:NAME), a task's name for the checkpoint that ships, or a
    checkpoint's file."""
    weights: str | None = None
    """Of a trunk: a file, or imagenet; default: random ones."""
    stride_in: Literal["1x1", "3x3"] | None = None
    """Where a bottleneck of a ResNet halves; default: as the weights have it."""
    device: str = "cpu"
    """cpu, cuda, mps or auto; default: cpu, on which the same seed gives the same numbers everywhere."""

    def subject(self) -> Subject:
        """The opened network; what was assumed about its weights is said on stderr."""
        from .subject import open_subject

        options: dict[str, Any] = {"stride_in": self.stride_in} if self.stride_in else {}
        with warnings.catch_warnings(record=True) as assumed:
            warnings.simplefilter("always")
            subject = open_subject(self.network, self.weights, device=self.device, **options)
        for warning in assumed:
            print(warning.message, file=sys.stderr)
        return subject


@dataclass(kw_only=True)
class Asked(Network):
    """Which network, which picture, what is measured, and where the answer is written."""

    image: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]
    """Photograph; two for a network that takes two."""
    probe: str
    """What is measured: class:tabby, layer3:17, layer3:17@12,8, depth@120,80 (densevision visualize probes)."""
    out: Path
    """Picture to write (.png); the raw array lies beside it (.npy)."""

    def opened(self) -> Opened:
        """Network, pictures and probe.

        Raises:
            UserError: any of them cannot be had, or `out` is no .png.
        """
        from .drawing import checked_out
        from .probes import parse_probe

        checked_out(self.out)
        subject = self.subject()
        probe = parse_probe(self.probe, subject)
        return Opened(subject, subject.shown(*self.image), probe)

    def write(self, picture: np.ndarray, array: Any) -> None:
        """The picture and the array, and their names on stdout."""
        from .drawing import write_both

        print(f"Wrote {' and '.join(map(str, write_both(self.out, picture, array)))}.")
