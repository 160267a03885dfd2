"""UCF-101 (Soomro, Zamir, Shah 2012): videos of 101 actions, with three official pairs of lists."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..core.files import read_lines
from ..core.problems import Problem
from ..examples import fake_clip
from ..formats.video import write_video
from .video_folders import VideoClips

SUFFIX = ".avi"


class UCF101First(VideoClips):
    """Clips of 32 frames of the videos in `UCF-101/`, by `ucfTrainTestlist/trainlist01.txt` and `testlist01.txt`.

    A line is the path of a video below `UCF-101/`; training lists have the number of its class behind it.
    """

    title: ClassVar[str] = "UCF-101, first split"
    terms: ClassVar[str] = "videos of YouTube users, research-only"
    num_frames: ClassVar[int] = 32
    number: ClassVar[int] = 1

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        file = self.root / _list_name(split, self.number)
        sequences, problems = {}, []
        for line in read_lines(file, "the path of a video per line"):
            name = f"UCF-101/{line.split()[0]}"
            if (self.root / name).is_file():
                sequences[name] = [name]
            else:
                problems.append(Problem(str(self.root / name), f"the video that {file.name} lists", "none"))
        self.set_sequences(sequences, problems)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for number, split in enumerate(cls.splits):
            name = f"Rowing/v_Rowing_g{number + 1:02}_c01{SUFFIX}"
            path = Path(root) / "UCF-101" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            written = write_video(path.with_suffix(".mp4"), fake_clip(number, cls.num_frames + 2))
            # Readers look at the contents, not at the suffix.
            written.rename(path)
            file = Path(root) / _list_name(split, cls.number)
            file.parent.mkdir(exist_ok=True)
            file.write_text(name + (" 76\n" if split == "train" else "\n"))


class UCF101Second(UCF101First):
    """`UCF101First` by the second pair of lists."""

    title: ClassVar[str] = "UCF-101, second split"
    number: ClassVar[int] = 2


class UCF101Third(UCF101First):
    """`UCF101First` by the third pair of lists."""

    title: ClassVar[str] = "UCF-101, third split"
    number: ClassVar[int] = 3


def _list_name(split: str, number: int) -> str:
    return f"ucfTrainTestlist/{split}list{number:02}.txt"
