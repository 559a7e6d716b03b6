"""One audit: the checks by name, run one after the other on the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from zreward.audit.findings import Found
from zreward.audit.invariance import invariance
from zreward.audit.leakage import leakage
from zreward.audit.monotonicity import monotonicity
from zreward.audit.prompts import prompts
from zreward.audit.sensitivity import sensitivity
from zreward.audit.subject import Subject
from zreward.audit.thresholds import Thresholds
from zreward.audit.unlike import unlike
from zreward.common.errors import InputError

CHECKS: dict[str, Callable[[Subject, Any], Found]] = {
    "invariance": invariance,
    "monotonicity": monotonicity,
    "prompts": prompts,
    "sensitivity": sensitivity,
    "leakage": leakage,
    "unlike": unlike,
}
"""Name, which is also that of its section of the thresholds -> what it does."""


def check_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of checks, default all; InputError for one that is unknown or that stands twice."""
    if names is None:
        return tuple(CHECKS)
    for name in names:
        if name not in CHECKS:
            raise InputError(f"--checks {name!r} is unknown; expected some of {', '.join(CHECKS)}")
    if len(set(names)) < len(names):
        raise InputError(f"--checks {','.join(names)}: a name stands twice; name each once")
    return tuple(names)


def audit(subject: Subject, thresholds: Thresholds, names: Sequence[str] | None = None) -> list[Found]:
    """What the checks found, in the order of their names.

    Args:
        subject: the model and its pictures.
        thresholds: what is accepted.
        names: of `CHECKS`; default all.

    Raises:
        InputError: an unknown check, or a prompt that is too long for the model once something is added to it.
    """
    with tqdm(check_names(names), desc="audit", unit="check") as bar:
        return [CHECKS[name](subject, getattr(thresholds, name)) for name in bar]
