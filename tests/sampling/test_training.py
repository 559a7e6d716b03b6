"""GDSO with traces from vLLM: the engine follows the weights, and a fault that keeps it from doing so stops the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sampling.models import FAMILIES, OPTIONS, pictures, rows, vllm_model
from tests.tiny import tiny_records, with_keys
from zreward.common.config import config_from_dict
from zreward.common.runs import RunDirectory
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.sampling.canary import Canary, WeightsDifferError
from zreward.training.recipe import Recipe
from zreward.training.rollout import RolloutTrainer
from zreward.training.run import build_trainer, load_model


@pytest.fixture(scope="module")
def make_trainer(tmp_path_factory):
    """make_trainer(family, **dotted recipe keys) -> a GDSO trainer with its engine started, closed at the end."""
    folder, made = tmp_path_factory.mktemp("vllm"), []
    train = save_records(tiny_records(6, 2, seed=0), folder / "train.jsonl")
    for family in FAMILIES:
        vllm_model(family).save_pretrained(folder / family)

    def make(family: str, steps: int = 10, **keys: Any) -> RolloutTrainer:
        raw: dict[str, Any] = {
            "method": "gdso",
            "out": str(folder / f"run-{len(made)}"),
            "data": {"train": str(train)},
            "model": {"name": str(folder / family)},
            "optimizer": {"steps": steps, "batch_size": 2, "learning_rate": 3e-3, "warmup_steps": 0},
            "rollout": {"group_size": 2, "engine": "vllm"},
            "vllm": vars(OPTIONS),
        }
        recipe = config_from_dict(Recipe, with_keys(raw, keys))
        run = RunDirectory(Path(recipe.out))
        torch.manual_seed(0)
        trainer = build_trainer(recipe, run, load_model(recipe))
        trainer.prepare_device()
        assert isinstance(trainer, RolloutTrainer)
        made.append(trainer)
        return trainer

    yield make
    for trainer in made:
        if trainer.sampler is not None:
            trainer.sampler.close()


@pytest.fixture(scope="module", params=[(family, rank) for family in FAMILIES for rank in (None, 4)], ids=str)
def trained(request, make_trainer) -> Iterator[RolloutTrainer]:
    """After ten steps, with its engine as the last roll-out left it."""
    family, rank = request.param
    lora = {"model__lora_rank": rank, "model__freeze_vision": True} if rank else {}
    trainer = make_trainer(family, **lora)
    trainer.train()
    yield trainer
    trainer.sampler.close()
    trainer.sampler = None


def answers(trainer: RolloutTrainer) -> torch.Tensor:
    """Label probabilities of the engine, for the canary's questions."""
    return trainer.sampler.engine.score(trainer.sampler.canary._questions).softmax(-1)


def own_answers(model: RewardModel, trainer: RolloutTrainer) -> torch.Tensor:
    canary = trainer.sampler.canary
    with torch.no_grad():
        return model.eval().backbone(model.collate(canary.images, canary.rows)).score_logits.softmax(-1)


def test_after_ten_steps_the_engine_answers_with_the_new_weights(trained):
    model = trained.reward_model
    before = own_answers(RewardModel.from_pretrained(trained.recipe.model.name), trained)
    now = own_answers(model, trained)
    assert (now - before).abs().max() > 0.05  # it has learned something
    with pytest.raises(WeightsDifferError, match="allowed is 0.0005"):  # the last step's update came after its roll-out
        trained.sampler.canary.check(trained.sampler.engine)
    assert trained.sampler.sync() < 1e-5
    torch.testing.assert_close(answers(trained), now, atol=1e-5, rtol=0)


def test_every_step_says_how_far_the_engine_is_from_the_trainer(trained):
    steps = [entry for entry in trained.state.log_history if "loss" in entry]
    assert len(steps) == 10
    for entry in steps:
        assert 0 <= entry["engine_difference"] < 1e-5
        assert 0 < entry["sampler_difference"] <= entry["sampler_difference_max"] < 5e-5


def test_adapters_are_loaded_as_they_are_and_whole_weights_from_a_folder(trained):
    rank = trained.recipe.model.lora_rank
    assert trained.sampler._rank == rank
    assert (trained.sampler.engine._adapter is not None) == (rank is not None)


def step_of(trainer: RolloutTrainer) -> dict[str, float]:
    trainer.train()
    return next(entry for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize(
    "keys", [{}, {"updates_per_rollout": 2, "temperature": 0.8}, {"reward_from": "parsed"}], ids=str
)
def test_a_steps_losses_are_those_of_engine_generate_on_the_same_traces(make_trainer, monkeypatch, keys):
    keys = {f"rollout__{key}": value for key, value in keys.items()} | {"save_every": 2}
    engine = make_trainer("qwen3_vl", steps=2, **keys)
    sampled: list[Any] = []
    own = engine.sampler.reason
    monkeypatch.setattr(engine.sampler, "reason", lambda *asked: sampled.append(own(*asked)) or sampled[-1])
    engine.train()
    engine.sampler.close()
    engine.sampler = None
    generate = make_trainer("qwen3_vl", steps=2, **keys | {"rollout__engine": "generate", "vllm": {}})
    again = iter(sampled)
    monkeypatch.setattr(RewardModel, "reason", lambda *asked, **options: [one.trace for one in next(again)])
    generate.train()
    assert next(again, None) is None and len(sampled) == 2 // engine.options.updates_per_rollout
    for mine, other in zip(engine.state.log_history[:2], generate.state.log_history[:2], strict=True):
        for name in ("loss", "grad_norm", "policy_loss", "pointwise_loss", "gap_loss", "reward"):
            assert mine[name] == pytest.approx(other[name], abs=1e-5, rel=1e-4), name


@pytest.fixture(scope="module")
def faulty(make_trainer) -> Iterator[RolloutTrainer]:
    """A trainer whose weights change by hand; all of them are sent."""
    trainer = make_trainer("qwen3_vl")
    model = trainer.reward_model
    # Keys and values are kept by blocks, of 128 tokens on CPUs: the prompts are longer.
    asked = [replace(row, prompt=" and ".join([row.prompt] * 40)) for row in rows()]
    trainer.sampler.canary = Canary(model, pictures(model), asked)
    yield trainer
    trainer.sampler.close()
    trainer.sampler = None


@pytest.fixture
def changed(faulty) -> Iterator[RolloutTrainer]:
    """Embeddings, which are the output head too, and the vision tower are other ones than the engine has."""
    faulty.sampler.sync()
    before = {name: value.clone() for name, value in faulty.reward_model.state_dict().items()}
    with torch.no_grad():
        for name, value in faulty.reward_model.named_parameters():
            if value.ndim >= 2:
                value += (
                    0.3 * value.std() * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))
                )
    yield faulty
    faulty.reward_model.load_state_dict(before)


def test_stale_weights_are_caught(changed, monkeypatch):
    monkeypatch.setattr(changed.sampler.engine, "load_weights", lambda folder: changed.sampler.engine.forget())
    with pytest.raises(WeightsDifferError, match="vLLM answers with other weights than the model's"):
        changed.sampler.sync()


def test_stale_keys_and_values_are_caught(changed, monkeypatch):
    monkeypatch.setattr(changed.sampler.engine.llm, "reset_prefix_cache", lambda: True)
    with pytest.raises(WeightsDifferError):
        changed.sampler.sync()


def test_stale_features_of_pictures_are_caught(changed, monkeypatch):
    """vLLM's worker drops them itself when it reloads weights: that, and what we ask for, do nothing here."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    for name in ("reset_encoder_cache", "reset_mm_cache"):
        monkeypatch.setattr(GPUModelRunner, name, lambda self: None)
    engine = changed.sampler.engine.llm.llm_engine
    monkeypatch.setattr(engine, "reset_encoder_cache", lambda: None)
    monkeypatch.setattr(changed.sampler.engine.llm, "reset_mm_cache", lambda: None)
    with pytest.raises(WeightsDifferError):
        changed.sampler.sync()


def test_a_tied_head_that_stays_old_is_caught(changed, monkeypatch):
    monkeypatch.setattr(changed.sampler.engine, "on_cpu", False)  # so the head is not packed again
    with pytest.raises(WeightsDifferError):
        changed.sampler.sync()


def test_without_a_fault_the_same_change_arrives(changed):
    assert changed.sampler.sync() < 1e-5


def test_an_adapter_that_stays_old_is_caught(make_trainer, monkeypatch):
    trainer = make_trainer("qwen3_vl", steps=3, model__lora_rank=4, model__freeze_vision=True)
    load, engine = trainer.sampler.engine.load_adapter, trainer.sampler.engine
    monkeypatch.setattr(engine, "load_adapter", lambda folder: None if engine._adapter else load(folder))
    with pytest.raises(WeightsDifferError):
        trainer.train()
    assert trainer.state.global_step == 1
    trainer.sampler.close()
    trainer.sampler = None
