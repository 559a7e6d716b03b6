"""Blind comparisons: made from two folders, given to raters, answered, closed."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.studio.domain import studies
from zreward.studio.domain.study_creation import add_study
from zreward.studio.domain.study_results import study_result
from zreward.studio.storage.database import connect, sessions
from zreward.studio.storage.schema import Assignment, StudioTable, StudyPair, User, Verdict, now

DIMENSIONS = ("alignment", "realism")


@pytest.fixture
def session():
    engine = create_engine("sqlite://")
    StudioTable.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(User(name=name, role="annotator") for name in ("ann", "ben", "cem", "dua"))
        session.commit()
        yield session


def people(session):
    return session.scalars(select(User).order_by(User.id)).all()


@pytest.fixture
def folders(tmp_path, draw_folder):
    return draw_folder(tmp_path / "old", "red", tags=("shape",)), draw_folder(tmp_path / "new", "blue", reverse=True)


@pytest.fixture
def project(tmp_path):
    return tmp_path / "project"


@pytest.fixture
def study(session, project, folders):
    return add_study(session, project, *folders, DIMENSIONS, raters_per_pair=2)


def colour(path: Path) -> tuple[int, int, int]:
    return Image.open(path).getpixel((0, 0))


def test_pictures_are_matched_by_prompt_and_seed_and_keep_their_tags(study, project):
    assert [pair.prompt for pair in study.pairs] == ["a cube", "a cube", "a ball", "a ball"]
    assert [pair.tags for pair in study.pairs] == [["shape"], ["shape"], [], []]
    assert (study.before, study.after, study.name) == ("old", "new", "Study 1")
    for pair in study.pairs:
        assert colour(project / pair.before) == (255, 0, 0) and colour(project / pair.after) == (0, 0, 255)


def test_neither_name_nor_bytes_of_a_copy_tell_its_side(study, project):
    for pair in study.pairs:
        for path in (pair.before, pair.after):
            content = (project / path).read_bytes()
            assert not any(word in content for word in (b"made by", b"tEXt", b"pHYs", b"iCCP", b"eXIf"))
            assert "red" not in path and "blue" not in path
    first = [pair.before for pair in study.pairs]
    assert len({len(path) for path in first}) == 1


def test_a_study_that_cannot_be_made_leaves_nothing_behind(session, project, folders, tmp_path):
    (folders[1] / "blue-1-1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"blue-1-1\.png: not an image"):
        add_study(session, project, *folders, DIMENSIONS)
    assert not list(project.rglob("*.png"))
    session.rollback()
    assert session.scalar(select(StudyPair.id)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": ("a cube",)}, r"only .*old has a picture of 'a ball' with seed 0 \(2 without a partner\)"),
        ({"seeds": (0, 1, 2)}, r"only .*third has a picture of 'a cube' with seed 2"),
        ({"seeds": (0, 0)}, "prompt 'a cube' with seed 0 is there twice"),
        ({"prompts": ()}, "lists no pictures"),
        ({"prompts": ("a cube", " ")}, "empty prompt"),
    ],
)
def test_folders_that_do_not_match_are_refused(session, project, folders, tmp_path, draw_folder, change, message):
    with pytest.raises(InputError, match=message):
        add_study(session, project, folders[0], draw_folder(tmp_path / "third", "green", **change), DIMENSIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aspects": ["beauty"]}, r"aspects \['beauty'\]; expected some of overall, alignment, realism"),
        ({"aspects": ["realism", "realism"]}, "none of them twice"),
        ({"raters_per_pair": 0}, "raters_per_pair is 0; expected at least 1"),
        ({"name": " "}, "a name of 0 letters"),
        ({"name": "x" * 81}, "a name of 81 letters"),
        ({"name": "Study 1"}, "named 'Study 1' already"),
    ],
)
def test_options_of_a_study_are_checked(session, project, study, folders, options, message):
    with pytest.raises(InputError, match=message):
        add_study(session, project, *folders, DIMENSIONS, **options)


def test_folders_of_the_same_name_are_told_apart_by_their_paths(session, project, tmp_path, draw_folder):
    before, after = draw_folder(tmp_path / "a" / "out", "red"), draw_folder(tmp_path / "b" / "out", "blue")
    study = add_study(session, project, before, after, DIMENSIONS)
    assert (study.before, study.after) == (str(before), str(after))


def judge_all(session, study, user, choose):
    """Answer until nothing is left; `choose` gets the pair and returns good, same or bad."""
    while (given := studies.next_assignment(session, study.id, user)) is not None:
        for aspect in study.aspects:
            outcome = choose(given.pair)
            side = {"same": "same", "good": "left" if given.after_left else "right"}.get(outcome)
            studies.save_verdict(session, given, aspect, side or ("right" if given.after_left else "left"), seconds=1.5)


def test_each_pair_gets_its_raters_and_each_rater_sees_a_pair_once(session, study):
    for user in people(session):
        judge_all(session, study, user, lambda pair: "good")
    given = session.scalars(select(Assignment)).all()
    assert len(given) == 2 * len(study.pairs)
    assert len({(row.pair_id, row.user_id) for row in given}) == len(given)
    assert studies.verdict_count(session, study) == len(given)


def test_the_picture_on_the_chosen_side_wins_whichever_side_it_is_on(session, study):
    """A rater who always likes the picture of "after" is counted as good, on both sides."""
    user = people(session)[0]
    while (given := studies.next_assignment(session, study.id, user)) is not None:
        left = studies.picture_on(given, "left")
        studies.save_verdict(session, given, "overall", "left" if left == given.pair.after else "right")
    result = study_result(studies.ballots(session, study)["overall"])
    assert (result.pairs.good, result.pairs.same, result.pairs.bad) == (4, 0, 0)


def test_sides_are_shuffled_for_every_rater_and_stored(session, project, tmp_path, draw_folder):
    folders = [
        draw_folder(tmp_path / c, c, prompts=[f"prompt {n}" for n in range(60)], seeds=(0,)) for c in ("red", "blue")
    ]
    study = add_study(session, project, *folders, DIMENSIONS, raters_per_pair=2, seed=3)
    first, second = people(session)[:2]
    for user in (first, second):
        judge_all(session, study, user, lambda pair: "same")
    sides = {
        user.id: {row.pair_id: row.after_left for row in session.scalars(select(Assignment)) if row.user_id == user.id}
        for user in (first, second)
    }
    for of_one in sides.values():
        assert 15 < sum(of_one.values()) < 45  # binomial of 60: beyond that once in 20,000
    differing = sum(sides[first.id][pair] != sides[second.id][pair] for pair in sides[first.id])
    assert 15 < differing < 45


def test_a_verdict_said_twice_is_one_and_can_be_changed(session, study):
    user = people(session)[0]
    given = studies.next_assignment(session, study.id, user)
    for side in ("left", "left", "same"):
        studies.save_verdict(session, given, "overall", side)
    assert studies.verdicts_of(session, given) == {"overall": "same"}
    assert len(session.scalars(select(Verdict)).all()) == 1


def test_a_pair_that_was_begun_comes_back_until_every_aspect_is_answered(session, project, folders):
    study = add_study(session, project, *folders, DIMENSIONS, aspects=DIMENSIONS)
    user = people(session)[0]
    given = studies.next_assignment(session, study.id, user)
    studies.save_verdict(session, given, "realism", "left")
    assert studies.next_assignment(session, study.id, user).id == given.id
    assert studies.study_progress(session, study, user) == studies.StudyProgress(0, 4)
    studies.save_verdict(session, given, "alignment", "same")
    after = studies.next_assignment(session, study.id, user)
    assert after.id != given.id
    assert studies.study_progress(session, study, user) == studies.StudyProgress(1, 3)
    assert studies.previous_assignment(session, study.id, user, after).id == given.id
    assert studies.previous_assignment(session, study.id, user, given) is None


def test_a_place_that_nobody_used_is_given_away_after_half_an_hour(session, project, folders):
    study = add_study(session, project, *folders, DIMENSIONS, raters_per_pair=1)
    first, second = people(session)[:2]
    held = studies.next_assignment(session, study.id, first)
    assert studies.study_progress(session, study, second).left == 3
    held.created = now() - timedelta(minutes=31)
    session.commit()
    assert studies.study_progress(session, study, second).left == 4
    studies.save_verdict(session, held, "overall", "same")
    assert studies.study_progress(session, study, second).left == 3


def test_a_closed_study_takes_no_verdict_and_gives_no_pair(session, study):
    user = people(session)[0]
    given = studies.next_assignment(session, study.id, user)
    studies.close_study(session, study.id)
    ended = study.closed
    studies.close_study(session, study.id)
    assert study.closed == ended
    with pytest.raises(InputError, match="this study is closed"):
        studies.save_verdict(session, given, "overall", "left")
    assert studies.next_assignment(session, study.id, user) is None


@pytest.mark.parametrize(
    ("aspect", "side", "message"), [("realism", "left", "asks for overall"), ("overall", "up", "left, same")]
)
def test_only_answers_to_what_was_asked_are_taken(session, study, aspect, side, message):
    given = studies.next_assignment(session, study.id, people(session)[0])
    with pytest.raises(InputError, match=message):
        studies.save_verdict(session, given, aspect, side)


def test_an_assignment_is_found_only_for_its_rater(session, study):
    first, second = people(session)[:2]
    given = studies.next_assignment(session, study.id, first)
    assert studies.own_assignment(session, given.token, first).id == given.id
    assert studies.own_assignment(session, given.token, second) is None


def test_ballots_are_what_was_said(session, study):
    said = {}
    dice = random.Random(5)
    for user in people(session)[:2]:

        def choose(pair, user=user):
            said[pair.id, user.id] = dice.choice(["good", "same", "bad"])
            return said[pair.id, user.id]

        judge_all(session, study, user, choose)
    found = studies.ballots(session, study)["overall"]
    assert {(ballot.pair, ballot.rater): ballot.outcome for ballot in found} == said
    assert {ballot.prompt: ballot.tags for ballot in found} == {"a cube": ("shape",), "a ball": ()}


def test_many_raters_at_once_get_no_more_places_than_there_are(project, tmp_path, draw_folder):
    database = connect(f"sqlite:///{tmp_path / 'many.sqlite'}")
    StudioTable.metadata.create_all(database)
    opened = sessions(database)
    folders = [draw_folder(tmp_path / c, c, [f"prompt {n}" for n in range(12)], (0,)) for c in ("red", "blue")]
    with opened() as session:
        session.add_all(User(name=f"rater {n}", role="annotator") for n in range(6))
        study = add_study(session, project, *folders, DIMENSIONS, raters_per_pair=2).id

    def rate(number: int) -> None:
        with opened() as session:
            user = people(session)[number % 6]
            while (given := studies.next_assignment(session, study, user)) is not None:
                studies.save_verdict(session, given, "overall", "same")

    with ThreadPoolExecutor(12) as threads:  # everybody has two windows
        list(threads.map(rate, range(12)))
    with opened() as session:
        places = Counter(session.scalars(select(Assignment.pair_id)))
        assert set(places.values()) == {2} and len(places) == 12
        assert len(session.scalars(select(Verdict)).all()) == 24
    database.dispose()
