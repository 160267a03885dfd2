"""pix2pix's own sets: one picture holds both of a pair, A on the left and B on the right.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004.
Every set names its two fields in the direction that people translate, what is given first and what is made last.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np

from .dataset import Dataset, Sample, problems_of
from .fields import Image
from .folders import held_back
from .formats.picture import decode, write_picture
from .formats.reading import read_bytes
from .matched_folders import folder_of_split
from .paired import drawn_pair
from .photographs import photographs_below
from .problems import DamagedData, Problem

Half = Literal["left", "right"]


class SideBySidePictures(Dataset):
    """Pictures in `train/`, `val/` and perhaps `test/`, each cut in the middle into two of one size.

    A picture is cut as people see it, after its EXIF orientation: what lies left on the screen is the left one.

    Attributes:
        halves: the fields in the customary direction, and which half each one is.
    """

    halves: ClassVar[dict[str, Half]]
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {name: Image() for name in self.halves}
        self._files = np.array(self.files(), np.str_)
        if not len(self._files):
            found = "none" if (self.root / split).is_dir() else f"no folder '{split}'"
            raise DamagedData(self.root / split / "1.jpg", f"pictures of two halves for '{split}', such as this", found)

    def files(self) -> list[str]:
        """The split's pictures, relative to the root."""
        return [f"{self.split}/{file}" for file in photographs_below(self.root / self.split)]

    def __len__(self) -> int:
        return len(self._files)

    def label(self, index: int) -> str:
        return str(self._files[index])

    def read(self, index: int) -> Sample:
        path = self.root / self.label(index)
        # Without OpenCV's IGNORE_ORIENTATION: a turned picture would be cut into its upper and its lower half.
        whole = decode(read_bytes(path, "a picture"), path, cv2.IMREAD_COLOR)
        width = whole.shape[1]
        if width % 2:
            raise DamagedData(path, "two pictures of one width side by side", f"an odd width of {width} pixels")
        cut = {"left": whole[:, : width // 2], "right": whole[:, width // 2 :]}
        return {name: cv2.cvtColor(cut[half], cv2.COLOR_BGR2RGB) for name, half in self.halves.items()}

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        # One picture a split: that a second one is missing, nothing in the layout could tell.
        for number, split in enumerate(cls.splits):
            drawn = dict(zip(cls.halves.values(), drawn_pair(number), strict=True))
            file = Path(root) / split / "1.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_picture(file, np.hstack([drawn["left"], drawn["right"]]))


class CMPFacades(SideBySidePictures):
    """Label maps and facades: 400, 100 and 106 pairs.

    Tyleček, Šára: Spatial Pattern Templates for Recognition of Objects with Regular Structure. GCPR 2013.
    The labels are colours in a JPEG, which smears them: a picture to translate from, not classes to count.
    """

    title: ClassVar[str] = "Facades (pix2pix)"
    terms: ClassVar[str] = "no explicit licence, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    halves: ClassVar[dict[str, Half]] = {"labels": "right", "photo": "left"}


class Maps(SideBySidePictures):
    """Aerial pictures and maps of the same places: 1,096 and 1,098 pairs."""

    title: ClassVar[str] = "Maps (pix2pix)"
    terms: ClassVar[str] = "taken from Google Maps: treat as research-only"
    halves: ClassVar[dict[str, Half]] = {"aerial": "left", "map": "right"}


class CityscapesPairs(SideBySidePictures):
    """Label maps, as colours, and streets: 2,975 and 500 pairs.

    Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding. CVPR 2016.
    """

    title: ClassVar[str] = "Cityscapes (pix2pix)"
    terms: ClassVar[str] = "non-commercial research: research-only"
    halves: ClassVar[dict[str, Half]] = {"labels": "right", "photo": "left"}


class Edges2Shoes(SideBySidePictures):
    """Edges, found by HED, and the shoes that they were found in: about 50,000 pairs.

    Yu, Grauman: Fine-Grained Visual Comparisons with Local Learning. CVPR 2014.
    """

    title: ClassVar[str] = "Edges to shoes (pix2pix)"
    terms: ClassVar[str] = "academic, non-commercial: research-only"
    halves: ClassVar[dict[str, Half]] = {"edges": "left", "photo": "right"}


class Edges2Handbags(SideBySidePictures):
    """Edges, found by HED, and the handbags that they were found in: about 137,000 pairs.

    Zhu et al.: Generative Visual Manipulation on the Natural Image Manifold. ECCV 2016.
    """

    title: ClassVar[str] = "Edges to handbags (pix2pix)"
    terms: ClassVar[str] = "a shop's photographs, no explicit licence: treat as research-only"
    halves: ClassVar[dict[str, Half]] = {"edges": "left", "photo": "right"}


class Night2Day(SideBySidePictures):
    """A place by day and by night: about 20,000 pairs. In spite of its name, day is turned into night.

    Laffont et al.: Transient Attributes for High-Level Understanding and Editing of Outdoor Scenes. SIGGRAPH 2014.
    """

    title: ClassVar[str] = "Night to day (pix2pix)"
    terms: ClassVar[str] = "no explicit licence, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    halves: ClassVar[dict[str, Half]] = {"day": "right", "night": "left"}


class SideBySide(SideBySidePictures):
    """One's own pictures of two halves, in `train/`, `val/` and `test/`, or in the root or folders of other names.

    Where only one of `val` and `test` is there, it is both. Without such folders one picture in ten is held back for
    testing, chosen by a hash of its path.
    """

    title: ClassVar[str] = "Pictures of two halves"
    terms: ClassVar[str] = "whatever holds for your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    halves: ClassVar[dict[str, Half]] = {"left": "left", "right": "right"}

    def files(self) -> list[str]:
        folder = folder_of_split(self.root, self.split)
        if folder is not None:
            return [f"{folder}/{file}" for file in photographs_below(self.root / folder)]
        found = photographs_below(self.root)
        return [file for file in found if held_back(file.rpartition(".")[0]) == (self.split != "train")]
