"""What trips which guard, and which evaluation is kept."""

from dataclasses import replace

import pytest

from zreward.generation.guards import Evaluation, Guards
from zreward.generation.recipe import GuardsRecipe

START = Evaluation(0, 3.0, {"a": 3.0}, {"a": 3.0}, entropy=1.0, saturation=0.1, diversity=0.2, drift=0.0)


def seen(*evaluations: Evaluation, **settings) -> Guards:
    guards = Guards(GuardsRecipe(**settings))
    for evaluation in evaluations:
        guards.see(evaluation)
    return guards


def after(step: int, holdout: float, **changes) -> Evaluation:
    return replace(START, step=step, holdout={"a": holdout}, **changes)


def test_the_best_held_out_reward_is_kept_whatever_the_trained_one_does():
    guards = seen(START, after(25, 3.4, reward=3.5), after(50, 3.35, reward=4.5))
    assert guards.best.step == 25
    assert guards.tripped is None


@pytest.mark.parametrize(
    ("evaluation", "guard", "words"),
    [
        (after(25, 4.0, diversity=0.1), "diversity", "0.50 of the frozen generator's, less than 0.8"),
        (after(25, 4.0, drift=0.7), "drift", "0.70 of the predictions' own size, more than 0.5"),
        (after(25, 4.0, saturation=0.99), "saturation", "0.99 of the scores at the top"),
        (after(25, 4.0, entropy=0.1), "entropy", "0.10 of that on the frozen"),
        (after(25, 2.8, student={"a": 3.5}), "dimension", "a fell 0.20 below the frozen generator's, more than 0.1"),
    ],
)
def test_each_guard_trips_and_says_why(evaluation, guard, words):
    guards = seen(START, evaluation)
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
    evaluations = [START, after(25, 3.5), *(after(25 * n, 3.45) for n in range(2, 6))]
    assert seen(*evaluations[:4], patience=3).tripped is None
    assert seen(*evaluations[:5], patience=3).tripped[0] == "patience"


def test_without_guards_nothing_stops_but_everything_is_seen():
    guards = seen(START, after(25, 1.0, drift=5.0), enabled=False)
    assert guards.tripped is None
    assert len(guards.evaluations) == 2


def test_without_a_held_out_judge_the_reward_itself_decides():
    first = replace(START, holdout={})
    guards = seen(first, replace(first, step=25, reward=3.2), replace(first, step=50, reward=3.0))
    assert guards.best.step == 25
    assert "reward on held-out prompts fell" in guards.tripped[1]


def test_guards_come_back_from_a_checkpoint():
    guards = seen(START, after(25, 3.5), after(50, 3.4))
    again = Guards.from_dict(guards.recipe, guards.to_dict())
    assert (again.best, again.evaluations, again.tripped) == (guards.best, guards.evaluations, guards.tripped)


@pytest.mark.parametrize(
    "evaluation",
    [
        after(25, 3.0, diversity=0.16),  # 0.8 of the first
        after(25, 3.0, drift=0.5),
        after(25, 3.0, saturation=0.95),
        after(25, 3.0, entropy=0.25),
        after(25, 2.9),
    ],
)
def test_an_evaluation_at_a_limit_is_within_it(evaluation):
    """Binary fractions, so that no rounding decides."""
    limits = {"min_diversity": 0.16 / 0.2, "max_drift": 0.5, "max_saturation": 0.95, "min_entropy": 0.25}
    assert seen(START, evaluation, max_dimension_fall=3.0 - 2.9, **limits).tripped is None


def test_a_fall_at_the_limit_is_no_fall():
    guards = seen(START, after(25, 3.5), after(50, 3.25), max_fall=0.25)
    assert guards.tripped is None and guards.best.step == 25
    assert seen(START, after(25, 3.5), after(50, 3.125), max_fall=0.25).tripped[0] == "holdout"


def test_whether_an_evaluation_is_the_best_is_said():
    guards = Guards(GuardsRecipe())
    answers = [
        guards.see(evaluation)
        for evaluation in (START, after(25, 3.4), after(50, 3.4), after(75, 3.35), after(100, 3.5))
    ]
    assert answers == [True, True, False, False, True]
    assert [evaluation.step for evaluation in guards.evaluations] == [0, 25, 50, 75, 100] and guards.first is START


def test_an_evaluation_that_a_guard_objects_to_is_never_the_best():
    guards = Guards(GuardsRecipe())
    assert guards.see(START) and not guards.see(after(25, 4.5, drift=0.6))
    assert guards.tripped == ("drift", "drift is 0.60 of the predictions' own size, more than 0.5")


def test_a_bad_first_look_leaves_no_best_one():
    guards = seen(replace(START, saturation=0.99), after(25, 3.5, saturation=0.99))
    assert guards.best is None and guards.tripped[0] == "saturation"


def test_a_generator_without_diversity_or_entropy_at_the_start_is_stopped_at_once():
    assert seen(replace(START, diversity=0.0)).tripped[0] == "diversity"
    assert seen(replace(START, entropy=0.0)).tripped[0] == "entropy"
    assert seen(replace(START, diversity=1e-3, entropy=1e-3)).tripped is None


def test_what_decides_is_the_mean_over_the_held_out_dimensions():
    assert replace(START, holdout={"a": 2.0, "b": 5.0}).judged == 3.5
    assert replace(START, reward=1.5, holdout={}).judged == 1.5


def test_without_a_held_out_judge_the_students_dimensions_must_not_fall():
    first = replace(START, holdout={}, student={"a": 3.0, "b": 3.0})
    guards = seen(first, replace(first, step=25, reward=4.0, student={"a": 4.0, "b": 2.5}))
    assert guards.tripped == ("dimension", "b fell 0.50 below the frozen generator's, more than 0.1")


def test_patience_says_what_it_waited_for():
    evaluations = [START, after(25, 3.5), after(50, 3.45), after(75, 3.5)]
    expected = ("patience", "no better held-out reward in 2 evaluations (best 3.50 at step 25)")
    assert seen(*evaluations, patience=2).tripped == expected
    without = [replace(evaluation, reward=evaluation.judged, holdout={}) for evaluation in evaluations]
    assert "no better reward on held-out prompts" in seen(*without, patience=2).tripped[1]
    better = seen(START, after(25, 3.5), after(50, 3.45), after(75, 3.55), patience=2)
    assert better.tripped is None and better.best.step == 75


def test_the_first_objection_of_an_evaluation_stands():
    guards = seen(START, after(25, 1.0, diversity=0.0, drift=9.0))
    assert guards.tripped == ("diversity", "diversity is 0.00 of the frozen generator's, less than 0.8")


def test_what_is_stored_says_what_tripped():
    guards = seen(START, after(25, 4.0, drift=0.7))
    stored = guards.to_dict()
    assert stored["tripped"] == guards.tripped and stored["looks"] == [
        evaluation.to_dict() for evaluation in guards.evaluations
    ]
    assert stored["looks"][1]["drift"] == 0.7


def test_an_evaluation_of_version_0_1_names_the_final_judge_itself():
    stored = START.to_dict() | {"final": {"a": 3.2}}
    assert Evaluation.from_dict(stored).final == {"a": 3.2}
    del stored["final"]
    assert Evaluation.from_dict(stored) == START
    assert Evaluation.from_dict(stored | {"checklist": {"a": 3.1}}) == replace(START, final={"a": 3.1})
