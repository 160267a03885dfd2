"""A camera, through OpenCV."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError

if TYPE_CHECKING:
    import numpy as np

DEVICES = Path("/dev")


class Camera:
    """A camera of this machine. Opening it may block, which is why it is opened where its frames are read.

    Attributes:
        name, number: which.
        width: pixels across that it is asked for; cameras give the nearest that they have.
    """

    def __init__(self, number: int, width: int, opened: Callable[[int], Any] | None = None) -> None:
        """Args are the attributes; `opened` gives a cv2.VideoCapture, or something that behaves like one.

        Raises:
            UserError: there is no such camera, as far as this can be known without opening it.
        """
        self.name, self.number, self.width = f"camera {number}", number, width
        self._opened = opened or device
        if opened is None and sys.platform == "linux" and not (DEVICES / f"video{number}").exists():
            found = sorted(int(at[1]) for one in DEVICES.glob("video*") if (at := re.search(r"(\d+)$", one.name)))
            there = f"there are {', '.join(map(str, found))}" if found else "none is connected"
            raise UserError(f"There is no camera {number} ({there}); name another with --camera, or take --video FILE.")

    def frames(self) -> Iterator[np.ndarray]:
        """What it sees, until it is closed."""
        import cv2

        camera = self._opened(self.number)
        try:
            if not camera.isOpened():
                raise UserError(
                    f"Camera {self.number} cannot be opened: another program may be using it, or you may not."
                )
            camera.set(cv2.CAP_PROP_FRAME_WIDTH, self.width)
            camera.set(cv2.CAP_PROP_FRAME_HEIGHT, self.width * 3 // 4)
            # A driver that keeps frames for later hands them out late.
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            number = 0
            while True:
                there, pixels = camera.read()
                if not there or pixels is None:
                    raise UserError(
                        f"Camera {self.number} stopped after frame {number}: was it unplugged?"
                        if number
                        else f"Camera {self.number} gives no picture: another program may be using it."
                    )
                number += 1
                yield pixels[..., ::-1] if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=2)
        finally:
            camera.release()


def device(number: int) -> Any:
    """OpenCV's camera of a number, opened without its warnings: what matters of them becomes a sentence."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(number, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
