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
from densevision.backbones.weights import save_weights
from densevision.errors import UserError
from densevision.tasks.classification.ranking import Ranking
from densevision.tasks.depth import Depth
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.inference import Predictor, load, shipped_checkpoint
from densevision.tasks.task import Prediction
from densevision.tasks.training.checkpoint import (
    HEADER,
    load_checkpoint,
    load_state,
    read_header,
    save_checkpoint,
    save_state,
    shrink_checkpoint,
)
from densevision.version import VERSION

from .toys import TRUNK, Relief, start

PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
OTHER = Preprocessing(mean=(0.3, 0.5, 0.6), std=(0.5, 0.4, 0.3), range=(-0.5, 1.0), order="BGR")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, Predictor]:
    """A checkpoint of a trunk and a head that were trained a little, and the predictor they were saved from."""
    out = tmp_path_factory.mktemp("run")
    run = start(Depth(), out / "run", **TRUNK, levels=2)
    run.model.backbone.preprocessing = OTHER
    for layer in run.model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    nn.init.normal_(run.model.head.predict.weight, 0, 0.02)
    save_checkpoint(out / "here.safetensors", run.model, run.blueprint, run.facts())
    return out / "here.safetensors", Predictor(Depth(), run.model, run.view.dataset.fields, run.view.size)


def metres(answer: Prediction) -> np.ndarray:
    assert isinstance(answer, DepthMap)
    return answer.metres


def test_a_checkpoint_answers_as_the_network_it_was_saved_from_wherever_its_file_lies(saved, tmp_path):
    path, predictor = saved
    moved = shutil.copy(path, tmp_path / "elsewhere.safetensors")
    loaded = load(moved, device="cpu", amp="off")
    model: Any = loaded.model
    assert model.backbone.preprocessing == OTHER
    assert loaded.size == (16, 16)
    for view in ("fit", "native"):
        before, after = (metres(one.predict(PICTURE, view=view)) for one in (predictor, loaded))
        assert before.shape == PICTURE.shape[:2] and before.std() > 0
        np.testing.assert_array_equal(before, after)


def test_the_header_says_what_the_design_lists(saved):
    header = read_header(saved[0])
    assert header["version"] == VERSION
    assert (header["task"], header["backbone"], header["head"]) == ("depth", "resnet20_cifar", "unet")
    assert header["backbone_options"]["levels"] == 2
    assert header["fields"].keys() == {"image", "depth"}
    assert Preprocessing.from_json(header["preprocessing"]) == OTHER
    assert header["data"]["terms"] and header["size"] == [16, 16] and header["step"] == 0


def test_a_network_comes_back_in_evaluation_mode_on_the_cpu(saved):
    model, blueprint, _ = load_checkpoint(saved[0])
    assert not any(module.training for module in model.modules())
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert blueprint.task == Depth()


def test_shrinking_halves_the_file_and_changes_the_answer_little(saved, tmp_path):
    path, predictor = saved
    shrink_checkpoint(path, tmp_path / "small.safetensors")
    bytes_of = [
        sum(tensor.nelement() * tensor.element_size() for tensor in floats_of(file))
        for file in (tmp_path / "small.safetensors", path)
    ]
    assert 0.5 < bytes_of[0] / bytes_of[1] < 0.54
    assert read_header(tmp_path / "small.safetensors") == read_header(path)
    small = load(tmp_path / "small.safetensors", device="cpu", amp="off")
    assert {parameter.dtype for parameter in small.model.parameters()} == {torch.float32}
    before, after = (metres(one.predict(PICTURE)) for one in (predictor, small))
    # fp16 keeps eleven bits: half a thousandth per weight.
    assert 0 < np.abs(after / before - 1).max() < 0.02


def test_shrinking_keeps_statistics_that_fp16_cannot_hold(tmp_path):
    run = start(Depth(), tmp_path / "run", **TRUNK)
    (first, *_) = [layer for layer in run.model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert first.running_var is not None
    nn.init.constant_(first.running_var, 1e6)
    save_checkpoint(tmp_path / "large.safetensors", run.model, run.blueprint, run.facts())
    shrink_checkpoint(tmp_path / "large.safetensors", tmp_path / "small.safetensors")
    values = load(tmp_path / "small.safetensors", device="cpu").model.state_dict().values()
    assert any(float(value.max()) == 1e6 for value in values)
    assert all(value.isfinite().all() for value in values)


def floats_of(path: Path) -> list[torch.Tensor]:
    with safe_open(path, "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a dict
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def test_saving_where_a_checkpoint_lies_replaces_it_whole_or_not_at_all(saved, tmp_path, monkeypatch):
    path = Path(shutil.copy(saved[0], tmp_path / "kept.safetensors"))
    before = path.read_bytes()
    run = start(Depth(), tmp_path / "run", **TRUNK)

    def fail(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr("densevision.tasks.training.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, run.model, run.blueprint, run.facts())
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.part-*"))


def test_a_checkpoint_may_be_read_by_whoever_may_read_any_new_file(saved, tmp_path):
    (tmp_path / "new").touch()
    shrink_checkpoint(saved[0], tmp_path / "small.safetensors")
    modes = {file.stat().st_mode for file in (tmp_path / "new", tmp_path / "small.safetensors", saved[0])}
    assert len(modes) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint '.*nowhere\.safetensors'"):
        load(tmp_path / "nowhere.safetensors")


def test_a_folder_is_no_checkpoint(tmp_path):
    (tmp_path / "run.d").mkdir()
    with pytest.raises(UserError, match=r"no checkpoint '.*run\.d'"):
        load(tmp_path / "run.d")


@pytest.mark.parametrize("kept", [0, 5, 400, -1])
def test_a_file_cut_short_is_named(saved, tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved[0].read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut\.safetensors is no readable safetensors file"):
        load(path)


def test_a_trunk_without_its_classifier_names_nothing_and_says_what_it_is_good_for(tmp_path):
    save_weights(create_backbone("resnet20_cifar", levels=2), tmp_path / "trunk.safetensors")
    with pytest.raises(UserError, match="holds resnet20_cifar to its level 'stage2' without a classifier: it names"):
        load(tmp_path / "trunk.safetensors")


def test_a_trunk_with_its_classifier_answers_as_a_checkpoint_of_classification(tmp_path):
    torch.manual_seed(0)
    trunk = create_backbone("resnet20_cifar", classes=4).eval()
    save_weights(trunk, tmp_path / "trunk.safetensors")
    predictor = load(tmp_path / "trunk.safetensors", device="cpu", amp="off")
    # As the trunk's preprocessing says: the short side 256 for crops of 224, at the size of the crop.
    assert predictor.size == (224, 224)
    picture = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    window = torch.from_numpy(picture[16:240, 38:262]).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = trunk(trunk.preprocessing(window)).softmax(1)[0].numpy()
    answer = predictor.predict(picture)
    assert isinstance(answer, Ranking)
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    assert answer.names == ("class 0", "class 1", "class 2", "class 3")


def test_weights_that_say_nothing_are_no_checkpoint_of_a_task(tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "trunk.safetensors")
    with pytest.raises(UserError, match="holds weights, but no densevision header: it is no checkpoint of a task"):
        load(tmp_path / "trunk.safetensors")


def test_weights_that_do_not_fit_their_header_are_named(saved, tmp_path):
    path = tmp_path / "mixed.safetensors"
    header = json.dumps(read_header(saved[0]))
    save_file({"head.predict.bias": torch.zeros(3)}, path, {HEADER: header})
    with pytest.raises(UserError, match=r"mixed\.safetensors does not fit the network its header describes") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_a_task_that_is_not_installed_is_refused(tmp_path):
    run = start(Relief(), tmp_path / "run", network="plain")
    save_checkpoint(tmp_path / "relief.safetensors", run.model, run.blueprint, run.facts())
    with pytest.raises(UserError, match="no task named 'relief'"):
        load(tmp_path / "relief.safetensors")


def test_an_unknown_task_is_answered_with_the_nearest_and_a_known_one_without_weights_with_the_way_out(monkeypatch):
    with pytest.raises(UserError, match="no task named 'dept'; did you mean 'depth'"):
        load("dept")
    monkeypatch.setattr("densevision.tasks.inference.SHIPPED", Path("/nowhere"))
    with pytest.raises(UserError, match=r"No checkpoint ships for 'depth'.*densevision train depth"):
        shipped_checkpoint("depth")


def test_a_state_is_plain_data_and_nothing_else_is_unpickled(tmp_path):
    state = {"step": 3, "model": {"weight": torch.ones(2)}, "best": None, "metrics": {"abs_rel": 0.5}}
    save_state(tmp_path / "state.pt", state)
    assert load_state(tmp_path / "state.pt")["metrics"] == {"abs_rel": 0.5}
    torch.save({"task": Depth()}, tmp_path / "objects.pt")
    with pytest.raises(UserError, match=r"objects\.pt is damaged"):
        load_state(tmp_path / "objects.pt")
    with pytest.raises(UserError, match=r"nothing to resume: .*none\.pt does not exist"):
        load_state(tmp_path / "none.pt")
