"""Does the width of the distribution tell that a picture is unlike the data?"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from zreward.audit.findings import Found, Row, Shown
from zreward.audit.strangers import STRANGERS
from zreward.audit.subject import Subject
from zreward.audit.thresholds import UnlikeLimits

SIGNAL = 0.7
"""AUROC from which the page calls it a signal."""


def unlike(subject: Subject, limits: UnlikeLimits) -> Found:
    """AUROC of entropy and standard deviation, averaged over dimensions, between the data and pictures of no data."""
    found = Found(
        "unlike",
        "Pictures unlike the data",
        "How often a picture of no data has a wider distribution than one of the data (AUROC: 1 always, 0.5 no signal, below "
        "it the model is surer of what it does not know). A weak signal means: do not trust the spread to find such inputs.",
    )
    data = subject.unchanged
    for what, make in STRANGERS.items():
        strangers = make(subject.images, subject.seed)
        other = subject.ask(strangers)
        figures = {
            "auroc_entropy": auroc(other.entropy.mean(1), data.entropy.mean(1)),
            "auroc_std": auroc(other.std.mean(1), data.std.mean(1)),
            "mu": float(other.mean.mean()),
        }
        found.rows.append(_row(what, figures, limits))
        found.shown.append(Shown([subject.images[0], strangers[0]], what))
    return found


def auroc(higher: Any, lower: Any) -> float:
    """P(one of `higher` [N] is above one of `lower` [M]) + 1/2 P(equal)."""
    one, other = np.asarray(higher, dtype=np.float64), np.asarray(lower, dtype=np.float64)
    ranks = rankdata(np.concatenate([one, other]))
    return float((ranks[: len(one)].sum() - len(one) * (len(one) + 1) / 2) / (len(one) * len(other)))


def _row(what: str, figures: dict[str, float], limits: UnlikeLimits) -> Row:
    value = figures["auroc_entropy"]
    verdict = f"entropy {'tells them apart' if value >= SIGNAL else 'is no signal'} (AUROC {value:.2f})"
    if limits.auroc is not None and value < limits.auroc:
        return Row(what, "", figures, f"{verdict}; at least {limits.auroc:g}", True)
    return Row(what, "", figures, verdict)
