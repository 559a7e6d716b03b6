"""A blind comparison's numbers, against hand-made cases and scipy."""

from __future__ import annotations

import random

import krippendorff
import numpy as np
import pytest
from scipy.stats import binomtest

from zreward.evaluation.metrics import gsb_interval
from zreward.studio.domain.study_results import Ballot, agreement, pair_outcomes, sign_test, study_result


def ballots(*votes, prompts=None, tags=None):
    """votes: one text per pair, a letter for each rater: g, s, b, or - for one who did not see it."""
    names = {"g": "good", "s": "same", "b": "bad"}
    return [
        Ballot(
            pair, (prompts or {}).get(pair, f"prompt {pair}"), tuple((tags or {}).get(pair, ())), rater, names[letter]
        )
        for pair, letters in enumerate(votes)
        for rater, letter in enumerate(letters)
        if letter != "-"
    ]


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ("ggb", "good"),
        ("sbb", "bad"),
        ("gsb", "same"),
        ("gb", "same"),
        ("gs", "same"),
        ("g", "good"),
        ("ggbbs", "same"),
        ("ssg", "same"),
    ],
)
def test_a_pair_goes_with_the_most_frequent_verdict_and_a_tie_is_same(votes, outcome):
    assert pair_outcomes(ballots(votes)) == {0: outcome}


def test_gsb_counts_pairs_and_besides_every_verdict():
    found = study_result(ballots("ggg", "ggs", "bbg", "sss"))
    assert (found.pairs.good, found.pairs.same, found.pairs.bad) == (2, 1, 1)
    assert found.pairs.gsb == pytest.approx((2 - 1) / 4)
    assert (found.every_verdict.good, found.every_verdict.same, found.every_verdict.bad) == (6, 4, 2)
    assert found.every_verdict.gsb == pytest.approx((6 - 2) / 12)
    assert found.raters == 3 and found.pairs.count == 4


def test_the_interval_is_a_bootstrap_over_prompts():
    prompts = {0: "a", 1: "a", 2: "b", 3: "c"}
    found = study_result(ballots("g", "g", "b", "s", prompts=prompts))
    assert (found.pairs.low, found.pairs.high) == gsb_interval(["good", "good", "bad", "same"], list("aabc"))


def test_the_sign_test_is_exact_and_leaves_same_out():
    found = sign_test(["good"] * 9 + ["bad"] * 2 + ["same"] * 50)
    # 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 2 * 67 / 2048
    assert found.p == pytest.approx(134 / 2048)
    assert found.p == pytest.approx(binomtest(9, 11).pvalue)
    assert sign_test(["same"]).p == 1 and sign_test([]).p == 1


def test_pairs_of_one_prompt_count_once_in_the_sign_test_by_prompt():
    prompts = {0: "a", 1: "a", 2: "a", 3: "b", 4: "b"}
    found = study_result(ballots("g", "g", "b", "g", "b", prompts=prompts))
    assert (found.sign_test.good, found.sign_test.bad) == (3, 2)
    assert (found.sign_test_by_prompt.good, found.sign_test_by_prompt.bad) == (1, 0)


def test_agreement_is_krippendorffs_nominal_alpha_over_unequal_panels():
    votes = ballots("gg-", "ssg", "b-b", "-sb", "g--")
    nan = np.nan
    table = [[0, 1, 2, nan, 0], [0, 1, nan, 1, nan], [nan, 0, 2, 2, nan]]
    assert agreement(votes) == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"))
    assert agreement(ballots("gg", "ss", "bb")) == pytest.approx(1)


@pytest.mark.parametrize("votes", [("g", "b"), ("g-", "-b"), ("gg", "gg"), ("gg", "b-")])
def test_agreement_is_none_where_nobody_could_disagree(votes):
    assert agreement(ballots(*votes)) is None


def test_tags_are_broken_down_and_may_overlap():
    found = study_result(ballots("g", "b", "g", tags={0: ["colour", "colour"], 1: ["count"], 2: ["colour", "count"]}))
    assert {tag: (row.good, row.same, row.bad) for tag, row in found.tags.items()} == {
        "colour": (2, 0, 0),
        "count": (1, 0, 1),
    }


def test_sides_are_counted_as_they_were_pressed():
    votes = [
        Ballot(0, "a", (), 0, "good", after_left=True),
        Ballot(1, "b", (), 0, "good", after_left=False),
        Ballot(2, "c", (), 0, "bad", after_left=True),
        Ballot(3, "d", (), 0, "same", after_left=True),
    ]
    assert study_result(votes).sides == {"left": 1, "same": 1, "right": 2}


def test_the_order_of_verdicts_does_not_matter_and_none_is_no_result():
    votes = ballots("gsb", "gg-", "sbb", "bgg", tags={0: ["x"]})
    shuffled = random.Random(0).sample(votes, len(votes))
    assert study_result(shuffled) == study_result(votes)
    assert study_result([]) is None
