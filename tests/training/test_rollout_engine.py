"""What a trainer does with an engine: weights brought over and checked, importance weights, refusals."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zreward.sampling.sampler
import zreward.training.rollout_engine
from tests.tiny import tiny_model
from tests.training.stand_in_engine import StandInEngine, engine_of, probs_of
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, read_metrics
from zreward.sampling.canary import WeightsDifferError
from zreward.sampling.questions import rules_of
from zreward.training import trainer_base
from zreward.training.engines import _refuse_what_it_cannot
from zreward.training.rollout import RolloutTrainer
from zreward.training.rollout_engine import check_engine
from zreward.training.rollout_objectives import Sequences, _correction
from zreward.training.run import build_trainer, load_model, train


@pytest.fixture
def stand_in(monkeypatch) -> None:
    monkeypatch.setattr(zreward.sampling.sampler, "LocalVllm", StandInEngine)
    for module in (zreward.sampling.sampler, zreward.training.rollout_engine):
        monkeypatch.setattr(module, "check_installed", lambda: None)


@pytest.fixture
def begin(stand_in, make_recipe) -> Callable[..., RolloutTrainer]:
    """begin(method, steps, **keys) -> a trainer with its engine."""

    def start(method: str = "gdso", steps: int = 3, **keys: Any) -> RolloutTrainer:
        recipe = make_recipe(method, steps, **{"optimizer__learning_rate": 1e-2, "rollout__engine": "vllm"} | keys)
        torch.manual_seed(0)
        trainer = build_trainer(recipe, RunDirectory(Path(recipe.out)), load_model(recipe))
        trainer.prepare_device()
        assert isinstance(trainer, RolloutTrainer)
        return trainer

    return start


LANGUAGE = r".*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@pytest.mark.parametrize(
    ("keys", "loaded"),
    [
        (
            {"optimizer__gradient_accumulation": 2, "optimizer__batch_size": 1},
            "weights",
        ),  # once a step, not a micro-batch
        ({"model__lora_rank": 2}, "weights"),  # linear attention and the vision tower: merged
        ({"model__lora_rank": 2, "model__lora_targets": LANGUAGE}, "adapter"),
    ],
    ids=["full", "merged", "adapter"],
)
def test_every_steps_weights_are_brought_over_and_checked(begin, keys, loaded):
    trainer = begin(**keys)
    before = probs_of(trainer.reward_model, trainer.sampler.canary)
    weights = {name: value.clone() for name, value in trainer.reward_model.backbone.base.state_dict().items()}
    trainer.train()
    assert engine_of(trainer).loaded == [loaded] * 3
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry in steps:
        assert 0 <= entry["engine_difference"] < 1e-5 and entry["sampler_difference_max"] < 1e-4
    now = probs_of(trainer.reward_model, trainer.sampler.canary)
    assert (now - before).abs().max() > 1e-3
    trainer.sampler.sync()
    theirs = trainer.sampler.engine.score(trainer.sampler.canary._questions).softmax(-1)
    torch.testing.assert_close(theirs, now, atol=1e-5, rtol=0)
    if "model__lora_rank" in keys:  # merging changed copies only
        after = trainer.reward_model.backbone.base.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in weights.items() if "lora_" not in name)


def test_the_trainers_own_kernels_are_checked_besides(begin, monkeypatch):
    checked = []
    monkeypatch.setattr(trainer_base, "use_right_kernels", lambda *asked: checked.append(asked))
    trainer = begin()
    assert len(checked) == 1 and trainer.sampler is not None


@pytest.mark.parametrize("fault", ["stale", "nan"])
def test_an_engine_with_other_weights_stops_the_run_before_anything_is_sampled(begin, monkeypatch, fault):
    trainer = begin()
    engine = engine_of(trainer)
    if fault == "stale":
        with torch.no_grad():
            for value in trainer.reward_model.parameters():
                value.mul_(1.2)
        monkeypatch.setattr(engine, "load_weights", lambda folder: None)
    else:
        monkeypatch.setattr(engine, "score", lambda questions: torch.full((len(questions), 9), torch.nan))
    monkeypatch.setattr(engine, "sample", lambda *asked: pytest.fail("it sampled"))
    with pytest.raises(WeightsDifferError, match=r"a label's probability differs by .* allowed is 0.0005"):
        trainer.train()


def test_a_tolerance_is_the_recipes_own(begin):
    assert begin(vllm__tolerance=0.25).sampler.canary.tolerance == 0.25


@pytest.mark.parametrize("keys", [{}, {"rollout__updates_per_rollout": 2, "save_every": 2}], ids=["once", "reused"])
@pytest.mark.parametrize("method", ["grpo", "gdso"])
def test_tokens_are_weighted_by_how_likely_the_policy_finds_them(begin, tmp_path, method, keys):
    """An engine that reports e times less than it sampled with: every weight would be e, and is cut at the cap."""
    alone = {"rollout__alpha_pt": 0.0, "rollout__alpha_pw": 0.0, "optimizer__max_grad_norm": 1e9}
    norms = {}
    for cap in (1.0, 2.0, 3.0):
        trainer = begin(method, 1, out=str(tmp_path / f"{cap}"), rollout__importance_cap=cap, **alone, **keys)
        engine_of(trainer).shift = -1.0
        trainer.train()
        step = next(entry for entry in trainer.state.log_history if "loss" in entry)
        norms[cap] = step["grad_norm"]
        assert step["sampler_difference"] == pytest.approx(1.0, abs=1e-4)
        assert step["sampler_difference_max"] == pytest.approx(1.0, abs=1e-3)
    assert norms[1.0] > 1e-3
    assert norms[2.0] / norms[1.0] == pytest.approx(2.0, rel=1e-3)
    assert norms[3.0] / norms[1.0] == pytest.approx(math.e, rel=1e-3)


def test_a_label_that_the_policy_wrote_itself_has_weight_one(make_recipe):
    log_probs, sampler = torch.full((2, 3), -1.0), torch.full((2, 2), -2.0)
    mask = torch.tensor([[1, 1, 1], [1, 0, 1]]).bool()
    options = make_recipe("opd", rollout__engine="vllm", rollout__teacher="x", rollout__importance_cap=9.0).rollout
    weights, parts = _correction(log_probs, mask, Sequences(None, sampler_log_probs=sampler), options)  # type: ignore[arg-type]
    torch.testing.assert_close(weights, torch.tensor([[math.e, math.e, 1.0], [math.e, 1.0, 1.0]]))
    assert float(parts["sampler_difference"]) == pytest.approx(3 / 5) and float(parts["sampler_difference_max"]) == 1.0
    assert _correction(log_probs, mask, Sequences(None), options) == (None, {})  # type: ignore[arg-type]


def test_a_run_closes_its_engine_and_goes_on_with_a_new_one(stand_in, make_recipe, monkeypatch):
    made: list[StandInEngine] = []
    monkeypatch.setattr(
        zreward.sampling.sampler, "LocalVllm", lambda *how: made.append(StandInEngine(*how)) or made[-1]
    )
    keys = {"rollout__engine": "vllm", "save_every": 1}
    whole = make_recipe("gdso", 3, **keys)
    train(whole)
    begun = make_recipe("gdso", 3, out=f"{whole.out}-begun", **keys)
    stopped = RolloutTrainer.training_step

    def stop_in_the_third(self: RolloutTrainer, *args: Any, **options: Any) -> Any:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return stopped(self, *args, **options)

    monkeypatch.setattr(RolloutTrainer, "training_step", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        train(begun)
    monkeypatch.setattr(RolloutTrainer, "training_step", stopped)
    train(begun, resume=True)
    assert [engine.loaded[-1] for engine in made] == ["closed"] * 3
    losses = [[entry["loss"] for entry in read_metrics(Path(run.out)) if "loss" in entry] for run in (whole, begun)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"method": "sft"}, "rollout.engine goes with methods that sample traces, not sft"),
        ({"model__quantization": "4bit"}, "rollout.engine vllm loads the weights as they are"),
        ({"vllm__memory": 1.5}, r"vllm.memory is 1.5, expected a share above 0 and below 1"),
        ({"vllm__cache_gib": -1.0}, "vllm.cache_gib is -1.0, expected more than 0"),
        ({"vllm__max_sequences": 0}, "max_sequences is 0; expected at least 1"),
        ({"rollout__importance_cap": 0.5}, "rollout.importance_cap is 0.5, expected 1 or more"),
        ({"rollout__engine": "sglang"}, "rollout.engine is 'sglang'; expected one of"),
        ({"rollout__engine": "generate", "vllm__max_length": 9}, r"vllm.\* goes with rollout.engine vllm"),
    ],
    ids=str,
)
def test_recipes_that_cannot_be_are_refused(make_recipe, keys, said):
    keys = {"method": "gdso", "rollout__engine": "vllm"} | keys
    with pytest.raises(InputError, match=said):
        make_recipe(keys.pop("method"), **keys)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_missing_vllm_is_named_before_anything_is_written(make_recipe):
    recipe = make_recipe("gdso", rollout__engine="vllm")
    with pytest.raises(InputError, match=r"needs vllm, which is not installed; pip install 'zreward\[vllm\]'"):
        train(recipe)
    assert not (Path(recipe.out) / "recipe.yaml").exists()


def test_what_vllm_cannot_do_is_refused(stand_in, make_recipe):
    recipe = make_recipe("gdso", rollout__engine="vllm")
    with pytest.raises(InputError, match=r"with one process only, these are 2; let them ask one server"):
        check_engine(tiny_model(), recipe, 2)
    check_engine(tiny_model(), make_recipe("gdso", rollout__engine="vllm", vllm__server="127.0.0.1:1"), 2)
    for engine in ("fsdp", "deepspeed"):
        with pytest.raises(
            InputError, match=f"own process does not go with {engine}, .* let all processes ask one server"
        ):
            _refuse_what_it_cannot(recipe, engine)
        _refuse_what_it_cannot(make_recipe("gdso", rollout__engine="vllm", vllm__server="127.0.0.1:1"), engine)
    model = tiny_model()
    model.encoder.stop_ids = [1, 2]
    with pytest.raises(InputError, match="is 2 tokens in this model's tokenizer; vLLM stops at one token"):
        rules_of(model)
