"""The editor of English traces: what it makes of a sentence, and what it leaves alone."""

from __future__ import annotations

import pytest

from tests import trace_editor
from zreward.common.errors import InputError
from zreward.evaluation.coupling_edits import DIRECTIONS, Edit, choose, edit_words, find_editor


def edits(text: str) -> set[tuple[str, str]]:
    return {(edit.kind, edit.text) for edit in edit_words(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "There is slight noise in the sky.",
            {("worse", "There is extreme noise in the sky."), ("removed", "There is no noise in the sky.")},
        ),
        (
            "It has severe distortion, but colours are fine.",
            {
                ("milder", "It has slight distortion, but colours are fine."),
                ("removed", "It has no distortion, but colours are fine."),
            },
        ),
        ("I see no artifacts.", {("added", "I see severe artifacts.")}),
        ("Without any artifacts", {("added", "With severe artifacts")}),
        (
            "The hand is deformed.",
            {
                ("worse", "The hand is severely deformed."),
                ("milder", "The hand is slightly deformed."),
                ("removed", "The hand is well-formed."),
            },
        ),
        ("The face is not blurry", {("added", "The face is severely blurry")}),
        ("The face is sharp", {("added", "The face is blurry")}),
        ("The face is not sharp", {("removed", "The face is sharp")}),
        (
            "a minor flaw",
            {("worse", "a major flaw"), ("removed", "no flaw")},
        ),
        ("an obvious error", {("milder", "a subtle error"), ("removed", "no error")}),
    ],
)
def test_sentences(text, expected):
    assert edits(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A red circle left of a blue cross.",
        "It is not the case that blur is there",
        "hardly any noise",
        "not very blurry",
    ],
)
def test_what_is_left_alone(text):
    """Praise turned into blame by a second negation would be an edit with the wrong direction."""
    assert edits(text) == set()


def test_every_edit_changes_something_and_has_a_direction():
    text = "Slight blur, strong noise. The colours are correct; the shadow is missing and no extra clutter."
    found = edit_words(text)
    assert {edit.kind for edit in found} == set(DIRECTIONS)
    assert all(edit.text != text and edit.direction == DIRECTIONS[edit.kind] and edit.points is None for edit in found)


def test_one_edit_of_each_kind_is_drawn_by_the_seed():
    many = [Edit("added", str(n)) for n in range(50)] + [Edit("worse", "w")]
    drawn = [choose(many, 3, seed) for seed in range(40)]
    assert all(list(each) == ["worse", "added"] for each in drawn), "in a fixed order, kinds without an edit left out"
    assert len({each["added"].text for each in drawn}) > 15
    assert choose(many, 3, 5) == choose(many, 3, 5)


def test_editors_are_found_by_name(monkeypatch):
    trace_editor.install(monkeypatch)
    assert find_editor("words") is edit_words
    assert find_editor("tiny") is trace_editor.edit
    with pytest.raises(InputError, match="'other' is not known; expected one of: words, .*tiny"):
        find_editor("other")
