"""What all methods are told that paint in many steps."""

# Annotations are not postponed here: cyclopts reads those of a base in the file of whoever inherits.
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Painting:
    """How chance and precision enter; the methods add their own."""

    seed: int = 0
    """Of the noise at the start and of the movements; default: 0."""
    amp: Literal["auto", "bf16", "off"] = "off"
    """bf16 for the network: where the hardware does it, anyway, or not at all; default: off."""
