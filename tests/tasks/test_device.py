from __future__ import annotations

import pytest
import torch

from densevision.errors import UserError
from densevision.tasks import device as places
from densevision.tasks.device import bf16_in_hardware, choose_device, use_bf16

CPU = torch.device("cpu")


def has(monkeypatch, gpus: int = 0, apple: bool = False) -> None:
    """A machine with so many CUDA GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.parametrize(("gpus", "apple", "chosen"), [(2, True, "cuda:0"), (0, True, "mps"), (0, False, "cpu")])
def test_auto_takes_the_fastest_there_is(monkeypatch, gpus, apple, chosen):
    has(monkeypatch, gpus, apple)
    assert choose_device("auto") == choose_device() == torch.device(chosen)
    assert choose_device("cpu") == CPU


def test_under_torchrun_every_process_takes_its_own_gpu(monkeypatch):
    has(monkeypatch, gpus=2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("name", "gpus", "sentence"),
    [
        ("gpu", 1, "no device 'gpu'; use cpu, cuda, mps or auto"),
        ("meta", 1, "no device 'meta'; use cpu, cuda, mps or auto"),
        ("cuda:x", 1, "no device 'cuda:x'"),
        ("cuda", 0, "no CUDA GPU is usable here; use --device cpu"),
        ("cuda:3", 2, r"--device cuda:3: only 2 GPU\(s\) are here, counted from 0"),
        ("mps", 0, "this is no Apple GPU; use --device cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_is(monkeypatch, name, gpus, sentence):
    has(monkeypatch, gpus)
    with pytest.raises(UserError, match=sentence):
        choose_device(name)


@pytest.mark.parametrize(("generation", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_do_bf16_in_hardware_from_the_a100_on(monkeypatch, generation, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert bf16_in_hardware(torch.device("cuda:0")) is fast


@pytest.mark.parametrize(("avx", "amx"), [(False, False), (True, False), (False, True)])
def test_cpus_do_bf16_in_hardware_with_avx512_bf16_or_amx(monkeypatch, avx, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert bf16_in_hardware(CPU) is (avx or amx)


@pytest.mark.parametrize("fast", [False, True])
def test_amp_is_on_when_asked_for_and_auto_asks_the_hardware(monkeypatch, fast):
    monkeypatch.setattr(places, "bf16_in_hardware", lambda device: fast)
    assert use_bf16("bf16", CPU) is True
    assert use_bf16("off", CPU) is False
    assert use_bf16("auto", CPU) is fast
