"""MemorabilityScore: how memorable an image is, and the ranking of all inputs of a run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from ...atomic_io import write_json, write_text
from ...datasets.core.drawing import add_caption, fit_to_cell, image_grid, overlay_diverging
from ...datasets.field_types import Image
from ...datasets.formats.arrays import write_npy
from ...datasets.formats.image import read_image, write_image
from ..prediction import Prediction

RANKING, SHEET = "ranking.csv", "ranking.png"
CELL = (180, 240)
BAR_HEIGHT = 10
BAR, GROUND_TRUTH, EMPTY = (66, 120, 190), (60, 160, 60), (225, 225, 225)
COLUMNS = 5
MAX_SHEET = 100
"""Maximum number of inputs on the sheet; of more, the first and the last of the ranking."""


@dataclass(frozen=True, repr=False)
class MemorabilityScore(Prediction):
    """Share of players who recognize an image when it is repeated, less false alarms.

    Attributes:
        value: in [0, 1].
        image: (H, W, C) input, for the visualization.
        map: (H, W) float32, the score at every position of the image, of which `value` is the mean; not clipped. None
            without dense evaluation.
    """

    value: float
    image: np.ndarray
    map: np.ndarray | None = None
    unit: ClassVar[str] = "memorability score, 0 to 1"

    def numpy(self) -> np.ndarray:
        """The map, (H, W), or without one the score, ()."""
        return np.asarray(self.value, np.float32) if self.map is None else self.map

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """(190, 240, 3) uint8: the input above a bar as long as the score; the score of `reference` is a green mark.

        Of a map, red regions of the input have a higher score than the image, blue regions a lower one.
        """
        bar = np.full((BAR_HEIGHT, CELL[1], 3), EMPTY, np.uint8)
        bar[:, : round(self.value * CELL[1])] = BAR
        if isinstance(reference, MemorabilityScore):
            column = min(round(reference.value * CELL[1]), CELL[1] - 2)
            cv2.rectangle(bar, (column - 1, 0), (column + 1, BAR_HEIGHT), GROUND_TRUTH, -1)
        image = Image().colorize(self.image)
        if self.map is not None:
            image = overlay_diverging(image, self.map - self.map.mean())
        return np.concatenate([fit_to_cell(image, CELL), bar])

    def summary(self) -> str:
        return f"memorability {self.value:.3f} of 1"

    def record(self) -> dict[str, Any]:
        """The score."""
        return {"score": round(self.value, 6)}

    def _repr_parts(self) -> tuple[str, ...]:
        return f"{self.value:.3f}", self.unit

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_memorability.json ({"score": value, "unit": unit}) and STEM_memorability.png; of a map also
        STEM_memorability.npy, its scores."""
        folder = Path(folder)
        json_file, image_file = _files(folder, stem)
        write_json(json_file, {"score": round(self.value, 6), "unit": self.unit}, indent=2)
        write_image(image_file, self.to_image())
        if self.map is None:
            return [json_file, image_file]
        array = json_file.with_suffix(".npy")
        write_npy(array, self.map)
        return [json_file, image_file, array]


def write_ranking(out: Path, stems: Sequence[str]) -> Path:
    """Rank the inputs of a run from their files, in OUT/ranking.csv and as images in OUT/ranking.png.

    Args:
        out: folder of the files.
        stems: as passed to `MemorabilityScore.save`.

    Returns:
        ranking.csv: rank (1 is the most memorable; equal scores have equal ranks), name and score of every input.
    """
    scores = {stem: json.loads(_files(out, stem)[0].read_text("utf-8"))["score"] for stem in stems}
    ordered = sorted(scores, key=lambda stem: (-scores[stem], stem))
    ranks = {score: rank for rank, score in reversed(list(enumerate((scores[stem] for stem in ordered), 1)))}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rank", "name", "score"))
    writer.writerows((ranks[scores[stem]], stem, f"{scores[stem]:.6f}") for stem in ordered)
    write_text(out / RANKING, text.getvalue())
    if len(ordered) > MAX_SHEET:
        ordered = ordered[: MAX_SHEET // 2] + ordered[-MAX_SHEET // 2 :]
    cells = [
        add_caption(read_image(_files(out, stem)[1]), f"{ranks[scores[stem]]}: {scores[stem]:.3f} {stem}")
        for stem in ordered
    ]
    if cells:
        write_image(out / SHEET, image_grid(cells, COLUMNS))
    return out / RANKING


def _files(folder: Path, stem: str) -> tuple[Path, Path]:
    return folder / f"{stem}_memorability.json", folder / f"{stem}_memorability.png"
