"""An editor for the traces of tiny models, which are random words: each text has one edit or none, by its number of letters."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from zreward.common import registry
from zreward.evaluation.coupling_edits import Edit

NAME = "tiny"


def edit(text: str, prompt: str, dimension: str) -> list[Edit]:
    """At most one, so that nothing is drawn: added or removed, one point each."""
    letters = len(text)
    if letters % 4 == 0:
        return []
    return [Edit("added", f"{text} red", -1.0) if letters % 2 else Edit("removed", f"blue {text}", 1.0)]


def install(patch: pytest.MonkeyPatch) -> None:
    """As if a package had registered it."""
    installed, point = registry._registered, EntryPoint(NAME, "tests.trace_editor:edit", registry.TRACE_EDITORS)
    patch.setattr(
        registry,
        "_registered",
        lambda group: installed(group) | ({NAME: [point]} if group == registry.TRACE_EDITORS else {}),
    )
