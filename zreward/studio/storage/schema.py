"""The tables, in SQLite by default, or in any database that SQLAlchemy knows by URL.

Scores are on the project's rubric scale. Times are UTC. Pictures are named by their path below the project folder.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

ROLES = ("administrator", "annotator", "quality")
STATES = ("submitted", "accepted", "returned")
OUTCOMES = ("good", "same", "bad")
OVERALL = "overall"


def now() -> datetime:
    """UTC without a time zone, as the tables hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


class StudioTable(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}


class User(StudioTable):
    """A person with a role. An invited person has no password yet; only the invitation's hash is kept."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    password_hash: Mapped[str | None] = mapped_column(String(200))
    invitation_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    invitation_ends: Mapped[datetime | None]
    session_version: Mapped[int] = mapped_column(default=0)  # raised to end all sessions of this person
    active: Mapped[bool] = mapped_column(default=True)
    excluded: Mapped[bool] = mapped_column(default=False)  # by quality control: this person's labels are not exported
    created: Mapped[datetime] = mapped_column(default=now)


class SignedIn(StudioTable):
    """A browser in which somebody is signed in; `digest` is of the random part of its cookie."""

    __tablename__ = "signed_in"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    ends: Mapped[datetime]
    created: Mapped[datetime] = mapped_column(default=now)


class RubricVersion(StudioTable):
    """The rubric as YAML, each version whole; the newest is in force."""

    __tablename__ = "rubric_versions"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(String(40), unique=True)
    text: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text, default="")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created: Mapped[datetime] = mapped_column(default=now)


class PromptGroup(StudioTable):
    """A prompt and its pictures, which annotators compare."""

    __tablename__ = "prompts"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    group: Mapped[str] = mapped_column(
        String(200), unique=True
    )  # a record's group; default the prompt's own text, hashed
    tags: Mapped[list[str]] = mapped_column(default=list)
    split: Mapped[str | None] = mapped_column(String(40))
    candidates: Mapped[list[CandidatePicture]] = relationship(back_populates="prompt", order_by="CandidatePicture.id")


class CandidatePicture(StudioTable):
    """One picture of a prompt."""

    __tablename__ = "candidates"
    id: Mapped[int] = mapped_column(primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), index=True)
    key: Mapped[str] = mapped_column(String(200), unique=True)  # a record's id
    image: Mapped[str] = mapped_column(Text)
    prompt: Mapped[PromptGroup] = relationship(back_populates="candidates")


class Label(StudioTable):
    """One person's answer for one picture and dimension. `occasion` 0 is the first time, 1 and up are hidden repetitions.

    `score` is step 1's answer, null for "cannot judge"; `adjusted` is step 2's, null before that step.
    """

    __tablename__ = "labels"
    __table_args__ = (
        UniqueConstraint("user_id", "candidate_id", "dimension", "occasion"),
        Index("labels_by_candidate", "candidate_id", "dimension"),
        Index("labels_by_state", "state", "dimension"),
        Index("labels_by_rater", "user_id", "occasion", "state"),
        # Holds all that quality control's queue sorts by: the panel of every picture is read from the index alone.
        Index("labels_by_panel", "dimension", "occasion", "candidate_id", "state", "score", "adjusted"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    dimension: Mapped[str] = mapped_column(String(80))
    occasion: Mapped[int] = mapped_column(default=0)
    score: Mapped[float | None]
    adjusted: Mapped[float | None]
    state: Mapped[str] = mapped_column(String(20), default="submitted")
    comment: Mapped[str] = mapped_column(Text, default="")  # quality control's, when it sends a label back
    seconds: Mapped[float | None]  # from showing the picture to the answer
    rubric_version: Mapped[str] = mapped_column(String(40))
    created: Mapped[datetime] = mapped_column(default=now)
    changed: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    user: Mapped[User] = relationship()
    candidate: Mapped[CandidatePicture] = relationship()

    @property
    def final(self) -> float | None:
        """The score that counts."""
        return self.score if self.adjusted is None else self.adjusted


class Gold(StudioTable):
    """A hidden item whose score is known; only quality control sees that it is one."""

    __tablename__ = "gold"
    __table_args__ = (UniqueConstraint("candidate_id", "dimension"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    dimension: Mapped[str] = mapped_column(String(80))
    score: Mapped[float]


class Repetition(StudioTable):
    """A picture that is shown a second time to measure an annotator's consistency."""

    __tablename__ = "repetitions"
    __table_args__ = (UniqueConstraint("candidate_id", "dimension"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    dimension: Mapped[str] = mapped_column(String(80))


class Example(StudioTable):
    """A picture for one bin of one dimension: beside the rubric once it is `accepted`, before that an annotator's suggestion."""

    __tablename__ = "examples"
    __table_args__ = (UniqueConstraint("candidate_id", "dimension"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    dimension: Mapped[str] = mapped_column(String(80), index=True)
    score: Mapped[float]
    note: Mapped[str] = mapped_column(Text, default="")
    rubric_version: Mapped[str] = mapped_column(String(40))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    accepted: Mapped[bool] = mapped_column(default=True, server_default=true())
    created: Mapped[datetime] = mapped_column(default=now)
    candidate: Mapped[CandidatePicture] = relationship()
    author: Mapped[User | None] = relationship()


class Prediction(StudioTable):
    """A student model's score of a picture; only quality control sees it."""

    __tablename__ = "predictions"
    __table_args__ = (UniqueConstraint("candidate_id", "dimension"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    dimension: Mapped[str] = mapped_column(String(80))
    mean: Mapped[float]
    std: Mapped[float]
    model: Mapped[str] = mapped_column(Text)


class Study(StudioTable):
    """A blind good/same/bad comparison of two systems. `aspects`: "overall", or dimensions."""

    __tablename__ = "studies"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    before: Mapped[str] = mapped_column(Text)  # the systems' names; never sent to a browser before the study is closed
    after: Mapped[str] = mapped_column(Text)
    aspects: Mapped[list[str]] = mapped_column(default=lambda: [OVERALL])
    raters_per_pair: Mapped[int] = mapped_column(default=3)
    seed: Mapped[int] = mapped_column(default=0)
    closed: Mapped[datetime | None]
    created: Mapped[datetime] = mapped_column(default=now)
    pairs: Mapped[list[StudyPair]] = relationship(back_populates="study", order_by="StudyPair.id")


class StudyPair(StudioTable):
    """Two pictures of one prompt."""

    __tablename__ = "study_pairs"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    prompt: Mapped[str] = mapped_column(Text)
    tags: Mapped[list[str]] = mapped_column(default=list)
    before: Mapped[str] = mapped_column(Text)  # pictures, below the project folder
    after: Mapped[str] = mapped_column(Text)
    study: Mapped[Study] = relationship(back_populates="pairs")


class Assignment(StudioTable):
    """A pair given to a rater, with the side drawn for "after" (true: left) and an unguessable name for its pictures."""

    __tablename__ = "assignments"
    __table_args__ = (UniqueConstraint("pair_id", "user_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("study_pairs.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    after_left: Mapped[bool]
    token: Mapped[str] = mapped_column(String(40), unique=True)
    created: Mapped[datetime] = mapped_column(default=now)
    pair: Mapped[StudyPair] = relationship()
    verdicts: Mapped[list[Verdict]] = relationship(back_populates="assignment")


class Verdict(StudioTable):
    """`outcome` is of "after" against "before", whichever side it was on."""

    __tablename__ = "verdicts"
    __table_args__ = (UniqueConstraint("assignment_id", "aspect"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignments.id"), index=True)
    aspect: Mapped[str] = mapped_column(String(80))
    outcome: Mapped[str] = mapped_column(String(10))
    seconds: Mapped[float | None]
    created: Mapped[datetime] = mapped_column(default=now)
    assignment: Mapped[Assignment] = relationship(back_populates="verdicts")
