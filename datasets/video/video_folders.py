"""Clips of videos and folders of frames: the base of such datasets, and a layout for your own (`video-folders`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ...errors import UserError
from ..core.files import IMAGE_SUFFIXES, list_files, name_table, natural_key, normalize_name
from ..core.problems import DatasetError, Problem
from ..core.splits import empty_split, folder_of_split, in_split, read_split_list
from ..dataset import Dataset, Sample
from ..examples import fake_clip
from ..field_types import FieldType, Image
from ..formats.image import read_image, write_image
from ..formats.video import VIDEO_SUFFIXES, TimedFrame, count_frames, frame_ticks, read_video, write_video
from .stabilization import stabilize

MAX_SIDE = 160
"""Longer side of the frames in pixels: larger ones are reduced, by averaging. Motion is then a few pixels a frame."""

Sequences = dict[str, list[str]]
"""Name of each video or folder of frames, to its files: the video, or the frames in natural order."""


class VideoClips(Dataset):
    """Every run of `num_frames` consecutive frames of videos or folders of frames; subclasses call `set_sequences`.

    Of a video, only the frames of one clip are in memory.

    Attributes:
        num_frames: length of the clips.
    """

    num_frames: ClassVar[int] = 8

    def set_sequences(self, sequences: Sequences, problems: list[Problem]) -> None:
        """Set the videos and folders; those with too few frames are passed over.

        Raises:
            DatasetError: there are problems, or no clip; its `dataset` can be read all the same.
        """
        self.fields: dict[str, FieldType] = {"clip": Image()}
        self._sequences: list[tuple[str, list[str]]] = []
        starts = [0]
        self._cursor: VideoCursor | None = None
        name_table(self.root, [file for files in sequences.values() for file in files])
        for name, files in sequences.items():
            try:
                count = len(files) if not _is_video(files[0]) else count_frames(self.root / files[0])
            except UserError as error:
                problems.append(Problem(str(self.root / files[0]), "a video", str(error)))
                continue
            if count < self.num_frames:
                self.skipped.append(Problem(str(self.root / name), f"{self.num_frames} frames or more", f"{count}"))
                continue
            self._sequences.append((name, files))
            starts.append(starts[-1] + count - self.num_frames + 1)
        self._starts = np.array(starts)
        if not (self._sequences or problems):
            problems.append(empty_split(self.root, f"clips of {self.num_frames} frames", self.split))
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _locate(self, index: int) -> tuple[int, int]:
        """Number of the sequence, and of the first frame in it."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def read(self, index: int) -> Sample:
        number, start = self._locate(index)
        files = self._sequences[number][1]
        if not _is_video(files[0]):
            frames = [_reduced(read_image(self.root / file)) for file in files[start : start + self.num_frames]]
            for file, frame in zip(files[start:], frames, strict=False):
                if frame.shape != frames[0].shape:
                    expected, found = (f"{each.shape[1]}x{each.shape[0]}" for each in (frames[0], frame))
                    raise DatasetError(self.root / file, f"the size of the frame before it, {expected}", found)
            return {"clip": np.stack(frames)}
        path = self.root / files[0]
        if self._cursor is None or self._cursor.path != path:
            self._cursor = VideoCursor(path, self.num_frames)
        frames = self._cursor.clip(start)
        if len(frames) < self.num_frames:
            found = f"{start + len(frames)}, fewer than its header states"
            raise DatasetError(path, f"{start + self.num_frames} frames", found)
        return {"clip": np.stack(frames)}

    def sample_name(self, index: int) -> str:
        number, start = self._locate(index)
        return f"{self._sequences[number][0]} from frame {start + 1}"

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_cursor": None}


class VideoFolders(VideoClips):
    """Your own videos (.mp4, .avi, .mov, .mkv, .webm) and folders of frames, in clips of 8 frames.

    A folder that contains images is one sequence, in natural order: frame2 before frame10. `train.txt`, `val.txt` and
    `test.txt` in the root define the splits, one video or folder of frames per line, by its path. Without lists, the
    folders `train/`, `val/` and `test/` do; without those, one sequence in ten is for testing, chosen by a hash of its
    name. If only one of `val` and `test` exists, it serves as both. Frames larger than 160 pixels are reduced.
    """

    title: ClassVar[str] = "Folder of videos and frames"
    terms: ClassVar[str] = "license of your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        problems: list[Problem] = []
        sequences = find_sequences(self.root, self.skipped)
        stated = read_split_list(self.root, split, "the path of a video or folder of frames per line", self.skipped)
        if stated:
            list_file, names = stated
            for name in names:
                if name not in sequences:
                    problems.append(
                        Problem(str(self.root / name), f"the video or folder that {list_file.name} lists", "none")
                    )
            chosen = [name for name in names if name in sequences]
        elif (folder := folder_of_split(self.root, split)) is not None:
            chosen = [name for name in sequences if name.startswith(f"{folder}/")]
        else:
            names = list(sequences)
            chosen = [name for name, used in zip(names, in_split(names, split), strict=True) if used]
        self.set_sequences({name: sequences[name] for name in chosen}, problems)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for number, split in enumerate(cls.splits):
            names = [f"{split}-video.mp4", f"{split}-frames"]
            for index, name in enumerate(names):
                frames = fake_clip(10 * number + index, cls.num_frames + 2)
                Path(root).mkdir(parents=True, exist_ok=True)
                if name.endswith(".mp4"):
                    write_video(Path(root) / name, frames)
                    continue
                for time, frame in enumerate(frames, 1):
                    write_image(Path(root) / name / f"{time:04}.jpg", frame)
            (Path(root) / f"{split}.txt").write_text("\n".join(names) + "\n")


class VideoFolders16(VideoFolders):
    """`VideoFolders` in clips of 16 frames."""

    title: ClassVar[str] = "Folder of videos and frames, 16 frames"
    num_frames: ClassVar[int] = 16


class VideoFolders32(VideoFolders):
    """`VideoFolders` in clips of 32 frames."""

    title: ClassVar[str] = "Folder of videos and frames, 32 frames"
    num_frames: ClassVar[int] = 32


class StabilizedVideoFolders(VideoFolders32):
    """`VideoFolders` in clips of 32 frames without the motion of the camera (`stabilization`), as VGAN is trained."""

    title: ClassVar[str] = "Folder of videos and frames, 32 frames, stabilized"

    def read(self, index: int) -> Sample:
        return {"clip": stabilize(super().read(index)["clip"])}


def find_sequences(root: Path, skipped: list[Problem]) -> Sequences:
    """The videos and folders of frames below a root, by their path relative to it, sorted."""
    sequences: Sequences = {}
    for file in list_files(root, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES), skipped):
        name = file if _is_video(file) else file.rpartition("/")[0] or "."
        sequences.setdefault(normalize_name(name), []).append(file)
    return {name: sorted(files, key=natural_key) for name, files in sorted(sequences.items())}


def _is_video(file: str) -> bool:
    return file.lower().endswith(VIDEO_SUFFIXES)


def _reduced(frame: np.ndarray) -> np.ndarray:
    scale = MAX_SIDE / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = [max(1, round(scale * length)) for length in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


class VideoCursor:
    """A place in a video: clips after it are read on from there, others from the keyframe before them.

    Args:
        path: the video.
        length: number of frames of a clip.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self._ticks: list[int] | None = None
        self._window: deque[np.ndarray] = deque(maxlen=length)
        self._next = 0
        self._frames: Iterator[TimedFrame] = iter(())

    def clip(self, start: int) -> list[np.ndarray]:
        """The frames from number `start` on, at most `length`; fewer where the video ends.

        Raises:
            DatasetError: a damaged video.
        """
        try:
            if not self._next - len(self._window) <= start <= self._next or not self._next:
                self._go_to(start)
            while self._next < start + (self._window.maxlen or 0):
                frame = next(self._frames, None)
                if frame is None:
                    break
                self._window.append(_reduced(frame.pixels))
                self._next += 1
        except UserError as error:
            self._next = 0
            raise DatasetError(self.path, "a video", str(error)) from None
        return list(self._window)[max(0, start - self._next + len(self._window)) :]

    def _go_to(self, start: int) -> None:
        if self._ticks is None:
            self._ticks = frame_ticks(self.path)
        self._window.clear()
        if start and start < len(self._ticks):
            self._frames, self._next = read_video(self.path, self._ticks[start]), start
            return
        self._frames, self._next = read_video(self.path), 0
        for _ in islice(self._frames, start):
            self._next += 1
