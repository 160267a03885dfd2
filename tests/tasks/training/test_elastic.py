"""Trainings on two hosts that come, go and lose their connection, under torchrun with a rendezvous of c10d."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from densevision.tasks.training.state import load_state

from ..processes import free_port
from .toys import difference, log_lines

pytestmark = pytest.mark.slow

STEPS = 60
WORDS = (
    "depth --backbone resnet20_cifar --backbone-levels 2 --image-size 32 32 --batch-size 2 --micro-batches 2 "
    "--schedule constant --warmup-steps 0 --workers 0 --threads 1 --eval-samples 2 --eval-every 0 --log-every 1 "
    "--device cpu --amp off"
)
OPTIONS = WORDS.split(" ")
STORE = """
import sys, threading
from torch.distributed import TCPStore

store = TCPStore(sys.argv[1], int(sys.argv[2]), is_master=True, wait_for_workers=False)
threading.Event().wait()
"""
BRIDGE, ADDRESSES = "densevision0", ("10.231.77.1", "10.231.77.2", "10.231.77.3")


@dataclass
class Hosts:
    """Two hosts and the address of the store at which they meet: network namespaces, or two names for this machine."""

    store: str = "127.0.0.1"
    addresses: tuple[str, ...] = ("127.0.0.1", "127.0.0.1")
    namespaces: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)

    def start(self, host: int, folder: Path, *words: str, steps: int = STEPS) -> subprocess.Popen[str]:
        """An agent of torchrun on a host, with one process."""
        launch = ["torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "20"]
        launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{self.store}:{self.port}", "--rdzv-id", "run"]
        launch += ["--rdzv-conf", "is_host=false,last_call_timeout=1", "--monitor-interval", "0.2"]
        launch += ["--local-addr", self.addresses[host], "-m", "densevision", "train", *OPTIONS]
        inside = ["ip", "netns", "exec", self.namespaces[host]] if self.namespaces else []
        command = [*inside, sys.executable, "-m", *launch, "--resume", "auto", "--out", str(folder)]
        command += ["--steps", str(steps), *words]
        environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        if self.namespaces:
            environment |= {"GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0"}
        with (folder.parent / f"host-{host}.txt").open("a") as errors:
            return subprocess.Popen(command, env=environment, stderr=errors, text=True)


@contextmanager
def meeting(hosts: Hosts) -> Iterator[Hosts]:
    """The store of the rendezvous, on neither host."""
    store = subprocess.Popen([sys.executable, "-c", STORE, hosts.store, str(hosts.port)])
    try:
        yield hosts
    finally:
        store.kill()


@contextmanager
def ending(*agents: subprocess.Popen[str]) -> Iterator[None]:
    """Kill agents and their processes at the end."""
    try:
        yield
    finally:
        for agent in agents:
            kill(agent)


def kill(agent: subprocess.Popen[str]) -> None:
    """End an agent and its processes at once, as if its host failed."""
    numbers, found = [], [agent.pid]
    while found:
        numbers += found
        found = [child for number in found for child in children(number)]
    for number in numbers:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    agent.wait()


def children(number: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    except OSError:
        return []


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError("the training does not get there")


def losses(folder: Path) -> list[dict]:
    """The lines of the log about steps; none before there is a log."""
    return [line for line in log_lines(folder) if line["kind"] == "train"] if (folder / "log.jsonl").exists() else []


def train_alone(folder: Path, steps: int, *words: str) -> Path:
    """The run of one process."""
    command = [sys.executable, "-m", "densevision", "train", *OPTIONS, "--out", str(folder), "--steps", str(steps)]
    subprocess.run([*command, *words], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return train_alone(tmp_path_factory.mktemp("one") / "run", STEPS)


def require_the_same_run(one: Path, other: Path) -> None:
    """Weights, optimizers and the losses of all steps are equal to the bit."""
    first, second = (load_state(folder / "last" / "state.pt") for folder in (one, other))
    assert difference(first["model"], second["model"]) is None
    assert difference(first["optimizers"], second["optimizers"]) is None
    assert losses(one) == losses(other) and len(losses(other)) == STEPS


def train_and_fail(folder: Path, lost: int, *words: str) -> Path:
    """The run of two hosts, one of which fails at step 20."""
    with meeting(Hosts()) as hosts:
        agents = [hosts.start(host, folder, "--save-every", "1s", *words) for host in (0, 1)]
        with ending(*agents):
            wait_for(lambda: len(losses(folder)) > 20)
            kill(agents[lost])
            assert agents[1 - lost].wait(600) == 0
    return folder


@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_fails_changes_nothing(tmp_path, undisturbed, lost):
    require_the_same_run(undisturbed, train_and_fail(tmp_path / "run", lost))


def test_a_host_that_fails_changes_nothing_in_lanes_of_shards(tmp_path):
    shards = str(tmp_path / "shards")
    command = [sys.executable, "-m", "densevision", "data", "shard", "synthetic-rooms", shards]
    subprocess.run([*command, "--samples", "40", "--per", "5"], check=True, capture_output=True)
    words = ("--data", "shards", "--root", shards)
    alone = train_alone(tmp_path / "alone", STEPS, *words)
    require_the_same_run(alone, train_and_fail(tmp_path / "run", 1, *words))


def test_a_host_that_joins_changes_nothing_and_loses_no_step(tmp_path):
    folder = tmp_path / "run"

    def messages() -> str:
        return "".join((tmp_path / f"host-{host}.txt").read_text() for host in (0, 1))

    with meeting(Hosts()) as hosts:
        # The run is longer than the second host takes to start, however fast this machine is.
        first = hosts.start(0, folder, "--save-every", "999999", steps=10**6)
        with ending(first):
            wait_for(lambda: len(losses(folder)) > 5)
            second = hosts.start(1, folder, "--save-every", "999999", steps=10**6)
            with ending(second):
                wait_for(lambda: "cpu, fp32, 2 process" in messages())
                (stopped,) = re.findall(r"Stopped after step (\d+)\. ", messages())
                wait_for(lambda: len(losses(folder)) > int(stopped) + 5)
    assert f"steps {stopped}..{10**6} of 4 images 32x32, cpu, fp32, 2 process" in messages()
    lines = losses(folder)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert losses(train_alone(tmp_path / "alone", len(lines))) == lines


@pytest.fixture
def namespaces() -> Iterator[Hosts]:
    """Two hosts on a bridge."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    names = tuple(f"densevision-host-{host}" for host in (0, 1))
    commands = [f"link add {BRIDGE} type bridge", f"addr add {ADDRESSES[2]}/24 dev {BRIDGE}", f"link set {BRIDGE} up"]
    for host, name in enumerate(names):
        commands += [
            f"netns add {name}",
            f"link add dv-host{host} type veth peer name eth0 netns {name}",
            f"link set dv-host{host} master {BRIDGE} up",
            f"-n {name} addr add {ADDRESSES[host]}/24 dev eth0",
            f"-n {name} link set eth0 up",
            f"-n {name} link set lo up",
        ]
    try:
        for command in commands:
            if (done := ip(command)).returncode:
                pytest.skip(f"ip {command}: {done.stderr.strip()}")
        yield Hosts(ADDRESSES[2], ADDRESSES[:2], names)
    finally:
        links = (f"link del {name}" for name in ("dv-host0", "dv-host1", BRIDGE))
        for command in (*(f"netns del {name}" for name in names), *links):
            ip(command)


def ip(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *command.split()], capture_output=True, text=True)


@pytest.mark.parametrize("cut", [0, 1])
def test_a_cut_link_ends_within_the_timeout_and_the_other_host_goes_on(tmp_path, undisturbed, namespaces, cut):
    folder = tmp_path / "run"
    words = ("--save-every", "1s", "--collective-timeout", "5")
    with meeting(namespaces) as hosts:
        agents = [hosts.start(host, folder, *words) for host in (0, 1)]
        with ending(*agents):
            wait_for(lambda: len(losses(folder)) > 20)
            assert ip(f"link set dv-host{cut} down").returncode == 0
            assert agents[1 - cut].wait(600) == 0
    require_the_same_run(undisturbed, folder)
    # The process of either host; the agent that cannot reach the rendezvous tries for ten minutes and more.
    for host in (0, 1):
        assert "did not respond within 5 s (--collective-timeout)" in (tmp_path / f"host-{host}.txt").read_text()


def test_two_hosts_without_a_common_folder_are_refused(tmp_path):
    folders = [tmp_path / str(host) / "run" for host in (0, 1)]
    with meeting(Hosts()) as hosts:
        for folder in folders:
            folder.parent.mkdir()
        agents = [hosts.start(host, folder) for host, folder in enumerate(folders)]
        with ending(*agents):
            wait_for(lambda: "do not share" in (tmp_path / "0" / "host-0.txt").read_text())
    assert f"The processes do not share {folders[0]}: give an --out that" in (tmp_path / "0" / "host-0.txt").read_text()
