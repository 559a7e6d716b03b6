"""The rubric's pages: what is in force, its examples, older versions, and the form that makes the next one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload

from zreward.common.errors import InputError
from zreward.studio.domain.rubric_examples import accept_example, add_example, own_score, suggest_example
from zreward.studio.domain.rubric_versions import add_version, edit_rubric, read_version
from zreward.studio.routes.context import Anybody, Database, Quality, render_page
from zreward.studio.routes.returning import back_to
from zreward.studio.storage.rubric_rows import newest_version
from zreward.studio.storage.schema import Example, RubricVersion

router = APIRouter()

MOST_NOTE = 500  # letters


@router.get("/rubric")
def show(request: Request, session: Database, user: Anybody, version: str | None = None) -> Response:
    """A version of the rubric (default: the one in force), with the examples of all bins."""
    newest = newest_version(session)
    wanted = select(RubricVersion).where(RubricVersion.version == version)
    shown = newest if version is None else session.scalar(wanted)
    if shown is None:
        raise InputError(f"there is no rubric version {version!r}")
    examples: dict[tuple[str, float], list[Example]] = {}
    suggested: list[Example] = []
    wanted_examples = select(Example).options(joinedload(Example.candidate), joinedload(Example.author))
    for example in session.scalars(wanted_examples.order_by(Example.id)):
        if example.accepted:
            examples.setdefault((example.dimension, example.score), []).append(example)
        elif user.role != "annotator" or example.author_id == user.id:
            suggested.append(example)
    return render_page(
        request,
        "rubric.html.j2",
        shown=shown,
        shown_rubric=read_version(shown),
        newest=newest,
        versions=session.scalars(select(RubricVersion).order_by(RubricVersion.id.desc())).all(),
        examples=examples,
        suggested=suggested,
    )


@router.get("/rubric/edit")
def show_form(request: Request, session: Database, user: Quality) -> Response:
    newest = newest_version(session)
    return render_page(request, "rubric_form.html.j2", newest=newest, edited=read_version(newest))


async def form_texts(request: Request) -> dict[str, str]:
    return {key: value for key, value in (await request.form()).items() if isinstance(value, str)}


@router.post("/rubric")
def save(session: Database, user: Quality, form: Annotated[dict[str, str], Depends(form_texts)]) -> Response:
    """The form's wordings as the next version. Refused when somebody else has made one since the form was opened."""
    newest = newest_version(session)
    if form.get("from_version") != newest.version:
        raise InputError(
            f"the form was opened on version {form.get('from_version')!r}, and {newest.version!r} is in force now; "
            "open it again and make your changes there"
        )
    add_version(session, edit_rubric(read_version(newest), form), _note(form.get("note", "")), user.id)
    try:
        session.commit()
    except IntegrityError:
        session.rollback()
        raise InputError("somebody else has just saved a version; open the form again") from None
    return back_to("/rubric", "/rubric", "saved")


@router.post("/examples")
def save_example(
    session: Database,
    user: Anybody,
    candidate: Annotated[int, Form()],
    dimension: Annotated[str, Form()],
    score: Annotated[float | None, Form()] = None,
    note: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> Response:
    """Put a picture beside a bin. An annotator suggests one with the score that this annotator gave it."""
    version, note = newest_version(session), _note(note)
    if user.role == "annotator":
        own = own_score(session, user, candidate, dimension)
        suggest_example(session, version.version, candidate, dimension, own, note, user.id)
    elif score is None:
        raise InputError("an example needs the score that it is one of")
    else:
        rubric = read_version(version)
        about = {"note": note, "author_id": user.id}
        add_example(session, rubric, version.version, candidate, dimension, score, **about)
    session.commit()
    return back_to(back, "/rubric", "suggested" if user.role == "annotator" else "saved")


@router.post("/examples/{number}/accept")
def accept(session: Database, user: Quality, number: int, back: Annotated[str, Form()] = "") -> Response:
    """Put an annotator's suggestion beside the rubric."""
    example = session.get(Example, number)
    if example is None:
        raise InputError("this suggestion was removed meanwhile; load the page again")
    accept_example(session, example)
    session.commit()
    return back_to(back, "/rubric", "saved")


@router.post("/examples/{number}/remove")
def remove_example(session: Database, user: Quality, number: int, back: Annotated[str, Form()] = "") -> Response:
    example = session.get(Example, number)
    if example is not None:
        session.delete(example)
        session.commit()
    return back_to(back, "/rubric", "saved")


def _note(text: str) -> str:
    text = text.strip()
    if len(text) > MOST_NOTE:
        raise InputError(f"a note of {len(text)} letters; expected at most {MOST_NOTE}")
    return text
