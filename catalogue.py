"""A catalogue is a plain dict from a name to "module:attribute": explicit, greppable, imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from .errors import unknown_name


def look_up(what: str, name: str, catalogue: Mapping[str, str]) -> Any:
    """The attribute that a catalogue's line names.

    Args:
        what: what the catalogue holds, for the sentence of the error ("backbone").
        name: the key.
        catalogue: name to "package.module:attribute", relative to this package ("backbones.vgg:vgg16").

    Raises:
        UserError: the name is not in the catalogue; the nearest one is offered.
    """
    if name not in catalogue:
        raise unknown_name(what, name, catalogue)
    module, attribute = catalogue[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)
