"""Gradio image components for uploads, the camera and live predictions.

Gradio's own component would decode uploads before they are validated, fetch linked images, and store a file for every
frame of a live prediction.
"""

from __future__ import annotations

import base64
from abc import ABCMeta
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
from gradio.data_classes import ImageData

NOT_UPLOADED = "Images must be uploaded, not linked."
QUALITY = 85


class _Plain(type(gr.Image)):
    """Metaclass that does not write a stub file next to each component class, as Gradio's does."""

    def __new__(mcs, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
        return ABCMeta.__new__(mcs, name, bases, attributes)


class _Image(gr.Image, metaclass=_Plain):
    """Base class, which looks like Gradio's component to browsers and clients."""

    def get_block_name(self) -> str:
        return "image"

    def get_block_class(self) -> str:
        return "image"

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Like Gradio's method, but for files only: the server must not fetch URLs.

        Raises:
            gr.Error: a URL.
        """
        if url_or_file_path is not None and "://" in str(url_or_file_path):
            raise gr.Error(NOT_UPLOADED, print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)


class Upload(_Image):
    """An uploaded image, as its unchanged file."""

    def preprocess(self, payload: ImageData | None) -> Any:
        """Path of the uploaded file; None without one.

        Raises:
            gr.Error: a path that was not uploaded.
        """
        if payload is None:
            return None
        cache, path = Path(self.GRADIO_CACHE).resolve(), Path(payload.path or "").resolve()
        if not payload.path or cache not in path.parents or not path.is_file():
            raise gr.Error(NOT_UPLOADED, print_exception=False)
        return path


class Camera(_Image):
    """The newest image of the client's camera, as the "data:" URL that browsers send."""

    def preprocess(self, payload: ImageData | None) -> Any:
        """The URL; None without an image."""
        return None if payload is None else payload.url or ""


class VideoFrame(_Image):
    """An image that changes many times a second: it is sent in the response itself, without a file."""

    def postprocess(self, value: Any) -> ImageData | None:
        """Encode an image (H, W, 3) uint8 RGB as a JPEG in a "data:" URL."""
        if value is None:
            return None
        jpeg = cv2.imencode(".jpg", np.ascontiguousarray(value[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        return ImageData(url="data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode())
