"""Roll-outs from an engine with a copy of the weights, which FSDP or DeepSpeed has split: gathered, brought over, checked.

The engine is a stand-in that reads the folders as vLLM's server does; with vLLM itself this was never run.
"""

from __future__ import annotations

from typing import Any

import pytest

import zreward.sampling.sampler
from tests.engines.conftest import assert_same_steps, recipe_of, zero3_environment
from tests.engines.ranks import steps_of
from tests.engines.stand_in_server import StandInServer
from zreward.training.run import train

LANGUAGE = r".*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "merged": {"lora_rank": 2},  # a gated-delta layer, too, where vLLM does not apply an adapter
    "adapter": {"lora_rank": 2, "lora_targets": LANGUAGE},
}


@pytest.fixture(scope="module")
def recipes(folder):
    def made(out, ranks):
        common = {
            "rollout": {"engine": "vllm"},
            "vllm": {"server": str(folder / "base")},
            "optimizer": {"learning_rate": 1e-2},
        }
        return {
            name: recipe_of(folder, "gdso", out / name, ranks, 2, model=model, **common)
            for name, model in CASES.items()
        }

    return made


@pytest.fixture(scope="module")
def alone(recipes, tmp_path_factory) -> dict[str, list[dict]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zreward.sampling.sampler, "ServerVllm", StandInServer)
        chosen = recipes(tmp_path_factory.mktemp("alone"), 1)
        for recipe in chosen.values():
            train(recipe)
    return {name: steps_of(recipe) for name, recipe in chosen.items()}


@pytest.mark.parametrize(
    "engine", ["fsdp2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero2", "zero3"))]
)
def test_split_weights_arrive_whole(launcher, recipes, alone, tmp_path, engine):
    chosen = recipes(tmp_path, 2)
    more = zero3_environment(tmp_path) if engine == "zero3" else {}
    launcher.train(chosen, engine, 2, tmp_path / "job", environment=more, stand_in=True)
    for name, recipe in chosen.items():
        found = steps_of(recipe)
        assert_same_steps(found, alone[name], 1e-3, ("loss", "grad_norm", "reward"))
        for step in found:
            assert 0 <= step["engine_difference"] < 1e-5 and step["sampler_difference_max"] < 1e-4
