"""Datasets of pix2pix: one file contains both images of a pair, A on the left and B on the right.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004.
The two fields of a dataset are in the customary direction of translation: source first, then target.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ..core.files import IMAGE_SUFFIXES, list_files
from ..core.problems import DatasetError, Problem
from ..core.splits import empty_split, files_in_split, folder_of_split
from ..dataset import FileDataset, Sample
from ..examples import fake_pair
from ..field_types import Image
from ..formats.image import read_image, write_image

Half = Literal["left", "right"]


class SideBySideImages(FileDataset):
    """Images in `train/`, `val/` and perhaps `test/`, each split in the middle into two of one size.

    EXIF orientation is applied before the split: left is the left half of the displayed image.

    Attributes:
        halves: field name to half of the image, source first, then target.
    """

    halves: ClassVar[dict[str, Half]]
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {name: Image() for name in self.halves}
        files = self.list_files()
        if not files:
            found = "none" if (self.root / split).is_dir() else f"no folder '{split}'"
            expected = f"images of two halves for '{split}', such as this"
            problem = Problem(str(self.root / split / "1.jpg"), expected, found)
            raise DatasetError.from_problems([problem, *self.skipped])
        self.set_files([(file,) for file in files])

    def list_files(self) -> list[str]:
        """List the images of the split, relative to the root."""
        return self.files_in(self.split)

    def files_in(self, folder: str) -> list[str]:
        """List the images of a folder of the root, relative to the root."""
        prefix = f"{folder}/" if folder else ""
        return [prefix + file for file in list_files(self.root / folder, IMAGE_SUFFIXES, self.skipped)]

    def read(self, index: int) -> Sample:
        path = self.root / self.sample_name(index)
        image = read_image(path)
        width = image.shape[1]
        if width % 2:
            raise DatasetError(path, "two images of the same width side by side", f"an odd width of {width} pixels")
        pixels = {"left": image[:, : width // 2], "right": image[:, width // 2 :]}
        return {name: np.ascontiguousarray(pixels[half]) for name, half in self.halves.items()}

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        # One image per split, because a missing second one could not be detected in this layout.
        for number, split in enumerate(cls.splits):
            images = dict(zip(cls.halves.values(), fake_pair(number), strict=True))
            write_image(Path(root) / split / "1.jpg", np.hstack([images["left"], images["right"]]))


class CMPFacades(SideBySideImages):
    """Label maps and facades: 400, 100 and 106 pairs.

    Tyleček, Šára: Spatial Pattern Templates for Recognition of Objects with Regular Structure. GCPR 2013.
    The labels are colors in a JPEG, which blurs them: usable as an image to translate, not as classes.
    """

    title: ClassVar[str] = "Facades (pix2pix)"
    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    halves: ClassVar[dict[str, Half]] = {"labels": "right", "photo": "left"}


class Maps(SideBySideImages):
    """Aerial images and maps of the same places: 1,096 and 1,098 pairs."""

    title: ClassVar[str] = "Maps (pix2pix)"
    terms: ClassVar[str] = "taken from Google Maps: treat as research-only"
    halves: ClassVar[dict[str, Half]] = {"aerial": "left", "map": "right"}


class CityscapesPairs(SideBySideImages):
    """Label maps, as colors, and street scenes: 2,975 and 500 pairs.

    Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding. CVPR 2016.
    """

    title: ClassVar[str] = "Cityscapes (pix2pix)"
    terms: ClassVar[str] = "non-commercial research: research-only"
    halves: ClassVar[dict[str, Half]] = {"labels": "right", "photo": "left"}


class Edges2Shoes(SideBySideImages):
    """HED edges of photos of shoes, and the photos: about 50,000 pairs.

    Yu, Grauman: Fine-Grained Visual Comparisons with Local Learning. CVPR 2014.
    """

    title: ClassVar[str] = "Edges to shoes (pix2pix)"
    terms: ClassVar[str] = "academic, non-commercial: research-only"
    halves: ClassVar[dict[str, Half]] = {"edges": "left", "photo": "right"}


class Edges2Handbags(SideBySideImages):
    """HED edges of photos of handbags, and the photos: about 137,000 pairs.

    Zhu et al.: Generative Visual Manipulation on the Natural Image Manifold. ECCV 2016.
    """

    title: ClassVar[str] = "Edges to handbags (pix2pix)"
    terms: ClassVar[str] = "a shop's photos, no explicit license: treat as research-only"
    halves: ClassVar[dict[str, Half]] = {"edges": "left", "photo": "right"}


class Night2Day(SideBySideImages):
    """Scenes by day and by night: about 20,000 pairs. In spite of the name, day is translated to night.

    Laffont et al.: Transient Attributes for High-Level Understanding and Editing of Outdoor Scenes. SIGGRAPH 2014.
    """

    title: ClassVar[str] = "Night to day (pix2pix)"
    terms: ClassVar[str] = "no explicit license, cite: treat as research-only"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    halves: ClassVar[dict[str, Half]] = {"day": "right", "night": "left"}


class SideBySide(SideBySideImages):
    """Your own side-by-side images, in `train/`, `val/` and `test/`, or in the root or folders with other names.

    If only one of `val` and `test` exists, it serves as both. Without such folders, one image in ten is for testing,
    chosen by a hash of its path.
    """

    title: ClassVar[str] = "Side-by-side image pairs"
    terms: ClassVar[str] = "license of your files"
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    halves: ClassVar[dict[str, Half]] = {"left": "left", "right": "right"}

    def list_files(self) -> list[str]:
        folder = folder_of_split(self.root, self.split)
        if folder is not None:
            return self.files_in(folder)
        files = self.files_in("")
        split_files = files_in_split(files, self.split)
        if files and not split_files:
            raise DatasetError.from_problems([empty_split(self.root, "images", self.split, len(files)), *self.skipped])
        return split_files
