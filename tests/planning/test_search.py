"""The nearest configuration that fits, in the stated order."""

from __future__ import annotations

import pytest

from zreward.planning.plan import make_plan
from zreward.planning.search import nearest

SMALL = {"optimizer__batch_size": 1, "optimizer__gradient_checkpointing": True, "model__longest_side": 32}


def _total(recipe, machines):
    return make_plan(recipe, machines).memory.total


def _nearest(recipe, machines):
    found = nearest(recipe, machines)
    assert found is not None
    candidate, plan = found
    assert plan.fits and plan.memory.total == _total(candidate.recipe, candidate.machines)
    return candidate.changes


@pytest.fixture(autouse=True)
def _no_reserve(monkeypatch):
    """Tiny models: the reserve would hide everything."""
    monkeypatch.setattr("zreward.planning.memory.RESERVE", 0)
    monkeypatch.setattr("zreward.planning.memory.RESERVED_SHARE", 0)


def test_gradient_checkpointing_first(recipe_of, machines_of):
    recipe = recipe_of(optimizer__batch_size=64)
    machines = machines_of("ddp", 4)
    needed = _total(recipe_of(optimizer__batch_size=64, optimizer__gradient_checkpointing=True), machines)
    assert _nearest(recipe, machines_of("ddp", 4, needed)) == ("optimizer.gradient_checkpointing=true",)


def test_then_smaller_pieces_with_the_same_batch(recipe_of, machines_of):
    recipe = recipe_of(optimizer__batch_size=64, optimizer__gradient_checkpointing=True)
    smaller = recipe_of(
        optimizer__batch_size=16, optimizer__gradient_accumulation=4, optimizer__gradient_checkpointing=True
    )
    changes = _nearest(recipe, machines_of("ddp", 4, _total(smaller, machines_of("ddp", 4))))
    assert changes == ("optimizer.batch_size=16 optimizer.gradient_accumulation=4",)


def test_sequences_of_a_pass(recipe_of, machines_of):
    keys = {"rollout__group_size": 16, "optimizer__gradient_checkpointing": True}
    smaller = recipe_of("gdso", rollout__sequences_per_forward=16, **keys)
    changes = _nearest(recipe_of("gdso", **keys), machines_of("none", 1, _total(smaller, machines_of())))
    assert changes == ("rollout.sequences_per_forward=16",)


def test_then_sharding_over_the_same_gpus(recipe_of, machines_of):
    recipe = recipe_of(**SMALL)
    assert _nearest(recipe, machines_of("ddp", 8, _total(recipe, machines_of("fsdp", 8)))) == ("--engine fsdp",)


def test_then_lora(recipe_of, machines_of, monkeypatch):
    monkeypatch.setattr("zreward.planning.search._RANK", 2)  # 64 is this model's width
    adapted = recipe_of(**SMALL, model__lora_rank=2, model__lora_alpha=4)
    changes = _nearest(recipe_of(**SMALL), machines_of("none", 1, _total(adapted, machines_of())))
    assert changes == ("model.lora_rank=2 model.lora_alpha=4",)


def test_more_gpus_where_sharding_alone_is_not_enough(recipe_of, machines_of):
    recipe = recipe_of(**SMALL, model__lora_rank=4)
    needed = _total(recipe, machines_of("fsdp", 8))
    assert _nearest(recipe, machines_of("fsdp", 2, needed)) == ("--gpus 8",)


def test_nothing_fits(recipe_of, machines_of):
    assert nearest(recipe_of(), machines_of("ddp", 2, 1000)) is None
