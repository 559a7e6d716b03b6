"""From the likeliest tokens that an answer lists to a distribution over the labels.

An endpoint lists the k likeliest tokens of a position only. A label that is not among them is less likely than each of them,
and no likelier than everything that is not listed together. It gets the smaller of these two bounds, never zero:

    u = min(least listed probability, 1 - sum of the listed probabilities)

Then the labels' probabilities are divided by their sum, as everywhere. `bounded` is the share that such labels got: 0 where
all labels are listed, and then the distribution is the model's own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from zreward.common.errors import InputError, shown
from zreward.endpoint.answers import Position

_ROUNDING = 1e-5
"""What the sum of printed probabilities may be off by: the bound is not set below it."""
_MOST = 1.01
_TINY = sys.float_info.min


@dataclass(frozen=True)
class LabelReading:
    """Probabilities of the labels, in the rubric's order, and the share of them that is a bound."""

    probs: tuple[float, ...]
    bounded: float


def check_labels(labels: Sequence[str]) -> None:
    """InputError where one label begins another: a listed '1' could be the beginning of '10'."""
    for label in labels:
        longer = next((other for other in labels if other != label and other.startswith(label)), None)
        if longer is not None:
            raise InputError(
                f"labels {label!r} and {longer!r}: an endpoint answers in tokens, and {label!r} could be the beginning of "
                f"{longer!r}; use a rubric whose labels are single tokens, such as 1 to 9 or capital letters"
            )


def read_labels(positions: Sequence[Position], labels: Sequence[str], anywhere: bool = False) -> LabelReading:
    """The distribution over the labels where the answer gives one.

    Args:
        positions: the answer's tokens, each with the likeliest alternatives.
        labels: one per bin, in order.
        anywhere: the label may stand behind other words; else it is the first token, white space left out.

    Raises:
        InputError: nothing listed there is a label, or the labels are several tokens there.
    """
    position = _place(positions, labels, anywhere)
    listed = [(token, math.exp(logprob)) for token, logprob in position.listed]
    total = math.fsum(p for _, p in listed)
    if total > _MOST:
        raise InputError(
            f"the listed probabilities sum to {total:.3f}, expected at most 1: {shown(listed)}; the server's logprobs cannot be "
            "used, choose another server"
        )
    found = _sums(listed, labels)
    if not found:
        raise InputError(_why_none(position, labels))
    if len(found) == len(labels):
        return _normalised([found[label] for label in labels], [])
    bound = max(min(_least(position), max(0.0, 1 - total) + _ROUNDING), _TINY)
    return _normalised([found.get(label, bound) for label in labels], [x not in found for x in labels])


def _place(positions: Sequence[Position], labels: Sequence[str], anywhere: bool) -> Position:
    """Where the label stands: with `anywhere` where one was written, else the first place that is not white space.

    White space is passed over where it is likelier than all labels: some templates strip it from the prefix before them.
    """
    for position in positions:
        if anywhere and position.token.strip() in labels:
            return position
    for position in positions:
        listed = [(token.strip(), math.exp(logprob)) for token, logprob in position.listed]
        blank = math.fsum(p for token, p in listed if not token)
        if position.token.strip() or blank < math.fsum(p for token, p in listed if token in labels):
            return position
    raise InputError("the answer is empty, where a label was expected; is it a model that follows instructions?")


def _sums(listed: Sequence[tuple[str, float]], labels: Sequence[str]) -> dict[str, float]:
    """Label -> probability of its token; of its forms with white space only where none is listed without it."""
    for form in (str, str.strip):
        found: dict[str, float] = {}
        for token, p in listed:
            if form(token) in labels:
                found[form(token)] = found.get(form(token), 0.0) + p
        if found:
            return found
    return {}


def _least(position: Position) -> float:
    """The probability of the last of the likeliest tokens. A sampled token may be listed beyond these, as the last."""
    ranked = sorted(position.listed, key=lambda each: -each[1])
    if len(ranked) > 1 and ranked[-1][0] == position.token:
        ranked.pop()
    return math.exp(ranked[-1][1])


def _why_none(position: Position, labels: Sequence[str]) -> str:
    tokens = [token for token, _ in position.listed]
    begun = [(t, label) for t in tokens for label in labels if t.strip() and label.startswith(t.strip())]
    if begun:
        token, label = begun[0]
        return (
            f"label {label!r} is several tokens there, it begins with {token!r}; use a rubric whose labels are single tokens, "
            "such as 1 to 9 or capital letters"
        )
    return (
        f"the answer lists none of the labels {', '.join(labels)}, but {shown(tokens)}; a larger top_logprobs may list them, "
        "or the model does not follow the question"
    )


def _normalised(probs: list[float], is_bound: list[bool]) -> LabelReading:
    total = math.fsum(probs)
    if not total > 0:
        raise InputError(
            "all labels have probability 0 in the answer; expected at least one that the model may give: remove what bans "
            "tokens from extra, or choose another server"
        )
    shares = tuple(p / total for p in probs)
    return LabelReading(shares, math.fsum(p for p, bound in zip(shares, is_bound, strict=False) if bound))
