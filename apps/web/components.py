"""gradio's picture, taken and shown in other ways than its own: it would decode what visitors send before we judge it,
fetch what they link to, and keep a file for every picture of a film.
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

REFUSED = "Pictures are uploaded here, not linked."
QUALITY = 85


class _Plain(type(gr.Image)):
    """gradio's own writes a stub beside the file of every class of a component, into the installed package."""

    def __new__(mcs, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
        return ABCMeta.__new__(mcs, name, bases, attributes)


class _Picture(gr.Image, metaclass=_Plain):
    """What browsers and clients take for gradio's own."""

    def get_block_name(self) -> str:
        return "image"

    def get_block_class(self) -> str:
        return "image"

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """As gradio's, for files alone: an address would be fetched by the server.

        Raises:
            gr.Error: it is an address.
        """
        if url_or_file_path is not None and "://" in str(url_or_file_path):
            raise gr.Error(REFUSED, print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)


class Upload(_Picture):
    """A picture that visitors send: its file, as it came."""

    def preprocess(self, payload: ImageData | None) -> Any:
        """The uploaded file; None where there is none.

        Raises:
            gr.Error: it names a file that nobody uploaded.
        """
        if payload is None:
            return None
        kept, path = Path(self.GRADIO_CACHE).resolve(), Path(payload.path or "").resolve()
        if not payload.path or kept not in path.parents or not path.is_file():
            raise gr.Error(REFUSED, print_exception=False)
        return path


class Camera(_Picture):
    """The camera of a visitor: its newest picture as a "data:" URL, which is what browsers send."""

    def preprocess(self, payload: ImageData | None) -> Any:
        """The URL; None where there is none."""
        return None if payload is None else payload.url or ""


class Film(_Picture):
    """A picture that changes many times a second: it travels within the answer, and no file is kept."""

    def postprocess(self, value: Any) -> ImageData | None:
        """(H, W, 3) uint8 as a JPEG in a "data:" URL."""
        if value is None:
            return None
        coded = cv2.imencode(".jpg", np.ascontiguousarray(value[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        return ImageData(url="data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode())
