"""Inputs of `densevision predict`: images, folders and videos, grouped into inference requests.

A model that takes N images at a time (one for depth, two for flow) gets every N single images, and the frames 1 to N,
2 to N + 1, ... of a folder or a video. The output is named after the first image of the group. For one that takes
complete sequences, all single images, each folder and each video is one request.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..datasets.core.files import IMAGE_SUFFIXES, natural_key, walk
from ..datasets.core.problems import Problem
from ..datasets.formats.video import VIDEO_SUFFIXES, read_video
from ..errors import UserError
from ..limits import LimitExceeded, check_bytes

MAX_LISTED = 20
"""Number of files that are listed for each reason to leave files out."""

LeftOut = dict[str, list[str]]
"""Reason to leave files of a folder out, to the files."""

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

    def groups(self, needed: int | None, names: Sequence[str] = ()) -> Iterator[Group]:
        """Group the images for a model; a video is one group.

        Args:
            needed: number of images that the model takes at a time; None: all.
            names: their names, in order, if they have one each.

        Raises:
            UserError: the number of images does not fit the model.
        """
        count = len(self.files)
        if needed is None:
            folder = self.files[0].parent.absolute() if self.kind == "frames" else Path(self.files[0].stem)
            yield self.files, self.output_dir.parent / folder.name
            return
        if self.kind == "loose" and count % needed:
            listed = f" ({', '.join(names)})" if len(names) == needed else ""
            raise UserError(
                f"The task takes {needed} images at a time{listed}, but {count} were named; name a multiple of"
                f" {needed}, a folder of frames or a video."
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
        images: returns the images, as `ImageFile` or (H, W, 3) uint8 frames, or a seed; raises UserError where a video
            breaks off.
        name: description of the images, for the log.
        stem: output path relative to the output folder, without suffix.
        files: input files: the images themselves, or the video; none for a seed.
    """

    images: Callable[[], Sequence[Any]]
    name: str
    stem: Path
    files: tuple[Path, ...]


def collect_inputs(inputs: Sequence[Path], out: Path, left_out: LeftOut | None = None) -> list[Source]:
    """Collect the named files and the images in the named folders; each subfolder is a source of its own.

    Links to files and folders are followed. Results of earlier runs in an output folder inside an input folder are
    excluded. Videos inside a folder are left out: only named ones are inputs.

    Args:
        inputs: images, folders of images, videos; or patterns of them that the shell did not expand ("photos/*.jpg";
            ** matches folders of any depth).
        out: output folder.
        left_out: receives the other files of the folders: hidden ones, other suffixes, broken links.

    Raises:
        UserError: no input, a missing file, a pattern without a match, or a folder without images.
    """
    if not inputs:
        raise UserError("There is no input; name images, folders of images or videos after the checkpoint.")
    loose: list[Path] = []
    sources: list[Source] = []
    left_out = {} if left_out is None else left_out
    for path in itertools.chain.from_iterable(map(_expand, inputs)):
        video = path.suffix.lower() in VIDEO_SUFFIXES
        # Unlike the methods of Path, these raise no error for a name that is too long or a folder without permission.
        if os.path.isdir(path):
            sources += _sequences_in(path, out, left_out)
        elif not os.path.isfile(path):
            raise UserError(f"There is no {'video' if video else 'image or folder'} '{path}'.")
        elif video:
            sources.append(Source("video", (path,)))
        else:
            loose.append(path)
    return [Source("loose", tuple(loose)), *sources] if loose else sources


def _expand(path: Path) -> list[Path]:
    """The files that match a pattern, frame2 before frame10; an existing path, or one without wildcards, unchanged."""
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=natural_key)
    if not matches:
        raise UserError(f"No file matches the pattern '{path}'.")
    return matches


def _sequences_in(folder: Path, out: Path, left_out: LeftOut) -> list[Source]:
    """The images of a folder, and those of each of its subfolders; see `collect_inputs`."""
    out_root = out.resolve()
    if folder.resolve() == out_root:
        raise UserError(f"--out is '{out}', the folder of the input images; give another folder.")
    sources: list[Source] = []
    problems: list[Problem] = []
    hidden: list[str] = []
    omitted: LeftOut = {}
    for prefix, names in walk(folder, problems, hidden):
        resolved = (folder / prefix).resolve()
        if out_root in (resolved, *resolved.parents):
            continue
        images = []
        for file in (folder / prefix / name for name in names):
            reason = _reason_to_leave_out(file)
            if reason is None:
                images.append(file)
            else:
                omitted.setdefault(reason, []).append(str(file))
        if images:
            sources.append(Source("frames", tuple(sorted(images, key=natural_key)), Path(prefix)))
    for problem in problems:
        omitted.setdefault(problem.found, []).append(problem.file)
    if hidden:
        omitted["hidden"] = [str(folder / name) for name in hidden]
    if not sources:
        found = f"; left out: {'; '.join(describe_left_out(omitted))}" if omitted else ""
        raise UserError(f"The folder '{folder}' contains no image ({', '.join(IMAGE_SUFFIXES)}){found}.")
    for reason, files in omitted.items():
        left_out.setdefault(reason, []).extend(files)
    return sorted(sources, key=lambda source: natural_key(source.output_dir / source.files[0].name))


def _reason_to_leave_out(file: Path) -> str | None:
    """Why a file of a folder is not an input; None for an image, readable or not."""
    suffix = file.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "a video; give its own path to predict it"
    if suffix in IMAGE_SUFFIXES:
        # A broken link is an input: its neighbors in a sequence of frames are not consecutive.
        return "not a regular file" if os.path.exists(file) and not os.path.isfile(file) else None
    if not os.path.exists(file):
        return "a broken link"
    return f"the suffix {suffix} is not that of an image" if suffix else "no suffix"


def describe_left_out(left_out: LeftOut) -> list[str]:
    """One line per reason: the files, at most `MAX_LISTED`, and the reason."""
    lines = []
    for reason, files in left_out.items():
        more = f" and {len(files) - MAX_LISTED} more" if len(files) > MAX_LISTED else ""
        lines.append(f"{', '.join(files[:MAX_LISTED])}{more} ({reason})")
    return lines


def iter_requests(
    sources: Sequence[Source], needed: int | None, names: Sequence[str] = (), last: int | None = None
) -> Iterator[InferenceRequest]:
    """Iterate over the inference requests of the sources, in order; videos are read frame by frame.

    Several requests may have the same stem; see `Manifest.with_own_outputs`. `last` is the number of frames of a
    complete folder or video that are used, its last ones (None: all). The other arguments are those of
    `Source.groups`.

    Raises:
        UserError: at the call: the number of images does not fit the model.
    """
    groups = [group for source in sources for group in source.groups(needed, names)]
    return (request for files, stem in groups for request in _requests(files, stem, needed, last))


def sampling_request(seed: int) -> InferenceRequest:
    """The request of a model that samples from noise: no file, only a seed."""
    return InferenceRequest(lambda: (seed,), f"seed {seed}", Path(f"seed-{seed}"), ())


def scene_request(view: Any) -> InferenceRequest:
    """The request for a view of a scene, see `InferencePolicy.requested_views`."""
    return InferenceRequest(lambda: (view,), view.stem.as_posix(), view.stem, view.files)


def _requests(files: tuple[Path, ...], stem: Path, length: int | None, last: int | None) -> Iterator[InferenceRequest]:
    if files[0].suffix.lower() in VIDEO_SUFFIXES:
        if length is not None:
            return _video_requests(files[0], stem, length)
        frames = cache(lambda: _all_frames(files[0], last))
        return iter([InferenceRequest(frames, str(files[0]), stem, files)])
    from ..tasks.image_io import ImageFile

    # One object per file, so that the file is opened once for its size and its pixels.
    images = tuple(map(ImageFile, files if length is not None or last is None else files[-last:]))
    name = " ".join(map(str, files)) if length is not None else f"{files[0]} ... {files[-1]}"
    return iter([InferenceRequest(lambda: images, name, stem, files)])


def _all_frames(path: Path, last: int | None) -> list[Any]:
    """The frames of a video that is one input, or its last ones, in memory."""
    frames: deque[Any] = deque(maxlen=last)
    for frame in read_video(path):
        frames.append(frame.pixels)
        try:
            check_bytes(len(frames) * frame.pixels.nbytes)
        except LimitExceeded as error:
            raise UserError(f"The video '{path}' is too long for one input: its frames take {error}.") from None
    return list(frames)


def _video_requests(path: Path, stem: Path, length: int) -> Iterator[InferenceRequest]:
    """The requests of a video; for one that breaks off, the last request raises the error."""
    number = 0
    try:
        for number, window in enumerate(sliding_window((frame.pixels for frame in read_video(path)), length), 1):
            output = stem.with_name(_frame_name(stem, number))
            yield InferenceRequest(lambda window=window: window, f"{path} frame {number}", output, (path,))
        if number == 0:
            raise UserError(f"The video '{path}' has fewer than {length} frames.")
    except UserError as error:
        yield InferenceRequest(_raises(error), str(path), stem.with_name(_frame_name(stem, number + 1)), (path,))


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
