"""The answer of a classifier: every class with its probability."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ...datasets.formats.picture import write_picture
from ...writing import write_text
from ..task import Prediction

SHOWN = 5
ROW, WIDTH = 36, 300
BAR = (176, 204, 232)
RIGHT = (160, 214, 160)


@dataclass(frozen=True)
class Ranking(Prediction):
    """The classes of a picture.

    Attributes:
        names: of the classes.
        probabilities: (classes,), which add up to 1.
    """

    names: tuple[str, ...]
    probabilities: np.ndarray
    unit: ClassVar[str] = "probability"

    @property
    def name(self) -> str:
        """The most probable class."""
        return self.names[int(np.argmax(self.probabilities))]

    def top(self, count: int = SHOWN) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, best first; none of probability 0."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        best = [(self.names[place], float(self.probabilities[place])) for place in order]
        return [(name, share) for name, share in best if share > 0]

    def brief(self) -> str:
        """The three most probable names."""
        return ", ".join(f"{name} {share:.3f}" for name, share in self.top(3))

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """(180, 300, 3) uint8: the five most probable names over bars; the true one's bar is green, given a truth."""
        right = like.name if isinstance(like, Ranking) else None
        page = np.full((ROW * SHOWN, WIDTH, 3), 255, np.uint8)
        for row, (name, share) in enumerate(self.top()):
            top = row * ROW
            colour = RIGHT if name == right else BAR
            cv2.rectangle(page, (0, top + 4), (round(share * WIDTH), top + ROW - 4), colour, -1)
            text = f"{name[:26]} {share:.2f}"
            cv2.putText(page, text, (6, top + 23), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
        return page

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_classes.json ({"name": probability}, best five first) and STEM_classes.png."""
        folder = Path(folder)
        listed, drawn = folder / f"{stem}_classes.json", folder / f"{stem}_classes.png"
        write_text(listed, json.dumps({name: round(share, 6) for name, share in self.top()}, indent=2) + "\n")
        write_picture(drawn, self.picture())
        return [listed, drawn]
