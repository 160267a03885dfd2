"""Whole runs, from the first step to an answer of the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densevision import load, train
from densevision.datasets.figures import Figures
from densevision.errors import UserError
from densevision.tasks.pose import HumanPose
from densevision.tasks.training.checkpoint import read_header, read_tensors

QUICK: dict[str, Any] = {
    "size": (32, 32), "batch": 4, "steps": 2, "ema": 0.0, "warmup": 0, "workers": 0, "device": "cpu", "amp": "off",
    "evaluate_every": 0, "eval_samples": 2, "log_every": 2, "save_every": 1,
}  # fmt: skip
AUTHORS: dict[str, Any] = {"recipe": "belagiannis", "size": (120, 80)}
SETTINGS: dict[str, tuple[HumanPose, dict[str, Any]]] = {
    "deconvolution": (HumanPose(), {"backbone": "resnet18", "levels": 3}),
    "regression": (HumanPose(patches=0.5), {"backbone": "resnet20_cifar", "head": "regression", "loss": "tukey"}),
    "belagiannis": (HumanPose(stretch=True, patches=0.0), AUTHORS),
    "cascade": (HumanPose(stretch=True), {**AUTHORS, "network": "belagiannis_cascade"}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_stops_resumes_is_judged_beside_the_mean_pose_and_answers(name, tmp_path, few_for_the_mean):
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
    assert result["watch"]["name"] == "score" and 0 <= result["watch"]["baseline"] <= 1
    assert HumanPose(**header["task_options"]) == task
    # Where joints are expected was measured once and is not learned; the paper's start and maps expect nothing.
    if name == "regression":
        mean = HumanPose().baseline(Figures(size=options["size"])).places
        np.testing.assert_allclose(tensors["expected"], mean, atol=1e-6)
    else:
        assert "expected" not in tensors
    # Tukey's loss knows how many batches it has seen, in a run that was continued too.
    assert tensors["compared"] == 2 if name != "deconvolution" else "compared" not in tensors
    answer: Any = load(checkpoint, "cpu", "off").predict(np.zeros((37, 51, 3), np.uint8), flip=True)
    assert answer.joints.shape == (14, 3) and np.isfinite(answer.joints).all()
    assert [file.name for file in answer.save(tmp_path, "a")] == ["a_pose.json", "a_pose.png"]
    if name != "cascade":  # 38.5 million parameters twice over
        train(task, **options, out=tmp_path / "whole")
        whole = read_tensors(tmp_path / "whole" / "best.safetensors")
        assert all(torch.equal(value, whole[key]) for key, value in tensors.items())


def test_the_command_line_takes_the_tasks_own_options(tmp_path, few_for_the_mean):
    from densevision.apps.cli import main

    out: Path = tmp_path / "run"
    words = ["train", "pose", "--stretch", "--patches", "0.25", "--head", "regression", "--loss", "smooth-l1"]
    words += ["--backbone", "resnet20_cifar", "--size", "24", "16", "--batch", "2", "--steps", "1", "--ema", "0"]
    main([*words, "--eval-samples", "1", "--workers", "0", "--out", str(out), "--device", "cpu", "--amp", "off"])
    header = read_header(out / "best.safetensors")
    assert HumanPose(**header["task_options"]) == HumanPose(stretch=True, patches=0.25)
    assert (header["head"], header["loss"], header["size"]) == ("regression", "smooth-l1", [24, 16])


@pytest.mark.parametrize("what", [{"head": "regression"}, {"head": "deconvolution"}, {"network": "belagiannis"}])
def test_a_loss_of_another_answer_is_refused_before_the_first_step(what, tmp_path):
    loss = "tukey" if what.get("head") == "deconvolution" else "heatmaps"
    trunk = {} if "network" in what else {"backbone": "resnet20_cifar"}
    options: dict[str, Any] = {**QUICK, **what, **trunk, "loss": loss}
    with pytest.raises(UserError, match=f"The loss '{loss}' is not for a network that .*: take --loss with one of pap"):
        train(HumanPose(), **options, out=tmp_path / "run")
