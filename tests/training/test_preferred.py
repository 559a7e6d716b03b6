"""Learning from preferences: gradients of a plain loop in float64, what a batch holds, votes that a run must find again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tests.plain_model import give_the_adapter_a_say, plain_pass, small_model
from tests.tiny import noise_pictures, tiny_model
from tests.training.oracle import run
from tests.training.plain_direct import mean, smoothed
from zreward.common.config import config_from_dict
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory
from zreward.data import Preference, Record, save_preferences, save_records
from zreward.data.preference import records_of
from zreward.training.preferred import preferred_items
from zreward.training.recipe import Recipe
from zreward.training.run import build_trainer, prepare, train
from zreward.training.trainer_base import WEIGHT

STEPS = 2
PICTURES = noise_pictures(5, ((32, 32), (32, 16)), seed=1)
VOTED = [
    Preference("a red circle", (PICTURES[0], PICTURES[1]), {"realism": {"a": 3, "b": 1}, "alignment": "tie"}),
    Preference("a red circle", (PICTURES[1], PICTURES[2]), {"realism": {"r1": "b", "r2": "tie"}}),
    Preference("two blue squares", (PICTURES[3], PICTURES[4]), {"alignment": "a"}),
]
RATED = [
    Record("two blue squares", PICTURES[3], {"realism": [4.0, 5.0], "alignment": [2.0]}),
    Record("a cat", PICTURES[2], {"realism": [2.0]}),
]
SHARES = [(0, "realism", 0.75), (0, "alignment", 0.5), (1, "realism", 0.25), (2, "alignment", 1.0)]  # by hand, of VOTED
BINS = [1 + k / 2 for k in range(9)]
NAMES = ("realism", "alignment")


def smoothed_shares(added: float) -> list:
    """SHARES with `added` votes more on each side."""
    votes = [(3.0, 1.0), (0.5, 0.5), (0.5, 1.5), (1.0, 0.0)]  # for a and b, by hand, of VOTED
    return [
        (number, name, (a + added) / (a + added + b + added))
        for (number, name, _), (a, b) in zip(SHARES, votes, strict=True)
    ]


def plain_loss(model, recipe):
    """Of all pairs and rated pictures, each picture read for itself."""
    network, data = model.backbone.model, recipe.data

    def q(image, prompt, name):
        logits, _ = plain_pass(model, network, [image], prompt, name, [], reasoning=False)
        return logits[-1, model.encoder.label_ids].log_softmax(-1)

    losses = []
    for number, name, share in smoothed_shares(data.vote_smoothing):
        a, b = (q(image, VOTED[number].prompt, name) for image in VOTED[number].images)
        if data.preference_loss == "win_rate":
            rate = {True: 0.0, False: 0.0}
            for s, p in enumerate(a.exp()):
                for t, other in enumerate(b.exp()):
                    for first in (True, False):
                        wins = s > t if first else t > s
                        rate[first] = rate[first] + p * other * (1.0 if wins else 0.5 if s == t else 0.0)
            losses.append(-share * rate[True].log() - (1 - share) * rate[False].log())
        else:
            gap = sum(bin * (p - other) for bin, p, other in zip(BINS, a.exp(), b.exp(), strict=True))
            losses.append(share * (1 + (-gap).exp()).log() + (1 - share) * (1 + gap.exp()).log())
    for record in RATED if data.rated else []:
        for name, ratings in record.scores.items():
            target = smoothed(ratings, BINS, data.smoothing)
            found = q(record.image, record.prompt, name)
            losses.append(-data.rated_weight * sum(p * found[s] for s, p in enumerate(target)))
    return mean(losses)


def make_recipe(folder: Path, lora=None, batch=9, accumulation=1, share=False, rated=False, **data) -> Recipe:
    save_preferences(VOTED, folder / "votes.jsonl")
    save_records(RATED, folder / "rated.jsonl")
    raw = {
        "method": "preference",
        "out": str(folder / "run"),
        "data": {"train": str(folder / "votes.jsonl"), "rated": str(folder / "rated.jsonl") if rated else None} | data,
        "model": {"name": "none", "lora_rank": lora},
        "optimizer": {
            **{"steps": STEPS, "batch_size": batch, "gradient_accumulation": accumulation, "learning_rate": 0.03},
            **{"schedule": "constant", "warmup_steps": 0, "max_grad_norm": 1e9, "share_prefix": share},
        },
        "trainer": {"optim": "sgd", "save_strategy": "no"},
    }
    return config_from_dict(Recipe, raw)


CASES = {
    "pairs": {"batch": 4},
    "pairs, dimensions together": {"batch": 3, "group_dimensions": True},
    "pairs, adapter": {"batch": 4, "lora": 2},
    "pairs, accumulation": {"batch": 2, "accumulation": 2},
    "pairs, Bradley-Terry": {"batch": 4, "preference_loss": "bradley_terry"},
    "pairs, smoothed votes": {"batch": 3, "group_dimensions": True, "vote_smoothing": 0.4},
    "mixed": {"rated": True, "batch": 7, "rated_weight": 0.3, "smoothing": 0.6},
    "mixed, together, accumulation": {"rated": True, "batch": 3, "accumulation": 2, "group_dimensions": True},
    "mixed, one by one": {"rated": True, "batch": 1, "accumulation": 7, "rated_weight": 2.0},
}


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_plain_loop(case, share, tmp_path, float64, shared_passes):
    recipe = make_recipe(tmp_path, share=share, **CASES[case])
    model = prepare(small_model(0), recipe).double()
    give_the_adapter_a_say(model)
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), model)
    check = run(trainer, model.backbone.model, lambda step: plain_loss(model, recipe), STEPS)
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert logged == pytest.approx(check.losses, rel=1e-6)
    together = recipe.data.group_dimensions and recipe.optimizer.batch_size > 1
    assert any(rows.prefix is not None for rows in shared_passes) == (share and together)


def test_what_is_logged_of_a_mixed_step(tmp_path):
    trainer = build_trainer(
        make_recipe(tmp_path, rated=True, rated_weight=0.5), RunDirectory(tmp_path / "run"), tiny_model()
    )
    trainer.train()
    row = next(row for row in trainer.state.log_history if "loss" in row)
    assert row["loss"] == pytest.approx((4 * row["preference_loss"] + 0.5 * 3 * row["rated_loss"]) / 7, rel=1e-5)


def test_dimensions_stand_together_or_apart():
    together, apart = preferred_items(VOTED, NAMES), preferred_items(VOTED, NAMES, together=False)
    assert [(VOTED.index(item.preference), *item.shares) for item in together] == [
        (0, ("realism", 0.75), ("alignment", 0.5)),
        (1, ("realism", 0.25)),
        (2, ("alignment", 1.0)),
    ]
    assert [(VOTED.index(item.preference), *item.shares[0]) for item in apart] == SHARES


def test_pictures_of_pairs_are_checked_as_records_are():
    pair = Preference("p", VOTED[0].images, "a", group="g", split="train")
    assert [(one.prompt, one.image, one.scores, one.group, one.split) for one in records_of([pair])] == [
        ("p", image, {}, "g", "train") for image in pair.images
    ]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    trainer = build_trainer(make_recipe(tmp_path), RunDirectory(tmp_path / "run"), tiny_model())
    trainer._compare = lambda *given: torch.tensor([float("nan")], requires_grad=True)
    with pytest.raises(FloatingPointError, match="step 0: the loss is nan"):
        trainer.train()


def test_what_other_processes_would_repeat_is_taken_out(tmp_path):
    trainer = build_trainer(make_recipe(tmp_path, rated=True), RunDirectory(tmp_path / "run"), tiny_model())
    items = trainer.train_dataset
    batch = trainer.collate(items)
    assert trainer.count(batch) == 7 and trainer.count(batch | {WEIGHT: 0.0}) == 0
    assert trainer.count(batch | {WEIGHT: 1.5}) == 7
    part = trainer.first_of(batch, 5)
    assert part["items"] == items[:5] and (len(part["target"]), len(part["share"])) == (1, 4)
    pairs = trainer.first_of(batch, 2)
    assert (len(pairs["target"]), pairs["share"].tolist(), len(pairs["images"])) == (0, [0.5, 0.75], 4)


def test_votes_on_overall_train_the_only_dimension():
    votes = [Preference("p", VOTED[0].images, {"a": 3, "b": 1}), Preference("p", VOTED[1].images, {"realism": "b"})]
    (first, second) = preferred_items(votes, ["realism"])
    assert first.shares == (("realism", 0.75),) and second.shares == (("realism", 0.0),)
    smoothed = preferred_items(votes, ["realism"], smoothing=0.5)
    assert [item.shares for item in smoothed] == [(("realism", 0.7),), (("realism", 0.25),)]
    assert len(preferred_items(votes, NAMES)) == 1  # which of two was meant, nobody knows
    with pytest.raises(
        InputError, match=r"no preference has votes on \['realism', 'alignment'\]; the votes are on \['overall'\]"
    ):
        preferred_items(votes[:1], NAMES)


def test_a_run_goes_on_with_the_same_votes_only(tmp_path):
    recipe = make_recipe(tmp_path)
    train(recipe, model=tiny_model())
    (Path(recipe.out) / "model" / "zreward.json").unlink()
    turned = [Preference(one.prompt, one.images, {"realism": "tie"}) for one in VOTED]
    save_preferences(turned, tmp_path / "votes.jsonl")
    with pytest.raises(InputError, match=r"data\.votes"):
        train(recipe, resume=True, model=tiny_model())


def test_dev_pictures_among_the_pairs_are_refused(tmp_path):
    recipe = make_recipe(tmp_path, dev=str(tmp_path / "rated.jsonl"))
    raw = asdict(recipe) | {"eval_every": 1}
    with pytest.raises(InputError, match="in both train and test"):
        build_trainer(config_from_dict(Recipe, raw), RunDirectory(tmp_path / "run"), tiny_model())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preference_loss": "hinge"}, "data.preference_loss is 'hinge'; expected one of"),
        ({"rated_weight": 0.0}, "data.rated_weight"),
        ({"vote_smoothing": -0.1}, "data.vote_smoothing is -0.1, expected 0 or more"),
        ({"vote_smoothing": 1e308}, "data.vote_smoothing is 1e\\+308, expected at most 1,000"),
    ],
)
def test_recipes_that_cannot_be_are_refused(tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        make_recipe(tmp_path, **options)


def test_keys_of_preferences_go_with_preferences_only(tmp_path):
    raw = asdict(make_recipe(tmp_path, rated=True)) | {"method": "sft"}
    with pytest.raises(InputError, match="data.rated goes with method preference, not sft"):
        config_from_dict(Recipe, raw)
