"""Recipes: strict keys, types and overrides."""

from pathlib import Path

import pytest

from zreward.common.config import config_from_dict, load_config
from zreward.common.errors import InputError
from zreward.generation.recipe import OptimizeRecipe
from zreward.training.recipe import Recipe, load_recipe, notes_of

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("ablations/*.yaml")])
MINIMAL = {"method": "sft", "out": "runs/x", "data": {"train": "a.jsonl"}, "model": {"name": "m"}}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_opens_with_its_command(path):
    header = path.read_text().splitlines()[0]
    assert header.startswith("# ") and "zreward" in header
    kind = OptimizeRecipe if header.startswith("# zreward optimize") else Recipe
    assert load_config(kind, path).out.startswith("runs/")


def test_overrides_reach_nested_keys_with_their_types(tmp_path):
    (tmp_path / "r.yaml").write_text("method: sft\nout: o\ndata: {train: a.jsonl}\nmodel: {name: m}\n")
    recipe = load_recipe(tmp_path / "r.yaml", ["optimizer.learning_rate=1e-4", "seed=7", "data.dimensions=[realism]"])
    assert recipe.optimizer.learning_rate == pytest.approx(1e-4)
    assert recipe.seed == 7
    assert recipe.data.dimensions == ["realism"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimiser": {}}, "unknown key optimiser; did you mean optimizer"),
        (
            {"optimizer": {"learning_rat": 1}},
            r"unknown key optimizer.learning_rat; did you mean optimizer.learning_rate",
        ),
        ({"seed": "one"}, "seed is 'one', expected a whole number"),
        ({"seed": True}, "seed is True, expected a whole number"),
        ({"method": "gdpo"}, "method is 'gdpo'; expected one of"),
        ({"optimizer": {"steps": 0}}, "optimizer.steps is 0, expected more than 0"),
        ({"method": "gdso", "rollout": {"group_size": 1}}, "a group needs at least 2"),
        ({"method": "gdso", "rollout": {"updates_per_rollout": 3}}, "must be a multiple"),
        ({"method": "risd"}, "data.targets"),
        ({"data": {"train": "a", "targets": "t"}}, "data.targets"),
        ({"data": None}, "expected keys and values"),
        ({"data": {"train": "a", "train_records": -1}}, "data.train_records is -1, expected more than 0"),
        ({"rollout": {"beta": -1.0}}, "rollout.beta is -1.0, expected 0 or more"),
        ({"rollout": {"alpha_pt": float("nan")}}, "rollout.alpha_pt is nan"),
        ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate is inf"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0, expected more than 0"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"data": {"train": "a", "one_hot_targets": True}}, "data.one_hot_targets goes with method risd, not sft"),
        ({"data": {"train": "a", "target_traces": 2}}, "data.target_traces goes with method risd, not sft"),
        ({"data": {"train": "a", "chain_weight": 0.5}}, "data.chain_weight goes with method rewarddance, not sft"),
        ({"model": {"name": "m", "lora_alpha": 8}}, "model.lora_alpha is set, but model.lora_rank is not"),
        ({"rollout": {"coupling_margin": 0.2}}, "rollout.coupling_margin goes with rollout.coupling_weight"),
        ({"rollout": {"coupling_weight": 1.0}}, "rollout.coupling_weight goes with method gdso, not sft"),
        (
            {"method": "gdso", "rollout": {"coupling_weight": 1.0, "coupling_editor": "mine"}},
            "trace editor 'mine' is not known; expected one of: words",
        ),
        ({"method": "gdso", "rollout": {"coupling_weight": -1.0}}, "rollout.coupling_weight"),
        ({"model": {"name": "m", "lora_targets": "q_proj"}}, "model.lora_targets is set, but model.lora_rank is not"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(change, message):
    with pytest.raises(InputError, match=message):
        config_from_dict(Recipe, MINIMAL | change)


def test_a_curve_without_records_and_a_warm_up_without_end_are_said():
    short = {"optimizer": {"steps": 5, "warmup_steps": 5}}
    curve, warm_up = "eval_every is 5, but data.dev names no records", "warmup_steps is 5 and optimizer.steps 5"
    for change, said in (
        ({"eval_every": 5}, [curve]),
        (short, [warm_up]),
        (short | {"eval_every": 5}, [warm_up, curve]),
    ):
        notes = notes_of(config_from_dict(Recipe, MINIMAL | change))
        assert len(notes) == len(said) and all(part in note for part, note in zip(said, notes, strict=True))
    good = {"eval_every": 5, "data": {"train": "a", "dev": "b"}, "optimizer": {"steps": 5, "warmup_steps": 4}}
    assert notes_of(config_from_dict(Recipe, MINIMAL | good)) == []


GENERATOR = {"student": "s", "out": "o", "prompts": "p", "held_out": "h"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": {"name": "g", "lora_alpha": 8}}, "generator.lora_alpha is set, but generator.lora_rank is not"),
        (
            {"generator": {"name": "g", "lora_targets": ["to_q"]}},
            "generator.lora_targets is set, but generator.lora_rank is not",
        ),
        ({"guards": {"holdout_reasoning": True}}, "guards.holdout_reasoning is set, but guards.holdout names no judge"),
    ],
)
def test_a_key_that_would_do_nothing_for_a_generator_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        config_from_dict(OptimizeRecipe, GENERATOR | change)


def test_what_those_keys_go_with_is_taken():
    config_from_dict(
        OptimizeRecipe, GENERATOR | {"generator": {"name": "g", "lora_rank": 2, "lora_alpha": 8, "lora_targets": ["q"]}}
    )
    named = GENERATOR | {"generator": {"name": "g"}}
    config_from_dict(OptimizeRecipe, named | {"guards": {"holdout": "x", "holdout_reasoning": True}})
    config_from_dict(Recipe, MINIMAL | {"model": {"name": "m", "lora_rank": 2, "lora_alpha": 8, "lora_targets": "q"}})
    config_from_dict(Recipe, MINIMAL | {"eval_every": 5, "data": {"train": "a", "dev": "b"}})
    taught = {"train": "a", "targets": "t"}
    config_from_dict(
        Recipe, MINIMAL | {"method": "risd", "data": taught | {"target_traces": 2, "one_hot_targets": True}}
    )
    config_from_dict(Recipe, MINIMAL | {"method": "rewarddance", "data": taught | {"chain_weight": 0.5}})


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match=r"model\.name is missing"):
        config_from_dict(Recipe, MINIMAL | {"model": {}})


def test_a_missing_file_and_broken_yaml_are_named(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="not YAML"):
        load_recipe(tmp_path / "bad.yaml")


def test_a_recipe_takes_over_its_base_and_changes_what_it_says(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "method: gdso\nout: a\ndata: {train: t}\nmodel: {name: m}\nrollout: {beta: 0.3, clip: 0.1}\n"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "own.yaml").write_text("base: ../base.yaml\nout: b\nrollout: {beta: 0.0}\n")
    recipe = load_recipe(tmp_path / "sub" / "own.yaml", ["rollout.group_size=8"])
    assert (recipe.method, recipe.out, recipe.data.train) == ("gdso", "b", "t")
    assert (recipe.rollout.beta, recipe.rollout.clip, recipe.rollout.group_size) == (0.0, 0.1, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: own.yaml\n", "leads back to itself"),
        ("base: 3\n", "path of another recipe"),
        ("base: no.yaml\n", "no.yaml: No such"),
    ],
)
def test_a_bad_base_is_refused(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_recipe(tmp_path / "own.yaml")
