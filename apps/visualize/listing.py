"""`densevision visualize probes`: everything that can be asked of a network."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from .asked import Network


def show_probes(asked: Annotated[Network, Parameter(name="*")]) -> None:
    """List what may be given as --probe, a line each; X, Y, WIDTH, HEIGHT and CHANNEL stand for numbers."""
    from .probes import probes_of

    print("\n".join(probes_of(asked.subject())))
