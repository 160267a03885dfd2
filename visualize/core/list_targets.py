"""`densevision visualize list-targets`: the targets of a model."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from .options import ModelOptions


def show_targets(model_options: Annotated[ModelOptions, Parameter(name="*")]) -> None:
    """List the values that --target accepts, one a line; replace X, Y, WIDTH, HEIGHT and CHANNEL by numbers."""
    from .targets import list_targets

    print("\n".join(list_targets(model_options.open_model())))
