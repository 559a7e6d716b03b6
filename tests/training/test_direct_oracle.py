"""The direct trainer's gradients against a plain loop in float64, in two optimizer steps from records and targets on disk."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations, product
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from tests.plain_model import give_the_adapter_a_say, plain_pass, small_model, token_log_probs
from tests.tiny import COMPARISON, noise_pictures
from tests.training.oracle import run
from tests.training.plain_direct import averaged, cross_entropy, kl, mean, one_hot, rewarddance, smoothed
from zreward.common.config import config_from_dict
from zreward.common.runs import RunDirectory
from zreward.data import Record, load_records
from zreward.data.writing import save_records
from zreward.training.recipe import Recipe
from zreward.training.run import build_trainer, prepare
from zreward.training.targets import LabelOptions, label

STEPS, TRACES = 2, 3
PICTURES = noise_pictures(4, ((32, 32), (32, 16)), seed=1)
RATED = [
    Record("a red circle", PICTURES[0], {"realism": [4.0, 5.0, 4.0], "alignment": [2.0]}),
    Record("a red circle", PICTURES[1], {"realism": [2.0, 2.5], "alignment": [4.5]}),
    Record("two blue squares", PICTURES[2], {"realism": [3.0], "alignment": [3.0, 3.0]}),
    Record("two blue squares", PICTURES[3], {"realism": [1.0, 5.0], "alignment": [2.5, 3.5]}),
]
COMPARED = [  # three pairs, one of them with equal scores on alignment
    Record("a red circle", PICTURES[0], {"realism": [4.0, 5.0, 4.0], "alignment": [2.0]}),
    Record("a red circle", PICTURES[1], {"realism": [2.0, 2.5], "alignment": [3.0, 3.0]}),
    Record("a red circle", PICTURES[2], {"realism": [3.0], "alignment": [2.5, 3.5]}),
]
UNEVEN = [*RATED[:3], Record("two blue squares", PICTURES[3], {"alignment": [2.5, 3.5]})]  # 7 rows of 4 pictures
BINS = [1 + k / 2 for k in range(9)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Targets of three traces each for `RATED`: the folder that training reads."""
    folder = tmp_path_factory.mktemp("targets")
    records = load_records(save_records(RATED, folder / "rated.jsonl"))
    teacher = small_model(3)
    options = LabelOptions(traces=TRACES, dimensions=("realism", "alignment"))
    return label(teacher, "teacher", records, folder / "targets", options)


def plain_loss(model, recipe, records, labelled):
    """The loss of all rows, each read for itself."""
    data, network = recipe.data, model.backbone.model
    files = sorted(labelled.glob("*.parquet")) if data.targets else []
    taught = {(row["record"], row["dimension"]): row for file in files for row in pq.read_table(file).to_pylist()}
    items = []
    if recipe.method == "rewarddance-pairwise":
        for (one, other), name in product(combinations(records, 2), ("realism", "alignment")):
            gap = score(one, name) - score(other, name)
            items.append(compared(model, network, one, other, name, gap))
            items.append(compared(model, network, other, one, name, -gap))
        return cross_entropy(items)
    for n, record in enumerate(records):
        for name in ("realism", "alignment") if recipe.method == "risd" else record.scores:
            given = taught.get((n, name))
            target = smoothed(record.scores.get(name, [1.0]), BINS, data.smoothing)
            if recipe.method == "risd":
                target = averaged(given["trace_probs"], data.target_traces or TRACES)
                target = one_hot(target) if data.one_hot_targets else target
            items.append(read(model, network, record, name, target, given if recipe.method == "rewarddance" else None))
    if recipe.method == "rewarddance":
        return rewarddance(items, data.chain_weight)
    return (kl if recipe.method == "risd" else cross_entropy)(items)


def read(model, network, record, name, target, given):
    """One item without padding: the score, and the chain that explains its annotation best."""
    encoder, chain, tail = model.encoder, [], []
    if given is not None:
        fits = [sum(p * t for p, t in zip(probs, target, strict=True)) for probs in given["trace_probs"]]
        text = given["traces"][fits.index(max(fits))]
        chain = model.tokenizer(f" {text}", add_special_tokens=False)["input_ids"] + encoder.stop_ids
        tail = [encoder.label_ids[target.index(max(target))].item(), *encoder.reasoning_ids, *chain]
    logits, start = plain_pass(model, network, [record.image], record.prompt, name, tail, reasoning=False)
    q = logits[start - 1, encoder.label_ids].log_softmax(-1)
    chain = token_log_probs(model, logits, len(logits) - len(chain), chain)
    return SimpleNamespace(q=q, target=target, chain=chain)


def compared(model, network, record, reference, name, gap):
    """The reference's picture first; the answers are no and yes."""
    yes = 0.5 if gap == 0 else float(gap > 0)
    pictures = [reference.image, record.image]
    logits, _ = plain_pass(model, network, pictures, record.prompt, name, [], reasoning=False)
    return SimpleNamespace(q=logits[-1, model.encoder.label_ids].log_softmax(-1), target=[1 - yes, yes])


def score(record, name):
    ratings = sorted(record.scores[name])
    return mean(ratings[1:-1] if len(ratings) > 2 else ratings)


CASES = {
    "sft": {"records": UNEVEN, "batch": 7},
    "sft, smoothing, adapter": {"smoothing": 0.6, "lora": 2},
    "sft, grouped": {"records": UNEVEN, "group_dimensions": True, "batch": 4},
    "sft, grouped, accumulation": {"records": UNEVEN, "group_dimensions": True, "batch": 2, "accumulation": 2},
    "sft, accumulation": {"batch": 3, "accumulation": 3},
    "risd": {"method": "risd"},
    "risd, fewer traces, accumulation": {"method": "risd", "target_traces": 2, "batch": 4, "accumulation": 2},
    "risd, one-hot, grouped": {"method": "risd", "one_hot_targets": True, "group_dimensions": True, "batch": 4},
    "risd, adapter": {"method": "risd", "lora": 2},
    "rewarddance": {"method": "rewarddance", "chain_weight": 0.7},
    "rewarddance, grouped, smoothing, accumulation": {
        **{"method": "rewarddance", "chain_weight": 1.6, "smoothing": 0.6},
        **{"group_dimensions": True, "batch": 2, "accumulation": 2},
    },
    "rewarddance, adapter": {"method": "rewarddance", "chain_weight": 0.7, "lora": 2, "batch": 4, "accumulation": 2},
    "pairwise": {"method": "rewarddance-pairwise", "records": COMPARED, "batch": 12},
    "pairwise, grouped, adapter": {
        **{"method": "rewarddance-pairwise", "records": COMPARED, "group_dimensions": True},
        **{"batch": 6, "lora": 2},
    },
    "pairwise, accumulation": {
        **{"method": "rewarddance-pairwise", "records": COMPARED, "batch": 3, "accumulation": 4},
    },
}


def make_recipe(
    folder, labelled, method="sft", lora=None, batch=8, accumulation=1, share=False, checkpointing=False, **data
) -> Recipe:
    targets = str(labelled) if method in ("risd", "rewarddance") else None
    raw = {
        "method": method,
        "out": str(folder),
        "data": {"train": str(folder / "rated.jsonl"), "targets": targets} | data,
        "model": {"name": "none", "lora_rank": lora},
        "optimizer": {
            **{"steps": STEPS, "batch_size": batch, "gradient_accumulation": accumulation, "learning_rate": 0.03},
            **{"schedule": "constant", "warmup_steps": 0, "max_grad_norm": 1e9},
            **{"share_prefix": share, "gradient_checkpointing": checkpointing},
        },
        "comparison": asdict(COMPARISON),
        "trainer": {"optim": "sgd", "save_strategy": "no"},
    }
    return config_from_dict(Recipe, raw)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_plain_loop(case, labelled, tmp_path, float64):
    compare(tmp_path, labelled, **CASES[case])


@pytest.mark.parametrize(("case", "checkpointing"), [(case, number % 2 == 1) for number, case in enumerate(CASES)])
def test_gradients_through_shared_prefixes_are_those_of_the_plain_loop(
    case, checkpointing, labelled, tmp_path, float64, shared_passes
):
    """The opening too is a pass of its own, however short."""
    compare(tmp_path, labelled, share=True, checkpointing=checkpointing, **CASES[case])
    grouped = CASES[case].get("group_dimensions", False)
    assert any(rows.opening is not None for rows in shared_passes)
    assert any(rows.prefix is not None for rows in shared_passes) == grouped


def compare(folder, labelled, records=RATED, **options) -> None:
    save_records(records, folder / "rated.jsonl")
    recipe = make_recipe(folder, labelled, **options)
    model = prepare(small_model(0), recipe).double()
    give_the_adapter_a_say(model)
    trainer = build_trainer(recipe, RunDirectory(folder / "run"), model)
    judge = trainer.reward_model
    check = run(trainer, judge.backbone.model, lambda step: plain_loss(judge, recipe, records, labelled), STEPS)
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert logged == pytest.approx(check.losses, rel=1e-6)
