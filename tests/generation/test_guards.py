"""What trips which guard, and which look is kept."""

from dataclasses import replace

import pytest

from zreward.generation.guards import Guards, Look
from zreward.generation.recipe import GuardsRecipe

START = Look(0, 3.0, {"a": 3.0}, {"a": 3.0}, entropy=1.0, saturation=0.1, diversity=0.2, drift=0.0)


def seen(*looks: Look, **settings) -> Guards:
    guards = Guards(GuardsRecipe(**settings))
    for look in looks:
        guards.see(look)
    return guards


def after(step: int, holdout: float, **changes) -> Look:
    return replace(START, step=step, holdout={"a": holdout}, **changes)


def test_the_best_held_out_reward_is_kept_whatever_the_trained_one_does():
    guards = seen(START, after(25, 3.4, reward=3.5), after(50, 3.35, reward=4.5))
    assert guards.best.step == 25
    assert guards.tripped is None


@pytest.mark.parametrize(
    ("look", "guard", "words"),
    [
        (after(25, 4.0, diversity=0.1), "diversity", "0.50 of the frozen generator's, less than 0.8"),
        (after(25, 4.0, drift=0.7), "drift", "0.70 of the predictions' own size, more than 0.5"),
        (after(25, 4.0, saturation=0.99), "saturation", "0.99 of the scores at the top"),
        (after(25, 4.0, entropy=0.1), "entropy", "0.10 of that on the frozen"),
        (after(25, 2.8, student={"a": 3.5}), "dimension", "a fell 0.20 below the frozen generator's, more than 0.1"),
    ],
)
def test_each_guard_trips_and_says_why(look, guard, words):
    guards = seen(START, look)
    assert guards.tripped[0] == guard
    assert guards.best == START
    assert words in guards.tripped[1]


def test_a_fall_of_the_held_out_reward_trips_also_above_the_start():
    guards = seen(START, after(25, 3.5), after(50, 3.3))
    assert guards.tripped == ("holdout", "the held-out reward fell 0.20 below its best (3.50 at step 25)")


def test_one_dimension_does_not_pay_for_the_others():
    first = replace(START, holdout={"a": 3.0, "b": 3.0})
    better = replace(first, step=25, holdout={"a": 2.95, "b": 3.5})
    guards = seen(first, better, replace(first, step=50, holdout={"a": 2.85, "b": 4.5}))
    assert guards.tripped[0] == "dimension" and guards.best.step == 25


def test_patience_counts_looks_since_the_best():
    looks = [START, after(25, 3.5), *(after(25 * n, 3.45) for n in range(2, 6))]
    assert seen(*looks[:4], patience=3).tripped is None
    assert seen(*looks[:5], patience=3).tripped[0] == "patience"


def test_without_guards_nothing_stops_but_everything_is_seen():
    guards = seen(START, after(25, 1.0, drift=5.0), enabled=False)
    assert guards.tripped is None
    assert len(guards.looks) == 2


def test_without_a_held_out_judge_the_reward_itself_decides():
    first = replace(START, holdout={})
    guards = seen(first, replace(first, step=25, reward=3.2), replace(first, step=50, reward=3.0))
    assert guards.best.step == 25
    assert "reward on held-out prompts fell" in guards.tripped[1]


def test_guards_come_back_from_a_checkpoint():
    guards = seen(START, after(25, 3.5), after(50, 3.4))
    again = Guards.from_dict(guards.recipe, guards.to_dict())
    assert (again.best, again.looks, again.tripped) == (guards.best, guards.looks, guards.tripped)
