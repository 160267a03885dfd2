"""What a method of visualization returns: the raw values, an image of them, and what there is to say about them.

Like the methods' modules, this imports nothing heavy until it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with the number of steps or images done and in total, and numbers by name, such as the score."""


@dataclass(frozen=True, eq=False)
class Visualization:
    """Result of a method. Jupyter shows its image.

    Attributes:
        array: the raw values; the method states shape and unit.
        image: the values as an image, (H, W, 3) uint8 RGB.
        notes: what is remarkable about the result, one sentence each.
    """

    array: np.ndarray
    image: np.ndarray
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> list[Path]:
        """Write the image to a .png file, and the raw values to the same name with .npy; returns both paths.

        Raises:
            UserError: not a .png file.
        """
        from .images import write_image_and_array

        return write_image_and_array(Path(path), self.image, self.array)

    def _repr_png_(self) -> bytes:
        import cv2

        from .images import enlarge

        return cv2.imencode(".png", enlarge(self.image)[..., ::-1])[1].tobytes()
