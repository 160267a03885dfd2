"""The recipes in examples/cluster/: syntax, fields and commands; those of ssh and Ray run in slow tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from densevision.apps.cli import app
from densevision.tasks.training.state import load_state

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "examples" / "cluster"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(RECIPES.iterdir()) if path.is_file()}
TINY = (
    "depth --backbone resnet20_cifar --backbone-levels 2 --image-size 32 32 --batch-size 2 --steps 4 --workers 0 "
    "--threads 1 --eval-samples 2 --eval-every 0 --device cpu --amp off"
)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(TEXTS[name]))


def command(name: str) -> str:
    """The launch of a recipe in one line, with its variables replaced by words."""
    lines = [line for line in TEXTS[name].splitlines() if not line.lstrip().startswith("#")]
    text = " ".join(" ".join(lines).replace("\\ ", " ").split())
    text = re.sub(r'"\$\(\[.*?\)"|"is_host=.*?\)"', "is_host=true", re.sub(r'" (train=)"', " ", text))
    launched = re.search(r"torchrun .*?300s", text)
    assert launched, f"{name} does not launch torchrun"
    return re.sub(r"\$\{PROCESSES:-(\w+)\}", r"\1", launched[0]).replace("$#", "8").replace("$(hostname -f)", "head")


@pytest.mark.parametrize("name", ["ssh.sh", "slurm.sh"])
def test_a_script_is_valid_bash(name):
    subprocess.run(["bash", "-n", str(RECIPES / name)], check=True)
    assert os.access(RECIPES / name, os.X_OK)


@pytest.mark.parametrize("name", ["ssh.sh", "slurm.sh", "trainjob.yaml", "pytorchjob.yaml"])
def test_torchrun_and_densevision_know_all_options_of_a_recipe(name):
    words = shlex.split(command(name))
    launch = get_args_parser().parse_args(words[1:])
    assert launch.training_script == "densevision" and launch.module
    _, bound, _ = app.parse_args(launch.training_script_args, exit_on_error=False, print_error=False)
    options = bound.arguments["options"]
    assert options.resume == "auto" and options.save_every == "300s" and options.micro_batches == 64
    if name != "pytorchjob.yaml":  # Its operator states the rest.
        assert (launch.rdzv_backend, launch.max_restarts) == ("c10d", 100) and "is_host=" in launch.rdzv_conf
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" in TEXTS[name]


def test_the_jobs_of_kubernetes_have_the_fields_of_their_operators():
    runtime, job = documents("trainjob.yaml")
    assert runtime["apiVersion"] == job["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert (runtime["kind"], job["kind"]) == ("TrainingRuntime", "TrainJob")
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": runtime["metadata"]["name"],
    }  # fmt: skip
    assert set(job["spec"]["trainer"]) == {"numNodes", "resourcesPerNode", "env", "command", "args"}
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert node["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    (old,) = documents("pytorchjob.yaml")
    assert (old["apiVersion"], old["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    worker = old["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert worker["replicas"] == old["spec"]["elasticPolicy"]["maxReplicas"]
    for pod in (node["template"]["spec"]["template"]["spec"], worker["template"]["spec"]):
        (container,) = pod["containers"]
        assert container["name"] in ("node", "pytorch"), "operators find it by this name"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_page_names_every_recipe():
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert [name for name in TEXTS if f"`{name}`" not in page and f"/{name}" not in page] == []


@pytest.mark.slow
def test_the_recipe_of_ssh_trains_on_two_agents(tmp_path):
    shutil.copytree(RECIPES, tmp_path / "cluster")
    script = TEXTS["ssh.sh"].replace("depth --out /shared/run7", f"{TINY} --out {tmp_path / 'run'}")
    script = script.replace("--micro-batches 64", "--micro-batches 2").replace("$(hostname -f)", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        script = script.replace("port=29400", f"port={free.getsockname()[1]}")
    (tmp_path / "cluster" / "ssh.sh").write_text(script)
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$1"\n')
    ssh.chmod(0o755)
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "SSH": str(ssh), "PROCESSES": "1", "PATH": binaries}
    command = ["bash", str(tmp_path / "cluster" / "ssh.sh"), "a", "b"]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        assert process.wait(900) == 0
    finally:
        # A session of its own, so that no agent outlives a failed test.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert load_state(tmp_path / "run" / "last" / "state.pt")["step"] == 4


@pytest.mark.slow
def test_the_recipe_of_ray_trains_on_two_workers(tmp_path, monkeypatch):
    pytest.importorskip("ray.train")
    spec = importlib.util.spec_from_file_location("ray_train", RECIPES / "ray_train.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(recipe := importlib.util.module_from_spec(spec))
    _, bound, _ = app.parse_args(["train", *shlex.split(TINY)], exit_on_error=False, print_error=False)
    options = bound.arguments["options"].explicit()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    own = {"out": str(tmp_path / "run"), "micro_batches": 2, "save_every": "1s"}
    recipe.main({**options, **own}, workers=2, gpus=False)
    assert load_state(tmp_path / "run" / "last" / "state.pt")["step"] == 4
