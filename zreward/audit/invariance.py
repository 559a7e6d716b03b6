"""Does the score stay when the same picture comes in another file?"""

from __future__ import annotations

import numpy as np

from zreward.audit.findings import Found, Row, Shown
from zreward.audit.storage import HARMLESS, STORED
from zreward.audit.subject import Array, Subject
from zreward.audit.thresholds import InvarianceLimits
from zreward.data.images import open_image

HALF = 0.5  # points


def invariance(subject: Subject, limits: InvarianceLimits) -> Found:
    """Drift of mu, per edit and dimension, under edits after which people would give the same score."""
    found = Found(
        "invariance",
        "The same picture in another file",
        "How far the score moves, in points of a 1-to-5 scale, under edits after which people would give the same score.",
    )
    for what, edit in (STORED | HARMLESS).items():
        files = [edit(image) for image in subject.images]
        moves = subject.score(files) - subject.clean
        found.shown.append(_worst(subject, what, files, moves))
        for d, name in enumerate(subject.dimensions):
            found.rows.append(_row(what, name, moves[:, d], limits))
    return found


def drift(moves: Array) -> dict[str, float]:
    """Of signed moves [N] in points: mean size, 95th percentile of sizes, share above half a point, signed mean."""
    size = np.abs(moves)
    return {
        "mean": float(size.mean()),
        "p95": float(np.quantile(size, 0.95)),
        "moved": float((size > HALF).mean()),
        "rise": float(moves.mean()),
    }


def _row(what: str, name: str, moves: Array, limits: InvarianceLimits) -> Row:
    figures = drift(moves)
    most = {"mean": limits.mean, "p95": limits.p95, "moved": limits.moved}
    if what in STORED:
        most = {"mean": limits.stored_mean}
    over = [key for key, limit in most.items() if figures[key] > limit]
    said = {
        "mean": f"moves by {figures['mean']:.2f} points on average",
        "p95": f"moves by {figures['p95']:.2f} points or more in one picture of twenty",
        "moved": f"moves by more than half a point in {figures['moved']:.0%} of the pictures",
    }
    if not over:
        return Row(what, name, figures, f"stays: {said['mean']}")
    verdict = "; ".join(f"{said[key]} (at most {most[key]:g})" for key in over)
    return Row(what, name, figures, verdict, True)


def _worst(subject: Subject, what: str, files: list[bytes], moves: Array) -> Shown:
    """The picture that moved most, before and after."""
    n, d = np.unravel_index(np.abs(moves).argmax(), moves.shape)
    text = f"{subject.dimensions[d]} {subject.clean[n, d] + 1:.2f}, then {subject.clean[n, d] + moves[n, d] + 1:.2f}"
    return Shown([subject.images[n], open_image(files[n])], what, f"moved most: {text}")
