"""Does a defect of one dimension lower its own dimension, and leave the others alone?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from zreward.audit.defects import MIDDLE, spoil
from zreward.audit.findings import Found, Row, Shown, fall_of
from zreward.audit.known import KnownDefect, known_defects
from zreward.audit.subject import Array, Subject
from zreward.audit.thresholds import LeakageLimits

REALISM = "realism"
GENERIC = ("blur", "noise")


def leakage(subject: Subject, limits: LeakageLimits) -> Found:
    """What blur and noise take from realism and from `limits.into`; and the same of every defect that a package knows."""
    found = Found(
        "leakage",
        "Defects of one dimension",
        "What a defect that concerns one dimension takes from it and from the others, in points of a 1-to-5 scale. Share: what "
        "another dimension loses, divided by what its own loses.",
    )
    dimensions = subject.dimensions
    if REALISM in dimensions:
        for kind in GENERIC:
            spoiled = spoil(subject.images, kind, MIDDLE, subject.seed)
            falls = (subject.clean - subject.score(spoiled)).mean(0)
            found.rows += leaks(kind, REALISM, dimensions, falls, limits.into, limits)
    pooled: dict[str, list[Array]] = defaultdict(list)
    for defect in known_defects(subject.prompts, dimensions, subject.seed):
        falls = (subject.score(defect.before, defect.prompts) - subject.score(defect.after, defect.prompts)).mean(0)
        pooled[defect.dimension].append(falls)
        found.rows.append(seen(defect, falls[dimensions.index(defect.dimension)], limits))
        found.shown.append(Shown([defect.before[0], defect.after[0]], f"{defect.dimension}: {defect.name}"))
    for own, each in pooled.items():
        others = [name for name in dimensions if name != own]
        found.rows += leaks(f"known defects of {own}", own, dimensions, np.mean(each, 0), others, limits)
    return found


def leaks(
    what: str, own: str, dimensions: Sequence[str], falls: Array, into: Sequence[str], limits: LeakageLimits
) -> list[Row]:
    """The rows of other dimensions that a defect of one must not lower.

    Args:
        what: the defect.
        own: the dimension that it concerns.
        dimensions: D names.
        falls: what it takes from each, on average, points [D].
        into: dimensions that it must not lower; those that are not among D are passed over.
        limits: what is accepted. A defect that the model does not see in its own dimension leaks nothing that can be judged:
            that row says so, and fails.
    """
    mine = float(falls[dimensions.index(own)])
    if mine < limits.least_own:
        verdict = f"does not see it: {fall_of(mine)} (must fall by {limits.least_own:g})"
        return [Row(what, own, {"own_fall": mine}, verdict, True)]
    rows = []
    for name in (name for name in into if name in dimensions and name != own):
        fall = float(falls[dimensions.index(name)])
        figures = {"own_fall": mine, "fall": fall, "share": fall / mine}
        verdict = f"{fall_of(fall)}, {fall / mine:.0%} of what {own} loses"
        failed = fall / mine > limits.share
        rows.append(Row(what, name, figures, verdict + (f" (at most {limits.share:.0%})" if failed else ""), failed))
    return rows


def seen(defect: KnownDefect, fall: float, limits: LeakageLimits) -> Row:
    """Whether the model takes enough for a defect whose worth is known."""
    share = float(fall) / defect.points
    figures = {"own_fall": float(fall), "people": defect.points, "seen": share}
    verdict = f"takes {fall:.2f} points, people {defect.points:g}"
    if share < limits.least_seen:
        return Row(
            defect.name,
            defect.dimension,
            figures,
            f"does not see it: {verdict} (at least {limits.least_seen:.0%})",
            True,
        )
    return Row(defect.name, defect.dimension, figures, verdict)
