"""The two trainers on tiny real models: what moves, what stays, that the loss falls, that bookkeeping is exact."""

import math
from dataclasses import asdict

import pytest
import torch

from tests.tiny import COMPARISON
from zreward.data import Pair, load_records
from zreward.errors import InputError
from zreward.evaluation import evaluate
from zreward.models.pairwise import comparing
from zreward.models.reward_model import RewardModel
from zreward.runs import read_metrics
from zreward.training.direct import compared_items
from zreward.training.run import load_model, train
from zreward.training.targets import LabelOptions, label


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


def test_gdso_on_micro_batches_equals_one_batch(make_recipe, tmp_path):
    """The separable gap loss needs no partner in the micro-batch: chunks of 3 of the 8 sequences, same weights after."""
    whole = make_recipe("gdso", steps=1, out=str(tmp_path / "whole"))
    chunks = make_recipe("gdso", steps=1, out=str(tmp_path / "chunks"), rollout__sequences_per_forward=3)
    first, second = weights(train(whole)), weights(train(chunks))
    start = weights(whole.model.name)
    assert any(not torch.equal(start[name], first[name]) for name in start)
    # Adam's first step is lr * sign(gradient): compare where the gradient is not at the level of rounding.
    agree = torch.cat([(first[n] - second[n]).abs().flatten() for n in first if first[n].is_floating_point()])
    assert (agree < 1e-5).float().mean() > 0.97


def test_grpo_ignores_what_belongs_to_gdso(make_recipe, tmp_path):
    plain = make_recipe("grpo", out=str(tmp_path / "a"))
    with_alphas = make_recipe("grpo", out=str(tmp_path / "b"), rollout__alpha_pt=9.0, rollout__lambda_pw=9.0)
    train(plain)
    train(with_alphas)
    assert losses(plain) == losses(with_alphas)


def test_the_first_update_on_a_rollout_has_ratio_one_and_the_second_reuses_it(make_recipe):
    recipe = make_recipe("grpo", steps=4, rollout__updates_per_rollout=2, save_every=2)
    train(recipe)
    steps = [row for row in read_metrics(recipe.out) if "reward" in row]
    # A reused roll-out has the same traces, so the same token counts; a fresh one is sampled after it.
    assert steps[0]["trace_tokens"] == steps[1]["trace_tokens"]
    assert steps[2]["trace_tokens"] == steps[3]["trace_tokens"]
    assert steps[1]["policy_loss"] != steps[0]["policy_loss"]


def test_the_dev_curve_does_not_disturb_training(make_recipe, tiny_data, tmp_path):
    silent = make_recipe("gdso", out=str(tmp_path / "silent"))
    watched = make_recipe("gdso", out=str(tmp_path / "watched"), data__dev=str(tiny_data["dev"]), eval_every=1)
    train(silent)
    train(watched)
    assert losses(silent) == losses(watched)
    assert sum("dev_hpa" in row for row in read_metrics(watched.out)) == 3  # before training and after each step


def test_gradient_accumulation_counts_every_pair_once(make_recipe, tmp_path):
    """Two micro-batches of one pair are one batch of two: with greedy-like identical traces the gradients agree."""
    recipe = make_recipe("sft", steps=1, optimizer__batch_size=4, out=str(tmp_path / "one"))
    halves = make_recipe(
        "sft", steps=1, optimizer__batch_size=2, optimizer__gradient_accumulation=2, out=str(tmp_path / "two")
    )
    train(recipe)
    train(halves)
    norms = [next(r["grad_norm"] for r in read_metrics(x.out) if "grad_norm" in r) for x in (recipe, halves)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


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


def test_risd_learns_the_teachers_distributions(make_recipe, tiny_data, tmp_path):
    pool = load_records(tiny_data["pool"])
    teacher = RewardModel.from_pretrained(tiny_data["base"])
    with torch.no_grad():  # an untrained head says the same of everything: give it opinions
        teacher.backbone.base.get_output_embeddings().weight.mul_(20)
    targets = label(teacher, "base", pool, tmp_path / "targets", LabelOptions(shard_size=5))
    recipe = make_recipe(
        "risd", steps=30, data__train=str(tiny_data["pool"]), data__targets=str(targets), optimizer__batch_size=16
    )
    train(recipe)
    assert losses(recipe)[-1] < 0.5 * losses(recipe)[0]


@pytest.mark.parametrize("method", ["grpo", "gdso"])
def test_parsed_rewards_come_from_written_scores_and_train_their_label(make_recipe, tmp_path, method):
    parsed = make_recipe(method, out=str(tmp_path / "parsed"), rollout__reward_from="parsed", rollout__lambda_pw=0.0)
    train(parsed)
    train(make_recipe(method, out=str(tmp_path / "expected"), rollout__lambda_pw=0.0))
    rows, expected = ([r for r in read_metrics(tmp_path / name) if "reward" in r] for name in ("parsed", "expected"))
    # Scores written on a half-point grid, labels of one rater on the same grid: rewards are multiples of 1/8 over M.
    count = 8 * 2 * 2 * parsed.rollout.group_size
    assert all(abs(row["reward"] * count - round(row["reward"] * count)) < 1e-3 for row in rows)
    assert [row["reward"] for row in rows] != [row["reward"] for row in expected]


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


def test_without_policy_weight_the_traces_get_no_gradient_of_the_reward(make_recipe):
    recipe = make_recipe("gdso", rollout__policy_weight=0.0, rollout__preference_loss="bradley_terry")
    train(recipe)
    rows = [row for row in read_metrics(recipe.out) if "policy_loss" in row]
    assert rows and all(row["policy_loss"] == 0 for row in rows)


@pytest.fixture
def annotated_chains(tiny_data, tmp_path):
    """Traces of the base model over the rated set: what RewardDance takes its post-hoc chains from."""
    model = RewardModel.from_pretrained(tiny_data["base"])
    return label(model, "base", load_records(tiny_data["train"]), tmp_path / "chains", LabelOptions(traces=3))


def test_rewarddance_learns_scores_and_the_chains_behind_them(make_recipe, annotated_chains, tmp_path):
    common = {"steps": 20, "optimizer__batch_size": 16, "optimizer__learning_rate": 1e-2}
    options = common | {"data__targets": str(annotated_chains)}
    recipe = make_recipe("rewarddance", **options)
    folder = train(recipe)
    assert losses(recipe)[-1] < 0.9 * losses(recipe)[0]
    silent = make_recipe("rewarddance", out=str(tmp_path / "silent"), data__chain_weight=0.0, **options)
    train(silent)
    train(make_recipe("sft", out=str(tmp_path / "sft"), **common))
    sft = losses(make_recipe("sft", out=str(tmp_path / "sft")))
    assert losses(silent) == pytest.approx(sft, abs=1e-4)  # without its chains it is SFT
    assert weights(folder).keys() == weights(tmp_path / "sft" / "model").keys()


def test_a_chain_is_the_trace_that_explains_the_annotation_best(make_recipe, annotated_chains, tiny_data):
    from zreward.training.recipe import DataRecipe
    from zreward.training.targets import _read, explained_items

    model, records = RewardModel.from_pretrained(tiny_data["base"]), load_records(tiny_data["train"])
    items = explained_items(annotated_chains, records, DataRecipe(train=""), ["realism"], model)
    rows = _read(annotated_chains, records, ["realism"], model)
    assert len(items) == len(records)
    for item, row in zip(items, rows, strict=True):
        score, chain = item.explanation
        assert score == int(item.target.argmax())
        fits = [sum(p * t for p, t in zip(probs, item.target.tolist(), strict=True)) for probs in row["trace_probs"]]
        assert chain == model.as_trace(row["traces"][max(range(3), key=lambda k: fits[k])])
        assert model.trace_text(chain) == row["traces"][max(range(3), key=lambda k: fits[k])]


def test_fewer_traces_and_one_hot_targets_come_from_the_same_labels(make_recipe, annotated_chains, tiny_data):
    from zreward.training.recipe import DataRecipe
    from zreward.training.targets import distilled_items

    model, records = RewardModel.from_pretrained(tiny_data["base"]), load_records(tiny_data["train"])

    def targets(**options):
        data = DataRecipe(train="", targets=str(annotated_chains), **options)
        return torch.stack([i.target for i in distilled_items(annotated_chains, records, data, model)])

    assert torch.allclose(targets(), targets(target_traces=3))
    assert not torch.allclose(targets(), targets(target_traces=1))
    assert torch.equal(targets(one_hot_targets=True).argmax(1), targets().argmax(1))
    assert set(targets(one_hot_targets=True).unique().tolist()) == {0.0, 1.0}
    with pytest.raises(InputError, match="3 traces an item.*--traces 5"):
        targets(target_traces=5)


def test_pairwise_rewarddance_learns_to_compare(make_recipe, tiny_data):
    recipe = make_recipe(
        "rewarddance-pairwise",
        steps=20,
        comparison=asdict(COMPARISON),
        optimizer__batch_size=16,
        data__dev=str(tiny_data["dev"]),
        eval_every=20,
    )
    judge = RewardModel.from_pretrained(train(recipe))
    assert losses(recipe)[-1] < losses(recipe)[0]
    assert judge.rubric.labels == ("1", "9") and judge.forms.reference == " above"
    table = evaluate(judge, load_records(tiny_data["test"]), progress=False)
    pooled = table[-1]
    assert 0 <= pooled["hpa"] <= 1 and pooled["n_pairs"] > 0
    assert math.isnan(pooled["nll"]) and math.isnan(pooled["crps"])


def test_every_pair_is_compared_in_both_orders_and_a_tie_is_half_a_yes(tiny_data):
    records = load_records(tiny_data["train"])
    pairs = [Pair(0, 1, "realism", 0.5), Pair(2, 3, "realism", 0.0)]
    items = compared_items(records, pairs)
    seen = [(records.index(item.record), records.index(item.reference), item.target.tolist()) for item in items]
    assert seen == [(0, 1, [0, 1]), (1, 0, [1, 0]), (2, 3, [0.5, 0.5]), (3, 2, [0.5, 0.5])]


def test_a_picture_without_another_of_its_prompt_cannot_be_compared(tiny_data):
    base = comparing(RewardModel.from_pretrained(tiny_data["base"]), COMPARISON)
    with pytest.raises(InputError, match="the only picture of its prompt"):
        evaluate(base, load_records(tiny_data["test"])[:1], progress=False)
