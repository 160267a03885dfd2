"""Where somebody is in a whole picture: torchvision's detector, where its weights are at hand.

Ren, He, Girshick, Sun: Faster R-CNN. NIPS 2015, arXiv:1506.01497, on MobileNetV3 (Howard et al. 2019, arXiv:1905.02244)
with feature pyramids, as torchvision trained it on COCO; 19,386,354 parameters. Its weights are looked for where torch
hub keeps what was fetched; nothing is fetched here. It runs on the CPU.
"""

from __future__ import annotations

import math
import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.geometry import Rectangle
from ...errors import UserError

WEIGHTS = "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth"
"""The file of torchvision's weights, by which torch hub knows it."""
PERSON = 1
"""The category in COCO."""
SURE = 0.7
"""From this score on somebody counts as found."""


def find_person(picture: np.ndarray) -> tuple[Rectangle | None, str]:
    """The box of the largest person, and in a few words how it was found; None for everything, and why.

    Args:
        picture: (H, W, 3) or (H, W, 1) uint8.

    Returns:
        x, y, width and height in whole pixels, within the picture; and the words.

    Raises:
        UserError: the file of weights is damaged.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if not file.is_file():
        return None, "not searched: no weights of a detector"
    people = people_in(picture, detector(file))
    if not people:
        return None, "nobody found"
    found = "the person found" if len(people) == 1 else f"the largest of {len(people)} persons found"
    return max(people, key=lambda box: box[2] * box[3]), found


@lru_cache(maxsize=1)
def detector(file: Path) -> nn.Module:
    """The network in evaluation mode, with the weights of a file.

    Raises:
        UserError: the file is damaged.
    """
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, EOFError, LookupError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} does not hold the weights of torchvision's detector: fetch it again.") from error
    return model.eval()


@torch.inference_mode()
def people_in(picture: np.ndarray, model: nn.Module) -> list[Rectangle]:
    """The boxes of everybody whom a detector is sure of, in whole pixels of the picture.

    Args:
        picture: (H, W, 3) or (H, W, 1) uint8.
        model: of a list of pictures, (3, H, W) in [0, 1], as torchvision has it.
    """
    shown = torch.from_numpy(picture.astype(np.float32) / 255).movedim(-1, 0).expand(3, -1, -1)
    (found,) = model([shown])
    counted = (found["labels"] == PERSON) & (found["scores"] >= SURE)
    boxes: Tensor = found["boxes"][counted]
    return [_whole_pixels(*corners, *picture.shape[:2]) for corners in boxes.tolist()]


def _whole_pixels(left: float, top: float, right: float, bottom: float, height: int, width: int) -> Rectangle:
    """The pixels that a box of torchvision's, whose places count from the picture's edge, touches; one at least."""
    x, y = min(max(math.floor(left), 0), width - 1), min(max(math.floor(top), 0), height - 1)
    return x, y, max(min(math.ceil(right), width) - x, 1), max(min(math.ceil(bottom), height) - y, 1)
