"""Labels made elsewhere come in whole or not at all, and only once."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.studio.domain.importing import import_file
from zreward.studio.domain.rubric_versions import add_version
from zreward.studio.storage.database import connect
from zreward.studio.storage.project import Project, ProjectSettings, write_settings
from zreward.studio.storage.schema import CandidatePicture, Label, PromptGroup, StudioTable, User
from zreward.world.base_models import world_rubric

HEADER = "image,prompt,rater,dimension,score\n"


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "images").mkdir(parents=True)
    write_settings(folder, ProjectSettings())
    Image.new("RGB", (8, 8), "red").save(folder / "images/red.png")
    return Project(folder)


@pytest.fixture
def session(project):
    engine = connect(project.database_url)
    StudioTable.metadata.create_all(engine)
    with Session(engine) as session:
        add_version(session, world_rubric())
        session.add(PromptGroup(id=1, text="a red thing", group="red"))
        session.add(CandidatePicture(id=1, prompt_id=1, key="red", image="images/red.png"))
        session.commit()
        yield session
    engine.dispose()


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with a picture that the project has, under another name, and one that it has not."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    Image.new("RGB", (8, 8), "blue").save(folder / "b.png")
    return folder


def csv(folder, *rows):
    path = folder / "labels.csv"
    path.write_text(HEADER + "".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def count(session, table):
    return session.scalar(select(func.count()).select_from(table))


def test_known_pictures_are_recognised_and_new_ones_copied(session, project, elsewhere):
    path = csv(
        elsewhere,
        "a.png,a red thing,ann,alignment,4.5",
        "b.png,a red thing,ann,alignment,1",
        "b.png,a red thing,bob,alignment,",
        "b.png,a blue thing,bob,realism,5",
    )
    done = import_file(session, project, path)
    assert str(done) == "4 labels by 2 raters, 2 new pictures"
    labels = session.scalars(select(Label).order_by(Label.id)).all()
    assert [label.score for label in labels] == [4.5, 1.0, None, 5.0]
    assert labels[0].candidate_id == 1 and labels[1].candidate_id == labels[2].candidate_id != labels[3].candidate_id
    assert labels[1].candidate.prompt_id == 1 and labels[3].candidate.prompt.text == "a blue thing"
    assert {label.rubric_version for label in labels} == {"1"}
    for candidate in session.scalars(select(CandidatePicture)):
        assert Image.open(project.file(candidate.image)).size == (8, 8)
    users = session.scalars(select(User)).all()
    assert [(user.name, user.active) for user in users] == [("ann (imported)", False), ("bob (imported)", False)]


def test_the_same_file_again_adds_nothing_and_another_score_is_refused(session, project, elsewhere):
    row = "b.png,a red thing,ann,alignment,"
    import_file(session, project, csv(elsewhere, row + "4"))
    assert str(import_file(session, project, csv(elsewhere, row + "4"))) == (
        "0 labels by 1 rater, 0 new pictures; 1 was there already"
    )
    with pytest.raises(InputError, match="'ann' gave this picture 4 on alignment already, now 3"):
        import_file(session, project, csv(elsewhere, row + "3"))
    assert (count(session, Label), count(session, CandidatePicture), count(session, User)) == (1, 2, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,a red thing,ann,beauty,4", "unknown dimension 'beauty'"),
        ("b.png,a red thing,ann,alignment,7", "7 is off the scale"),
        ("c.png,a red thing,ann,alignment,4", "'c.png' is not here"),
        ("labels.csv,a red thing,ann,alignment,4", "not an image that can be read"),
        (f"b.png,a red thing,{'a' * 80},alignment,4", "at most 69 printable characters"),
        ("b.png,a red thing,a\0b,alignment,4", "at most 69 printable characters"),
    ],
)
def test_one_bad_row_keeps_the_whole_file_out(session, project, elsewhere, row, message):
    path = csv(elsewhere, "b.png,a red thing,bob,alignment,4", row)
    with pytest.raises(InputError, match=rf"labels.csv:3: .*{message}.*\nnothing was imported"):
        import_file(session, project, path)
    assert (count(session, Label), count(session, CandidatePicture), count(session, User)) == (0, 1, 0)
    assert [file.name for file in project.folder.glob("images/**/*.png")] == ["red.png"]


def test_label_studio(session, project, elsewhere, tmp_path):
    rating = {"from_name": "alignment", "type": "rating", "value": {"rating": 4}}
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/0a1b2c3d-b.png", "prompt": "a blue thing"},
        "annotations": [{"completed_by": 3, "was_cancelled": False, "lead_time": 2.5, "result": [rating]}],
    }
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task]))
    assert str(import_file(session, project, path, images=elsewhere)) == "1 label by 1 rater, 1 new picture"
    label = session.scalar(select(Label))
    assert (label.score, label.seconds, label.user.name) == (4.0, 2.5, "3 (imported)")


def test_two_pictures_of_a_server_do_not_become_one(session, project, elsewhere):
    def label(image, rater):
        result = [{"type": "rating", "from_name": "alignment", "value": {"rating": 4}}]
        annotation = {"completed_by": rater, "was_cancelled": False, "result": result}
        return {"id": rater, "data": {"image": image, "prompt": "a blue thing"}, "annotations": [annotation]}

    tasks = [label("s3://bucket/1/b.png", 1), label("s3://bucket/2/b.png", 2)]
    (elsewhere / "export.json").write_text(json.dumps(tasks))
    with pytest.raises(InputError, match="'s3://bucket/2/b.png' would be .*b.png, and so would 's3://bucket/1/b.png'"):
        import_file(session, project, elsewhere / "export.json")
