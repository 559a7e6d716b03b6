"""The world's defects for an audit: each concerns its own dimension and no other, on prompts of the world only."""

from __future__ import annotations

import random

import numpy as np
import pytest

from zreward.audit import known
from zreward.common import registry
from zreward.world.audit_defects import LEAST, known_defects, with_defect
from zreward.world.grammar import sample_prompts
from zreward.world.scenes import DIMENSIONS, SEVERITY, clean_scene

PROMPTS = [prompt.text for prompt in sample_prompts(8, random.Random(0))]
ALL = [(dimension, name) for dimension in SEVERITY for name, points in SEVERITY[dimension].items() if points >= LEAST]


@pytest.mark.parametrize(("dimension", "name"), ALL)
def test_a_defect_is_the_only_one(dimension, name):
    """Wrong program: a removed object that is still asked about elsewhere, or a shadow that goes with a colour."""
    rng, made = random.Random(1), 0
    for prompt in sample_prompts(12, rng):
        scene = clean_scene(prompt, rng)
        assert [scene.defects(one) for one in DIMENSIONS] == [[], [], [], []]
        spoiled = with_defect(scene, dimension, name, rng)
        if spoiled is not None:
            made += 1
            assert {one: spoiled.defects(one) for one in DIMENSIONS if spoiled.defects(one)} == {dimension: [name]}
    assert made >= 4


def test_pictures_differ_and_are_worth_what_the_world_takes():
    found = known_defects(PROMPTS, 0)
    assert {(one.dimension, one.name) for one in found} == set(ALL)
    for one in found:
        assert one.points == SEVERITY[one.dimension][one.name]
        assert len(one.prompts) == len(one.before) == len(one.after) > 0
        pairs = zip(one.before, one.after, strict=True)
        assert all(not np.array_equal(np.asarray(before), np.asarray(after)) for before, after in pairs)
    again = known_defects(PROMPTS, 0)
    assert all(
        np.array_equal(np.asarray(a.after[0]), np.asarray(b.after[0])) for a, b in zip(found, again, strict=True)
    )


def test_other_prompts_are_left_to_others():
    """Wrong program: a judge of photographs is asked about the world's pictures."""
    assert known_defects([*PROMPTS, "a photo of a cat"], 0) == []


def test_the_registry_finds_them_and_keeps_dimensions_that_the_rubric_has(monkeypatch):
    monkeypatch.setattr(registry, "names", lambda group: ["world"] if group == "zreward.audit_defects" else [])
    monkeypatch.setattr(registry, "find", lambda group, name: known_defects)
    found = known.known_defects(PROMPTS, ("realism", "charm"), 0)
    assert {one.dimension for one in found} == {"realism"}


def test_it_is_declared_in_pyproject():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][registry.AUDIT_DEFECTS]["world"] == f"{known_defects.__module__}:known_defects"
