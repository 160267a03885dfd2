"""Figures of hand pose: methods without a network, the prior, real poses, and the authors' published predictions.

python tools/reproduce/hands.py                               methods without a network on `synthetic-hands`
python tools/reproduce/hands.py prior [STEPS [OUT]]           with and without prior at equal steps, three seeds each
python tools/reproduce/hands.py poses LABELS                  principal components and rotations of real poses of NYU
python tools/reproduce/hands.py rendered LABELS [CHECKPOINT]  scores on renderings of these poses
python tools/reproduce/hands.py turned LABELS [STEPS [OUT]]   the same, learned from hands in any rotation
python tools/reproduce/hands.py frame DEPTH.png LABELS        errors on one depth image of NYU, the first of LABELS
python tools/reproduce/hands.py published DATA FILE LABELS    scores of predictions in the authors' files
python tools/reproduce/hands.py curve OUT.png [CHECKPOINT]    share of frames whose worst joint is within D

Ridge regression and nearest neighbors learn from 6,000 hands of `synthetic-hands`; they take the depth at 16 x 16, each
cell the mean of its pixels. LABELS and FILE have a line per frame: u and v in pixels and d in millimeters of one joint
after the other, maybe after the name of the image. DATA is `icvl` or `nyu-hand`, whose camera they are of.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from densevision import create_task, load, train
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.field_types import Skeleton
from densevision.datasets.formats.png import read_packed_depth
from densevision.datasets.hand.cube import cut_cube, unproject
from densevision.datasets.hand.localization import find_hand, find_palm
from densevision.datasets.hand.nyu_hand import CUBE_MM, FIRST_SUBJECT_FRAMES, SECOND_SUBJECT, NYUHand
from densevision.datasets.hand.skeletons import ICVL, icvl_joints, nyu_joints
from densevision.datasets.rendering.hands import (
    BONES,
    ROOTS,
    ROTATION,
    SENSOR,
    capsules_of,
    cast_capsules,
    measure,
    palm_of,
    place_hand,
    pose_hand,
    random_rotation,
)
from densevision.datasets.synthetic import SyntheticHands
from densevision.tasks.hand_pose.hand_prediction import sample_prediction
from densevision.tasks.hand_pose.metrics import DISTANCES_MM, HandMetrics
from densevision.tasks.hand_pose.networks import PosePrior

SIDE, NEIGHBORS, PENALTY, TRAIN_SAMPLES = 16, 5, 3.0, 6000
SEEDS, STEPS = (0, 1, 2), 150
NYU_SIZE = (480, 640)
COMPONENTS = (5, 8, 10, 20, 30)
PALM = [0, 5, 9, 13, 17]
"""Wrist and roots of the fingers, of the 21 joints of `rendering.hands`: they are rigid."""

Predict = Callable[[list[Sample]], list[np.ndarray]]
"""From samples to joints (J, 3) in millimeters."""


def simple_predictors(train_set: Dataset, count: int = TRAIN_SAMPLES) -> dict[str, Predict]:
    """The mean pose in the cube, ridge regression and nearest neighbors, by name."""
    samples = [train_set.read(index) for index in range(count)]
    depths = _features(samples)
    poses = np.array([(each["joints"] - each["cube"][:3]) / each["cube"][3] for each in samples], np.float64)
    poses = poses.reshape(count, -1)
    mean_depth, mean = depths.mean(0), poses.mean(0)
    centered = depths - mean_depth
    weights = np.linalg.solve(centered.T @ centered + PENALTY * np.eye(SIDE**2), centered.T @ (poses - mean))

    def nearest(queries: np.ndarray) -> np.ndarray:
        distances = (depths**2).sum(1) - 2 * queries @ depths.T
        return poses[np.argpartition(distances, NEIGHBORS, axis=1)[:, :NEIGHBORS]].mean(1)

    by_depth: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mean pose": lambda queries: np.broadcast_to(mean, (len(queries), len(mean))),
        "ridge regression": lambda queries: mean + (queries - mean_depth) @ weights,
        f"{NEIGHBORS} nearest neighbors": nearest,
    }

    def predictor(predict: Callable[[np.ndarray], np.ndarray]) -> Predict:
        return lambda queries: [
            sample["cube"][:3] + pose.reshape(-1, 3) * sample["cube"][3]
            for sample, pose in zip(queries, predict(_features(queries)), strict=True)
        ]

    return {name: predictor(predict) for name, predict in by_depth.items()}


def _features(samples: list[Sample]) -> np.ndarray:
    """Depth (N, 256) in [-1, 1]."""
    small = [cv2.resize(each["depth"], (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel() for each in samples]
    return 2 * np.array(small, np.float64) - 1


def network(checkpoint: str) -> Predict:
    """The predictions of a model."""
    model = load(checkpoint, "cpu", "off")
    return lambda samples: [model.predict_sample(sample).joints for sample in samples]  # type: ignore[attr-defined]


def score(predict: Predict, samples: list[Sample], skeleton: Skeleton = ICVL) -> HandMetrics:
    """Metrics of predictions for samples."""
    metrics = HandMetrics()
    for sample, joints in zip(samples, predict(samples), strict=True):
        metrics.update(sample_prediction(sample, joints, skeleton), sample)
    return metrics


def describe(name: str, metrics: HandMetrics) -> None:
    """Print the scores of a method."""
    print(f"{name}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in metrics.compute().items()))


def neighbors() -> None:
    """Print the scores of the methods without a network on the test split."""
    test = open_dataset("synthetic-hands", None, "test")
    samples = [test.read(index) for index in range(len(test))]
    for name, predict in simple_predictors(open_dataset("synthetic-hands")).items():
        describe(name, score(predict, samples))


class TurnedHands(SyntheticHands):
    """`synthetic-hands` from all sides."""

    rotation: ClassVar[tuple[float, float, float]] = (150.0, 70.0, 180.0)


def prior(steps: str = str(STEPS), out: str = "runs/prior") -> None:
    """Train with and without prior for as many steps, with three seeds, and print the errors in millimeters."""
    for seed in SEEDS:
        errors = {}
        for components in (30, 0):
            folder = Path(out) / f"{components}-{seed}"
            task = create_task("hand_pose", prior=components)
            errors[components] = short_run(task, int(steps), folder, seed=seed)["metrics"]["mm"]
        print(f"seed {seed}: with prior {errors[30]:.2f} mm, without {errors[0]:.2f} mm", flush=True)


def short_run(task: Any, steps: int, out: Path, **options: Any) -> dict[str, Any]:
    """Train on one thread; return the contents of result.json."""
    return train(
        task, steps=steps, warmup_steps=steps // 10, sample_uses=4, eval_every=0, workers=0, threads=1, amp="off",
        device="cpu", out=out, **options,
    )  # fmt: skip


def read_uvd(file: str | Path, skeleton: Skeleton, camera: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names of the images ("" without) and joints (N, J, 3), millimeters in the frame of the camera with y down."""
    names, rows = [], []
    for number, line in enumerate(Path(file).read_text().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        is_named = len(words) == 3 * len(skeleton.names) + 1
        values = np.array(words[is_named:], np.float64)
        if len(values) != 3 * len(skeleton.names):
            sys.exit(f"{file}, line {number}: expected {len(skeleton.names)} times u v d, found {len(values)} numbers.")
        uvd = values.reshape(-1, 3)
        names.append(words[0] if is_named else "")
        rows.append(unproject(uvd[:, :2], uvd[:, 2], camera))
    return names, np.array(rows)


def poses(labels: str) -> None:
    """Print how much of the variance of real poses, relative to their palms, principal components explain, and the
    rotations of the hands."""
    _, joints = read_uvd(labels, NYUHand.skeleton, NYUHand.camera)
    relative = ((joints - joints[:, [NYUHand.palm]]) / (CUBE_MM / 2)).clip(-1, 1).reshape(len(joints), -1)
    shares = {count: PosePrior(count, relative.shape[1]).fit(relative) for count in COMPONENTS}
    print(f"{len(joints)} poses: " + ", ".join(f"{count} components {share:.4f}" for count, share in shares.items()))
    angles = np.array([angles_of(rotation_of(whole_hand(pose))[0]) for pose in joints])
    for name, values in zip(("roll", "pitch", "yaw"), angles.T, strict=True):
        print(f"{name}: 5 to 95 % of the poses from {np.percentile(values, 5):.0f} to {np.percentile(values, 95):.0f}")
    print(f"all three as in synthetic-hands: {(np.abs(angles) <= ROTATION).all(1).mean():.3f}")


def angles_of(rotation: np.ndarray) -> np.ndarray:
    """Roll, pitch and yaw in degrees, as `random_rotation` composes them."""
    roll = np.arctan2(-rotation[0, 1], rotation[1, 1])
    return np.degrees([roll, np.arcsin(rotation[2, 1]), np.arctan2(-rotation[2, 0], rotation[2, 2])])


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Rotation (3, 3) and scale that turn points (N, 3) about their center into others, by least squares."""
    first, second = source - source.mean(0), target - target.mean(0)
    left, _, right = np.linalg.svd(second.T @ first)
    mirror = np.diag([1, 1, np.sign(np.linalg.det(left @ right))])
    return left @ mirror @ right, float(np.sqrt((second**2).sum() / (first**2).sum()))


def whole_hand(joints: np.ndarray) -> np.ndarray:
    """The 21 joints of `rendering.hands` for 14 of NYU: both (J, 3) millimeters.

    Tips, middle joints and those of the thumb are NYU's. NYU has no roots of the fingers: they are those of the rigid
    palm of the renderer, turned and scaled to the two wrist joints and the palm. The last joint of a finger is on the
    line from the middle one to the tip.
    """
    rest = np.concatenate([np.zeros((1, 3)), *(np.repeat(root[None], 4, 0) for root in ROOTS)])
    template = nyu_joints(rest)[[11, 12, 13]].astype(np.float64)
    anchors = joints[[11, 12, 13]]
    rotation, scale = similarity(template, anchors)
    placed = (rest - template.mean(0)) @ rotation.T * scale + anchors.mean(0)
    placed[0] = anchors[:2].mean(0)
    placed[2:5] = joints[[10, 9, 8]]
    for finger, (tip, middle) in enumerate(((6, 7), (4, 5), (2, 3), (0, 1)), 1):
        share = BONES[finger, 1] / BONES[finger, 1:].sum()
        start = 1 + 4 * finger
        placed[start + 1 : start + 4] = (
            joints[middle],
            joints[middle] + share * (joints[tip] - joints[middle]),
            joints[tip],
        )
    return placed


def rotation_of(hand: np.ndarray) -> tuple[np.ndarray, float]:
    """Rotation (3, 3) and scale of the palm of a hand, (21, 3), from the rest pose."""
    return similarity(np.concatenate([np.zeros((1, 3)), ROOTS[1:]]), hand[PALM])


def render_poses(labels: str) -> list[Sample]:
    """Samples of capsule hands in real poses, at their real places before NYU's camera, with the sensor's noise."""
    names, joints = read_uvd(labels, NYUHand.skeleton, NYUHand.camera)
    samples = []
    for number, (name, pose) in enumerate(zip(names, joints, strict=True)):
        hand = whole_hand(pose)
        depth = cast_capsules(*capsules_of(hand), NYUHand.camera, NYU_SIZE)
        measured = measure(depth, generator(0, 0, number, Purpose.EXAMPLE))
        frame = int("".join(filter(str.isdigit, Path(name).stem.rpartition("_")[2])) or number + 1)
        side = CUBE_MM * (SECOND_SUBJECT if frame > FIRST_SUBJECT_FRAMES else 1)
        samples.append({**cut_cube(measured, NYUHand.camera, palm_of(hand), side), "joints": icvl_joints(hand)})
    return samples


def rendered(labels: str, checkpoint: str = "hand_pose") -> None:
    """Print the scores of a model and of methods without a network on renderings of real poses.

    Then those of the model on renderings that are closer and closer to `synthetic-hands`: the real poses before the
    camera of ICVL, at the sizes and places of the synthetic hands; with their rotations; and with their fingers.
    """
    samples = render_poses(labels)
    model = network(checkpoint)
    for name, predict in {"network": model, **simple_predictors(open_dataset("synthetic-hands"))}.items():
        describe(name, score(predict, samples))
    for name, closer in closer_poses(labels).items():
        describe(f"network, {name}", score(model, closer))


def turned(labels: str, steps: str = str(2 * STEPS), out: str = "runs/turned") -> None:
    """Print the scores of methods that learn from hands in any rotation on renderings of real poses; 0 steps: without
    the network."""
    samples = render_poses(labels)
    for name, predict in simple_predictors(TurnedHands()).items():
        describe(name, score(predict, samples))
    if int(steps):
        short_run("hand_pose", int(steps), Path(out), data=TurnedHands(), eval_data=TurnedHands(split="test"))
        describe("network", score(network(out), samples))


def closer_poses(labels: str) -> dict[str, list[Sample]]:
    """Samples by what is real in them, all before the camera and at the sizes and places of `synthetic-hands`."""
    samples: dict[str, list[Sample]] = {"rotation and fingers": [], "fingers": [], "rotation": []}
    for number, pose in enumerate(read_uvd(labels, NYUHand.skeleton, NYUHand.camera)[1]):
        rng = generator(0, 0, number, Purpose.EXAMPLE)
        hand = whole_hand(pose)
        rotation, scale = rotation_of(hand)
        turns = {"rotation and fingers": hand / scale, "fingers": hand @ rotation / scale @ random_rotation(rng).T}
        for name, joints in {**turns, "rotation": pose_hand(rng) @ rotation.T}.items():
            drawn = place_hand(joints, rng, SENSOR)
            cut = cut_cube(drawn.depth, drawn.camera, palm_of(drawn.joints), SyntheticHands.cube_side)
            samples[name].append({**cut, "joints": icvl_joints(drawn.joints)})
    return samples


def frame(image: str, labels: str, checkpoint: str = "hand_pose") -> None:
    """Print the errors of the joints that ICVL and NYU share, in one depth image, with the palm given and found."""
    depth, camera = read_packed_depth(image), NYUHand.camera
    label = read_uvd(labels, NYUHand.skeleton, camera)[1][0]
    model = load(checkpoint, "cpu", "off")
    shared = [name for name in ICVL.names if name in NYUHand.skeleton.names]
    found = find_palm(depth.astype(np.float32), camera)
    print(f"palm found {np.linalg.norm(found - label[NYUHand.palm]):.1f} mm from the labeled one")
    samples = {
        "palm-given": cut_cube(depth, camera, label[NYUHand.palm], CUBE_MM),
        "found, one pass": cut_cube(depth, camera, found, CUBE_MM),
        "found": find_hand(depth.astype(np.float32), camera, CUBE_MM),
    }
    for protocol, sample in samples.items():
        joints = model.predict_sample(sample).joints  # type: ignore[attr-defined]
        errors = {
            name: np.linalg.norm(joints[ICVL.names.index(name)] - label[NYUHand.skeleton.names.index(name)])
            for name in shared
        }
        listed = ", ".join(f"{name} {error:.0f}" for name, error in errors.items())
        print(f"{protocol}: mean of {len(shared)} joints {np.mean(list(errors.values())):.1f} mm; {listed}")


def published(data: str, file: str, labels: str) -> None:
    """Print the scores of predictions as authors publish them: a line of u v d per frame, beside the labels."""
    dataset: Any = dataset_class(data)
    predicted, labeled = (read_uvd(path, dataset.skeleton, dataset.camera)[1] for path in (file, labels))
    if len(predicted) != len(labeled):
        sys.exit(f"{file} has {len(predicted)} frames, {labels} has {len(labeled)}.")
    describe(data, score_joints(predicted, labeled, dataset.skeleton))


def score_joints(predicted: Iterable[np.ndarray], labeled: Iterable[np.ndarray], skeleton: Skeleton) -> HandMetrics:
    """Metrics of joints (J, 3) in millimeters, frame by frame."""
    metrics, empty = HandMetrics(), {"depth": np.ones((1, 1), np.float32), "camera": np.eye(3)}
    for joints, label in zip(predicted, labeled, strict=True):
        metrics.update(sample_prediction(empty, joints, skeleton), {"joints": label})
    return metrics


def curve(out: str, checkpoint: str = "hand_pose") -> None:
    """Draw the share of test frames of `synthetic-hands` whose worst joint is within D."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    test = open_dataset("synthetic-hands", None, "test")
    samples = [test.read(index) for index in range(len(test))]
    methods = {"DeepPrior (packaged)": network(checkpoint), **simple_predictors(open_dataset("synthetic-hands"))}
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes, distances = figure.subplots(), np.arange(0, DISTANCES_MM[-1] + 1)
    for name, predict in methods.items():
        worst = score(predict, samples).worst()
        axes.plot(distances, (worst[:, None] <= distances).mean(0), label=name)
    axes.set(xlabel="D in mm", ylabel="share of frames within D", ylim=(0, 1), xlim=(0, DISTANCES_MM[-1]))
    axes.legend()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    commands = {
        command.__name__: command for command in (neighbors, prior, poses, rendered, turned, frame, published, curve)
    }
    name, *arguments = sys.argv[1:] or ["neighbors"]
    if name not in commands:
        sys.exit(__doc__)
    commands[name](*arguments)
