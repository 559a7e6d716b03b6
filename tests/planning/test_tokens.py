"""Tokens and pieces of a step, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planning.conftest import RECIPES
from zreward.planning.networks import network_of
from zreward.planning.plan import make_plan
from zreward.planning.shapes import shape_of
from zreward.planning.tokens import PROMPT, pieces_of
from zreward.training.recipe import load_recipe


def _pieces(recipe):
    network = network_of(recipe)
    return pieces_of(recipe, network, shape_of(network))


def test_a_roll_out_in_pieces():
    # Two sides of one pair, 8 traces each, 4 sequences a pass, 4 accumulated batches: 16 passes, each of one picture.
    pieces = _pieces(load_recipe(RECIPES / "qwen3.5-27b-gdso.yaml"))
    lengths = pieces.lengths
    assert (lengths.image, lengths.prompt, lengths.trace) == (1024, PROMPT, 1024)
    assert 600 <= lengths.opening <= 750  # 649 with a learned tokenizer (docs/results.md)
    assert (pieces.sequences, pieces.sides, pieces.rows, pieces.images, pieces.times) == (16, 2, 4, 1, 16)
    assert pieces.shared and pieces.unlearned == 1  # scores of all sequences before the first loss
    assert pieces.traced == 4 * 1024
    assert pieces.tokens == lengths.opening + 1024 + PROMPT + 4 * (lengths.question + 1024)
    assert pieces.rollouts == 4


def test_rows_are_read_whole_where_the_recipe_says_so():
    recipe = load_recipe(RECIPES / "qwen3.5-9b-risd.yaml")
    shared = _pieces(recipe)
    whole = _pieces(replace(recipe, optimizer=replace(recipe.optimizer, share_prefix=False)))
    assert whole.tokens == 4 * whole.lengths.row
    assert shared.tokens == whole.tokens - 3 * whole.lengths.opening
    assert whole.lengths.trace == 0 and whole.sequences == 0 and whole.traced == 0


@pytest.mark.parametrize(
    ("keys", "passes"),
    [
        ({}, 0),  # one pass decodes and trains
        ({"rollout__sequences_per_forward": 3}, 1),
        ({"rollout__beta": 0.1}, 1),
        ({"rollout__beta": 0.1, "rollout__sequences_per_forward": 3}, 2),
        ({"rollout__beta": 0.1, "rollout__updates_per_rollout": 2, "save_every": 2}, 1),  # (reference + old) / 2
    ],
)
def test_passes_without_gradients(recipe_of, keys, passes):
    pieces = _pieces(recipe_of("gdso", rollout__group_size=3, **keys))
    assert pieces.unlearned == passes
    assert pieces.times == (4 if "rollout__sequences_per_forward" in keys else 1)
    assert pieces.rollouts == (0.5 if "rollout__updates_per_rollout" in keys else 1)


def test_grouped_dimensions_share_a_picture(recipe_of):
    alone = _pieces(recipe_of(optimizer__share_prefix=True))
    grouped = _pieces(recipe_of(data__group_dimensions=True, optimizer__share_prefix=True))
    lengths = grouped.lengths
    assert (grouped.rows, grouped.images) == (8, 2) and (alone.rows, alone.images) == (2, 2)
    assert grouped.tokens == lengths.opening + 2 * lengths.prefix + 8 * lengths.question


def test_a_comparison_shows_two_pictures(recipe_of):
    pieces = _pieces(recipe_of("rewarddance-pairwise"))
    assert pieces.images == 4 and pieces.lengths.images == 2 * pieces.lengths.image


def test_totals_count_all_gpus(recipe_of, machines_of):
    one = make_plan(recipe_of("gdso"), machines_of())
    two = make_plan(recipe_of("gdso"), machines_of("ddp", 2))
    assert two.tokens["training"] == 2 * one.tokens["training"] and two.tokens["sampled"] == 2 * one.tokens["sampled"]
    assert two.to_dict()["flops"]["total"] == pytest.approx(2 * one.to_dict()["flops"]["total"])
    assert one.tokens["sampled"] == 2 * 2 * 4 * 6  # pairs, sides, traces of 6 tokens
