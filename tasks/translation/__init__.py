"""Translation: one kind of picture in, another out: labels to facades, edges to photographs, streets to labels.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks ("pix2pix"). CVPR 2017,
arXiv:1611.07004. The whole networks are `--network unet256` and its siblings; any trunk with any head is the other way.

Two players learn: a generator makes pictures, and a discriminator, which sees patches of the source beside the picture,
learns to tell made from true. Only the generator is kept in checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ...backbones.backbone import Backbone
from ...catalogue import look_up
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Image, Kind, Labels, OneHot
from ...errors import UserError, unknown_name
from ..heads import HEADS, create_head
from ..inference import original_size
from ..task import Batch, Default, Metrics, Network, Output, Phase, Prediction, Query, Task, Terms, Watch
from ..training.options import Options
from .losses import ADVERSARIAL, beside, closeness, opinions
from .made import LabelMap, Made, MeanPicture
from .metrics import PROTOCOLS, find_protocol
from .recipes import RECIPES

BASELINE_SAMPLES = 300
"""Training samples whose mean is the trivial answer."""


@dataclass(frozen=True)
class Translation(Task):
    """A picture or a label map in, another out."""

    from_: str | None = None
    """Field that goes in; default: the data set's first picture or label map."""
    to: str | None = None
    """Field that is asked for; default: the data set's last picture or label map."""
    adversarial: bool | None = None
    """Learn against a discriminator; default: yes for pictures, no for labels."""
    patches: int = 3
    """Strided layers of the discriminator, 0 to 6: it judges patches of 1, 16, 34, 70, 142, 286 or 574 pixels;
    default: 3."""
    fidelity: float = 100.0
    """Weight of the mean difference from the true picture beside the discriminator's opinion; default: 100."""
    norm: Literal["batch-stats", "frozen", "instance"] = "batch-stats"
    """Whose statistics normalise: batch-stats (those of the batch at hand, dropout on, as the paper tests too), frozen
    (when asked, those gathered in training) or instance (every picture's own, in training too). Kept in the checkpoint;
    default: batch-stats."""

    name: ClassVar[str] = "translation"
    title: ClassVar[str] = "One kind of picture into another"
    paper: ClassVar[str] = "Isola et al. 2017 (pix2pix), arXiv:1611.07004"
    default: ClassVar[Default] = Default(data="facades", backbone="resnet18", head="unet", recipe="facades")
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    networks: ClassVar[dict[str, str]] = {
        "unet256": "tasks.translation.networks:unet256",
        "unet128": "tasks.translation.networks:unet128",
        "resnet9": "tasks.translation.networks:resnet9",
        "resnet6": "tasks.translation.networks:resnet6",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(ADVERSARIAL)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    watch: ClassVar[Watch] = Watch("error", higher_is_better=False)
    views: ClassVar[tuple[str, ...]] = ("fit", "native")

    def __post_init__(self) -> None:
        if not 0 <= self.patches <= 6:
            raise UserError(f"--patches is {self.patches}; it must lie in 0 to 6.")
        if self.fidelity < 0:
            raise UserError(f"--fidelity is {self.fidelity}; it must be at least 0.")

    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """What is translated, as the set stores it."""
        return self._side(fields, self.from_, 0)

    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """What it is translated into."""
        goal = self._side(fields, self.to, -1)
        if goal.keys() == self.inputs(fields).keys():
            raise UserError(
                f"The task {self.name} turns one field into another; the data set offers '{next(iter(goal))}' alone: "
                "say others with --from and --to, or take a set of pairs."
            )
        return goal

    def _side(self, fields: dict[str, Kind], name: str | None, place: int) -> dict[str, Kind]:
        offered = [key for key, kind in fields.items() if isinstance(kind, (Image, Labels))]
        if not offered:
            raise UserError(f"The task {self.name} needs a set of pictures or label maps; this one holds neither.")
        name = offered[place] if name is None else name
        if name not in offered:
            raise unknown_name("picture or label map of the data set (--from, --to)", name, offered)
        return {name: fields[name]}

    def prepared(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """Label maps that go in, with a channel per class."""
        (name, source), *_ = self.inputs(fields).items()
        taken = OneHot(source.names, source.ignore) if isinstance(source, Labels) else source
        return {name: taken, **self.targets(fields)}

    def channels(self, fields: dict[str, Kind]) -> int:
        """Of the picture, or one per class and one for what has none."""
        return channels_of(next(iter(self.prepared(fields).values())))

    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """(B, C, H, W) in [0, 1] to (B, C', H, W): a picture in [0, 1], or logits of classes."""
        from .networks import TrunkTranslator, levels_seen

        (goal,) = self.targets(fields).values()
        answers, labels = channels_of(goal), isinstance(goal, Labels)
        if network is not None:
            made = look_up("network", network, self.networks)
            return made(self.channels(fields), answers, self.norm, labels)
        assert backbone is not None and head is not None
        return TrunkTranslator(backbone, create_head(head, levels_seen(backbone), answers), self.norm, labels)

    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """The discriminator's share of a step, then the generator's, which reuses the picture that was judged."""
        (source,), ((goal, kind),) = self.inputs(fields), self.targets(fields).items()
        labels = isinstance(kind, Labels)
        close = closeness(kind)

        def answer(batch: Batch, made: dict[str, Any]) -> Tensor:
            if "answer" not in made:
                made["answer"] = model(batch[source])
            return made["answer"]

        def imitate(batch: Batch, made: dict[str, Any]) -> Terms:
            return close(answer(batch, made), batch[goal])

        if self.adversarial and labels:
            raise UserError("--adversarial judges pictures; a translation into labels learns from cross-entropy alone.")
        if labels or self.adversarial is False:
            return (Phase("generator", model, imitate),)

        discriminator = self.discriminator(fields)
        opinion = opinions(loss)

        def judged(batch: Batch, picture: Tensor) -> Tensor:
            return discriminator(beside(batch[source], picture)).float()

        def discriminate(batch: Batch, made: dict[str, Any]) -> Terms:
            fake = answer(batch, made).detach()
            true = judged(batch, batch[goal])
            return {"true": opinion(true, True) / 2, "made": opinion(judged(batch, fake), False) / 2}

        def generate(batch: Batch, made: dict[str, Any]) -> Terms:
            picture = answer(batch, made)
            terms = {name: self.fidelity * value for name, value in close(picture, batch[goal]).items()}
            return {"fooled": opinion(judged(batch, picture), True), **terms}

        return Phase("discriminator", discriminator, discriminate), Phase("generator", model, generate)

    def discriminator(self, fields: dict[str, Kind]) -> nn.Module:
        """The opponent: it sees the source and a picture, and says of every patch whether the picture is true."""
        from .patchgan import PatchGAN

        (goal,) = self.targets(fields).values()
        norm = "instance" if self.norm == "instance" else "batch"
        return PatchGAN(self.channels(fields) + channels_of(goal), self.patches, norm)

    def metrics(self, protocol: str) -> Metrics:
        """How near the answers are to the true pictures, and what a judge sees in them, under a named protocol."""
        return find_protocol(protocol)()

    def default_protocol(self, dataset: str, fields: dict[str, Kind]) -> str:
        """Pictures are compared; those of the world of facades can be read back too."""
        (kind,) = self.targets(fields).values()
        if isinstance(kind, Labels):
            return "labels"
        return "facades" if dataset == "facades" and "labels" in fields else self.protocols[0]

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The mean picture, or the most frequent class of every place."""
        ((goal, kind),) = self.targets(dataset.fields).items()
        count = min(BASELINE_SAMPLES, len(dataset))
        stride = 1 if dataset.unbounded else max(1, len(dataset) // count)
        return MeanPicture((dataset.read(number * stride) for number in range(count)), goal, kind)

    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """A picture, or logits of classes."""
        (goal,) = self.targets(fields).values()
        if isinstance(goal, Labels):
            return Output(goal.names, "logits, of which the largest is the class")
        count = channels_of(goal)
        colours = ("red", "green", "blue") if count == 3 else tuple(f"channel {place}" for place in range(count))
        return Output(colours, "sRGB from 0 to 1")

    def decode(self, output: Any, query: Query) -> Prediction:
        """The answer at the size of what was asked about."""
        ((goal, kind),) = self.targets(query.fields).items()
        values = original_size(output, query)
        if isinstance(kind, Labels):
            return LabelMap(values.argmax(-1), kind, goal)
        return Made.of(values, goal)

    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """What it should be translated into."""
        ((goal, kind),) = self.targets(fields).items()
        return LabelMap(sample[goal], kind, goal) if isinstance(kind, Labels) else Made(sample[goal], goal)


def channels_of(kind: Kind) -> int:
    """Of a picture, or one per class."""
    if isinstance(kind, (OneHot, Image)):
        return kind.channels
    assert isinstance(kind, Labels)
    return len(kind.names)
