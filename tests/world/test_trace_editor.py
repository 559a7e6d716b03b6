"""The world's editor: its reading of a trace is the scene's truth, and each edit is worth what it says."""

from __future__ import annotations

import random
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from zreward.evaluation.coupling_edits import DIRECTIONS
from zreward.world.explain import explain, vocabulary
from zreward.world.grammar import sample_prompt
from zreward.world.grammar import vocabulary as prompt_words
from zreward.world.scenes import DIMENSIONS, Scene, sample_scene
from zreward.world.trace_editor import edit, said


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = random.Random(4)
    return [sample_scene(sample_prompt(rng), rng) for _ in range(300)]


def reading(text: str, dimension: str) -> float | None:
    return said([part.split() for part in text.split(";")], dimension)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_truthful_trace_says_the_truth(scenes, dimension):
    for scene in scenes:
        assert reading(explain(scene, dimension), dimension) == scene.truth(dimension)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_edits_are_worth_what_they_say(scenes, dimension):
    known, kinds = {*vocabulary(), *prompt_words()}, Counter()
    for scene in scenes:
        text = explain(scene, dimension)
        for one in edit(text, scene.prompt.text, dimension):
            kinds[one.kind] += 1
            assert one.text != text
            assert set(one.text.split()) <= known, "no word that the tokenizer does not have"
            assert one.points == reading(one.text, dimension) - scene.truth(dimension)
            assert one.points * DIRECTIONS[one.kind] > 0
    assert set(kinds) == set(DIRECTIONS) and min(kinds.values()) > 20


def test_realism_edits_are_the_traces_of_other_scenes(scenes):
    """The same scene with another defect is the independent truth."""
    for scene in scenes[:100]:
        others = {
            explain(replace(scene, **{name: degree}), "realism"): replace(scene, **{name: degree}).truth("realism")
            for name in ("noise", "blur", "blocks")
            for degree in range(3)
        }
        for one in edit(explain(scene, "realism"), scene.prompt.text, "realism"):
            assert one.points == others[one.text] - scene.truth("realism")


def test_objects_keep_to_the_prompt(scenes):
    prompt = "a small red circle left of a large blue cross"
    text = "first left above small red circle ok ; second right above large green cross colour ; relation left ok ; extra none"
    found = {(one.kind, one.text, one.points) for one in edit(text, prompt, "alignment")}
    repaired = text.replace("large green cross colour", "large blue cross ok")
    assert ("removed", repaired, 1.0) in found
    moved = text.replace("first left", "first right").replace("second right", "second left")
    assert ("added", moved.replace("relation left ok", "relation right wrong"), -1.5) in found
    assert ("added", text.replace("extra none", "extra red square"), -1.0) in found
    assert not any("first left above small red circle size" in other for _, other, _ in found), (
        "a wrong size looks wrong"
    )


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("noise strong ; blur", "a small red circle"),
        ("the picture has strong noise", "a small red circle"),
        ("noise strong ; blur none ; blocks none", "a photo of a cat"),
        ("", "a small red circle"),
    ],
)
def test_other_texts_have_no_edits(text, prompt):
    assert edit(text, prompt, "realism") == []


def test_it_is_registered_under_the_name_of_the_world():
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    points = declared["project"]["entry-points"]["zreward.trace_editors"]
    assert points == {"world": f"{edit.__module__}:{edit.__name__}"}
