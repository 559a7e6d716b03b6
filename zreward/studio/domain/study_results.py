"""What a blind comparison found: pure functions of its verdicts, for one aspect at a time.

    a pair's outcome   the verdict that most of its raters gave; "same" when no single verdict has the most
    GSB                (G - B) / (G + S + B) over pairs; the interval is a bootstrap over prompts
    every verdict      the same, with each rater's verdict counted for itself
    sign test          exact and two-sided: were good and bad equally likely, could the decided pairs fall like this?
                       The test by prompt first lets a prompt's pairs outvote each other: they are not independent.
    agreement          Krippendorff's alpha (nominal) of the raters on the pairs that several of them judged

Good means that "after" is better. None: nothing to compute it from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import krippendorff
import numpy as np
from scipy.stats import binomtest

from zreward.evaluation.metrics import gsb, gsb_interval
from zreward.studio.storage.schema import OUTCOMES


@dataclass(frozen=True)
class Ballot:
    """One rater's verdict on one pair. `after_left`: on which side "after" was shown."""

    pair: int
    prompt: str
    tags: tuple[str, ...]
    rater: int
    outcome: str
    after_left: bool = False

    @property
    def side(self) -> str:
        """left, right or same: what the rater pressed."""
        if self.outcome == "same":
            return "same"
        return "left" if (self.outcome == "good") == self.after_left else "right"


@dataclass(frozen=True)
class Gsb:
    """`count` verdicts or pairs, and what they add up to."""

    good: int
    same: int
    bad: int
    gsb: float
    low: float
    high: float

    @property
    def count(self) -> int:
        return self.good + self.same + self.bad


@dataclass(frozen=True)
class SignTest:
    good: int
    bad: int
    p: float


@dataclass(frozen=True)
class StudyResult:
    """One aspect. `tags` holds GSB over the pairs of each tag; `sides` how often raters chose left, same, right."""

    pairs: Gsb
    every_verdict: Gsb
    sign_test: SignTest
    sign_test_by_prompt: SignTest
    agreement: float | None
    tags: dict[str, Gsb]
    raters: int
    sides: dict[str, int]


def study_result(ballots: Sequence[Ballot]) -> StudyResult | None:
    """The result on one aspect; None without a verdict. The order of `ballots` does not matter."""
    if not ballots:
        return None
    ballots = sorted(ballots, key=lambda ballot: (ballot.pair, ballot.rater))
    pairs = {ballot.pair: ballot for ballot in ballots}
    outcomes = pair_outcomes(ballots)
    prompts = {pair: ballot.prompt for pair, ballot in pairs.items()}
    sides = Counter(ballot.side for ballot in ballots)
    return StudyResult(
        pairs=_gsb(outcomes.values(), [prompts[pair] for pair in outcomes]),
        every_verdict=_gsb([b.outcome for b in ballots], [b.prompt for b in ballots]),
        sign_test=sign_test(outcomes.values()),
        sign_test_by_prompt=sign_test(_by_prompt(outcomes, prompts)),
        agreement=agreement(ballots),
        tags={
            tag: _gsb([outcomes[pair] for pair in tagged], [prompts[pair] for pair in tagged])
            for tag, tagged in _tagged(pairs).items()
        },
        raters=len({ballot.rater for ballot in ballots}),
        sides={side: sides[side] for side in ("left", "same", "right")},
    )


def pair_outcomes(ballots: Iterable[Ballot]) -> dict[int, str]:
    """Each pair's outcome by its raters' most frequent verdict; "same" when two verdicts share the first place."""
    votes: dict[int, Counter[str]] = {}
    for ballot in ballots:
        votes.setdefault(ballot.pair, Counter())[ballot.outcome] += 1
    return {pair: _most_frequent(counts) for pair, counts in votes.items()}


def sign_test(outcomes: Iterable[str]) -> SignTest:
    """ "same" says nothing for either side and is left out; with nothing decided p is 1."""
    counts = Counter(outcomes)
    good, bad = counts["good"], counts["bad"]
    return SignTest(good, bad, float(binomtest(good, good + bad).pvalue) if good + bad else 1.0)


def agreement(ballots: Sequence[Ballot]) -> float | None:
    """Krippendorff's alpha (nominal). None unless two raters share a pair and the verdicts differ at all."""
    raters = {rater: row for row, rater in enumerate(sorted({ballot.rater for ballot in ballots}))}
    pairs = {pair: column for column, pair in enumerate(sorted({ballot.pair for ballot in ballots}))}
    table_RP = np.full((len(raters), len(pairs)), np.nan)
    for ballot in ballots:
        table_RP[raters[ballot.rater], pairs[ballot.pair]] = OUTCOMES.index(ballot.outcome)
    shared = table_RP[:, (~np.isnan(table_RP)).sum(0) > 1]
    if len(np.unique(shared[~np.isnan(shared)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table_RP, level_of_measurement="nominal"))


def _most_frequent(counts: Counter[str]) -> str:
    (first, votes), *rest = counts.most_common(2)
    return "same" if rest and rest[0][1] == votes else first


def _by_prompt(outcomes: dict[int, str], prompts: dict[int, str]) -> list[str]:
    balance: Counter[str] = Counter()
    for pair, outcome in outcomes.items():
        balance[prompts[pair]] += {"good": 1, "same": 0, "bad": -1}[outcome]
    return ["good" if sum_ > 0 else "bad" if sum_ < 0 else "same" for sum_ in balance.values()]


def _tagged(pairs: dict[int, Ballot]) -> dict[str, list[int]]:
    tagged: dict[str, list[int]] = {}
    for pair, ballot in pairs.items():
        for tag in dict.fromkeys(ballot.tags):
            tagged.setdefault(tag, []).append(pair)
    return dict(sorted(tagged.items()))


def _gsb(outcomes: Iterable[str], prompts: Sequence[Any]) -> Gsb:
    outcomes = list(outcomes)
    counts = {name: outcomes.count(name) for name in OUTCOMES}
    low, high = gsb_interval(outcomes, prompts)
    return Gsb(counts["good"], counts["same"], counts["bad"], gsb(**counts), low, high)
