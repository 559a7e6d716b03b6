"""How much memory is free."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import torch

from zreward.models.devices import free_bytes


def test_of_the_machine(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=123, total=1000))
    assert free_bytes(torch.device("cpu")) == 123


def test_of_a_gpu_with_what_torch_holds_and_does_not_use(monkeypatch):
    device = torch.device("cuda", 1)
    for name, numbers in {"memory_reserved": 70, "memory_allocated": 50, "mem_get_info": (100, 1000)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda of, numbers=numbers: {device: numbers}[of])
    assert free_bytes(device) == 100 + 70 - 50
