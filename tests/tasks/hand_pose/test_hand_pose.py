"""Hand pose end to end: networks, prior, metrics, predictions. Facts-next, part C."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from densevision import create_task
from densevision.backbones import create_backbone
from densevision.datasets import open_dataset
from densevision.datasets.core.geometry import Geometry, rotation, translation
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.dataset import FirstSamples, Sample
from densevision.datasets.field_types import collate, transform_sample
from densevision.datasets.formats.arrays import write_npy
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.formats.png import write_depth_png, write_png16
from densevision.datasets.hand.cube import camera_matrix, cut_cube, project
from densevision.datasets.hand.skeletons import ICVL, icvl_joints
from densevision.datasets.rendering.hands import SENSOR, Hand, draw_hand, palm_of
from densevision.errors import UserError
from densevision.tasks.hand_pose import HandPose
from densevision.tasks.hand_pose.hand_prediction import MeanHand, sample_prediction
from densevision.tasks.hand_pose.losses import l2
from densevision.tasks.hand_pose.metrics import HandMetrics
from densevision.tasks.hand_pose.networks import BackboneHand, DeepPrior, PosePrior, Regression, normalize_joints
from densevision.tasks.hand_pose.policies import find_palm, load_depth
from densevision.tasks.inference import Predictor

DATASET = open_dataset("synthetic-hands", None, "test")
FIELDS = DATASET.fields


def hand(number: int = 0) -> Hand:
    return draw_hand(generator(0, 0, number, Purpose.EXAMPLE), SENSOR)


def predictor(network: Any = None, **options: Any) -> Predictor:
    task = create_task("hand_pose", **options)
    return Predictor(task, (network or DeepPrior(16, 30)).eval(), FIELDS, (128, 128))


def sample_of(joints: np.ndarray) -> Sample:
    return {"joints": joints.astype(np.float32), "depth": np.ones((8, 8), np.float32), "camera": np.eye(3)}


# --- networks


@pytest.mark.parametrize(("joints", "parameters"), [(14, 2_076_308), (16, 2_076_494), (21, 2_076_959)])
def test_deepprior_has_the_parameters_of_the_released_code(joints, parameters):
    network = DeepPrior(joints, 30)
    assert sum(each.numel() for each in network.parameters()) == 2_075_006
    assert sum(each.numel() for each in network.state_dict().values()) == parameters


@pytest.mark.parametrize(("joints", "parameters"), [(14, 2_087_306), (16, 2_093_456), (21, 2_108_831)])
def test_without_a_prior_there_are_more_parameters(joints, parameters):
    # T: the same network with a last layer of 3 J outputs.
    assert sum(each.numel() for each in DeepPrior(joints, 0).state_dict().values()) == parameters


def test_layers_of_deepprior_have_the_sizes_of_the_released_code():
    network = DeepPrior(16, 30)
    sizes, x = [], torch.zeros(1, 1, 128, 128)
    for layer in network.layers:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes[0] == (8, 124, 124) and sizes[1] == (8, 31, 31) and sizes[4] == (8, 13, 13) and sizes[8] == (968,)
    assert [layer.p for layer in network.layers if isinstance(layer, torch.nn.Dropout)] == [0.3, 0.3]


def test_deepprior_starts_as_released():
    torch.manual_seed(0)
    layers: Any = DeepPrior(16, 30).requires_grad_(False).layers
    assert float(layers[0].weight.std()) == pytest.approx((2 / 25) ** 0.5, rel=0.15)
    assert float(layers[9].weight.std()) == pytest.approx(0.01, rel=0.02)
    assert float(layers[15].weight.abs().max()) == pytest.approx((6 / (1024 + 30)) ** 0.5, rel=0.01)
    assert all(not layers[index].bias.any() for index in (0, 3, 6, 9, 12, 15))


@pytest.mark.parametrize("backbone", ["lenet5", "resnet20_cifar", "vgg11", "googlenet"])
@pytest.mark.parametrize("prior", [0, 30])
def test_every_backbone_predicts_joints(backbone, prior):
    with torch.device("meta"):
        body = create_backbone(backbone, num_classes=0, in_channels=1)
        network = BackboneHand(body, Regression, 16, prior)
        assert network(torch.empty(2, 1, 128, 128)).shape == (2, 48)


def test_other_sizes_are_resized_without_interpolation():
    network = DeepPrior(16, 30).eval()
    depth = torch.rand(1, 1, 128, 128)
    doubled = depth.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(network(doubled), network(depth))


# --- the prior


def test_the_prior_is_the_principal_components():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 3)) * (5, 2, 1)
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0][:3]
    poses = rng.normal(size=12) + hidden @ axes
    prior = PosePrior(3, 12)
    assert prior.fit(poses) == pytest.approx(1)
    tensor = torch.from_numpy(poses).float()
    # T: rows are orthonormal; coefficients = (pose - mean) components^T.
    torch.testing.assert_close(prior.components @ prior.components.T, torch.eye(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(prior.encode(tensor), (tensor - prior.mean) @ prior.components.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prior(prior.encode(tensor)), tensor, atol=1e-4, rtol=1e-4)
    variances = prior.encode(tensor).var(0)
    assert bool((variances[:-1] >= variances[1:]).all())
    two = PosePrior(2, 12)
    assert two.fit(poses) == pytest.approx(1 - np.linalg.svd(poses - poses.mean(0))[1][2] ** 2 / np.sum(
        (poses - poses.mean(0)) ** 2), abs=1e-6)  # fmt: skip


def test_the_prior_is_fitted_to_normalized_joints_that_are_clipped():
    # T: normalized by half the cube and clipped to [-1, 1].
    class Far(FirstSamples):
        def read(self, index: int) -> Sample:
            sample = self.dataset.read(index)
            joints = sample["joints"].copy()
            joints[5] = sample["cube"][:3] + np.array([1000 * (-1) ** index, 0, 0])
            return {**sample, "joints": joints}

    network = DeepPrior(16, 30)
    assert network.prior is not None
    said = network.calibrate(Far(DATASET, 12))
    assert said is not None and "30 principal components" in said and "12 poses" in said
    assert network.prior.mean.view(16, 3)[5].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.calibrate(Far(DATASET, 12))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_prior_of_more_components_than_numbers_is_refused():
    with pytest.raises(UserError, match="poses of 16 joints have 48 components"):
        HandPose(prior=49).build(FIELDS, None, None, "deepprior")
    with pytest.raises(UserError, match="--prior is -1"):
        HandPose(prior=-1)


def test_the_loss_is_a_sum_over_coefficients_or_over_x_y_z():
    joints = torch.zeros(2, 4, 3)
    joints[0, 0, 0] = 1
    without = DeepPrior(4, 0)
    # One squared error in 4 joints of 2 samples.
    assert float(l2(without, torch.zeros(2, 12), joints)["l2"]) == pytest.approx(1 / 8)
    assert float(l2(DeepPrior(4, 3), torch.zeros(2, 3), joints)["l2"]) == pytest.approx(1 / 2)


# --- normalization


def batch_of(sample: Sample) -> dict[str, torch.Tensor]:
    return collate([sample], {name: FIELDS[name] for name in ("joints", "camera", "cube")})


def test_joints_are_relative_to_the_cube_and_clipped():
    sample = DATASET.read(0)
    normalized = normalize_joints(**batch_of(sample))
    np.testing.assert_allclose(
        normalized[0].numpy(), ((sample["joints"] - sample["cube"][:3]) / 125).clip(-1, 1), atol=1e-5
    )


def test_a_rotated_image_has_rotated_joints():
    center = translation(63.5, 63.5)
    matrix = center @ rotation(30) @ np.linalg.inv(center)
    sample = DATASET.read(1)
    moved = transform_sample(sample, FIELDS, Geometry((matrix,), (128, 128)))
    plain, turned = (normalize_joints(**batch_of(each))[0].numpy() for each in (sample, moved))
    np.testing.assert_allclose(turned[:, :2], plain[:, :2] @ rotation(30)[:2, :2].T, atol=1e-4)
    np.testing.assert_allclose(turned[:, 2], plain[:, 2], atol=1e-6)
    # That is where the rotated image has them.
    expected = (matrix @ np.column_stack([project(sample["joints"], sample["camera"]), np.ones(16)]).T).T[:, :2]
    np.testing.assert_allclose(project(moved["joints"], moved["camera"]), expected, atol=1e-3)


def test_training_never_flips_a_hand():
    # T: a flipped hand is the other hand; the training options flip by default.
    from densevision.datasets.core.augmentation import Augmentation

    limits = HandPose().augmentation.limits(Augmentation(hflip=0.5, max_zoom=2.0, max_rotation=9), FIELDS, (128, 128))
    assert (limits.hflip, limits.max_zoom, limits.max_rotation) == (0, 1, 9)
    with pytest.raises(UserError, match="A mirrored hand is the other hand"):
        predictor().predict_sample(DATASET.read(0), flip=True)


# --- metrics


def test_metrics_by_hand():
    labels = np.zeros((2, 3))
    metrics = HandMetrics()
    metrics.update(sample_prediction(sample_of(labels), np.array([[20.0, 0, 0], [0, 0, 0]]), ICVL), sample_of(labels))
    metrics.update(
        sample_prediction(sample_of(labels), np.array([[0, 30.5, 0], [0, 0, 40.5]]), ICVL), sample_of(labels)
    )
    scores = metrics.compute()
    # Means of frames 10 and 35.5; the worst joints are 20 (which counts as within 20) and 40.5.
    assert scores["mm"] == pytest.approx(22.75)
    within = {20: 0.5, 30: 0.5, 40: 0.5, 50: 1, 60: 1, 80: 1}
    assert {name: scores[f"within_{name}"] for name in within} == within
    assert all(np.isnan(value) for value in HandMetrics().compute().values())


def test_the_baseline_is_the_mean_pose_in_the_cube():
    baseline = MeanHand(FirstSamples(DATASET, 40))
    metrics = HandMetrics()
    for index in range(40):
        metrics.update(baseline(DATASET.read(index)), DATASET.read(index))
    # 49.7 mm on 500 hands: facts-next, C.5.
    assert metrics.compute()["mm"] == pytest.approx(49.7, abs=5)


# --- predictions


def write_hand(path: Any, number: int = 0) -> Hand:
    drawn = hand(number)
    write_png16(path, drawn.depth.astype(np.uint16))
    return drawn


class TrueJoints(DeepPrior):
    """The joints of one hand, as a network would give them for its cube."""

    def __init__(self, joints: np.ndarray, cube: np.ndarray) -> None:
        super().__init__(16, 30)
        self.joints = torch.from_numpy((joints - cube[:3]) / (cube[3] / 2)).float().flatten()

    def forward(self, depth):
        return self.joints.expand(len(depth), -1)


def test_a_prediction_is_in_millimeters_of_the_camera():
    sample = DATASET.read(3)
    network = TrueJoints(sample["joints"], sample["cube"])
    prediction: Any = predictor(network).predict_sample(sample)
    np.testing.assert_allclose(prediction.joints, sample["joints"], atol=1e-3)
    np.testing.assert_allclose(prediction.pixels, project(sample["joints"], sample["camera"]), atol=1e-3)


def test_a_depth_image_gives_joints_in_its_pixels(tmp_path):
    drawn = write_hand(tmp_path / "a.png")
    scale = SENSOR[1] / 320
    camera = camera_matrix(241.42 * scale, 241.42 * scale, 160 * scale, 120 * scale)
    cut = cut_cube(drawn.depth, camera, find_palm(drawn.depth, camera), 250)
    joints = icvl_joints(drawn.joints)
    prediction: Any = predictor(TrueJoints(joints, cut["cube"])).predict(tmp_path / "a.png")
    np.testing.assert_allclose(prediction.joints, joints, atol=1e-3)
    assert "found as the nearest region" in prediction.summary()
    files = prediction.save(tmp_path, "a")
    assert [file.name for file in files] == ["a_hand.json", "a_hand.png", "a_hand_views.png"]
    stored = json.loads(files[0].read_text())
    assert stored["unit"] == "millimeters" and list(stored["joints"]) == list(ICVL.names)
    assert stored["joints"]["palm"] == pytest.approx(joints[0].tolist(), abs=0.006)
    assert stored["camera"] == pytest.approx([241.42, 241.42, 160, 120])
    image = read_image(files[1])
    assert image.shape == (240, 320, 3)
    # Joints are drawn in yellow where they are.
    u, v = np.round(stored["pixels"]["palm"]).astype(int)
    assert image[v, u].tolist() == [255, 255, 0] or (image[v - 1 : v + 2, u - 1 : u + 2] == [255, 255, 0]).all(-1).any()
    assert read_image(files[2]).shape == (192, 576, 3)


def test_the_hand_is_found_in_front_of_a_wall():
    drawn = hand(2)
    depth = np.where(drawn.depth > 0, drawn.depth, 1200)
    depth[:40, :40] = 0
    palm = find_palm(depth, drawn.camera)
    assert np.linalg.norm(palm - palm_of(drawn.joints)) < 80
    cut, alone = (cut_cube(image, drawn.camera, palm, 250) for image in (depth, drawn.depth))
    np.testing.assert_allclose(cut["cube"], alone["cube"], atol=0.5)


def test_units_of_depth(tmp_path):
    meters = np.full((6, 8), 0.5, np.float32)
    meters[0, 0] = np.nan
    write_depth_png(tmp_path / "a.png", meters, 1000)
    write_npy(tmp_path / "a.npy", meters)
    from densevision.tasks.image_io import ImageFile

    millimeters = np.nan_to_num(meters * 1000).astype(np.uint16)
    for source in (
        ImageFile(tmp_path / "a.png"),
        ImageFile(tmp_path / "a.npy"),
        meters,
        millimeters,
        meters[..., None],
    ):
        np.testing.assert_allclose(load_depth(source), meters)


def test_damaged_depth_is_refused_in_a_sentence(tmp_path):
    model = predictor()
    for name, stored, message in (
        ("zero", np.zeros((20, 20), np.uint16), "found no known depth"),
        ("meters", np.full((20, 20), 2, np.uint16), "found depths from 2 to 2 mm"),
        ("far", np.full((20, 20), 9000, np.uint16), "found depths from 9000 to 9000 mm"),
    ):
        write_png16(tmp_path / f"{name}.png", stored)
        with pytest.raises(UserError, match=message):
            model.predict(tmp_path / f"{name}.png")
    write_image(tmp_path / "8-bit.png", np.full((20, 20), 90, np.uint8))
    with pytest.raises(UserError, match="expected a 16-bit gray PNG, found 8 bits"):
        model.predict(tmp_path / "8-bit.png")
    for pixels in (np.full((20, 20, 3), 90, np.uint8), np.full((20, 20), 90, np.uint8), np.zeros((0, 5), np.uint16)):
        with pytest.raises(UserError, match="is no depth image: expected HxW integers of at least 16 bits"):
            model.predict(pixels)
    with pytest.raises(UserError, match="takes 1 input"):
        model.predict(pixels, pixels)
    with pytest.raises(UserError, match="by a cube, not by a box"):
        model.predict(np.full((20, 20), 400, np.uint16), box=(1, 1, 5, 5))
    with pytest.raises(UserError, match="has the fields 'cube' and 'camera'"):
        model.predict_sample({"depth": np.ones((128, 128), np.float32)})


# --- training


@pytest.mark.slow
def test_training_lowers_the_error_below_the_mean_pose(tmp_path):
    from densevision.tasks.training.setup import train

    result = train(
        "hand_pose", train_samples=64, eval_samples=20, out=tmp_path / "run", steps=50, batch_size=32, lr=1e-3,
        workers=0, threads=1, device="cpu", amp="off", eval_every=0, ema_decay=0.0, warmup_steps=5, max_rotation=5,
    )  # fmt: skip
    assert result["metrics"]["mm"] < 0.95 * result["baseline"]["mm"]
