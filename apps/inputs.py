"""Inputs of `densevision predict`: images, folders and videos, grouped into inference requests.

A task that takes N images at a time (one for depth, two for flow) gets every N single images, and the frames 1 to N,
2 to N + 1, ... of a folder or a video. The output is named after the first image of the group.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UserError

if TYPE_CHECKING:
    import numpy as np

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")

Group = tuple[tuple[Path, ...], Path]
"""Images of one request, or one video; and the output stem."""


@dataclass(frozen=True)
class Source:
    """Input files that are grouped together.

    Attributes:
        kind: single images, the ordered frames of one folder, or one video.
        files: the images, or the video.
        output_dir: folder of the results, relative to the output folder.
    """

    kind: Literal["loose", "frames", "video"]
    files: tuple[Path, ...]
    output_dir: Path = Path()

    def groups(self, names: Sequence[str]) -> Iterator[Group]:
        """Group the images for a task; a video is one group.

        Args:
            names: names of the images that the task takes at a time, in order.

        Raises:
            UserError: the number of images does not fit the task.
        """
        count, needed = len(self.files), len(names)
        if self.kind == "loose" and count % needed:
            raise UserError(
                f"The task takes {needed} images at a time ({', '.join(names)}), but {count} were named; name a"
                f" multiple of {needed}, a folder of frames or a video."
            )
        if self.kind == "frames" and count < needed:
            folder = self.files[0].parent
            raise UserError(f"The folder '{folder}' contains {count} image(s), but the task takes {needed} at a time.")
        length, step = {"loose": (needed, needed), "frames": (needed, 1), "video": (1, 1)}[self.kind]
        for start in range(0, count - length + 1, step):
            files = self.files[start : start + length]
            yield files, self.output_dir / files[0].stem


@dataclass(frozen=True)
class InferenceRequest:
    """One group of images to predict.

    Attributes:
        images: returns the images, as paths or (H, W, 3) uint8 frames; raises UserError where a video breaks off.
        name: description of the images, for the log.
        stem: output path relative to the output folder, without suffix.
        files: input files: the images themselves, or the video.
    """

    images: Callable[[], Sequence[Any]]
    name: str
    stem: Path
    files: tuple[Path, ...] = ()


def collect_inputs(inputs: Sequence[Path], out: Path) -> list[Source]:
    """Collect the named files and the images in the named folders; each subfolder is a source of its own.

    Results of earlier runs in an output folder inside an input folder are excluded. Videos inside a folder are ignored:
    only named ones are inputs.

    Args:
        inputs: images, folders of images, videos; or patterns of them that the shell did not expand ("photos/*.jpg";
            ** matches folders of any depth).
        out: output folder.

    Raises:
        UserError: no input, a missing file, a pattern without a match, or a folder without images.
    """
    if not inputs:
        raise UserError("There is no input; name images, folders of images or videos after the checkpoint.")
    loose: list[Path] = []
    sources: list[Source] = []
    for path in itertools.chain.from_iterable(map(_expand, inputs)):
        video = path.suffix.lower() in VIDEO_SUFFIXES
        if path.is_dir():
            sources += _sequences_in(path, out)
        elif not path.exists():
            raise UserError(f"There is no {'video' if video else 'image or folder'} '{path}'.")
        elif video:
            sources.append(Source("video", (path,)))
        else:
            loose.append(path)
    return [Source("loose", tuple(loose)), *sources] if loose else sources


def _expand(path: Path) -> list[Path]:
    """The files that match a pattern, frame2 before frame10; an existing path, or one without wildcards, unchanged."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=natural_key)
    if not matches:
        raise UserError(f"No file matches the pattern '{path}'.")
    return matches


def _sequences_in(folder: Path, out: Path) -> list[Source]:
    """The images of a folder, and those of each of its subfolders."""
    from ..tasks.image_io import IMAGE_SUFFIXES

    root, out_root = folder.resolve(), out.resolve()
    if root == out_root:
        raise UserError(f"--out is '{out}', the folder of the input images; give another folder.")
    images = [
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES
        and file.is_file()
        and out_root not in (root / file.relative_to(folder)).parents
    ]
    if not images:
        raise UserError(f"The folder '{folder}' contains no image ({', '.join(IMAGE_SUFFIXES)}).")
    sequences: dict[Path, list[Path]] = {}
    for file in sorted(images, key=natural_key):
        sequences.setdefault(file.parent, []).append(folder / file)
    return [Source("frames", tuple(files), output_dir) for output_dir, files in sequences.items()]


def natural_key(file: Path) -> tuple[Any, ...]:
    """Sort key for natural order, folder by folder: frame2 before frame10."""
    # re.split with a group alternates text and digits, so only values of the same type are compared.
    *folders, stem = (
        [int(word) if index % 2 else word for index, word in enumerate(re.split(r"([0-9]+)", part))]
        for part in (*file.parent.parts, file.stem)
    )
    return folders, stem, file.name


def iter_requests(sources: Sequence[Source], names: Sequence[str]) -> Iterator[InferenceRequest]:
    """Iterate over the inference requests of the sources, in order; videos are read frame by frame.

    Where two outputs would have the same stem, the suffix of the input becomes part of it.

    Args:
        sources: see `collect_inputs`.
        names: names of the images that the task takes at a time, in order.

    Raises:
        UserError: at the call: the number of images does not fit the task, or two outputs would have the same files.
    """
    groups = _with_unique_stems([group for source in sources for group in source.groups(names)])
    return (request for files, stem in groups for request in _requests(files, stem, len(names)))


def _with_unique_stems(groups: list[Group]) -> list[Group]:
    count = Counter(stem for _, stem in groups)
    renamed = [
        (paths, stem if count[stem] == 1 else stem.with_name(paths[0].name.replace(".", "_"))) for paths, stem in groups
    ]
    owners: dict[Path, Path] = {}
    for (path, *_), stem in renamed:
        if stem in owners:
            raise UserError(f"{owners[stem]} and {path} would be written to the same files; predict them one by one.")
        owners[stem] = path
    return renamed


def _requests(files: tuple[Path, ...], stem: Path, length: int) -> Iterator[InferenceRequest]:
    if files[0].suffix.lower() in VIDEO_SUFFIXES:
        return _video_requests(files[0], stem, length)
    return iter([InferenceRequest(lambda: files, " ".join(map(str, files)), stem, files)])


def _video_requests(path: Path, stem: Path, length: int) -> Iterator[InferenceRequest]:
    """The requests of a video; for one that breaks off, the last request raises the error."""
    number = 0
    try:
        for number, window in enumerate(sliding_window(read_frames(path), length), 1):
            output = stem.with_name(_frame_name(stem, number))
            yield InferenceRequest(lambda window=window: window, f"{path} frame {number}", output, (path,))
        if number == 0:
            raise UserError(f"The video '{path}' has fewer than {length} frames.")
    except UserError as error:
        yield InferenceRequest(_raises(error), str(path), stem.with_name(_frame_name(stem, number + 1)))


def _frame_name(stem: Path, number: int) -> str:
    return f"{stem.name}-{number:06d}"


def _raises(error: UserError) -> Callable[[], Sequence[Any]]:
    def images() -> Sequence[Any]:
        raise error

    return images


def sliding_window(frames: Iterable[Any], length: int) -> Iterator[tuple[Any, ...]]:
    """Every window of `length` consecutive frames; only those are kept in memory."""
    window: deque[Any] = deque(maxlen=length)
    for frame in frames:
        window.append(frame)
        if len(window) == length:
            yield tuple(window)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Frames of a video's first video stream, (H, W, 3) uint8 RGB, rotated upright by the file's metadata.

    Raises:
        UserError: not a video, no video stream, or a damaged one (after the readable frames).
    """
    import av
    import numpy as np
    from av.error import FFmpegError

    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"The video '{path}' has no video stream.")
            for frame in container.decode(video=0):
                pixels = frame.to_ndarray(format="rgb24")
                number += 1
                yield np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
    except (FFmpegError, OSError) as error:
        what = f"breaks off after frame {number}" if number else "cannot be read"
        raise UserError(f"The video '{path}' {what}: {error.strerror or error}.") from error
