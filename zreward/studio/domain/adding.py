"""The pictures of a new project: checked, copied, grouped by prompt. Where the truth is known, hidden items are drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session
from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.texts import is_blank
from zreward.rubric import Rubric
from zreward.studio.storage.picture_files import copy_new
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import CandidatePicture, Gold, PromptGroup, Repetition

MOST = 200  # letters of a group, or of a picture's name
GOLD_SHARE, REPEATED_SHARE = 0.15, 0.1  # of a try-out's pictures, per dimension


@dataclass(frozen=True)
class NewPicture:
    """A picture for a new project. `image` is a path or encoded bytes; `truth` is its score by dimension, where it is known."""

    prompt: str
    image: Path | bytes
    key: str
    group: str | None = None
    split: str | None = None
    tags: tuple[str, ...] = ()
    truth: dict[str, float] = field(default_factory=dict)


def add_pictures(
    session: Session, project: Project, pictures: Iterable[NewPicture], rubric: Rubric, rng: random.Random
) -> None:
    """Copy pictures into a new project, with hidden items drawn by `rng` from those whose truth is known; not committed.

    Raises:
        InputError: there is no picture, one cannot be read, two have one name, or a group has two prompts or splits.
    """
    groups: dict[str, PromptGroup] = {}
    keys: set[str] = set()
    for picture in tqdm(pictures, desc="copying", unit="picture"):
        if is_blank(picture.prompt):
            raise InputError(f"picture {picture.key!r} has an empty prompt")
        if picture.key in keys:
            raise InputError(f"two pictures are called {picture.key!r}; expected one name each")
        keys.add(picture.key)
        prompt = _prompt(session, groups, picture)
        candidate = CandidatePicture(
            prompt_id=prompt.id, key=picture.key, image=copy_new(project, picture.image, picture.key)
        )
        session.add(candidate)
        session.flush()
        for name, score in picture.truth.items():
            if name in rubric.dimension_names and rng.random() < GOLD_SHARE:
                session.add(Gold(candidate_id=candidate.id, dimension=name, score=score))
            if name in rubric.dimension_names and rng.random() < REPEATED_SHARE:
                session.add(Repetition(candidate_id=candidate.id, dimension=name))
    if not keys:
        raise InputError("there are no pictures; a project needs at least one")
    session.flush()


def _prompt(session: Session, groups: dict[str, PromptGroup], picture: NewPicture) -> PromptGroup:
    """The picture's prompt, with the tags of all its pictures. InputError where a group has two prompts or two splits."""
    group = picture.group or hashlib.sha256(picture.prompt.encode()).hexdigest()
    for what, text in (("group", group), ("name", picture.key)):
        if len(text) > MOST:
            raise InputError(
                f"picture {picture.key[:MOST]!r}: a {what} of {len(text)} letters; expected at most {MOST}"
            )
    prompt = groups.get(group)
    if prompt is None:
        prompt = groups[group] = PromptGroup(
            text=picture.prompt, group=group, tags=list(picture.tags), split=picture.split
        )
        session.add(prompt)
        session.flush()
    named = f"group {group!r}" if picture.group else f"prompt {picture.prompt!r}"
    for what, one, other in (("prompt", prompt.text, picture.prompt), ("split", prompt.split, picture.split)):
        if one != other:
            raise InputError(
                f"picture {picture.key!r}: its {named} has the {what} {one!r} already, and now {other!r}; expected "
                "one, because annotators compare a group's pictures"
            )
    prompt.tags = list(dict.fromkeys((*prompt.tags, *picture.tags)))
    return prompt
