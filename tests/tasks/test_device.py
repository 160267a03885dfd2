from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from densevision.errors import UserError
from densevision.tasks import device as device_module
from densevision.tasks import distributed
from densevision.tasks.device import amp_dtype, bf16_in_hardware, choose_device, to_device, use_bf16

CPU = torch.device("cpu")


def simulate(monkeypatch, gpus: int = 0, apple: bool = False) -> None:
    """Simulate a machine with a number of CUDA GPUs, with or without an Apple GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.parametrize(("gpus", "apple", "expected"), [(2, True, "cuda:0"), (0, True, "mps"), (0, False, "cpu")])
def test_auto_chooses_the_fastest_available_device(monkeypatch, gpus, apple, expected):
    simulate(monkeypatch, gpus, apple)
    assert choose_device("auto") == choose_device() == torch.device(expected)
    assert choose_device("cpu") == CPU


def test_every_process_of_torchrun_has_its_own_gpu(monkeypatch):
    simulate(monkeypatch, gpus=2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("gpu", 1, "no device 'gpu'; use cpu, cuda, mps or auto"),
        ("meta", 1, "no device 'meta'; use cpu, cuda, mps or auto"),
        ("cuda:x", 1, "no device 'cuda:x'"),
        ("cuda", 0, "no CUDA GPU is available; use --device cpu"),
        ("cuda:3", 2, r"--device cuda:3: only 2 GPU\(s\) are available, numbered from 0"),
        ("mps", 0, "no Apple GPU is available; use --device cpu"),
    ],
)
def test_an_unavailable_device_is_refused_with_alternatives(monkeypatch, name, gpus, message):
    simulate(monkeypatch, gpus)
    with pytest.raises(UserError, match=message):
        choose_device(name)


@pytest.mark.parametrize(("generation", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_since_the_a100_have_bf16(monkeypatch, generation, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert bf16_in_hardware(torch.device("cuda:0")) is fast


@pytest.mark.parametrize(
    ("avx", "amx", "onednn", "fast"),
    [(False, False, True, False), (True, False, True, True), (False, True, True, True), (True, True, False, False)],
)
def test_cpus_with_avx512_bf16_or_amx_have_bf16_unless_onednn_may_not_use_it(monkeypatch, avx, amx, onednn, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert bf16_in_hardware(CPU) is fast


@pytest.mark.parametrize("fast", [False, True])
def test_amp_auto_depends_on_the_hardware(monkeypatch, fast):
    monkeypatch.setattr(device_module, "bf16_in_hardware", lambda device: fast)
    assert use_bf16("bf16", CPU) is True
    assert use_bf16("off", CPU) is False
    assert use_bf16("auto", CPU) is fast


def test_fp16_is_chosen_on_cuda_devices_without_bf16(monkeypatch):
    monkeypatch.setattr(device_module, "bf16_in_hardware", lambda device: False)
    assert amp_dtype("auto", torch.device("cuda")) is torch.float16
    assert amp_dtype("auto", CPU) is amp_dtype("off", torch.device("cuda")) is None
    assert amp_dtype("fp16", CPU) is torch.float16
    monkeypatch.setattr(device_module, "bf16_in_hardware", lambda device: True)
    assert amp_dtype("auto", torch.device("cuda")) is torch.bfloat16


def test_only_2d_convolutions_are_moved_to_channels_last():
    # `Module.to(memory_format=torch.channels_last)` raises on the five axes of a 3-D convolution's weights.
    flat, deep = nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3)
    module = nn.ModuleList([flat, deep])
    before, identities = flat.weight.detach().clone(), [id(parameter) for parameter in module.parameters()]
    assert to_device(module, CPU) is module
    assert flat.weight.is_contiguous(memory_format=torch.channels_last) and not flat.weight.is_contiguous()
    assert deep.weight.is_contiguous()
    assert torch.equal(flat.weight, before)
    assert [id(parameter) for parameter in module.parameters()] == identities
    assert deep(torch.ones(1, 3, 4, 4, 4)).shape == (1, 4, 2, 2, 2)


@pytest.mark.parametrize(
    "files, variables, cores",
    [
        ({}, {}, 8),
        ({"cpu.max": "max 100000"}, {}, 8),
        ({"cpu.max": "150000 100000"}, {}, 2),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, {}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, {"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"cpu.max": "100000 100000"}, {"LOCAL_WORLD_SIZE": "4"}, 1),
        ({"cpu.max": "broken"}, {"LOCAL_WORLD_SIZE": "0"}, 8),
    ],
)
def test_cores_are_those_of_the_container_shared_by_its_processes(monkeypatch, tmp_path, files, variables, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert distributed.available_cores() == cores


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is a function of glibc")
def test_freed_memory_is_kept_for_the_next_step():
    faults = """
import resource, torch
from densevision.tasks.device import keep_freed_memory
keep_freed_memory()
def step():
    sum(torch.ones(2**23) for _ in range(3))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(-step() + step())
"""
    run = subprocess.run([sys.executable, "-c", faults], capture_output=True, text=True, check=True)
    # Three times 32 MiB are 24,576 pages.
    assert int(run.stdout) < 2_000
