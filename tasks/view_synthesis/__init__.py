"""View synthesis: an image of a scene from where no camera was, from several photos with known cameras.

Flynn, Neulander, Philbin, Snavely: DeepStereo: Learning to Predict New Views from the World's Imagery. CVPR 2016,
arXiv:1506.06825. `--model deepstereo` is its structure, `deepstereo-light` a small form for any number of photos, whose
comparison of photos any backbone extends (`--backbone`); `mpi` predicts a multiplane image (Zhou et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import Camera, Depth, DepthRange, Extrinsics, FieldType, Image, Mask
from ...errors import UserError
from ...registry import lookup
from ..heads import HEADS, create_head
from ..network import Batch, LossTerms, Phase
from ..prediction import OutputSpec, Prediction, PredictionContext, eight_bits
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..tiling import resize_to_input
from ..training.options import Options
from .classical import WinnerTakesAll
from .losses import LOSSES
from .metrics import BORDERS, ViewMetrics
from .networks import BackboneDeepStereo, ViewNetwork
from .new_view import NewView
from .plane_sweep import Rig
from .policies import ViewAugmentation, ViewInference
from .recipes import RECIPES

MAX_VIEWS, MAX_PLANES, MAX_CROP = 16, 512, 4096


@dataclass(frozen=True)
class ViewSynthesis(Task[ViewNetwork]):
    """Photos with their cameras in, the image of another camera out."""

    views: int = 4
    """Number of photos that a view is predicted from, the nearest ones, 2 to 16."""
    planes: int = 32
    """Number of planes on which the photos are compared, uniform in inverse depth, 2 to 512."""
    crop: int = 64
    """Height and width of the part of an image that a training step predicts; 0: the complete image."""

    name: ClassVar[str] = "view_synthesis"
    title: ClassVar[str] = "View synthesis"
    paper: ClassVar[str] = "Flynn et al. 2016 (DeepStereo), arXiv:1506.06825"
    defaults: ClassVar[Defaults] = Defaults(
        data="room-views", backbone=None, head="unet", recipe="room-views", photo_recipe="scenes"
    )
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    models: ClassVar[dict[str, str]] = {
        "deepstereo": "tasks.view_synthesis.networks:DeepStereo",
        "deepstereo-light": "tasks.view_synthesis.networks:LightDeepStereo",
        "mpi": "tasks.view_synthesis.multiplane:MultiplaneImages",
        "mpi-light": "tasks.view_synthesis.multiplane:light_multiplane_images",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(BORDERS)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("psnr", higher_is_better=True)

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("views", self.views, 2, MAX_VIEWS),
            ("planes", self.planes, 2, MAX_PLANES),
            ("crop", self.crop, 0, MAX_CROP),
        ):
            if not least <= value <= most:
                raise UserError(f"--{name} is {value}; it must be from {least} to {most}.")

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """Sources with their cameras and poses, the camera of the target, and the range of its depths."""
        types = {"views": Image, "cameras": Camera, "poses": Extrinsics, "camera": Camera, "depth_range": DepthRange}
        return {name: self.require_field(fields, name, field_type) for name, field_type in types.items()}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """`image`; `depth` and `mask` for scores, if the dataset has them."""
        known = {
            name: fields[name]
            for name, kind in (("depth", Depth), ("mask", Mask))
            if isinstance(fields.get(name), kind)
        }
        return {"image": self.require_field(fields, "image", Image), **known}

    @property
    def augmentation(self) -> ViewAugmentation:
        return ViewAugmentation(self.views, self.crop)

    @property
    def inference(self) -> ViewInference:
        return ViewInference()

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> ViewNetwork:
        """Photos (B, V, 3, H, W) in [0, 1] with cameras to (B, 4, H, W): color and depth."""
        if model is not None:
            return lookup("model", model, self.models)(self.views, self.planes)
        assert backbone is not None and head is not None
        head_module = create_head(head, backbone.levels, BackboneDeepStereo.FEATURES)
        return BackboneDeepStereo(backbone, head_module, self.views, self.planes)

    def phases(self, model: ViewNetwork, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        terms = lookup("loss of the task view_synthesis", loss, LOSSES)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            rig = Rig(*(batch[name] for name in ("cameras", "poses", "camera", "depth_range")))
            image = batch["image"]
            predicted = model.render(model.encode(batch["views"], rig), rig, (image.shape[-2], image.shape[-1]))
            return terms(predicted[:, :3], image)

        return (Phase("view synthesis", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return ViewMetrics(protocol)

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The classical plane sweep, `classical.WinnerTakesAll`."""
        from ..inference import Predictor

        height, width = dataset.image_size(0)
        return Predictor(self, WinnerTakesAll(self.planes), dataset.fields, (height, width)).predict_sample

    def output_spec(self, model: ViewNetwork, fields: dict[str, FieldType]) -> OutputSpec:
        return OutputSpec(("red", "green", "blue", "depth"), "sRGB from 0 to 1, and depth in the unit of the poses")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """The view at the size of the photos, and the depth."""
        values = resize_to_input(torch.as_tensor(output), context)
        photo = context.inputs.get("image")
        return NewView(eight_bits(values[..., :3]), values[..., 3], None if photo is None else Image().colorize(photo))

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return NewView(Image().colorize(sample["image"]), sample.get("depth"))
