"""Request handlers: a visualization, a summary, and the files that `densevision predict` would write."""

from __future__ import annotations

import ctypes
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...datasets.formats.rgb import image_to_rgb
from ...errors import UserError
from ..live.capture import downscale
from .checkpoints import INFERENCE_LOCK, CheckpointEntry
from .uploads import FRAME_PIXELS, Limits, decode_image

if TYPE_CHECKING:
    from ...tasks.prediction import Prediction

MAX_DISPLAY_SIDE = 1600
"""Maximum length of the longer side of a displayed image in pixels; the files have the full resolution."""

STEM = "prediction"
"""Stem of the file names; paths never contain anything that a client sends."""


@dataclass(frozen=True)
class Response:
    """Response to a request.

    Attributes:
        text: summary of the result, or the error message.
        image: (H, W, 3) uint8 RGB; None after an error.
        files: files to download, in a folder of this response.
    """

    text: str
    image: np.ndarray | None = None
    files: list[Path] = field(default_factory=list)


@contextmanager
def response_dir(root: Path) -> Iterator[Path]:
    """Create a folder with an unguessable name for the files of one response; it is removed after an exception."""
    folder = root / secrets.token_urlsafe(18)
    root.mkdir(exist_ok=True)  # but not its parents, which are gone when the server has been stopped
    folder.mkdir()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def handle_images(entry: CheckpointEntry, uploads: Sequence[Path | None], limits: Limits, root: Path) -> Response:
    """Predict uploaded images, one file per input of the model, into a new folder in `root`; None is a missing image.

    Raises:
        UserError: an image is missing, was rejected or does not fit the model.
    """
    with INFERENCE_LOCK:  # the images of waiting requests are not decoded yet: they would fill the memory
        images, remarks = validate_uploads(entry, uploads, limits)
        prediction = entry.predictor().predict(*images)
    with response_dir(root) as folder:
        files = prediction.save(folder, STEM)
    return Response(
        " ".join([describe(prediction), *remarks]), downscale(prediction.to_image(), MAX_DISPLAY_SIDE), files
    )


def validate_uploads(
    entry: CheckpointEntry, uploads: Sequence[Path | None], limits: Limits
) -> tuple[list[Any], list[str]]:
    """Decode uploaded images; returns one image per input of the model, and remarks for the user.

    Raises:
        UserError: an image is missing or was rejected; the message names the input if there are several.
    """
    field_types = entry.inputs
    images, remarks = [], []
    for (name, field_type), file in zip(field_types.items(), uploads, strict=False):
        prefix = f"{name.capitalize()}: " if len(field_types) > 1 else ""
        if file is None:
            raise UserError(f"{prefix}No image yet; choose one, or an example.")
        try:
            decoded = decode_image(file, field_type, limits)
        except UserError as error:
            raise UserError(f"{prefix}{error}") from None
        images.append(decoded.image)
        remarks += [f"{prefix}{remark}" for remark in decoded.remarks]
    return images, remarks


def describe(prediction: Prediction) -> str:
    """Summary of a prediction as a sentence, with its unit."""
    summary = prediction.summary()
    unit = "" if prediction.unit in summary else f" (unit: {prediction.unit})"
    return f"{summary[0].upper()}{summary[1:]}{unit}."


def handle_frame(
    entry: CheckpointEntry, frame: bytes, previous: tuple[np.ndarray, ...], limits: Limits
) -> tuple[Response, tuple[np.ndarray, ...]]:
    """Predict the newest image of a client's camera, together with earlier ones if the model takes several.

    Returns:
        The response, and the images, (H, W, 3) uint8, to pass to the next call as `previous`.

    Raises:
        UserError: the frame is not an image, or the model does not take camera images.
    """
    if not entry.accepts_camera:
        raise UserError(f"{entry.name} takes label maps or depth, which a camera does not provide.")
    started = time.perf_counter()
    field_types = entry.inputs
    limits = replace(limits, pixels=min(limits.pixels, FRAME_PIXELS))
    image = image_to_rgb(decode_image(frame, next(iter(field_types.values())), limits).image)
    # After a change of size (a camera that was turned), the sequence starts again.
    needed = len(field_types) - 1
    earlier = tuple(one for one in previous if one.shape == image.shape)[-needed:] if needed else ()
    images = (*earlier, image)
    if len(images) < len(field_types):
        return Response(f"Waiting for {len(field_types) - len(images)} more image(s) of the camera."), images
    with INFERENCE_LOCK:
        prediction = entry.predictor().predict(*images)
    visualization = prediction.to_image()
    milliseconds = 1000 * (time.perf_counter() - started)
    return Response(f"{describe(prediction)} {milliseconds:.0f} ms.", visualization), images[1:]


def trim_memory() -> None:
    """Return freed memory to the system: glibc would keep it in an arena per thread."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def safe_call(handler: Callable[[], Response], log_error: Callable[[], None]) -> Response:
    """Call a handler; every exception becomes a response with an error message.

    `log_error` is called in the exception handler of errors other than UserError and MemoryError.
    """
    try:
        return handler()
    except UserError as error:
        return Response(" ".join(str(error).split()))
    except MemoryError:
        return Response("The server has not enough memory for this image; upload a smaller copy.")
    except Exception:  # a bug: a message for the client, the traceback for the server's log
        log_error()
        return Response("Internal error, not caused by the image; see the server's log.")
