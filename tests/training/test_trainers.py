"""The two trainers on tiny real models: what moves, what stays, that the loss falls, what is refused.

What they compute is compared with plain loops in test_rollout_oracle.py and test_direct_oracle.py.
"""

import math
from dataclasses import asdict

import pytest
import torch

from tests.tiny import COMPARISON
from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.data import load_records
from zreward.evaluation.prediction import evaluate
from zreward.models.pairwise import comparing
from zreward.models.reward_model import RewardModel
from zreward.training.run import load_model, train


def weights(folder) -> dict[str, torch.Tensor]:
    return RewardModel.from_pretrained(folder).backbone.model.state_dict()


def losses(recipe) -> list[float]:
    return [row["loss"] for row in read_metrics(recipe.out) if "loss" in row]


def test_sft_lowers_its_loss_and_moves_all_weights(make_recipe, tiny_data):
    recipe = make_recipe("sft", steps=30, optimizer__batch_size=16)
    trained, before = weights(train(recipe)), weights(tiny_data["base"])
    assert losses(recipe)[-1] < 0.9 * losses(recipe)[0]
    moved = [name for name in before if not torch.equal(before[name], trained[name])]
    assert len(moved) > 0.9 * len(before)


def test_a_frozen_vision_tower_stays_and_the_rest_moves(make_recipe, tiny_data):
    trained = weights(train(make_recipe("sft", model__freeze_vision=True)))
    before = weights(tiny_data["base"])
    same = {name: torch.equal(before[name], trained[name]) for name in before}
    assert all(kept for name, kept in same.items() if "visual" in name)
    assert not all(kept for name, kept in same.items() if "visual" not in name)


def test_lora_trains_the_adapter_only_and_loads_again(make_recipe, tiny_data):
    recipe = make_recipe("gdso", model__lora_rank=2, rollout__beta=0.1)
    folder = train(recipe)
    assert (folder / "adapter_model.safetensors").exists() and not (folder / "model.safetensors").exists()
    model = RewardModel.from_pretrained(folder)
    base = weights(tiny_data["base"])
    kept = {name.replace(".base_layer", ""): value for name, value in model.backbone.base.state_dict().items()}
    assert all(torch.equal(kept[name], value) for name, value in base.items() if name in kept)
    adapters = [p for name, p in model.backbone.model.named_parameters() if "lora_B" in name]
    assert any(p.abs().sum() > 0 for p in adapters)


def test_an_adapter_leaves_a_frozen_vision_tower_alone(make_recipe):
    recipe = make_recipe("sft", model__lora_rank=2, model__freeze_vision=True)
    trained = [name for name, p in load_model(recipe).backbone.model.named_parameters() if p.requires_grad]
    assert trained and not any("visual" in name for name in trained)


def test_the_dev_curve_does_not_disturb_training(make_recipe, tiny_data, tmp_path):
    silent = make_recipe("gdso", out=str(tmp_path / "silent"))
    watched = make_recipe("gdso", out=str(tmp_path / "watched"), data__dev=str(tiny_data["dev"]), eval_every=1)
    train(silent)
    train(watched)
    assert losses(silent) == losses(watched)
    assert sum("dev_hpa" in row for row in read_metrics(watched.out)) == 3  # before training and after each step


def test_a_used_run_directory_is_refused_without_resume(make_recipe):
    recipe = make_recipe("sft", steps=1)
    train(recipe)
    with pytest.raises(InputError, match="--resume"):
        train(recipe)


def test_resuming_with_another_recipe_is_refused(make_recipe):
    train(make_recipe("sft", steps=1))
    with pytest.raises(InputError, match="different: seed"):
        train(make_recipe("sft", steps=1, seed=1), resume=True)


def test_train_and_dev_may_not_share_prompts(make_recipe, tiny_data):
    recipe = make_recipe("sft", data__dev=str(tiny_data["train"]), eval_every=1)
    with pytest.raises(InputError, match="both train and test"):
        train(recipe)


def test_a_loss_that_is_not_finite_stops_the_run(make_recipe):
    recipe = make_recipe("sft")
    model = load_model(recipe)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train(recipe, model=model)


def test_opd_has_nothing_to_learn_from_itself(make_recipe, tiny_data):
    recipe = make_recipe("opd", steps=2, rollout__teacher=str(tiny_data["base"]), optimizer__learning_rate=1e-9)
    train(recipe)
    for row in (row for row in read_metrics(recipe.out) if "reverse_kl" in row):
        assert row["reverse_kl"] == pytest.approx(0, abs=1e-4)
        assert row["grad_norm"] == pytest.approx(0, abs=1e-3)


def test_opd_refuses_a_teacher_that_reads_other_tokens(make_recipe, tmp_path, tiny_data):
    from zreward.models.scratch import ScratchSpec, make_scratch

    rubric = RewardModel.from_pretrained(tiny_data["base"]).rubric
    stranger = make_scratch(
        "qwen3_5", ScratchSpec(hidden_size=24, heads=2, layers=1), ["a teapot", "no teapot"], rubric
    )
    stranger.save_pretrained(tmp_path / "stranger")
    with pytest.raises(InputError, match="its tokenizer is not the student's"):
        train(make_recipe("opd", rollout__teacher=str(tmp_path / "stranger")))


def test_pairwise_rewarddance_learns_to_compare(make_recipe, tiny_data):
    recipe = make_recipe(
        "rewarddance-pairwise",
        steps=8,
        comparison=asdict(COMPARISON),
        optimizer__batch_size=16,
        data__dev=str(tiny_data["dev"]),
        eval_every=8,
    )
    judge = RewardModel.from_pretrained(train(recipe))
    assert losses(recipe)[-1] < losses(recipe)[0]
    assert judge.rubric.labels == ("1", "9") and judge.forms.reference == " above"
    table = evaluate(judge, load_records(tiny_data["test"]), progress=False)
    pooled = table[-1]
    assert 0 <= pooled["hpa"] <= 1 and pooled["n_pairs"] > 0
    assert math.isnan(pooled["nll"]) and math.isnan(pooled["crps"])


def test_a_picture_without_another_of_its_prompt_cannot_be_compared(tiny_data):
    base = comparing(RewardModel.from_pretrained(tiny_data["base"]), COMPARISON)
    with pytest.raises(InputError, match="the only picture of its prompt"):
        evaluate(base, load_records(tiny_data["test"])[:1], progress=False)
