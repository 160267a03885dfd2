"""Predictions without a network: the last frame again, and the flow between the last two frames continued."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...datasets.field_types import Image


def copy_last(given: Sequence[np.ndarray], frames: int) -> np.ndarray:
    """The last of the given frames, `frames` times: (T, H, W, 3) uint8."""
    return np.repeat(Image().colorize(given[-1])[None], frames, axis=0)


def continue_flow(given: Sequence[np.ndarray], frames: int) -> np.ndarray:
    """The last of two or more given frames, moved on by its flow from the one before: (T, H, W, 3) uint8.

    The flow is DIS from the last frame back to the one before it: what was at x + f(x) came to x, and goes on by -f.
    Frame k is the last frame at x + k f(x), with f at x itself, which is right where neighbors move alike.
    """
    before, last = (Image().colorize(frame) for frame in given[-2:])
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (last, before)]
    flow = method.calc(gray[0], gray[1], None)  # type: ignore[call-overload]
    rows, columns = np.mgrid[: last.shape[0], : last.shape[1]].astype(np.float32)
    moved = [
        cv2.remap(
            last, columns + step * flow[..., 0], rows + step * flow[..., 1], cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for step in range(1, frames + 1)
    ]  # fmt: skip
    return np.stack(moved)
