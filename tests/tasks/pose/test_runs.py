"""Complete runs, from the first step to a prediction of the checkpoint."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from densevision import load, train
from densevision.datasets.pose.lsp import LSPExtended
from densevision.datasets.synthetic import SyntheticFigures
from densevision.errors import UserError
from densevision.tasks.checkpoint import read_header, read_tensors
from densevision.tasks.inference import packaged_checkpoint
from densevision.tasks.pose import HumanPose

QUICK: dict[str, Any] = {
    "image_size": (32, 32), "batch_size": 4, "steps": 2, "ema_decay": 0.0, "warmup_steps": 0, "workers": 0,
    "device": "cpu", "amp": "off", "eval_every": 0, "eval_samples": 2, "log_every": 2, "save_every": 1,
}  # fmt: skip
AUTHORS: dict[str, Any] = {"recipe": "belagiannis", "image_size": (120, 80)}
SETTINGS: dict[str, tuple[HumanPose, dict[str, Any]]] = {
    "deconvolution": (HumanPose(), {"backbone": "resnet18", "backbone_levels": 3}),
    "regression": (HumanPose(random_erase=0.5), {"backbone": "resnet20_cifar", "head": "regression", "loss": "tukey"}),
    "belagiannis": (HumanPose(keep_aspect=False, random_erase=0.0), AUTHORS),
    "cascade": (HumanPose(keep_aspect=False), {**AUTHORS, "model": "belagiannis_cascade"}),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("belagiannis", "cascade") else name for name in SETTINGS],
)
def test_run_stops_resumes_is_scored_beside_the_baseline_and_predicts(name, tmp_path, small_baseline):
    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    task, options = SETTINGS[name]
    options = {**QUICK, **options}
    with pytest.raises(KeyboardInterrupt):
        train(task, **options, out=tmp_path / "run", on_step=stop)
    result = train("pose", out=tmp_path / "run", resume=True)
    checkpoint = tmp_path / "run" / "best.safetensors"
    header, tensors = read_header(checkpoint), read_tensors(checkpoint)
    assert result["steps"] == 2 and result["protocol"] == "pck-torso"
    assert result["monitor"]["name"] == "score" and 0 <= result["monitor"]["baseline"] <= 1
    assert HumanPose(**header["task_options"]) == task
    # The mean pose is measured once and not learned; the paper's initialization and heat maps have none.
    if name == "regression":
        mean = HumanPose().baseline(SyntheticFigures(size=options["image_size"])).mean
        np.testing.assert_allclose(tensors["expected"], mean, atol=1e-6)
    else:
        assert "expected" not in tensors
    # Tukey's loss counts its batches, in a resumed run too.
    assert tensors["compared"] == 2 if name != "deconvolution" else "compared" not in tensors
    prediction: Any = load(checkpoint, "cpu", "off").predict(np.zeros((37, 51, 3), np.uint8), flip=True)
    assert prediction.joints.shape == (14, 3) and np.isfinite(prediction.joints).all()
    assert [file.name for file in prediction.save(tmp_path, "a")] == ["a_pose.json", "a_pose.png"]
    if name != "cascade":  # 38.5 million parameters twice over
        train(task, **options, out=tmp_path / "uninterrupted")
        expected = read_tensors(tmp_path / "uninterrupted" / "best.safetensors")
        assert all(torch.equal(value, expected[key]) for key, value in tensors.items())


def test_command_line_takes_the_options_of_the_task(tmp_path, small_baseline):
    from densevision.apps.cli import main

    out: Path = tmp_path / "run"
    command = "train pose --no-keep-aspect --random-erase 0.25 --head regression --loss smooth-l1 --steps 1"
    command += " --backbone resnet20_cifar --image-size 24 16 --batch-size 2 --ema-decay 0 --eval-samples 1"
    main([*command.split(), "--workers", "0", "--out", str(out), "--device", "cpu", "--amp", "off"])
    header = read_header(out / "best.safetensors")
    assert HumanPose(**header["task_options"]) == HumanPose(keep_aspect=False, random_erase=0.25)
    assert (header["head"], header["loss"], header["size"]) == ("regression", "smooth-l1", [24, 16])


@pytest.mark.parametrize("spec", [{"head": "regression"}, {"head": "deconvolution"}, {"model": "belagiannis"}])
def test_loss_for_another_output_type_is_refused_before_the_first_step(spec, tmp_path):
    loss = "tukey" if spec.get("head") == "deconvolution" else "heatmaps"
    backbone = {} if "model" in spec else {"backbone": "resnet20_cifar"}
    options: dict[str, Any] = {**QUICK, **spec, **backbone, "loss": loss}
    with pytest.raises(
        UserError, match=f"The loss '{loss}' does not apply to a model that .*: use --loss with one of pap"
    ):
        train(HumanPose(), **options, out=tmp_path / "run")


@pytest.fixture
def reproduce(monkeypatch) -> Any:
    """tools/reproduce/pose.py as a run of two steps, with three people held out."""
    script = Path(__file__).parents[3] / "tools" / "reproduce" / "pose.py"
    specification = importlib.util.spec_from_file_location("reproduce_pose", script)
    assert specification is not None and specification.loader is not None
    tool: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    monkeypatch.setattr(tool, "HELD_OUT", 3)
    monkeypatch.setattr(tool, "OPTIONS", {**tool.OPTIONS, **QUICK})
    return tool


def test_the_packaged_network_has_seen_all_training_people_but_those_held_out(reproduce, tmp_path):
    LSPExtended.write_example(tmp_path)
    cropped, crops, complete = np.split(reproduce.people(tmp_path, tmp_path).sample_weights, 3)
    assert (crops[-3:] == 0).all() and (crops[:-3] > 0).all() and (cropped > 0).all() and (complete > 0).all()
    shares = np.array([cropped.sum(), crops.sum(), complete.sum()])
    np.testing.assert_allclose(shares * sum(reproduce.SHARES), reproduce.SHARES)


@pytest.mark.slow
def test_the_packaged_network_is_trained_by_one_command(reproduce, tmp_path, small_baseline):
    LSPExtended.write_example(tmp_path / "people")
    start, out = packaged_checkpoint("pose"), tmp_path / "run"
    reproduce.main(tmp_path / "people", tmp_path / "people", start, out)
    before, after = (load(file, "cpu", "off").model for file in (start, out / "last" / "checkpoint.safetensors"))
    reproduce.FixedStem().on_step(SimpleNamespace(model=after), {})
    fixed = {name.split(".")[1] for name, parameter in after.named_parameters() if not parameter.requires_grad}
    assert fixed == {"conv1", "bn1", "layer1"}
    weights, learned = before.state_dict(), after.state_dict()
    statistics = [name for name in weights if name.startswith("backbone.") and "running" in name]
    assert statistics and all(torch.equal(weights[name], learned[name]) for name in statistics)
    assert not torch.equal(weights["head.predict.weight"], learned["head.predict.weight"])
