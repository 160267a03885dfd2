"""What is asked of a network: loose pictures in groups, and every run of consecutive frames of folders and videos.

A task that takes N pictures at a time (depth one, flow two) is asked about every N loose pictures, and about frames 1
to N, 2 to N + 1, ... of a folder or a video: one rule for all tasks. The answer is named after the group's first frame.
"""

from __future__ import annotations

import glob
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UserError

if TYPE_CHECKING:
    import numpy as np

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm")

Group = tuple[tuple[Path, ...], Path]
"""Pictures to be asked about together, or one video; and the stem of the answer."""


@dataclass(frozen=True)
class Source:
    """What belongs together.

    Attributes:
        kind: loose pictures, the frames of one folder in their order, or one video.
        files: the pictures, or the video.
        under: the folder of the answers, seen from the output folder.
    """

    kind: Literal["loose", "frames", "video"]
    files: tuple[Path, ...]
    under: Path = Path()

    def groups(self, together: Sequence[str]) -> Iterator[Group]:
        """The pictures as a task is asked about them; a video stays whole.

        Args:
            together: names of the pictures that the task takes at a time, in order.

        Raises:
            UserError: they make no whole group.
        """
        held, needed = len(self.files), len(together)
        if self.kind == "loose" and held % needed:
            raise UserError(
                f"The task takes {needed} pictures at a time ({', '.join(together)}), and {held} were named: name a"
                f" multiple of {needed}, a folder of frames or a video."
            )
        if self.kind == "frames" and held < needed:
            folder = self.files[0].parent
            raise UserError(f"The folder '{folder}' holds {held} picture(s), and the task takes {needed} at a time.")
        length, step = {"loose": (needed, needed), "frames": (needed, 1), "video": (1, 1)}[self.kind]
        for start in range(0, held - length + 1, step):
            files = self.files[start : start + length]
            yield files, self.under / files[0].stem


@dataclass(frozen=True)
class Question:
    """One group of pictures to answer for.

    Attributes:
        pictures: gives them, paths or (H, W, 3) uint8 frames; those that a video should yield and does not raise
            UserError.
        label: what they are, for a line of output.
        stem: the answer's name under the output folder, without an ending.
        files: where they come from: the pictures themselves, or the video.
    """

    pictures: Callable[[], Sequence[Any]]
    label: str
    stem: Path
    files: tuple[Path, ...] = ()


def pictures_among(inputs: Sequence[Path], out: Path) -> list[Source]:
    """Everything that was named or that a named folder holds; the frames of each subfolder are a source of their own.

    Earlier answers, where the output folder lies inside an input folder, are no inputs. Videos are answered where they
    are named; those that lie in a folder are left alone.

    Args:
        inputs: pictures, folders of pictures, videos; or patterns of such ("photos/*.jpg", ** for folders of any
            depth), where the shell did not put names in their place.
        out: folder for the answers.

    Raises:
        UserError: nothing was named, something is missing, nothing fits a pattern, or a folder holds no picture.
    """
    if not inputs:
        raise UserError("Nothing to answer for: name pictures or folders of them, or videos, after the checkpoint.")
    loose: list[Path] = []
    sources: list[Source] = []
    for path in [found for named in inputs for found in _matching(named)]:
        video = path.suffix.lower() in VIDEO_ENDINGS
        if path.is_dir():
            sources += _sequences_in(path, out)
        elif not path.exists():
            raise UserError(f"There is no {'video' if video else 'picture or folder'} '{path}'.")
        elif video:
            sources.append(Source("video", (path,)))
        else:
            loose.append(path)
    return [Source("loose", tuple(loose)), *sources] if loose else sources


def _matching(named: Path) -> list[Path]:
    """What fits a pattern, frame2 before frame10; what is there under its very name, or is no pattern, stays."""
    if named.exists() or not glob.has_magic(str(named)):
        return [named]
    found = sorted(map(Path, glob.glob(str(named), recursive=True)), key=natural)
    if not found:
        raise UserError(f"Nothing fits the pattern '{named}'.")
    return found


def _sequences_in(folder: Path, out: Path) -> list[Source]:
    """The pictures of a folder, and those of each of its subfolders."""
    from ..tasks.pictures import PICTURE_ENDINGS

    here, answers = folder.resolve(), out.resolve()
    if here == answers:
        raise UserError(f"--out is '{out}', the folder of the pictures; give another, so that both keep apart.")
    inside = [
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.suffix.lower() in PICTURE_ENDINGS
        and file.is_file()
        and answers not in (here / file.relative_to(folder)).parents
    ]
    if not inside:
        raise UserError(f"The folder '{folder}' holds no picture ({', '.join(PICTURE_ENDINGS)}).")
    sequences: dict[Path, list[Path]] = {}
    for file in sorted(inside, key=natural):
        sequences.setdefault(file.parent, []).append(folder / file)
    return [Source("frames", tuple(files), under) for under, files in sequences.items()]


def natural(file: Path) -> tuple[Any, ...]:
    """A key that sorts folder by folder, and numbers by their value: frame2 before frame10."""
    # Splitting at a group gives text, digits, text, ...: like always meets like.
    *folders, stem = (
        [int(word) if place % 2 else word for place, word in enumerate(re.split(r"([0-9]+)", part))]
        for part in (*file.parent.parts, file.stem)
    )
    return folders, stem, file.name


def questions_about(sources: Sequence[Source], together: Sequence[str]) -> Iterator[Question]:
    """Every question about the sources, in order; a video is read frame by frame as its questions are asked.

    Two answers of one name keep apart: the ending joins the stem where it is needed.

    Args:
        sources: of `pictures_among`.
        together: names of the pictures that the task takes at a time, in order.

    Raises:
        UserError: at once: a source makes no whole group, or two answers would share their files.
    """
    groups = _kept_apart([group for source in sources for group in source.groups(together)])
    return (question for files, stem in groups for question in _asked(files, stem, len(together)))


def _kept_apart(found: list[Group]) -> list[Group]:
    """The same groups under stems of which no two are alike."""
    count = Counter(stem for _, stem in found)
    named = [
        (paths, stem if count[stem] == 1 else stem.with_name(paths[0].name.replace(".", "_"))) for paths, stem in found
    ]
    taken: dict[Path, Path] = {}
    for (path, *_), stem in named:
        if stem in taken:
            raise UserError(f"{taken[stem]} and {path} would be written to the same files; predict them one by one.")
        taken[stem] = path
    return named


def _asked(files: tuple[Path, ...], stem: Path, together: int) -> Iterator[Question]:
    if files[0].suffix.lower() in VIDEO_ENDINGS:
        return _asked_of_video(files[0], stem, together)
    return iter([Question(lambda: files, " ".join(map(str, files)), stem, files)])


def _asked_of_video(path: Path, stem: Path, together: int) -> Iterator[Question]:
    """The questions about a video; one that breaks off ends with a question that nobody can answer."""
    number = 0
    try:
        for number, window in enumerate(runs(frames_of(path), together), 1):
            name = stem.with_name(_frame(stem, number))
            yield Question(lambda window=window: window, f"{path} frame {number}", name, (path,))
        if number == 0:
            raise UserError(f"The video '{path}' ends before it has {together} frames.")
    except UserError as mistake:
        yield Question(_refused(mistake), str(path), stem.with_name(_frame(stem, number + 1)))


def _frame(stem: Path, number: int) -> str:
    return f"{stem.name}-{number:06d}"


def _refused(mistake: UserError) -> Callable[[], Sequence[Any]]:
    def raised() -> Sequence[Any]:
        raise mistake

    return raised


def runs(frames: Iterable[Any], length: int) -> Iterator[tuple[Any, ...]]:
    """Every run of so many consecutive frames, with no more than those in memory."""
    held: deque[Any] = deque(maxlen=length)
    for frame in frames:
        held.append(frame)
        if len(held) == length:
            yield tuple(held)


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video's first picture track, upright, one after the other: (H, W, 3) uint8 RGB.

    Raises:
        UserError: no video, no picture track, or one that breaks off; the frames before are given.
    """
    import av
    import numpy as np
    from av.error import FFmpegError

    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"The video '{path}' holds no pictures.")
            for frame in container.decode(video=0):
                pixels = frame.to_ndarray(format="rgb24")
                number += 1
                yield np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
    except (FFmpegError, OSError) as error:
        what = f"breaks off after frame {number}" if number else "cannot be read"
        raise UserError(f"The video '{path}' {what}: {error.strerror or error}.") from error
