"""How much memory is free."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch

from zreward.models.devices import find_device, free_bytes, warn_of_slow_formats


def test_of_the_machine(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=123, total=1000))
    assert free_bytes(torch.device("cpu")) == 123


def test_of_a_gpu_with_what_torch_holds_and_does_not_use(monkeypatch):
    device = torch.device("cuda", 1)
    for name, numbers in {"memory_reserved": 70, "memory_allocated": 50, "mem_get_info": (100, 1000)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda of, numbers=numbers: {device: numbers}[of])
    assert free_bytes(device) == 100 + 70 - 50


@pytest.mark.parametrize(("rank", "expected"), [(None, "cuda"), ("0", "cuda:0"), ("3", "cuda:3")])
def test_a_process_of_several_has_a_gpu_of_its_own(monkeypatch, rank, expected):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda size, device: asked.append(str(device)))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert str(find_device()) == expected and str(find_device("cuda:1")) == "cuda:1"
    assert asked == [expected, "cuda:1"]


def test_without_a_gpu_all_processes_compute_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(find_device()) == "cpu"


@pytest.mark.parametrize(
    ("device", "dtype", "supported", "told"),
    [
        ("cpu", torch.bfloat16, False, True),
        ("cpu", torch.bfloat16, True, False),
        ("cpu", torch.float32, False, False),
        ("cuda", torch.bfloat16, False, False),
    ],
)
def test_bfloat16_on_a_cpu_without_instructions_for_it_is_told(monkeypatch, recwarn, device, dtype, supported, told):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    warn_of_slow_formats([torch.float32, dtype], torch.device(device))
    assert [("no instructions for bfloat16" in str(one.message)) for one in recwarn] == [True] * told
