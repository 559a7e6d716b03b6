"""From listed tokens to a distribution over the labels: complete lists, and bounds for what a list leaves out."""

from __future__ import annotations

import math
import random

import pytest

from zreward.common.errors import InputError
from zreward.endpoint.answers import Position
from zreward.endpoint.labels import check_labels, read_labels

LABELS = ("1", "2", "3")


def position(token: str, **listed: float) -> Position:
    """Probabilities by token; _ stands for a space."""
    return Position(
        token.replace("_", " "), tuple((name.lstrip("t").replace("_", " "), math.log(p)) for name, p in listed.items())
    )


def test_a_complete_list_is_divided_by_its_sum():
    reading = read_labels([position("1", t2=0.1, t1=0.2, x=0.4, t3=0.1)], LABELS)
    assert reading.probs == pytest.approx((0.5, 0.25, 0.25), abs=1e-12) and reading.bounded == 0


def test_a_label_that_is_not_listed_is_no_likelier_than_the_last_that_is():
    reading = read_labels([position("2", t2=0.5, x=0.2, t1=0.1)], LABELS)  # 0.2 are not listed
    assert reading.probs == pytest.approx((1 / 7, 5 / 7, 1 / 7), abs=1e-9)
    assert reading.bounded == pytest.approx(1 / 7, abs=1e-9)


def test_nor_likelier_than_all_that_is_not_listed_together():
    reading = read_labels([position("2", t2=0.6, t1=0.38)], LABELS)
    bound = 0.02 + 1e-5  # what rounding may hide is added
    assert reading.probs[2] == pytest.approx(bound / (0.98 + bound), rel=1e-9)
    assert reading.bounded == reading.probs[2]


def test_the_bound_is_never_zero_and_never_nan():
    for least in (-9999.0, math.log(0.01)):
        listed = (("2", math.log(0.99)), ("1", least))
        probs = read_labels([Position("2", listed)], LABELS).probs
        assert all(0 <= p <= 1 for p in probs) and probs[2] > 0 and sum(probs) == pytest.approx(1)


def test_a_sampled_token_listed_beyond_the_likeliest_says_nothing_about_the_others():
    """Its probability may be far below that of a label that the list left out."""
    reading = read_labels([position("y", t2=0.3, t1=0.2, y=0.001)], LABELS)
    assert reading.probs == pytest.approx((2 / 7, 3 / 7, 2 / 7), abs=1e-9)


def test_one_listed_token_bounds_the_others_too():
    rest, total = 0.4 + 1e-5, 0.6 + 2 * (0.4 + 1e-5)
    found = read_labels([position("2", t2=0.6)], LABELS)
    assert found.probs == pytest.approx((rest / total, 0.6 / total, rest / total))


def test_tokens_that_read_the_same_are_added():
    """Byte-level vocabularies have several tokens of one text."""
    listed = tuple((token, math.log(p)) for token, p in (("1", 0.2), ("1", 0.2), ("2", 0.2), ("3", 0.4)))
    assert read_labels([Position("1", listed)], LABELS).probs == pytest.approx((0.4, 0.2, 0.4))


@pytest.mark.parametrize("seed", range(50))
def test_every_bound_is_one(seed):
    """Of random distributions over forty tokens, listed in part: no label's true probability is above its bound."""
    rng = random.Random(seed)
    weights = [rng.random() ** rng.choice((1, 8, 30)) + 1e-12 for _ in range(40)]
    true = {str(n): w / sum(weights) for n, w in enumerate(weights)}
    labels = tuple(str(n) for n in range(10, 19))
    ranked = sorted(true, key=lambda name: -true[name])
    shown = ranked[: rng.randint(2, 38)]
    sampled = rng.choice(ranked if set(labels) & set(shown) else labels)  # an answer without any label is refused
    listed = [*shown, *([] if sampled in shown else [sampled])]
    rng.shuffle(listed)
    missing = [label for label in labels if label not in listed]
    reading = read_labels([Position(sampled, tuple((name, math.log(true[name])) for name in listed))], labels)
    known = [n for n, label in enumerate(labels) if label not in missing]
    unit = reading.probs[known[0]] / true[labels[known[0]]]  # what probabilities were multiplied by
    for n, label in enumerate(labels):
        if label in missing:
            assert reading.probs[n] / unit >= true[label] * (1 - 1e-9)
        else:
            assert reading.probs[n] / unit == pytest.approx(true[label])
    assert reading.bounded == pytest.approx(sum(reading.probs[labels.index(label)] for label in missing))
    assert sum(reading.probs) == pytest.approx(1)


def test_forms_with_white_space_count_where_none_is_listed_without():
    assert read_labels([position("_1", _1=0.5, _2=0.25, _3=0.25)], LABELS).probs == pytest.approx((0.5, 0.25, 0.25))
    both = read_labels([position("1", t1=0.2, t2=0.1, t3=0.1, _1=0.6)], LABELS)
    assert both.probs == pytest.approx((0.5, 0.25, 0.25))


def test_white_space_before_the_label_is_passed_over_where_it_is_likelier():
    label = position("2", t1=0.2, t2=0.6, t3=0.2)
    assert read_labels([position("_", _=0.9, t1=0.05), label], LABELS).probs == pytest.approx((0.2, 0.6, 0.2))
    here = position("_", _=0.3, t1=0.2, t2=0.1, t3=0.1)
    assert read_labels([here, label], LABELS).probs == pytest.approx((0.5, 0.25, 0.25))


def test_a_label_behind_other_words_is_found_only_where_it_may_stand_there():
    words, label = position("Level", Level=0.9, t1=0.05, t2=0.02, t3=0.02), position("3", t3=0.8, t1=0.1, t2=0.1)
    assert read_labels([words, label], LABELS, anywhere=True).probs == pytest.approx((0.1, 0.1, 0.8))
    assert read_labels([words, label], LABELS).probs[0] == pytest.approx(5 / 9)


def test_answers_without_labels_are_refused():
    with pytest.raises(InputError, match=r"lists none of the labels 1, 2, 3, but \['x', 'y'\]; a larger top_logprobs"):
        read_labels([position("x", x=0.5, y=0.4)], LABELS)
    with pytest.raises(InputError, match="the answer is empty"):
        read_labels([position("_", _=0.9, x=0.05)], LABELS)
    with pytest.raises(InputError, match="the answer is empty"):
        read_labels([], LABELS)
    with pytest.raises(InputError, match="'excellent' is several tokens there, it begins with 'ex'"):
        read_labels([position("ex", ex=0.5, th=0.4)], ("poor", "excellent"))
    with pytest.raises(InputError, match=r"sum to 1.200, expected at most 1"):
        read_labels([position("1", t1=0.6, t2=0.6)], LABELS)
    with pytest.raises(InputError, match="all labels have probability 0"):
        read_labels([Position("1", (("1", -9999.0), ("2", -9999.0), ("3", -9999.0)))], LABELS)


def test_labels_that_begin_one_another_are_refused():
    check_labels(LABELS)
    with pytest.raises(InputError, match="'1' could be the beginning of '10'"):
        check_labels([str(n) for n in range(1, 11)])
