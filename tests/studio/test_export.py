"""The export holds what annotators gave, and of whom it should."""

from __future__ import annotations

import random

import datasets
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.studio.domain.exporting import ExportOptions, export_labels, exported_records, rater_name
from zreward.studio.domain.rubric_versions import add_version, edit_rubric
from zreward.studio.storage.database import connect
from zreward.studio.storage.project import Project, ProjectSettings, write_settings
from zreward.studio.storage.schema import CandidatePicture, Gold, Label, PromptGroup, StudioTable, User
from zreward.world.base_models import world_rubric
from zreward.world.dataset import png
from zreward.world.grammar import sample_prompts
from zreward.world.scenes import sample_scene

GOOD, CARELESS, NEW = 1, 2, 3
DIMENSIONS = ("alignment", "realism")


@pytest.fixture
def project(tmp_path):
    write_settings(tmp_path, ProjectSettings(name="Test"))
    return Project(tmp_path)


@pytest.fixture
def session(project):
    """Four pictures; the careful annotator hits all gold, the careless one none, the new one has met none."""
    rng = random.Random(2)
    engine = connect(project.database_url)
    StudioTable.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(User(id=n, name=name, role="annotator") for n, name in ((1, "ann"), (2, "bob"), (3, "eve")))
        rubric = world_rubric()
        add_version(session, rubric)
        (project.folder / "images").mkdir()
        for number, prompt in enumerate(sample_prompts(4, rng), 1):
            (project.folder / f"images/{number}.png").write_bytes(png(sample_scene(prompt, rng)))
            session.add(PromptGroup(id=number, text=prompt.text, group=f"g{number}", tags=["world"], split="train"))
            session.add(CandidatePicture(id=number, prompt_id=number, key=f"c{number}", image=f"images/{number}.png"))
        session.flush()
        for candidate in (1, 2):
            session.add(Gold(candidate_id=candidate, dimension="alignment", score=3.0))
        for candidate in (1, 2, 3):
            for dimension in DIMENSIONS:
                session.add(label(GOOD, candidate, dimension, 3.0))
                session.add(label(CARELESS, candidate, dimension, 5.0))
        session.add(label(NEW, 4, "alignment", 2.0))
        session.add(label(GOOD, 1, "alignment", 5.0, occasion=1))
        session.commit()
        yield session
    engine.dispose()


def label(user, candidate, dimension, score, **about):
    about = {"rubric_version": "1"} | about
    return Label(user_id=user, candidate_id=candidate, dimension=dimension, score=score, **about)


def one(session, user, candidate, dimension):
    known = (Label.user_id == user, Label.candidate_id == candidate, Label.dimension == dimension)
    return session.scalar(select(Label).where(*known, Label.occasion == 0))


def exported(session, project, **options):
    return {record.id: record for record in exported_records(session, project, ExportOptions(**options))}


def test_only_annotators_above_the_threshold_come_out_under_other_names(session, project):
    records = exported(session, project)
    good = rater_name(project, GOOD)
    assert set(records) == {"c1", "c2", "c3"}
    assert records["c1"].scores == {name: {good: 3.0} for name in DIMENSIONS}
    assert (records["c1"].split, records["c1"].group, records["c1"].rubric_version) == ("train", "g1", "1")
    assert records["c1"].tags == ("world", "quality:alignment:submitted", "quality:realism:submitted")
    assert "ann" not in good and good == rater_name(Project(project.folder), GOOD) != rater_name(project, CARELESS)


def test_everybody_on_request_but_never_the_excluded(session, project):
    assert set(exported(session, project, everybody=True)["c1"].scores["alignment"].values()) == {3.0, 5.0}
    assert "c4" in exported(session, project, everybody=True)
    session.get(User, CARELESS).excluded = True
    assert set(exported(session, project, everybody=True)["c1"].scores["alignment"].values()) == {3.0}


def test_nobody_passing_is_an_error_that_says_why(session, project):
    session.get(User, GOOD).excluded = True
    with pytest.raises(
        InputError, match=r"ann was excluded.*bob misses 0.70 with 0.00 on 2 gold items; eve has answered no"
    ):
        exported(session, project)


def test_states_adjustments_and_what_could_not_be_judged(session, project):
    one(session, GOOD, 1, "alignment").state = "accepted"
    one(session, GOOD, 1, "alignment").adjusted = 3.5
    one(session, GOOD, 1, "realism").state = "returned"
    one(session, GOOD, 2, "realism").score = None
    session.flush()
    records, good = exported(session, project), rater_name(project, GOOD)
    assert records["c1"].scores == {"alignment": {good: 3.5}}
    assert records["c1"].tags == ("world", "quality:alignment:accepted")
    assert set(records["c2"].scores) == {"alignment"}
    accepted = exported(session, project, accepted_only=True)
    assert list(accepted) == ["c1"] and set(accepted["c1"].scores) == {"alignment"}


def test_a_rater_who_could_not_judge_is_named_beside_one_who_could(session, project):
    one(session, CARELESS, 1, "alignment").score = None
    session.flush()
    scores = exported(session, project, everybody=True)["c1"].scores["alignment"]
    assert scores == {rater_name(project, GOOD): 3.0, rater_name(project, CARELESS): None}


def test_labels_of_several_rubric_versions(session, project):
    add_version(session, edit_rubric(world_rubric(), {"alignment.5": "all of it"}))
    one(session, GOOD, 1, "realism").rubric_version = "2"
    session.flush()
    record = exported(session, project)["c1"]
    assert record.rubric_version == "2" and record.tags[-2:] == ("rubric:1", "rubric:2")


def test_nothing_accepted_is_an_error(session, project):
    with pytest.raises(InputError, match="no accepted label by the 1 annotator who counts"):
        exported(session, project, accepted_only=True)


@pytest.mark.parametrize("name", ["out/records.jsonl", "out/records.parquet", "out/records"])
def test_every_format_reads_back(session, project, tmp_path, name):
    out = tmp_path / name
    assert export_labels(session, project, out, ExportOptions()) == 3
    back = load_records(out if out.suffix else datasets.load_from_disk(str(out)), rubric=world_rubric())
    expected = exported(session, project)
    assert [(r.id, r.prompt, r.scores, r.tags) for r in back] == [
        (r.id, r.prompt, r.scores, r.tags) for r in expected.values()
    ]
    assert [r.open_image().tobytes() for r in back] == [r.open_image().tobytes() for r in expected.values()]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_folder_in_use_and_an_unknown_format_are_refused(session, project, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        export_labels(session, project, tmp_path / "full", ExportOptions())
    with pytest.raises(InputError, match="unknown file type '.csv'"):
        export_labels(session, project, tmp_path / "a.csv", ExportOptions())
