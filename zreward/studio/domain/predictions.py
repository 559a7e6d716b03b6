"""A student model's scores of every picture. They sort quality control's queue; annotators never see them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, joinedload
from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.models.fingerprint import weights_fingerprint
from zreward.models.reward_model import RewardModel
from zreward.rubric import Rubric
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import CandidatePicture, Prediction

BATCH = 32  # pictures at a time


def predict_scores(session: Session, project: Project, rubric: Rubric, model: RewardModel, name: str) -> int:
    """Score every picture that these weights have not scored yet, on the dimensions that model and project share.

    Predictions of other models are deleted. Each batch is committed, so an interrupted run goes on where it stopped.

    Args:
        name: The model's name, as the pages show it.

    Returns:
        How many pictures were scored.

    Raises:
        InputError: the model compares pictures, has another scale, or shares no dimension with the rubric.
    """
    dimensions = _shared_dimensions(model, rubric, name)
    name = f"{name} {weights_fingerprint(model)}"
    session.execute(delete(Prediction).where(Prediction.model != name))
    done = select(Prediction.candidate_id).group_by(Prediction.candidate_id)
    done = done.having(func.count(Prediction.id) >= len(dimensions))
    pictures = (
        select(CandidatePicture).options(joinedload(CandidatePicture.prompt)).where(CandidatePicture.id.not_in(done))
    )
    missing = session.scalars(pictures.order_by(CandidatePicture.id)).all()
    session.commit()
    with tqdm(total=len(missing), desc=f"scoring with {name}", unit="picture", disable=not missing) as bar:
        for start in range(0, len(missing), BATCH):
            chunk = missing[start : start + BATCH]
            _score(session, project, chunk, dimensions, model, name)
            session.commit()
            bar.update(len(chunk))
    return len(missing)


def _score(
    session: Session,
    project: Project,
    candidates: Sequence[CandidatePicture],
    dimensions: list[str],
    model: RewardModel,
    name: str,
) -> None:
    ids = [candidate.id for candidate in candidates]
    session.execute(delete(Prediction).where(Prediction.candidate_id.in_(ids)))
    paths = [str(project.file(candidate.image)) for candidate in candidates]
    scores = model.score(paths, [candidate.prompt.text for candidate in candidates], dimensions, BATCH)
    for candidate, means, stds in zip(ids, scores.mean.tolist(), scores.std.tolist(), strict=True):
        for dimension, mean, std in zip(dimensions, means, stds, strict=True):
            session.add(Prediction(candidate_id=candidate, dimension=dimension, mean=mean, std=std, model=name))


def _shared_dimensions(model: RewardModel, rubric: Rubric, name: str) -> list[str]:
    """InputError for a model whose scores cannot be set beside the annotators'."""
    if model.forms.reference:
        raise InputError(f"{name} compares pictures and gives no scores; expected a model that scores")
    if model.rubric.scale != rubric.scale:
        raise InputError(
            f"{name} scores on {model.rubric.scale.to_dict()}, the project on {rubric.scale.to_dict()}; use a model that was "
            "trained on this project's export"
        )
    shared = [known for known in rubric.dimension_names if known in model.rubric.dimension_names]
    if not shared:
        raise InputError(
            f"{name} knows the dimensions {list(model.rubric.dimension_names)}, the project {list(rubric.dimension_names)}; "
            "they share none"
        )
    return shared
