"""Versions of the rubric follow each other and never change; a bin shows at most twenty examples."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.domain.rubric_examples import MOST_EXAMPLES, add_example
from zreward.studio.domain.rubric_versions import add_version, edit_rubric, read_version
from zreward.studio.storage.rubric_rows import newest_version
from zreward.studio.storage.schema import CandidatePicture, PromptGroup, RubricVersion, StudioTable

RUBRIC = Rubric.default()


@pytest.fixture
def session():
    engine = create_engine("sqlite://")
    StudioTable.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(PromptGroup(id=1, text="a cat", group="cat"))
        session.add_all(CandidatePicture(id=n, prompt_id=1, key=f"cat-{n}", image=f"{n}.png") for n in range(1, 30))
        session.flush()
        yield session
    engine.dispose()


def test_the_newest_version_is_in_force_and_old_ones_stay(session):
    add_version(session, RUBRIC)
    changed = edit_rubric(RUBRIC, {"alignment.5": "  all of it\r\nand no more "})
    version = add_version(session, changed, note=" clearer ")
    assert newest_version(session) is version
    assert (version.version, version.note) == ("2", "clearer")
    assert read_version(version).dimension("alignment").anchors[5] == "all of it\nand no more"
    old = session.get(RubricVersion, 1)
    assert read_version(old) == RUBRIC


def test_a_version_name_is_never_used_twice(session):
    names = [
        add_version(session, Rubric.from_dict(RUBRIC.to_dict() | {"version": v})).version
        for v in ("1", "1", "b", "b", "b")
    ]
    assert names == ["1", "2", "b", "b.2", "b.3"]


def test_an_edit_keeps_what_the_form_does_not_name_and_takes_away_empty_anchors():
    changed = edit_rubric(RUBRIC, {"realism.title": "Look", "realism.4": "", "realism.4.5": "between"})
    realism = changed.dimension("realism")
    assert realism.title == "Look" and realism.question == RUBRIC.dimension("realism").question
    assert set(realism.anchors) == (set(RUBRIC.dimension("realism").anchors) - {4}) | {4.5}
    assert changed.dimensions[0] == RUBRIC.dimensions[0]
    assert changed.scale == RUBRIC.scale and changed.labels == RUBRIC.labels


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "nothing was changed"),
        ({"alignment.question": RUBRIC.dimension("alignment").question + "\r\n"}, "nothing was changed"),
        ({"alignment.question": " "}, "question is '', expected text"),
        ({f"alignment.{n}": "" for n in range(1, 5)}, "at least two anchors"),
    ],
)
def test_an_edit_is_refused(texts, message):
    with pytest.raises(InputError, match=message):
        edit_rubric(RUBRIC, texts)


def test_a_project_without_rubric_says_so(session):
    with pytest.raises(InputError, match="holds no project"):
        newest_version(session)


def test_an_example_moves_instead_of_standing_twice(session):
    first = add_example(session, RUBRIC, "1", 1, "alignment", 3.5, note="odd hand")
    again = add_example(session, RUBRIC, "2", 1, "alignment", 4.0)
    assert again is first and (first.score, first.rubric_version, first.note) == (4.0, "2", "odd hand")


def test_a_full_bin_takes_no_more(session):
    for number in range(1, MOST_EXAMPLES + 1):
        add_example(session, RUBRIC, "1", number, "alignment", 3.0)
    with pytest.raises(InputError, match="alignment 3 has 20 examples already"):
        add_example(session, RUBRIC, "1", 25, "alignment", 3.0)
    add_example(session, RUBRIC, "1", 5, "alignment", 3.0, note="still there")
    add_example(session, RUBRIC, "1", 25, "alignment", 3.5)
    add_example(session, RUBRIC, "1", 25, "realism", 3.0)


@pytest.mark.parametrize(
    ("candidate", "dimension", "score", "message"),
    [
        (1, "alignmemt", 3.0, "unknown dimension 'alignmemt'"),
        (1, "alignment", 3.2, "lies between the bins"),
        (1, "alignment", 6.0, "off the scale"),
        (99, "alignment", 3.0, "no picture 99"),
    ],
)
def test_an_example_is_refused(session, candidate, dimension, score, message):
    with pytest.raises(InputError, match=message):
        add_example(session, RUBRIC, "1", candidate, dimension, score)
