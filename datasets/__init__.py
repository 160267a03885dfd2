"""Registry of the datasets. One module per official dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..registry import lookup

if TYPE_CHECKING:
    from .dataset import Dataset

DATASETS: dict[str, str] = {
    "boats": "datasets.synthetic:Boats",
    "boats-32": "datasets.synthetic:Boats32",
    "camvid": "datasets.translation.camvid:CamVid",
    "cifar10": "datasets.classification.cifar:CIFAR10",
    "cifar100": "datasets.classification.cifar:CIFAR100",
    "cityscapes-pairs": "datasets.translation.side_by_side:CityscapesPairs",
    "class-folders": "datasets.classification.class_folders:ClassFolders",
    "cmp-facades": "datasets.translation.side_by_side:CMPFacades",
    "coco-people": "datasets.pose.coco_people:COCOPeople",
    "colmap": "datasets.views.colmap:COLMAP",
    "depth-folders": "datasets.depth.depth_folders:DepthFolders",
    "div2k-x2": "datasets.restoration.div2k:DIV2KX2",
    "div2k-x3": "datasets.restoration.div2k:DIV2KX3",
    "div2k-x4": "datasets.restoration.div2k:DIV2KX4",
    "edges-to-photos": "datasets.translation.edges_to_photos:EdgesToPhotos",
    "edges2handbags": "datasets.translation.side_by_side:Edges2Handbags",
    "edges2shoes": "datasets.translation.side_by_side:Edges2Shoes",
    "flow-folders": "datasets.flow.flow_folders:FlowFolders",
    "flying-chairs": "datasets.flow.flying_chairs:FlyingChairs",
    "flying-things-clean": "datasets.flow.flying_things:FlyingThingsClean",
    "flying-things-final": "datasets.flow.flying_things:FlyingThingsFinal",
    "gopro": "datasets.restoration.gopro:GoPro",
    "gopro-gamma": "datasets.restoration.gopro:GoProGamma",
    "gray-to-photos": "datasets.translation.edges_to_photos:GrayToPhotos",
    "hand-folders": "datasets.hand.hand_folders:HandFolders",
    "icvl": "datasets.hand.icvl:ICVL",
    "image-folders": "datasets.image_folders:ImageFolders",
    "imagenet": "datasets.classification.imagenet:ImageNet",
    "imagenet-shards": "datasets.classification.imagenet_shards:ImageNetShards",
    "kitti-depth": "datasets.depth.kitti:KITTIDepth",
    "kitti-flow-2012": "datasets.flow.kitti_flow:KITTIFlow2012",
    "kitti-flow-2015": "datasets.flow.kitti_flow:KITTIFlow2015",
    "kitti-odometry": "datasets.views.kitti_odometry:KITTIOdometry",
    "label-folders": "datasets.paired_folders:LabelFolders",
    "lamem-1": "datasets.memorability.lamem:LaMem1",
    "lamem-2": "datasets.memorability.lamem:LaMem2",
    "lamem-3": "datasets.memorability.lamem:LaMem3",
    "lamem-4": "datasets.memorability.lamem:LaMem4",
    "lamem-5": "datasets.memorability.lamem:LaMem5",
    "llff": "datasets.views.llff:LLFF",
    "lnsim": "datasets.memorability.lnsim:LNSIM",
    "lsp": "datasets.pose.lsp:LSP",
    "lsp-extended": "datasets.pose.lsp:LSPExtended",
    "lsp-observer": "datasets.pose.lsp:LSPObserver",
    "make3d": "datasets.depth.make3d:Make3D",
    "maps": "datasets.translation.side_by_side:Maps",
    "middlebury-flow": "datasets.flow.middlebury_flow:MiddleburyFlow",
    "middlebury-stereo": "datasets.views.middlebury_stereo:MiddleburyStereo",
    "mnist": "datasets.classification.mnist:MNIST",
    "moving-photos": "datasets.synthetic:MovingPhotos",
    "mpii": "datasets.pose.mpii:MPII",
    **{f"msra-hand-{subject}": f"datasets.hand.msra:MSRA{subject}" for subject in range(9)},
    "nerf-transforms": "datasets.views.transforms_json:NeRFTransforms",
    "night2day": "datasets.translation.side_by_side:Night2Day",
    "nyu-depth": "datasets.depth.nyu_depth:NYUDepth",
    "nyu-hand": "datasets.hand.nyu_hand:NYUHand",
    "nyu-raw": "datasets.depth.nyu_depth:NYURaw",
    "paired-folders": "datasets.paired_folders:PairedFolders",
    "pose-folders": "datasets.pose.pose_folders:PoseFolders",
    "rain100": "datasets.restoration.rain:Rain100",
    "raindrop": "datasets.restoration.rain:RainDrop",
    "recognition-game": "datasets.synthetic:RecognitionGame",
    "recognition-game-40": "datasets.synthetic:RecognitionGame40",
    "recognition-game-hits": "datasets.synthetic:RecognitionGameHits",
    "room-views": "datasets.synthetic:RoomViews",
    "score-folders": "datasets.memorability.score_folders:ScoreFolders",
    "seven-scenes": "datasets.depth.seven_scenes:SevenScenes",
    "shards": "datasets.shards:Shards",
    "side-by-side": "datasets.translation.side_by_side:SideBySide",
    "sintel-clean": "datasets.flow.sintel:SintelClean",
    "sintel-final": "datasets.flow.sintel:SintelFinal",
    "stacked-jpegs": "datasets.video.stacked_jpegs:StackedJPEGs",
    "synthetic-athletes": "datasets.synthetic:SyntheticAthletes",
    "synthetic-chairs": "datasets.synthetic:SyntheticChairs",
    "synthetic-facades": "datasets.synthetic:SyntheticFacades",
    "synthetic-figures": "datasets.synthetic:SyntheticFigures",
    "synthetic-hands": "datasets.synthetic:SyntheticHands",
    "synthetic-mislabeled-figures": "datasets.synthetic:SyntheticMislabeledFigures",
    "synthetic-rooms": "datasets.synthetic:SyntheticRooms",
    "synthetic-shapes": "datasets.synthetic:SyntheticShapes",
    "synthetic-weather": "datasets.synthetic:SyntheticWeather",
    "ucf101-1": "datasets.video.ucf101:UCF101First",
    "ucf101-2": "datasets.video.ucf101:UCF101Second",
    "ucf101-3": "datasets.video.ucf101:UCF101Third",
    "video-folders": "datasets.video.video_folders:VideoFolders",
    "video-folders-16": "datasets.video.video_folders:VideoFolders16",
    "video-folders-32": "datasets.video.video_folders:VideoFolders32",
    "video-folders-32-stabilized": "datasets.video.video_folders:StabilizedVideoFolders",
    "view-folders": "datasets.views.transforms_json:ViewFolders",
}


def list_datasets() -> list[str]:
    """Names that `open_dataset` accepts, sorted."""
    return sorted(DATASETS)


def dataset_class(name: str) -> type[Dataset]:
    """Class of a dataset, without opening it.

    Raises:
        UserError: unknown name.
    """
    return lookup("dataset", name, DATASETS)


def open_dataset(name: str, root: str | Path | None = None, split: str = "train", seed: int = 0) -> Dataset:
    """Open a split of a dataset.

    Args:
        name: name in the registry ("nyu-depth", "synthetic-rooms").
        root: folder of the dataset; synthetic datasets need none.
        split: one of its `splits`.
        seed: seed of a synthetic dataset; ignored for stored ones.

    Raises:
        UserError: unknown name or split, a missing folder, or a folder that does not have the layout of the dataset.
    """
    from .dataset import SyntheticDataset

    cls = dataset_class(name)
    if not issubclass(cls, SyntheticDataset):
        if root is None:
            raise UserError(f"'{name}' is stored in a folder: state it with --root DIR.")
        require_root(name, root)
    splits = cls.splits_in(root)
    if split not in splits:
        raise UserError(f"'{name}' has the splits {', '.join(splits)}; there is no '{split}'.")
    if issubclass(cls, SyntheticDataset):
        return cls(root, split, seed=seed)
    return cls(root or "", split)


def require_root(name: str, root: str | Path) -> None:
    """Check that a root is a folder, or an address for a dataset that is read from those.

    Raises:
        UserError: it is not.
    """
    if "://" in str(root):
        if not dataset_class(name).remote:
            raise UserError(f"'{name}' is read from a folder, not from '{root}'; see densevision data shard.")
    elif not Path(root).is_dir():
        raise UserError(f"There is no folder '{root}' to read '{name}' from; fix --root.")


__all__ = ["DATASETS", "dataset_class", "list_datasets", "open_dataset", "require_root"]
