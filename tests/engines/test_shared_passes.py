"""What rows have in common is encoded once under every engine: the steps are those of one process, and of whole rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import assert_same_steps, recipe_of, zero3_environment
from tests.engines.passes import passes_of
from tests.engines.ranks import steps_of
from tests.tiny import sharpen, tiny_model, tiny_records
from zreward.data import load_records
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label

LAYERS = 4
STEPS = 2
SPLIT = ("fsdp2", "zero3")  # the weights, too
GROUPED = {"group_dimensions": True}
LORA = {"lora_rank": 2}
CHECKPOINTED = {"gradient_checkpointing": True}
CASES: dict[str, dict[str, Any]] = {
    "sft": {"data": GROUPED},
    "sft-lora": {"data": GROUPED, "model": LORA, "optimizer": CHECKPOINTED},
    "risd": {"data": GROUPED, "optimizer": CHECKPOINTED},
    "risd-lora": {"data": GROUPED, "model": LORA},
    "gdso": {},
    "gdso-lora": {"model": LORA, "optimizer": CHECKPOINTED, "rollout": {"sequences_per_forward": 4}},
    "grpo": {"optimizer": CHECKPOINTED, "rollout": {"reward_from": "parsed", "updates_per_rollout": 2, "clip": 0.05}},
    "grpo-lora": {"model": LORA},
}
TRIED = [
    pytest.param(("fsdp2", tuple(CASES)), id="fsdp2", marks=pytest.mark.slow),
    pytest.param(("zero2", ("sft-lora", "gdso")), id="zero2"),
    pytest.param(("zero3", ("sft", "risd-lora", "gdso-lora", "grpo")), id="zero3", marks=pytest.mark.slow),
]
UNEQUAL: dict[str, dict[str, Any]] = {
    "sft": {"data": GROUPED, "accumulation": 2},  # a picture a process: four rows beside a single one
    "gdso": {"accumulation": 2},  # one pair a process, of dimensions whose questions are unequally long
}
"""What makes processes share differently if each decides alone."""


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Path:
    """A model that reads its rubric before the picture, in more tokens than an opening needs; one gated-delta layer."""
    place = tmp_path_factory.mktemp("asked")
    save_records(tiny_records(8, 2, seed=0), place / "train.jsonl")
    _asked(seed=0).save_pretrained(place / "base")
    _asked(seed=7).save_pretrained(place / "teacher")
    teacher = RewardModel.from_pretrained(place / "teacher")
    label(teacher, "teacher", load_records(place / "train.jsonl"), place / "targets", LabelOptions(traces=1))
    return place


def _asked(seed: int) -> RewardModel:
    model = sharpen(tiny_model(trace_tokens=5, seed=seed, layers=LAYERS, linear_layers=1), 3)
    forms = replace(model.forms, rubric=" rate the {rubric} level {levels}")
    return RewardModel(model.backbone.model, model.tokenizer, model.rubric, forms, max_trace_tokens=5).eval()


@pytest.fixture(scope="module")
def unequal(asked, tmp_path_factory) -> Path:
    """Half of the pictures are rated on one dimension only, and one dimension's name is longer than the others'."""
    place = tmp_path_factory.mktemp("unequal")
    records = tiny_records(8, 2, seed=0)
    few = [replace(each, scores={"realism": each.scores["realism"]}) for each in records[8:]]
    save_records([*records[:8], *few], place / "train.jsonl")
    model = _asked(seed=0)
    dimensions = tuple(
        replace(each, title="Alignment with the prompt") if each.name == "alignment" else each
        for each in model.rubric.dimensions
    )
    forms = replace(model.forms, direct=" rate the {title} now", reasoning=" rate the {title} step by step")
    rubric = replace(model.rubric, dimensions=dimensions)
    RewardModel(model.backbone.model, model.tokenizer, rubric, forms, max_trace_tokens=5).save_pretrained(
        place / "base"
    )
    return place


def _recipes(folder: Path, cases: dict[str, dict[str, Any]], out: Path, ranks: int) -> dict[str, Recipe]:
    return {
        name: recipe_of(folder, name.split("-")[0], out / name, ranks, STEPS, **more) for name, more in cases.items()
    }


def _alone(folder: Path, cases: dict[str, dict[str, Any]], out: Path, **more: Any) -> dict[str, list[dict]]:
    """One process's steps; with `share_prefix=False`, of whole rows."""
    recipes = {
        name: replace(recipe, optimizer=replace(recipe.optimizer, **more))
        for name, recipe in _recipes(folder, cases, out, 1).items()
    }
    for recipe in recipes.values():
        train(recipe)
    return {name: steps_of(recipe) for name, recipe in recipes.items()}


@pytest.fixture(scope="module")
def alone(asked, tmp_path_factory) -> dict[str, list[dict]]:
    return _alone(asked, CASES, tmp_path_factory.mktemp("alone"), share_prefix=False, gradient_checkpointing=False)


@pytest.fixture(scope="module", params=TRIED)
def together(request, launcher, asked, tmp_path_factory) -> tuple[str, dict[str, Recipe]]:
    engine, names = request.param
    out = tmp_path_factory.mktemp(engine)
    recipes = _recipes(asked, {name: CASES[name] for name in names}, out, 2)
    more = zero3_environment(out) if engine == "zero3" else {}
    launcher.train(recipes, engine, 2, out / "job", environment=more, count=True)
    return engine, recipes


def test_two_processes_that_share_take_the_steps_of_one_that_reads_whole_rows(together, alone):
    for name, recipe in together[1].items():
        assert_same_steps(steps_of(recipe), alone[name], 1e-4)


def test_prefixes_are_read_once_and_weights_are_there_while_a_layer_runs_only(together):
    engine, recipes = together
    for recipe, rank in product(recipes.values(), range(2)):
        passes = passes_of(recipe, rank)
        rows, places = max(passes.shapes)
        assert passes.layers == LAYERS
        assert rows >= 4 and places < 20, "branches: questions, or traces"
        assert max(places for _, places in passes.shapes) > 100, "a prefix, or the rubric"
        assert all(rows <= 4 for rows, places in passes.shapes if places > 20), "of pictures, not of rows"
        # The one that runs; and under ZeRO-3 with checkpointing the last one, of which an earlier pass uses the keys alone.
        assert passes.gathered <= 2 if engine in SPLIT else passes.gathered == LAYERS


@pytest.mark.parametrize("engine", ["fsdp2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_processes_whose_rows_differ_run_the_same_passes(launcher, unequal, tmp_path, engine):
    recipes = _recipes(unequal, UNEQUAL, tmp_path / "two", 2)
    more = zero3_environment(tmp_path) if engine == "zero3" else {}
    launcher.train(recipes, engine, 2, tmp_path / "job", environment=more, count=True)
    expected = _alone(unequal, UNEQUAL, tmp_path / "one", share_prefix=False)
    for name, recipe in recipes.items():
        assert_same_steps(steps_of(recipe), expected[name], 1e-4)
        shapes = [passes_of(recipe, rank).shapes for rank in range(2)]
        assert len(shapes[0]) == len(shapes[1])
        assert min(places for shape in shapes for _, places in shape) < 20


@pytest.mark.slow
def test_passes_in_bfloat16_that_share_stay_near_whole_rows_in_float32(launcher, asked, alone, tmp_path):
    cases = {name: CASES[name] | {"trainer": {"bf16": True}} for name in ("sft", "risd", "risd-lora")}
    recipes = _recipes(asked, cases, tmp_path, 2)
    launcher.train(recipes, "fsdp2", 2, tmp_path / "job", environment={"ACCELERATE_MIXED_PRECISION": "bf16"})
    for name, recipe in recipes.items():
        for one, other in zip(steps_of(recipe), alone[name], strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.02)
