"""Does the score fall as a defect grows?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zreward.audit.defects import DEFECTS, LEVELS, spoil
from zreward.audit.findings import Found, Row, Shown, fall_of
from zreward.audit.subject import Array, Subject
from zreward.audit.thresholds import MonotonicityLimits


def monotonicity(subject: Subject, limits: MonotonicityLimits) -> Found:
    """Mean mu per dimension at every severity of every generic defect.

    A dimension that rises fails; so does a defect that lowers none of the dimensions that it must lower.
    """
    found = Found(
        "monotonicity",
        "Growing defects",
        "Scores, in points of a 1-to-5 scale, of the same pictures with a defect at four severities. Level 0 is without.",
    )
    for kind in DEFECTS:
        spoiled = [spoil(subject.images, kind, level, subject.seed) for level in range(1, LEVELS + 1)]
        points = np.stack([subject.clean, *(subject.score(images) for images in spoiled)])  # levels, N, D
        found.rows += judged(kind, subject.dimensions, points, limits)
        found.curves[kind] = {
            name: [(level, float(points[level, :, d].mean()) + 1) for level in range(LEVELS + 1)]
            for d, name in enumerate(subject.dimensions)
        }
        found.shown.append(Shown([subject.images[0], *(images[0] for images in spoiled)], kind))
    return found


def judged(kind: str, dimensions: Sequence[str], points: Array, limits: MonotonicityLimits) -> list[Row]:
    """The rows of one defect.

    Args:
        kind: the defect, which names the dimensions of `limits` that it must lower.
        dimensions: D names.
        points: mu at every level (levels, N, D), the clean pictures first.
        limits: what is accepted.
    """
    mean = points.mean(1)  # levels, D
    falls, rises = mean[0] - mean[-1], (mean - mean[0]).max(0)
    must = [name for name in getattr(limits, kind) if name in dimensions] or list(dimensions)
    blind = max(falls[dimensions.index(name)] for name in must) < limits.least_fall
    rows = []
    for d, name in enumerate(dimensions):
        figures = {"clean": float(mean[0, d]) + 1, "worst": float(mean[-1, d]) + 1, "fall": float(falls[d])}
        figures |= {"rise": float(rises[d]), "lowered": float((points[-1, :, d] < points[0, :, d]).mean())}
        said = fall_of(float(falls[d]))
        if blind and name in must:
            verdict, failed = f"does not see it: {said} (must fall by {limits.least_fall:g})", True
        elif rises[d] > limits.most_rise:
            verdict, failed = f"likes it: rises by {rises[d]:.2f} points (at most {limits.most_rise:g})", True
        elif falls[d] >= limits.least_fall:
            verdict, failed = said, False
        else:
            verdict, failed = "hardly moves", False
        rows.append(Row(kind, name, figures, verdict, failed))
    return rows
