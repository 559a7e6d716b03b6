"""A student's expectations: made once, for new pictures only, by one model at a time."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from zreward.common.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.rubric import Rubric
from zreward.studio.domain.predictions import predict_scores
from zreward.studio.storage.database import connect
from zreward.studio.storage.project import Project, ProjectSettings, write_settings
from zreward.studio.storage.schema import CandidatePicture, Prediction, PromptGroup, StudioTable
from zreward.world.base_models import world_rubric
from zreward.world.dataset import png
from zreward.world.grammar import sample_prompts
from zreward.world.scenes import sample_scene


@pytest.fixture(scope="module")
def student():
    return RewardModel.from_pretrained("world:small")


@pytest.fixture
def project(tmp_path):
    write_settings(tmp_path, ProjectSettings())
    return Project(tmp_path)


@pytest.fixture
def session(project):
    engine = connect(project.database_url)
    StudioTable.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def add_picture(session, project, number):
    prompt = sample_prompts(1, rng := random.Random(number))[0]
    (project.folder / f"{number}.png").write_bytes(png(sample_scene(prompt, rng)))
    session.add(PromptGroup(id=number, text=prompt.text, group=f"g{number}"))
    session.add(CandidatePicture(id=number, prompt_id=number, key=f"c{number}", image=f"{number}.png"))
    session.commit()


def test_every_picture_is_scored_once(session, project, student):
    for number in (1, 2, 3):
        add_picture(session, project, number)
    assert predict_scores(session, project, world_rubric(), student, "first") == 3
    assert predict_scores(session, project, world_rubric(), student, "first") == 0
    add_picture(session, project, 4)
    assert predict_scores(session, project, world_rubric(), student, "first") == 1
    rows = session.scalars(
        select(Prediction).where(Prediction.dimension == "realism").order_by(Prediction.candidate_id)
    ).all()
    pictures = [str(project.folder / f"{number}.png") for number in (1, 2, 3, 4)]
    prompts = session.scalars(select(PromptGroup.text).order_by(PromptGroup.id)).all()
    scores = student.score(pictures, prompts, ["realism"])
    assert [row.mean for row in rows] == pytest.approx(scores.mean[:, 0].tolist(), abs=1e-4)
    assert [row.std for row in rows] == pytest.approx(scores.std[:, 0].tolist(), abs=1e-4)


def test_another_model_takes_the_place_of_the_first(session, project, student):
    add_picture(session, project, 1)
    predict_scores(session, project, world_rubric(), student, "first")
    assert predict_scores(session, project, world_rubric(), student, "second") == 1
    models = set(session.scalars(select(Prediction.model)))
    assert len(models) == 1 and models.pop().startswith("second ")


def test_a_model_of_another_rubric_is_refused(session, project, student):
    other = world_rubric().to_dict() | {
        "dimensions": [Rubric.default().dimension("realism").to_dict() | {"name": "beauty"}]
    }
    with pytest.raises(InputError, match=r"the project \['beauty'\]; they share none"):
        predict_scores(session, project, Rubric.from_dict(other), student, "first")
    scale = world_rubric().to_dict() | {"scale": {"min": 1, "max": 5, "step": 1}, "labels": []}
    with pytest.raises(InputError, match="first scores on .* the project on"):
        predict_scores(session, project, Rubric.from_dict(scale), student, "first")
