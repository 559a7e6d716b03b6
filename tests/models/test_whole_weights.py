"""Weights of which each process may hold a part, brought together. Real parts: tests/engines/test_brought_over.py."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Shard, init_device_mesh

from zreward.models.shards import whole


def test_whole_weights_stay_where_they_are_and_tied_ones_tied():
    weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    found = whole({"head": weight, "embedding": weight, "other": torch.ones(2)})
    assert found.keys() == {"head", "embedding", "other"}
    assert found["head"] is found["embedding"] and found["head"].data_ptr() == weight.data_ptr()
    assert not found["head"].requires_grad


def test_who_does_not_keep_them_gets_none():
    assert whole({"head": torch.ones(2)}, keep=False) == {}


def test_parts_are_gathered_once(tmp_path, monkeypatch):
    dist.init_process_group("gloo", f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        weight = torch.nn.Parameter(DTensor.from_local(torch.arange(6.0).view(2, 3), mesh, [Shard(0)]))
        gather, gathered = DTensor.full_tensor, []
        monkeypatch.setattr(DTensor, "full_tensor", lambda value: gathered.append(1) or gather(value))
        found = whole({"head": weight, "embedding": weight})
        assert whole({"head": weight}, keep=False) == {}  # it takes part
    finally:
        dist.destroy_process_group()
    assert len(gathered) == 2
    assert type(found["head"]) is torch.Tensor and found["head"] is found["embedding"]
    assert torch.equal(found["head"], torch.arange(6.0).view(2, 3))
