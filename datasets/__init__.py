"""Where samples come from and how they move. One official set, one file; this page is their catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..catalogue import look_up
from ..errors import UserError

if TYPE_CHECKING:
    from .dataset import Dataset

DATASETS: dict[str, str] = {
    "athletes": "datasets.figures:Athletes",
    "camvid": "datasets.camvid:CamVid",
    "chairs": "datasets.chairs:Chairs",
    "cifar10": "datasets.cifar:CIFAR10",
    "cifar100": "datasets.cifar:CIFAR100",
    "cityscapes-pairs": "datasets.side_by_side:CityscapesPairs",
    "class-folders": "datasets.class_folders:ClassFolders",
    "cmp-facades": "datasets.side_by_side:CMPFacades",
    "coco-people": "datasets.coco_people:COCOPeople",
    "depth-folders": "datasets.folders:DepthFolders",
    "div2k-x2": "datasets.div2k:DIV2KX2",
    "div2k-x3": "datasets.div2k:DIV2KX3",
    "div2k-x4": "datasets.div2k:DIV2KX4",
    "edges2handbags": "datasets.side_by_side:Edges2Handbags",
    "edges2shoes": "datasets.side_by_side:Edges2Shoes",
    "facades": "datasets.facades:Facades",
    "figures": "datasets.figures:Figures",
    "flow-folders": "datasets.flow_folders:FlowFolders",
    "flying-chairs": "datasets.flying_chairs:FlyingChairs",
    "flying-things-clean": "datasets.flying_things:FlyingThingsClean",
    "flying-things-final": "datasets.flying_things:FlyingThingsFinal",
    "gopro": "datasets.gopro:GoPro",
    "gopro-gamma": "datasets.gopro:GoProGamma",
    "imagenet": "datasets.imagenet:ImageNet",
    "imagenet-shards": "datasets.imagenet_shards:ImageNetShards",
    "kitti-depth": "datasets.kitti:KITTIDepth",
    "kitti-flow-2012": "datasets.kitti_flow:KITTIFlow2012",
    "kitti-flow-2015": "datasets.kitti_flow:KITTIFlow2015",
    "label-folders": "datasets.label_folders:LabelFolders",
    "lsp": "datasets.lsp:LSP",
    "lsp-extended": "datasets.lsp:LSPExtended",
    "lsp-observer": "datasets.lsp:LSPObserver",
    "make3d": "datasets.make3d:Make3D",
    "maps": "datasets.side_by_side:Maps",
    "matched-folders": "datasets.matched_folders:MatchedFolders",
    "middlebury-flow": "datasets.middlebury_flow:MiddleburyFlow",
    "mislabelled-figures": "datasets.figures:MislabelledFigures",
    "mnist": "datasets.mnist:MNIST",
    "mpii": "datasets.mpii:MPII",
    "night2day": "datasets.side_by_side:Night2Day",
    "nyu-depth": "datasets.nyu_depth:NYUDepth",
    "nyu-raw": "datasets.nyu_depth:NYURaw",
    "paired-folders": "datasets.paired:PairedFolders",
    "photograph-edges": "datasets.photograph_edges:PhotographEdges",
    "photograph-greys": "datasets.photograph_edges:PhotographGreys",
    "photographs": "datasets.photographs:Photographs",
    "pose-folders": "datasets.pose_folders:PoseFolders",
    "rain100": "datasets.rain100:Rain100",
    "raindrop": "datasets.raindrop:RainDrop",
    "rooms": "datasets.rooms:Rooms",
    "seven-scenes": "datasets.seven_scenes:SevenScenes",
    "shapes": "datasets.shapes:Shapes",
    "side-by-side": "datasets.side_by_side:SideBySide",
    "sintel-clean": "datasets.sintel:SintelClean",
    "sintel-final": "datasets.sintel:SintelFinal",
    "weather": "datasets.weather:Weather",
}


def list_datasets() -> list[str]:
    """The names that `open_dataset` knows."""
    return sorted(DATASETS)


def dataset_class(name: str) -> type[Dataset]:
    """The class of a data set, without opening it.

    Raises:
        UserError: no set has this name.
    """
    return look_up("data set", name, DATASETS)


def open_dataset(name: str, root: str | Path | None = None, split: str = "train", seed: int = 0) -> Dataset:
    """Open a split of a data set.

    Args:
        name: the catalogue's name ("nyu-depth", "rooms").
        root: the folder that holds it; worlds need none.
        split: one of its `splits`.
        seed: of a world; stored sets have none.

    Raises:
        UserError: unknown name or split, a missing folder, or a folder that is not in the set's layout.
    """
    from .dataset import World

    found = dataset_class(name)
    if split not in found.splits:
        raise UserError(f"'{name}' has the splits {', '.join(found.splits)}; there is no '{split}'.")
    if issubclass(found, World):
        return found(root, split, seed=seed)
    if root is None:
        raise UserError(f"'{name}' lies in a folder: say which with --root DIR.")
    if not Path(root).is_dir():
        raise UserError(f"There is no folder '{root}' to read '{name}' from; mend --root.")
    return found(root, split)


__all__ = ["DATASETS", "dataset_class", "list_datasets", "open_dataset"]
