"""Person detection in complete images with torchvision's Faster R-CNN, if its weights are installed.

Ren, He, Girshick, Sun: Faster R-CNN. NIPS 2015, arXiv:1506.01497, on MobileNetV3 (Howard et al. 2019, arXiv:1905.02244)
with feature pyramids, as torchvision trained it on COCO; 19,386,354 parameters. The weights are read from torch hub's
cache; nothing is downloaded here. It runs on the CPU.
"""

from __future__ import annotations

import math
import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.core.geometry import Rectangle
from ...errors import UserError

WEIGHTS = "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth"
"""File name of torchvision's weights in torch hub's cache."""
PERSON = 1
"""COCO's category of persons."""
MIN_SCORE = 0.7
"""Minimum score of a detected person."""


def find_person(image: np.ndarray) -> tuple[Rectangle | None, str]:
    """The box of the largest person, and a note on how it was chosen.

    Args:
        image: (H, W, 3) or (H, W, 1) uint8.

    Returns:
        x, y, width and height in integer pixels, within the image, or None for the complete image; and the note.

    Raises:
        UserError: the weights file is damaged.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if not file.is_file():
        return None, "no person detection: detector weights are not installed"
    people = detect_people(image, load_detector(file))
    if not people:
        return None, "no person detected"
    note = "the detected person" if len(people) == 1 else f"the largest of {len(people)} detected persons"
    return max(people, key=lambda box: box[2] * box[3]), note


@lru_cache(maxsize=1)
def load_detector(file: Path) -> nn.Module:
    """The detector in evaluation mode, with the weights of a file.

    Raises:
        UserError: the file is damaged.
    """
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, EOFError, LookupError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} does not contain the weights of torchvision's detector: download it again.") from error
    return model.eval()


@torch.inference_mode()
def detect_people(image: np.ndarray, model: nn.Module) -> list[Rectangle]:
    """The boxes of all persons detected with at least `MIN_SCORE`, in integer pixels of the image.

    Args:
        image: (H, W, 3) or (H, W, 1) uint8.
        model: torchvision's interface: takes a list of images, (3, H, W) in [0, 1].
    """
    pixels = torch.from_numpy(image.astype(np.float32) / 255).movedim(-1, 0).expand(3, -1, -1)
    (detections,) = model([pixels])
    selected = (detections["labels"] == PERSON) & (detections["scores"] >= MIN_SCORE)
    boxes: Tensor = detections["boxes"][selected]
    return [_integer_box(*corners, *image.shape[:2]) for corners in boxes.tolist()]


def _integer_box(left: float, top: float, right: float, bottom: float, height: int, width: int) -> Rectangle:
    """The pixels that a box of torchvision (coordinates from the image's edge) touches, at least one."""
    x, y = min(max(math.floor(left), 0), width - 1), min(max(math.floor(top), 0), height - 1)
    return x, y, max(min(math.ceil(right), width) - x, 1), max(min(math.ceil(bottom), height) - y, 1)
