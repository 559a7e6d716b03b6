"""Many threads on one model: each gets what it would have got alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from tests.models.other_families import gemma3, internvl
from tests.tiny import FAMILIES, noise_pictures, sharpen, tiny_model
from zreward.models.reward_model import RewardModel

THREADS, CALLS = 48, 8  # threads, and different calls among them
NAMES = ("realism",)
SIZES = ((32, 32), (64, 32), (32, 96), (64, 64))
"""Pictures of these sizes move what follows on by different amounts (in models that count rows and columns)."""
PROMPTS = ["a red circle", "a small blue cross left of a large green square"]
PICTURES = noise_pictures(CALLS, SIZES)


def at_once(call: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """`call(n)` of every thread, all begun together."""
    ready = threading.Barrier(threads)

    def run(n: int) -> Any:
        ready.wait(timeout=60)
        return call(n)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def judged(model: RewardModel, n: int) -> tuple[Any, Tensor]:
    """Greedy traces and probabilities of call n: one or two traces of a picture."""
    (verdict,) = model.judge([PICTURES[n % CALLS]], PROMPTS[n % 2], 1 + n // 2 % 2, NAMES, temperature=0)
    return verdict.traces, verdict.distribution.probs


def scored(model: RewardModel, n: int) -> Tensor:
    return model.score([PICTURES[n % CALLS], PICTURES[(n + 1) % CALLS]], PROMPTS).probs


def differentiated(model: RewardModel, n: int) -> Tensor:
    """The gradient of call n's pixels, blocks run a second time for it."""
    pixels = model.open(PICTURES[n % CALLS])[None].requires_grad_()
    memory = ("recompute", "one_by_one")[n // 4 % 2]
    (model(pixels, PROMPTS[n % 2], memory=memory).mean ** 2).sum().backward()
    return pixels.grad


def families() -> dict[str, Callable[[], RewardModel]]:
    made = {family: lambda family=family: sharpen(tiny_model(family, seed=5, trace_tokens=4), 6) for family in FAMILIES}
    return {**made, "gemma3": gemma3, "internvl": internvl}


@pytest.mark.parametrize("family", families())
def test_judgements_of_many_threads_are_those_of_one(family):
    model = families()[family]()
    alone = [judged(model, n) for n in range(CALLS)]
    assert len({str(traces) for traces, _ in alone}) > CALLS / 2  # they differ, so that a mixture is noticed
    for n, found in enumerate(at_once(lambda n: judged(model, n))):
        check_same(found, alone[n % CALLS])


def check_same(found: Any, expected: Any) -> None:
    """To the last bit: traces and probabilities, or a tensor."""
    if isinstance(expected, tuple):
        assert found[0] == expected[0]
        found, expected = found[1], expected[1]
    assert torch.equal(found, expected)


def state_of(model: RewardModel) -> list[dict[str, Any]]:
    """What of the modules calls may change for a while."""
    names = ("training", "gradient_checkpointing", "generation_config")
    return [{name: vars(part).get(name) for name in names} for part in model.modules()]


@pytest.fixture
def adapted() -> RewardModel:
    """An adapter over a model whose checkpoint asks for other traces than those that are sampled, all with dropout."""
    model = sharpen(tiny_model("qwen3_5", seed=5, trace_tokens=4), 6)
    base = model.backbone.model
    base.generation_config.update(repetition_penalty=5.0, num_beams=3, min_new_tokens=4)
    torch.manual_seed(0)
    options = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, lora_dropout=0.5)
    return RewardModel(get_peft_model(base, options), model.tokenizer, model.rubric, model.forms, max_trace_tokens=4)


def test_threads_that_judge_score_and_differentiate_do_not_meet(adapted):
    model = adapted.eval()
    kinds = (judged, scored, differentiated, judged)
    alone = [kinds[n % 4](model, n) for n in range(CALLS)]
    before = state_of(model)
    for n, found in enumerate(at_once(lambda n: kinds[n % 4](model, n))):
        check_same(found, alone[n % CALLS])
    assert state_of(model) == before


def test_a_model_in_training_is_judged_by_threads_without_dropout(adapted):
    alone = [(judged, scored)[n % 2](adapted.eval(), n) for n in range(CALLS)]
    adapted.train()
    adapted.backbone.vision_tower.eval()
    before = state_of(adapted)
    for n, found in enumerate(at_once(lambda n: (judged, scored)[n % 2](adapted, n))):
        check_same(found, alone[n % CALLS])
    assert state_of(adapted) == before
