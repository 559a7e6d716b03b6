"""Updates of a model with a gated-delta layer, in float32: every weight's gradient through shared passes is that of whole rows.

The oracles compare with plain loops in float64, where the reference delta rule has no say: it computes in float32.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from tests.plain_model import give_the_adapter_a_say
from tests.tiny import sharpen, tiny_model
from tests.training import test_direct_oracle as direct
from tests.training import test_rollout_oracle as rollout
from zreward.common.runs import RunDirectory
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe
from zreward.training.rollout import RolloutTrainer
from zreward.training.rollout_data import pair_items, unrated_items
from zreward.training.run import build_trainer, prepare
from zreward.training.targets import LabelOptions, label

Gradients = list[dict[str, Tensor]]  # of every step


class _Keep(TrainerCallback):
    def __init__(self, model: RewardModel) -> None:
        self.model, self.steps = model, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        weights = self.model.backbone.model.named_parameters()
        self.steps.append({name: w.grad.clone() for name, w in weights if w.grad is not None})


def gated(seed: int = 0) -> RewardModel:
    """A gated-delta layer below one of attention."""
    return sharpen(tiny_model(seed=seed), 6)


def train(trainer, model: RewardModel) -> Gradients:
    keep = _Keep(model)
    trainer.add_callback(keep)
    trainer.train()
    return keep.steps


def slowly(recipe: Recipe) -> Recipe:
    """Two steps, the second from almost the same weights: rounding does not grow between them."""
    return replace(recipe, optimizer=replace(recipe.optimizer, steps=2, learning_rate=1e-7))


def assert_same(found: Gradients, wanted: Gradients) -> None:
    assert len(found) == len(wanted) > 1
    for step, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert one.keys() == other.keys()
        whole = sum(float(each.square().sum()) for each in other.values()) ** 0.5
        assert whole > 1e-3
        for name, gradient in other.items():
            difference = float((one[name] - gradient).norm())
            assert difference <= 1e-4 * float(gradient.norm()) + 1e-6 * whole, f"step {step}, {name}: {difference:.1e}"


def rolled_out(folder, monkeypatch, share: bool, checkpointing: bool = False, **options) -> Gradients:
    """Every run samples the same traces."""
    recipe = slowly(rollout.make_recipe(folder, share=share, checkpointing=checkpointing, **options))
    model = prepare(gated(), recipe)
    give_the_adapter_a_say(model)
    with monkeypatch.context() as patch:
        torch.manual_seed(0)  # labels are sampled
        rollout.Traces(model, recipe, patch)
        run, records = RunDirectory(folder), rollout.RECORDS
        if recipe.method == "opd":
            items = [item for r in records for item in unrated_items([r], list(r.scores))]
            trainer = RolloutTrainer(model, recipe, run, items, teacher=gated(1).requires_grad_(False))
        else:
            trainer = RolloutTrainer(model, recipe, run, pair_items(records, rollout.PAIRS, model, 0.0))
        return train(trainer, model)


ROLLOUTS = {
    "opd, one trace": {"method": "opd", "teacher": "none", "batch": 4, "group_size": 1},
    "opd, two traces": {"method": "opd", "teacher": "none", "batch": 4, "group_size": 2},
    "gdso, two traces": {"method": "gdso", "group_size": 2},
    "gdso, eight traces": {"method": "gdso", "group_size": 8},
    "gdso, eight traces, micro-batches": {"method": "gdso", "group_size": 8, "sequences_per_forward": 5},
    "gdso, two traces, adapter": {"method": "gdso", "group_size": 2, "lora": 2},
    "grpo, three traces": {"method": "grpo", "beta": 0.4},
}


BOTH_WAYS = ("opd, one trace", "gdso, two traces", "gdso, eight traces", "sft", "risd")
"""With and without checkpointing; the others take turns."""


def ways(cases: dict) -> list[tuple[str, bool]]:
    turns = [(case, number % 2 == 0) for number, case in enumerate(cases)]
    return turns + [(case, not checkpointing) for case, checkpointing in turns if case in BOTH_WAYS]


@pytest.mark.parametrize(("case", "checkpointing"), ways(ROLLOUTS))
def test_updates_on_rollouts(case, checkpointing, tmp_path, monkeypatch, shared_passes):
    whole = rolled_out(tmp_path / "whole", monkeypatch, False, **ROLLOUTS[case])
    assert not shared_passes or case.startswith("opd")
    del shared_passes[:]
    shared = rolled_out(tmp_path / "shared", monkeypatch, True, checkpointing, **ROLLOUTS[case])
    assert any(rows.opening is not None for rows in shared_passes)
    assert any(rows.prefix is not None for rows in shared_passes) == (ROLLOUTS[case].get("group_size") != 1)
    assert_same(shared, whole)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Targets for `RATED`."""
    folder = tmp_path_factory.mktemp("targets")
    records = save_records(direct.RATED, folder / "rated.jsonl")
    options = LabelOptions(traces=2, dimensions=("realism", "alignment"))
    return label(gated(3), "teacher", direct.load_records(records), folder / "targets", options)


DIRECT = {
    "sft": {"batch": 8},
    "sft, uneven": {"records": direct.UNEVEN, "group_dimensions": True, "batch": 4},
    "sft, adapter": {"group_dimensions": True, "batch": 4, "lora": 2},
    "risd": {"method": "risd", "group_dimensions": True, "batch": 4},
    "risd, micro-batches": {"method": "risd", "group_dimensions": True, "batch": 2, "accumulation": 2},
    "rewarddance": {"method": "rewarddance", "chain_weight": 0.7, "group_dimensions": True, "batch": 4},
    "pairwise": {"method": "rewarddance-pairwise", "records": direct.COMPARED, "group_dimensions": True, "batch": 6},
}


@pytest.mark.parametrize(("case", "checkpointing"), ways(DIRECT))
def test_updates_on_ratings_and_targets(case, checkpointing, labelled, tmp_path, shared_passes):
    found = {}
    options = dict(DIRECT[case])
    records = options.pop("records", direct.RATED)
    save_records(records, tmp_path / "rated.jsonl")
    for share in (False, True):
        recipe = direct.make_recipe(tmp_path, labelled, share=share, checkpointing=checkpointing and share, **options)
        model = prepare(gated(), slowly(recipe))
        give_the_adapter_a_say(model)
        trainer = build_trainer(slowly(recipe), RunDirectory(tmp_path / f"run-{share}"), model)
        assert not shared_passes
        found[share] = train(trainer, trainer.reward_model)
    assert any(rows.opening is not None for rows in shared_passes)
    assert any(rows.prefix is not None for rows in shared_passes) == ("group_dimensions" in options)
    assert_same(found[True], found[False])
