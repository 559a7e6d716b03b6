"""Several processes train as one: losses and gradient norms are those of one process with the same global batch."""

from __future__ import annotations

from typing import Any

import pytest

from tests import trace_editor
from tests.engines.conftest import assert_same_steps, recipe_of
from tests.engines.ranks import ENGINES, steps_of
from zreward.training.recipe import METHODS
from zreward.training.run import train

LORA = {"lora_rank": 2}
COMPARED = ("loss", "grad_norm", "dev_plcc")
CASES: dict[str, dict[str, Any]] = {
    "sft": {"data": {"group_dimensions": True}},
    "rewarddance": {"model": LORA},
    "rewarddance-pairwise": {},
    "risd": {"model": LORA},
    "preference": {"data": {"group_dimensions": True}},
    "grpo": {"rollout": {"reward_from": "parsed", "updates_per_rollout": 2, "clip": 0.05}},
    "gdso": {"rollout": {"sequences_per_forward": 3}},
    "opd": {"model": LORA},
}
"""Every method once, full weights and LoRA, with what makes several backward or optimizer passes of a step."""


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """The steps of a recipe in one process."""
    kept: dict[Any, list[dict]] = {}

    def steps(method: str, count: int, **more: Any) -> list[dict]:
        key = (method, count, str(more))
        if key not in kept:
            recipe = recipe_of(folder, method, tmp_path_factory.mktemp("alone") / method, 1, count, **more)
            train(recipe)
            kept[key] = steps_of(recipe)
        return kept[key]

    return steps


@pytest.fixture(scope="module", params=ENGINES)
def together(request, launcher, folder, tmp_path_factory) -> dict[str, list[dict]]:
    """The steps of every case in two processes, trained one after another: starting them takes longer than training.

    Four steps; two under ZeRO-3, where one takes as long as ten of the others. The slow tests take twenty. Every method has
    a dev curve under DDP, one of each kind under the other engines.
    """
    engine = request.param
    out, steps = tmp_path_factory.mktemp(engine), 2 if engine == "zero3" else 4
    recipes = {
        name: recipe_of(folder, name, out / name, 2, steps, dev=engine == "ddp" or name in ("sft", "gdso"), **more)
        for name, more in CASES.items()
    }
    launcher.train(recipes, engine, 2, out / "job")
    return {name: steps_of(recipe) for name, recipe in recipes.items()}


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_take_the_steps_of_one(together, alone, method):
    names = [name for name in COMPARED if name in together[method][0]]
    expected = alone(method, len(together[method]), dev=True, **CASES[method])
    assert_same_steps(together[method], expected, 1e-4, names)


def test_the_dev_curve_is_compared(together):
    """Under every engine, of a method that answers at once and of one that reasons."""
    assert {name for name, steps in together.items() if "dev_plcc" in steps[0]} >= {"sft", "gdso"}


@pytest.mark.parametrize(
    "engine", ["ddp", "fsdp2", *(pytest.param(e, marks=pytest.mark.slow) for e in ("zero2", "zero3"))]
)
def test_scores_and_votes_together_in_two_processes(launcher, folder, alone, tmp_path, engine):
    more = {"data": {"preferences": str(folder / "votes.jsonl")}, "rollout": {"sequences_per_forward": 3}}
    recipe = recipe_of(folder, "gdso", tmp_path / "votes", 2, 3, **more)
    launcher.train({"gdso": recipe}, engine, 2, tmp_path / "job")
    found = steps_of(recipe)
    assert any({"preference_loss", "pointwise_loss"} <= set(row) for row in found), "a step with both kinds"
    assert_same_steps(found, alone("gdso", 3, **more), 1e-4)


@pytest.mark.parametrize(
    "engine", ["ddp", "fsdp2", *(pytest.param(e, marks=pytest.mark.slow) for e in ("zero2", "zero3"))]
)
def test_the_coupling_term_in_two_processes(launcher, folder, alone, tmp_path, engine, monkeypatch):
    """A pass too few in one process would hang; gradients of the edited rows that are not summed differ from one process's."""
    trace_editor.install(monkeypatch)
    term = {"coupling_weight": 4.0, "coupling_editor": trace_editor.NAME, "sequences_per_forward": 3}
    steps = 2 if engine == "zero3" else 3
    recipe = recipe_of(folder, "gdso", tmp_path / "coupled", 2, steps, rollout=term)
    launcher.train({"gdso": recipe}, engine, 2, tmp_path / "job", editor=True)
    found = steps_of(recipe)
    expected = alone("gdso", steps, rollout=term)
    assert all(row["coupling_loss"] > 0 for row in expected)
    assert_same_steps(found, expected, 1e-4)


@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_two_processes_in_bfloat16_stay_near_one_in_float32(launcher, folder, alone, tmp_path, engine):
    """Passes in bfloat16, weights and sums of gradients in float32. Label logits that were rounded would be far off."""
    more = {"trainer": {"bf16": True}}
    recipes = {name: recipe_of(folder, name, tmp_path / name, 2, 4, **more) for name in ("sft", "risd")}
    launcher.train(recipes, engine, 2, tmp_path / "job", environment={"ACCELERATE_MIXED_PRECISION": "bf16"})
    for name, recipe in recipes.items():
        for one, other in zip(steps_of(recipe), alone(name, 4), strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "accumulation"), [(2, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_twenty_steps_in_two_and_four_processes(
    launcher, folder, alone, tmp_path, ranks, engine, accumulation, adapter
):
    model = LORA if adapter else {}
    recipes = {
        name: recipe_of(folder, name, tmp_path / name, ranks, 20, dev=True, model=model, accumulation=accumulation)
        for name in METHODS
    }
    launcher.train(recipes, engine, ranks, tmp_path / "job")
    for name, recipe in recipes.items():
        expected = alone(name, 20, dev=True, model=model)
        assert_same_steps(steps_of(recipe), expected, 1e-4, COMPARED)
