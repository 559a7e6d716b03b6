"""The two shipped recipes, counted again by hand from the published sizes and the parameters' names."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from tests.planning.conftest import RECIPES
from zreward.planning.cards import CARDS
from zreward.planning.engines import Engine
from zreward.planning.networks import network_of
from zreward.planning.plan import Machines, planned
from zreward.planning.shapes import shape_of
from zreward.training.recipe import load_recipe

BLOCK = re.compile(r"(?:layers|blocks)\.\d+\.")


@pytest.fixture(scope="module")
def teacher():
    return _counted("qwen3.5-27b-gdso")


@pytest.fixture(scope="module")
def student():
    return _counted("qwen3.5-9b-risd")


def _counted(name: str):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    network = network_of(recipe)
    return recipe, network, shape_of(network)


def _plan(counted, engine: Engine, card: str = "h100", **changes):
    recipe, network, shape = counted
    rollout = replace(recipe.rollout, **changes)
    machines = Machines(CARDS[card], CARDS[card].memory, engine)
    return planned(replace(recipe, rollout=rollout), machines, network, shape, None)


def test_fsdp_gathers_two_blocks_and_what_is_in_no_block(student):
    sizes, trained = Counter(), Counter()
    for name, weight in student[1].backbone.named_parameters():
        found = BLOCK.search(name)
        key = name[: found.end()] if found else ""
        sizes[key] += weight.numel()
        trained[key] += weight.numel() if weight.requires_grad else 0
    outside = sizes.pop("")
    assert outside > 2 * 248_320 * 4096  # embeddings and output layer
    largest, numbers = sizes.most_common(1)[0]
    plan = _plan(student, Engine("fsdp", 8))
    assert plan.memory.communication == 2 * (outside + 2 * numbers) + 4 * (trained[largest] + trained[""])
    kept = _plan(student, Engine("fsdp", 8, reshards=False))
    assert kept.memory.communication == 2 * student[2].numbers


def test_deepspeeds_buckets(student):
    # Twice a bucket of gradients, of which there are fewer than 5e8; and a billion live parameters in bfloat16.
    buckets = 2 * 2 * student[2].trainable
    assert _plan(student, Engine("zero2", 8)).memory.communication == buckets
    assert _plan(student, Engine("zero3", 8)).memory.communication == buckets + 2 * 10**9


def test_one_gpu_has_nothing_to_communicate(student):
    assert _plan(student, Engine("fsdp", 1)).memory.communication == 0


def test_logits_of_a_chunk_at_most(teacher):
    for rows in (4, 16):
        plan = _plan(teacher, Engine("ddp", 8), sequences_per_forward=rows)
        assert plan.memory.logits == 3 * 4 * 248_320 * 540  # 512 MiB / (4 * 248,320)
    assert _plan(teacher, Engine("ddp", 8), sequences_per_forward=1).memory.logits == 3 * 4 * 248_320 * 540
    sharded = _plan(teacher, Engine("zero3", 8), sequences_per_forward=1)
    assert sharded.memory.logits == 4 * 248_320 * (3 * 540 + 1024 - 540)


def test_a_sharded_output_layer_answers_over_the_whole_vocabulary(student):
    assert _plan(student, Engine("fsdp", 8)).memory.logits == 4 * 248_320 * (4 + 2)
    assert _plan(student, Engine("ddp", 8)).memory.logits == 0


def test_keys_values_and_states_of_sixteen_sequences(teacher):
    plan = _plan(teacher, Engine("ddp", 8))
    keys = 16 * 2 * (4 * 256) * 2 * plan.pieces.lengths.row  # attention layers, keys and values, heads of 256, bfloat16
    state = 48 * 128 * 128 + (2 * 16 * 128 + 48 * 128) * 4  # of a gated-delta layer: its matrix, its convolution
    assert plan.memory.kv_cache == 16 * (keys + 48 * 4 * state)


def test_lengths_of_the_texts(teacher):
    lengths = _plan(teacher, Engine("ddp", 8)).pieces.lengths
    # 2,760 letters of system text and rubric, half of the chat template's 16 tokens; question and answer's prefix likewise.
    assert lengths.opening == 2760 // 4 + 8
    assert lengths.row == lengths.opening + 1024 + 80 + lengths.question + 1024


@pytest.mark.parametrize(("card", "step"), [("h100", 64 * 1.4e-3), ("l40s", 2 * 27_823_639_792 / (0.864e12 * 0.6))])
def test_a_decoding_step_takes_its_layers_or_reads_its_weights(teacher, card, step):
    work = _plan(teacher, Engine("ddp", 8), card).work
    sampling = 4 * 1024 * step  # accumulated roll-outs, tokens
    assert sampling < work.rollout_seconds < 1.05 * sampling  # the rest is reading the prompts


def test_operations_of_an_update(teacher):
    """LoRA: a product forward, one again for checkpointing, one for the gradient to the input; the adapter's also its own.

    Logits of traces are computed again whatever is checkpointed.
    """
    base = adapter = tower = 0
    for name, weight in teacher[1].backbone.named_parameters():
        if weight.ndim != 2 or not BLOCK.search(name) or "conv" in name:
            continue
        if "visual" in name:
            tower += weight.numel()
        elif weight.requires_grad:
            adapter += weight.numel()
        else:
            base += weight.numel()
    plan = _plan(teacher, Engine("ddp", 8))
    pieces = plan.pieces
    patches = pieces.lengths.image * 4
    looks_back = 16 * 4 * (24 * 256) * pieces.lengths.row / 2
    states = 48 * 8 * (48 * 128 * 128 + (2 * 16 * 128 + 48 * 128) * 4)
    language = 2 * base * 3 + 2 * adapter * 4 + (looks_back + states) * 4
    vision = patches * (2 * tower + 27 * 4 * 1152 * patches)  # frozen: forward alone
    head = 2 * 248_320 * 5120 * pieces.traced
    assert plan.work.training == pytest.approx(16 * (pieces.tokens * language + vision + 3 * head), rel=1e-3)
    plain = pieces.tokens * (2 * (base + adapter) + looks_back + states) + vision + head
    assert plan.work.forward_only == pytest.approx(16 * plain, rel=1e-3)


def test_the_attention_that_was_chosen_is_named(teacher):
    assert not any(line.startswith("attention") for line in _plan(teacher, Engine("ddp", 8)).assumptions)
    for name, more in (("flash_attention_2", ""), ("eager", "; its matrices of tokens by tokens are not counted")):
        recipe = replace(teacher[0], model=replace(teacher[0].model, attn_implementation=name))
        assert f"attention: {name}{more}" in _plan((recipe, *teacher[1:]), Engine("ddp", 8)).assumptions
