from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.backbones.state_dict_matching import save_weights
from densevision.errors import UserError
from densevision.tasks.checkpoint import (
    HEADER,
    load_checkpoint,
    read_header,
    write_model,
)
from densevision.tasks.classification.metrics import ClassScores
from densevision.tasks.conversion import convert_to_fp16
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.inference import Predictor, load, packaged_checkpoint
from densevision.tasks.prediction import Prediction
from densevision.tasks.training.state import load_state, save_state
from densevision.version import VERSION

from .training.toys import BACKBONE, Relief, build_toy_trainer

IMAGE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
OTHER = Preprocessing(mean=(0.3, 0.5, 0.6), std=(0.5, 0.4, 0.3), range=(-0.5, 1.0), order="BGR")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, Predictor]:
    """A checkpoint of a backbone and a head with changed statistics, and the predictor from which it was saved."""
    out = tmp_path_factory.mktemp("run")
    trainer = build_toy_trainer(Depth(), out / "run", **BACKBONE, backbone_levels=2)
    trainer.model.backbone.preprocessing = OTHER
    for layer in trainer.model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    nn.init.normal_(trainer.model.head.predict.weight, 0, 0.02)
    write_model(out / "here.safetensors", trainer.model, trainer.model_spec, trainer.checkpoint_metadata())
    return out / "here.safetensors", Predictor(
        Depth(), trainer.model, trainer.training_set.dataset.fields, trainer.training_set.size
    )


def meters(prediction: Prediction) -> np.ndarray:
    assert isinstance(prediction, DepthMap)
    return prediction.meters


def test_a_copied_checkpoint_predicts_like_the_saved_model(saved, tmp_path):
    path, predictor = saved
    moved = shutil.copy(path, tmp_path / "elsewhere.safetensors")
    loaded = load(moved, device="cpu", amp="off")
    model: Any = loaded.model
    assert model.backbone.preprocessing == OTHER
    assert loaded.size == (16, 16)
    for mode in ("fit", "native"):
        before, after = (meters(one.predict(IMAGE, mode=mode)) for one in (predictor, loaded))
        assert before.shape == IMAGE.shape[:2] and before.std() > 0
        np.testing.assert_array_equal(before, after)


def test_the_header_has_the_keys_of_the_design(saved):
    header = read_header(saved[0])
    assert header["version"] == VERSION
    assert (header["task"], header["backbone"], header["head"]) == ("depth", "resnet20_cifar", "unet")
    assert header["backbone_options"]["levels"] == 2
    assert header["fields"].keys() == {"image", "depth"}
    assert Preprocessing.from_json(header["preprocessing"]) == OTHER
    assert header["data"]["terms"] and header["size"] == [16, 16] and header["step"] == 0


def test_a_model_is_loaded_in_evaluation_mode_on_the_cpu(saved):
    model, model_spec, _ = load_checkpoint(saved[0])
    assert not any(module.training for module in model.modules())
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert model_spec.task == Depth()


def test_fp16_halves_the_file_and_changes_predictions_little(saved, tmp_path):
    path, predictor = saved
    convert_to_fp16(path, tmp_path / "small.safetensors")
    bytes_of = [
        sum(tensor.nelement() * tensor.element_size() for tensor in floats_of(file))
        for file in (tmp_path / "small.safetensors", path)
    ]
    assert 0.5 < bytes_of[0] / bytes_of[1] < 0.54
    assert read_header(tmp_path / "small.safetensors") == read_header(path)
    small = load(tmp_path / "small.safetensors", device="cpu", amp="off")
    assert {parameter.dtype for parameter in small.model.parameters()} == {torch.float32}
    before, after = (meters(one.predict(IMAGE)) for one in (predictor, small))
    # fp16 keeps eleven bits: half a thousandth per weight.
    assert 0 < np.abs(after / before - 1).max() < 0.02


def test_fp16_keeps_statistics_that_exceed_its_range(tmp_path):
    trainer = build_toy_trainer(Depth(), tmp_path / "run", **BACKBONE)
    (first, *_) = [layer for layer in trainer.model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert first.running_var is not None
    nn.init.constant_(first.running_var, 1e6)
    write_model(tmp_path / "large.safetensors", trainer.model, trainer.model_spec, trainer.checkpoint_metadata())
    convert_to_fp16(tmp_path / "large.safetensors", tmp_path / "small.safetensors")
    values = load(tmp_path / "small.safetensors", device="cpu").model.state_dict().values()
    assert any(float(value.max()) == 1e6 for value in values)
    assert all(value.isfinite().all() for value in values)


def floats_of(path: Path) -> list[torch.Tensor]:
    with safe_open(path, "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a dict
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def test_saving_replaces_a_checkpoint_atomically(saved, tmp_path, monkeypatch):
    path = Path(shutil.copy(saved[0], tmp_path / "old.safetensors"))
    before = path.read_bytes()
    trainer = build_toy_trainer(Depth(), tmp_path / "run", **BACKBONE)

    def fail(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr("densevision.tasks.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        write_model(path, trainer.model, trainer.model_spec, trainer.checkpoint_metadata())
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.part-*"))


def test_a_checkpoint_has_the_permissions_of_a_new_file(saved, tmp_path):
    (tmp_path / "new").touch()
    convert_to_fp16(saved[0], tmp_path / "small.safetensors")
    modes = {file.stat().st_mode for file in (tmp_path / "new", tmp_path / "small.safetensors", saved[0])}
    assert len(modes) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint '.*nowhere\.safetensors'"):
        load(tmp_path / "nowhere.safetensors")


def test_a_folder_is_refused_as_a_checkpoint(tmp_path):
    (tmp_path / "run.d").mkdir()
    with pytest.raises(UserError, match=r"no checkpoint '.*run\.d'"):
        load(tmp_path / "run.d")


@pytest.mark.parametrize("length", [0, 5, 400, -1])
def test_a_truncated_file_is_named(saved, tmp_path, length):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved[0].read_bytes()[:length])
    with pytest.raises(UserError, match=r"cut\.safetensors is (not a readable safetensors|an empty) file"):
        load(path)


def test_backbone_weights_without_a_classifier_are_refused_with_their_use(tmp_path):
    save_weights(create_backbone("resnet20_cifar", levels=2), tmp_path / "backbone.safetensors")
    with pytest.raises(
        UserError, match="contains resnet20_cifar up to the level 'stage2' without a classifier: it cannot predict"
    ):
        load(tmp_path / "backbone.safetensors")


def test_backbone_weights_with_a_classifier_predict_as_classification(tmp_path):
    torch.manual_seed(0)
    backbone = create_backbone("resnet20_cifar", num_classes=4).eval()
    save_weights(backbone, tmp_path / "backbone.safetensors")
    predictor = load(tmp_path / "backbone.safetensors", device="cpu", amp="off")
    # The default preprocessing: short side 256 for crops of 224; the size is that of the crop.
    assert predictor.size == (224, 224)
    image = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    window = torch.from_numpy(image[16:240, 38:262]).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = backbone(backbone.preprocessing(window)).softmax(1)[0].numpy()
    prediction = predictor.predict(image)
    assert isinstance(prediction, ClassScores)
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    assert prediction.names == ("class 0", "class 1", "class 2", "class 3")


def test_weights_without_a_header_are_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match="contains weights but no densevision header: it is not a checkpoint of a task"):
        load(tmp_path / "backbone.safetensors")


def test_weights_that_do_not_fit_their_header_are_named(saved, tmp_path):
    path = tmp_path / "mixed.safetensors"
    header = json.dumps(read_header(saved[0]))
    save_file({"head.predict.bias": torch.zeros(3)}, path, {HEADER: header})
    with pytest.raises(
        UserError, match=r"mixed\.safetensors does not fit the model that its header describes"
    ) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_a_task_that_is_not_installed_is_refused(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain")
    write_model(tmp_path / "relief.safetensors", trainer.model, trainer.model_spec, trainer.checkpoint_metadata())
    with pytest.raises(UserError, match="no task named 'relief'"):
        load(tmp_path / "relief.safetensors")


def test_an_unknown_task_and_one_without_a_packaged_checkpoint_are_refused(monkeypatch):
    with pytest.raises(UserError, match="no task named 'dept'; did you mean 'depth'"):
        load("dept")
    monkeypatch.setattr("densevision.tasks.inference.PACKAGED_CHECKPOINTS", Path("/nowhere"))
    with pytest.raises(UserError, match=r"no packaged checkpoint for 'depth'.*densevision train depth"):
        packaged_checkpoint("depth")


def test_a_state_is_plain_data_and_other_objects_are_not_unpickled(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain")
    save_state(tmp_path / "state.pt", trainer.state() | {"metrics": {"abs_rel": 0.5}})
    assert load_state(tmp_path / "state.pt")["metrics"] == {"abs_rel": 0.5}
    torch.save({"task": Depth()}, tmp_path / "objects.pt")
    with pytest.raises(UserError, match=r"objects\.pt is damaged"):
        load_state(tmp_path / "objects.pt")
    with pytest.raises(UserError, match=r"nothing to resume: .*none\.pt does not exist"):
        load_state(tmp_path / "none.pt")


def test_a_flipped_bit_of_a_checkpoint_is_noticed(saved, tmp_path):
    content = bytearray(saved[0].read_bytes())
    content[-9] ^= 4
    (tmp_path / "flipped.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"flipped\.safetensors is damaged \(its tensors do not have the digest"):
        load(tmp_path / "flipped.safetensors")


def test_a_flipped_bit_of_a_state_is_noticed_and_the_previous_one_named(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain")
    path = tmp_path / "state.pt"
    save_state(path, trainer.state())
    save_state(path, {**trainer.state(), "step": 3})
    assert load_state(tmp_path / "previous.pt")["step"] == 0
    content, weights = bytearray(path.read_bytes()), trainer.model.state_dict()["first.bias"].numpy().tobytes()
    content[content.index(weights) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt is damaged \(.* checksum\): move .*previous\.pt"):
        load_state(path)


def test_a_small_file_builds_no_large_model(saved, tmp_path, monkeypatch):
    header = {**read_header(saved[0]), "backbone": "resnet152", "backbone_options": {}}
    save_file({"head.predict.bias": torch.zeros(3)}, tmp_path / "small.safetensors", {HEADER: json.dumps(header)})
    monkeypatch.setattr(nn.Conv2d, "reset_parameters", lambda layer: fail_unless_meta(layer.weight))
    with pytest.raises(UserError, match=r"small\.safetensors does not fit the model that its header describes: "):
        load(tmp_path / "small.safetensors")


def fail_unless_meta(weight: torch.Tensor) -> None:
    assert weight.is_meta
