"""GDSO on scores and votes together: recipes, what a run is made of and goes on with, which pairs a step has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.tiny import noise_pictures, tiny_model, with_keys
from zreward.common.config import config_from_dict
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory
from zreward.data import Preference, Record, save_preferences, save_records
from zreward.training.checks import check_inputs
from zreward.training.preferred_rollouts import Voted
from zreward.training.recipe import Recipe
from zreward.training.run import build_trainer, train

PICTURES = noise_pictures(7, seed=1)
RATED = [Record("a red circle", PICTURES[n], {"realism": 2.0 + n, "alignment": 3.0}) for n in (0, 1)]
VOTED = [
    Preference("two squares", (PICTURES[2], PICTURES[3]), {"realism": {"a": 3, "tie": 1}, "aesthetics": "b"}),
    Preference("two squares", (PICTURES[3], PICTURES[4]), {"realism": "b", "beauty": "a"}),
]


def make_recipe(folder: Path, **keys) -> Recipe:
    save_records(RATED, folder / "rated.jsonl")
    save_preferences(VOTED, folder / "votes.jsonl")
    raw = {
        "method": "gdso",
        "out": str(folder / "run"),
        "data": {"train": str(folder / "rated.jsonl"), "preferences": str(folder / "votes.jsonl")},
        "model": {"name": "none"},
        "optimizer": {"steps": 2, "batch_size": 5, "warmup_steps": 0},
        "rollout": {"group_size": 2},
    }
    return config_from_dict(Recipe, with_keys(raw, keys))


def build(folder: Path, **keys):
    return build_trainer(make_recipe(folder, **keys), RunDirectory(folder / "run"), tiny_model(trace_tokens=4))


def test_items_are_the_rated_pairs_and_then_a_pair_for_each_dimension_with_votes(tmp_path):
    items = build(tmp_path).train_dataset
    assert sorted((item.dimension, item.shares) for item in items[:2]) == [("alignment", ()), ("realism", ())]
    assert [(item.dimension, item.shares, item.number) for item in items[2:]] == [
        ("realism", (0.875, 0.125), 2),
        ("aesthetics", (0.0, 1.0), 3),  # nobody scored it
        ("realism", (0.0, 1.0), 4),
    ]
    assert [tuple(record.prompt for record in item.records) for item in items[1:3]] == [
        ("a red circle",) * 2,
        ("two squares",) * 2,
    ]
    assert items[2].records == items[3].records and items[3].records[0].image != items[3].records[1].image
    only = build(tmp_path, data__dimensions=["realism"]).train_dataset
    assert [(item.dimension, item.shares) for item in only] == [
        ("realism", ()),
        ("realism", (0.875, 0.125)),
        ("realism", (0.0, 1.0)),
    ]


def test_votes_stand_beside_scores_in_a_batch(tmp_path):
    items = build(tmp_path).train_dataset
    voted = Voted.among([items[3], items[0], items[2]], torch.device("cpu"))
    assert voted.is_B.tolist() == [True, False, True]
    assert voted.share_BJ.tolist() == [[0.0, 1.0], [0.0, 0.0], [0.875, 0.125]]
    log_probs = torch.arange(3 * 2 * 2 * 3.0).view(3, 2, 2, 3)  # B, J, G, S
    found = voted.sequences(log_probs, 0.5).rows(slice(1, 4))
    assert found.is_M.tolist() == [True] * 3 and found.share.tolist() == [0.0, 1.0, 1.0] and found.weight == 0.5
    assert torch.equal(found.partner_log_probs[0], log_probs[0, 1]) and torch.equal(
        found.partner_log_probs[1], log_probs[0, 0]
    )
    assert Voted.among(items[:2], torch.device("cpu")) is None


def test_both_kinds_are_logged_and_a_step_may_have_one_kind_only(tmp_path):
    trainer = build(tmp_path)
    trainer.train()
    row = next(row for row in trainer.state.log_history if "loss" in row)
    assert {"pointwise_loss", "gap_loss", "preference_loss", "win_rate_error", "absolute_error", "reward"} <= set(row)
    assert 0 <= row["win_rate_error"] <= 1 and row["absolute_error"] <= 4
    # An untrained model calls every pair even: the cross-entropy of one, not the doubled value of its separable form.
    assert row["preference_loss"] == pytest.approx(math.log(2), abs=0.1)
    one = build(tmp_path, optimizer__batch_size=1, optimizer__steps=5)
    one.train()
    rows = [row for row in one.state.log_history if "loss" in row]
    assert sum("absolute_error" in row for row in rows) == 2 and sum("win_rate_error" in row for row in rows) == 3
    assert not any({"absolute_error", "win_rate_error"} <= set(row) for row in rows)


def test_a_run_goes_on_as_it_was_and_with_the_same_votes_only(tmp_path):
    recipe = make_recipe(tmp_path, save_every=1)
    train(recipe, model=tiny_model(trace_tokens=4))
    whole = [row["loss"] for row in _steps(recipe)]
    last = Path(recipe.out) / "checkpoint-2"
    (Path(recipe.out) / "model" / "zreward.json").unlink()
    (last / "complete").unlink(missing_ok=True)
    train(recipe, resume=True, model=tiny_model(trace_tokens=4))
    assert [row["loss"] for row in _steps(recipe)] == pytest.approx(whole, rel=1e-6)
    (Path(recipe.out) / "model" / "zreward.json").unlink()
    save_preferences(
        [Preference(one.prompt, one.images, {"realism": "tie"}) for one in VOTED], tmp_path / "votes.jsonl"
    )
    with pytest.raises(InputError, match=r"data\.votes"):
        train(recipe, resume=True, model=tiny_model(trace_tokens=4))


def _steps(recipe: Recipe) -> list[dict]:
    from zreward.common.runs import read_metrics

    return [row for row in read_metrics(recipe.out) if "loss" in row]


def test_a_dry_run_reads_both_files(tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    (read, *_) = check_inputs(make_recipe(tmp_path, model__name=str(tmp_path / "base")))
    assert "votes.jsonl" in read and "rated.jsonl" in read and "5 pairs to train on" in read


def test_dev_pictures_among_the_pairs_are_refused(tmp_path):
    save_records([Record("a dog", PICTURES[4], {"realism": 1.0})], tmp_path / "dev.jsonl")
    with pytest.raises(InputError, match="in both train and test"):
        build(tmp_path, data__dev=str(tmp_path / "dev.jsonl"), eval_every=1)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"method": "grpo"}, "data.preferences goes with method gdso, not grpo"),
        (
            {"data__preferences": None, "data__preferences_weight": 2.0},
            "data.preferences_weight goes with data.preferences",
        ),
        ({"data__preferences_weight": 0.0}, "data.preferences_weight"),
    ],
)
def test_recipes_that_cannot_be_are_refused(tmp_path, keys, said):
    with pytest.raises(InputError, match=said):
        make_recipe(tmp_path, **keys)


def test_votes_on_nothing_that_is_trained_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no preference has votes on \['alignment'\]"):
        build(tmp_path, data__dimensions=["alignment"])
